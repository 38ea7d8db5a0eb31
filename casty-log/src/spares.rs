//! The next segments, which are made before they are needed.
//!
//! A sync is cheap only if it changes no length and no map of blocks. So a segment is filled with
//! zeros first, or it is the file of an old one.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    disk::{Disk, DiskFile},
    files::Retired,
    format::segment,
};

/// How much is written at a time.
const CHUNK: usize = 256 * 1024;

/// An error that is given several times.
struct Failure(io::ErrorKind, String);

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self(error.kind(), error.to_string())
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.0, self.1.clone())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it waits for room on a real disk, which other programs make"
)]
fn now() -> Instant {
    Instant::now()
}

/// A segment that is ready.
pub(crate) struct Spare {
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

/// Fills a part of a file with zeros.
fn fill(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    let mut filled = from;
    while filled < to {
        let left = usize::try_from(to - filled).unwrap_or(CHUNK);
        let chunk = &zeros[..left.min(CHUNK)];
        file.write_at(chunk, filled)?;
        filled += chunk.len() as u64;
    }
    Ok(())
}

/// Makes room at the end of a file. If that fails, the file is as long as before.
pub(crate) fn lengthen(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let filled = fill(file, from, to).and_then(|()| file.sync());
    if filled.is_err() {
        // Otherwise it stays longer until the segment is given up.
        let _ = file.set_bytes(from);
    }
    filled
}

#[derive(Default)]
struct State {
    ready: VecDeque<Spare>,
    old: Vec<Retired>,
    /// The number of the segment that is made next.
    next: u32,
    is_filling: bool,
    /// Why the last attempt failed, and when. The thread tries again when something has changed.
    failed: Option<(Failure, Instant)>,
    is_closed: bool,
}

pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    store: Uuid,
    /// The length of a segment.
    bytes: u64,
    /// How many are kept ready.
    count: usize,
    /// After an attempt that has failed, how long nothing that adds something tries it again.
    pause: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, store: Uuid, bytes: u64, count: usize) -> Self {
        let state = State {
            next: 1,
            ..State::default()
        };
        Self {
            disk,
            store,
            bytes,
            count,
            pause: Duration::ZERO,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// `ready`: the segments that a former run has made. `next`: the number after all of them.
    pub(crate) fn with(self, ready: VecDeque<Spare>, next: u32) -> Self {
        {
            let mut state = self.state();
            (state.ready, state.next) = (ready, next);
        }
        self
    }

    /// How long it waits before a full disk is tried again.
    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next segment. If none is ready, it is made now. On a disk on which none can be made, the
    /// last one is for what makes room, and not for what adds something.
    /// Where an attempt has just failed, what adds something is refused without another one.
    pub(crate) fn take(&self, adds: bool) -> io::Result<Spare> {
        let mut state = self.state();
        loop {
            let is_reserved = adds && state.failed.is_some() && state.ready.len() == 1;
            if !is_reserved && let Some(spare) = state.ready.pop_front() {
                state.failed = None;
                self.changed.notify_all();
                return Ok(spare);
            }
            if let Some((failure, since)) = &state.failed
                && adds
                && since.elapsed() < self.pause
            {
                return Err(failure.error());
            }
            if state.is_filling {
                state = self.wait(state);
                continue;
            }
            let (guard, made) = self.fill(state);
            state = guard;
            made?;
        }
    }

    /// Makes one, unless there are enough. Whether it made one.
    pub(crate) fn make_one(&self) -> io::Result<bool> {
        let mut state = self.state();
        while state.is_filling {
            state = self.wait(state);
        }
        if state.ready.len() >= self.count {
            return Ok(false);
        }
        self.fill(state).1.map(|()| true)
    }

    /// Makes spares until there are enough, and again whenever one was taken.
    pub(crate) fn run(&self) {
        let mut state = self.state();
        while !state.is_closed {
            if state.is_filling || state.failed.is_some() || state.ready.len() >= self.count {
                state = self.wait(state);
                continue;
            }
            let (guard, made) = self.fill(state);
            state = guard;
            if let Err(error) = made {
                tracing::warn!(
                    directory = self.disk.describe(),
                    %error,
                    "no segment can be made ahead of its use"
                );
            }
        }
    }

    /// Makes one, without the lock.
    fn fill<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, io::Result<()>) {
        state.is_filling = true;
        let (segment, old) = (state.next, state.old.pop());
        drop(state);
        let made = self.make(segment, old);
        let mut state = self.state();
        state.is_filling = false;
        let made = made.map(|file| {
            state.next = segment + 1;
            let bytes = self.bytes;
            state.ready.push_back(Spare {
                segment,
                file,
                bytes,
            });
        });
        let failed = made.as_ref().err().map(Failure::of);
        state.failed = failed.map(|failure| (failure, now()));
        self.changed.notify_all();
        (state, made)
    }

    fn make(&self, segment: u32, old: Option<Retired>) -> io::Result<Arc<dyn DiskFile>> {
        let name = segment::name(segment);
        let new = format!("{name}.new");
        let made = self.make_new(segment, &new, old);
        let made = made.and_then(|file| {
            self.disk.rename(&new, &name)?;
            self.disk.sync()?;
            Ok(file)
        });
        if made.is_err() {
            // It is found again, and removed, when the store is opened.
            let _ = self.disk.remove(&new);
        }
        made
    }

    fn make_new(
        &self,
        segment: u32,
        new: &str,
        old: Option<Retired>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = match old.and_then(|old| Some((old.segment, old.file?))) {
            Some((old, file)) => {
                self.disk.rename(&segment::name(old), new)?;
                // Before its header changes: a file of this name must have the header of this name.
                self.disk.sync()?;
                file
            }
            None => self.make_zeros(new)?,
        };
        file.write_at(&segment::header(self.store, segment), 0)?;
        file.sync()?;
        Ok(file)
    }

    fn make_zeros(&self, new: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.create(new)?;
        fill(&*file, 0, self.bytes)?;
        Ok(file)
    }

    /// A spare that was taken is not used after all.
    pub(crate) fn give_back(&self, spare: Spare) {
        self.state().ready.push_front(spare);
        self.changed.notify_all();
    }

    /// A segment that is not needed any more becomes a spare, or is removed.
    pub(crate) fn retire(&self, retired: Retired) {
        {
            let mut state = self.state();
            state.failed = None;
            // One more than there are spares: at a steady pace a segment is given up shortly after
            // a spare was taken, and to fill another one with zeros meanwhile takes as much of the
            // disk as all commits.
            let is_wanted = state.ready.len() + state.old.len() <= self.count;
            if is_wanted && self.count > 0 && retired.file.is_some() && retired.bytes == self.bytes
            {
                state.old.push(retired);
                self.changed.notify_all();
                return;
            }
        }
        if let Err(error) = self.disk.remove(&segment::name(retired.segment)) {
            tracing::warn!(
                directory = self.disk.describe(),
                segment = retired.segment,
                %error,
                "an old segment cannot be removed"
            );
        }
        self.changed.notify_all();
    }

    /// The bytes of spares and of old segments that become spares.
    pub(crate) fn kept(&self) -> u64 {
        let state = self.state();
        let ready: u64 = state.ready.iter().map(|spare| spare.bytes).sum();
        ready + state.old.len() as u64 * self.bytes
    }

    /// Makes no more segments, and waits for the segment that is being made: afterwards the
    /// directory may belong to another process.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.notify_all();
        while state.is_filling {
            state = self.wait(state);
        }
    }
}
