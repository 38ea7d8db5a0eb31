//! The next segments, which are made before they are needed.
//!
//! A sync is cheap only if it changes no length and no map of blocks. So a segment is filled with
//! zeros first, or it is the file of an old one.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use crate::{
    disk::{Disk, DiskFile},
    files::Retired,
    format::segment,
};

/// How much is written at a time.
const CHUNK: usize = 256 * 1024;

/// A segment that is ready.
pub(crate) struct Spare {
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Spare>,
    old: Vec<Retired>,
    /// The number of the segment that is made next.
    next: u32,
    is_filling: bool,
    /// The last attempt failed. The thread tries again when something has changed.
    has_failed: bool,
    is_closed: bool,
}

pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    store: Uuid,
    /// The length of a segment.
    bytes: u64,
    /// How many are kept ready.
    count: usize,
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next segment. If none is ready, it is made now. On a disk on which none can be made, the
    /// last one is for what makes room, and not for what adds something.
    pub(crate) fn take(&self, adds: bool) -> io::Result<Spare> {
        let mut state = self.state();
        loop {
            let is_reserved = adds && state.has_failed && state.ready.len() == 1;
            if !is_reserved && let Some(spare) = state.ready.pop_front() {
                state.has_failed = false;
                self.changed.notify_all();
                return Ok(spare);
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
            if state.is_filling || state.has_failed || state.ready.len() >= self.count {
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
        state.has_failed = made.is_err();
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
        let zeros = vec![0; CHUNK];
        let mut filled = 0;
        while filled < self.bytes {
            let left = usize::try_from(self.bytes - filled).unwrap_or(CHUNK);
            let chunk = &zeros[..left.min(CHUNK)];
            file.write_at(chunk, filled)?;
            filled += chunk.len() as u64;
        }
        Ok(file)
    }

    /// A segment that is not needed any more becomes a spare, or is removed.
    pub(crate) fn retire(&self, retired: Retired) {
        {
            let mut state = self.state();
            state.has_failed = false;
            let is_wanted = state.ready.len() + state.old.len() < self.count;
            if is_wanted && retired.file.is_some() && retired.bytes == self.bytes {
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
