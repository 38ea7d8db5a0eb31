//! A store: commits, one at a time.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    Change, CommitError, Damage, Done, OpenError, Options, Reader,
    clean::{Cleaning, Step},
    disk::{Disk, Lock, read_all, replace},
    error::explain,
    files::Files,
    format::{
        frame::{self, HEADER, Seed},
        identity,
        op::{Op, Ops},
        segment,
    },
    reader::Shared,
    recover::{Active, Recovered, recover},
    spares::Spares,
    stage::Stage,
};

/// The longest content of a frame, in bytes, without a checkpoint: a place in a segment has 32
/// bits.
const FRAME_MAX: usize = 3 << 30;

/// The pause before a directory that is in use is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What was found when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The identity of the store. A directory that is copied, or restored from a backup, has that
    /// of the original.
    pub store: Uuid,
    /// It was made now.
    pub is_new: bool,
    /// It was not closed the last time. If the disk has lost whole commits at the very end although
    /// it had confirmed them, that cannot be noticed here: a store with copies elsewhere compares
    /// itself with them.
    pub unclean: bool,
    /// A commit that was not finished, and was not acknowledged, is gone: the file, and where in
    /// it.
    pub cut: Option<(String, u64)>,
}

/// How much room a store needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The bytes of all segments, spares included.
    pub disk_bytes: u64,
    /// The bytes of the records and snapshots that are needed.
    pub live_bytes: u64,
}

/// A store that is open. It does its work in the calls: [`Log`](crate::Log) has threads for that.
///
/// After an error of the disk in a commit it is dead: each further commit fails with
/// [`CommitError::NotWritten`], until it is [opened again](Self::reopen). Reads go on.
pub struct Store {
    disk: Arc<dyn Disk>,
    options: Options,
    _lock: Lock,
    id: Uuid,
    shared: Arc<Shared>,
    pub(crate) spares: Arc<Spares>,
    active: Option<Active>,
    commit: u64,
    dead: Option<String>,
    cleaning: Option<Cleaning>,
    /// The last segment of the present pass over all segments.
    pass_end: u32,
    /// What was appended since the last pass.
    since_pass: u64,
    /// Why the oldest segment cannot be given up.
    blocked: Option<Damage>,
    ops: Vec<u8>,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.disk.describe())
            .field("commit", &self.commit)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// Locks a directory. If it is in use, tries again for so long.
fn lock(disk: &dyn Disk, wait: Duration) -> io::Result<Lock> {
    let mut waited = Duration::ZERO;
    loop {
        match disk.lock() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < wait => {
                #[expect(clippy::disallowed_methods, reason = "the caller has asked for it")]
                std::thread::sleep(LOCK_PAUSE);
                waited += LOCK_PAUSE;
            }
            locked => return locked,
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.spares.close();
    }
}

impl Store {
    /// Opens the store in a directory, or makes one.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is in use, damaged or of a later version, or the disk fails.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Opened), OpenError> {
        let lock = lock(&*disk, options.lock_wait).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                directory: disk.describe(),
            },
            _ => OpenError::Io {
                directory: disk.describe(),
                what: "locking the directory",
                source,
            },
        })?;
        let shared = Arc::new(Shared {
            index: RwLock::default(),
            files: Files::new(disk.clone()),
        });
        let options = options.checked();
        let none = Spares::new(disk.clone(), Uuid::nil(), options.segment_bytes, 0);
        let mut store = Self {
            spares: Arc::new(none),
            disk,
            options,
            _lock: lock,
            id: Uuid::nil(),
            shared,
            active: None,
            commit: 0,
            dead: None,
            cleaning: None,
            pass_end: 0,
            since_pass: 0,
            blocked: None,
            ops: Vec::new(),
            frame: Vec::new(),
        };
        let opened = store.load()?;
        Ok((store, opened))
    }

    /// Opens it again after a commit has failed, without giving the lock up. Readers stay.
    ///
    /// # Errors
    /// [`OpenError`], and the store stays dead.
    pub fn reopen(&mut self) -> Result<Opened, OpenError> {
        self.spares.close();
        let opened = self.load();
        if let Err(error) = &opened {
            self.dead = Some(error.to_string());
        }
        opened
    }

    fn load(&mut self) -> Result<Opened, OpenError> {
        let files = Files::new(self.disk.clone());
        let Recovered {
            store,
            index,
            active,
            commit,
            ready,
            next,
            is_new,
            is_unclean,
            cut,
        } = recover(&*self.disk, &files, &self.options)?;
        let oldest = index.oldest;
        {
            // Readers see the former files, or these.
            let shown = self.shared.index.write();
            *shown.unwrap_or_else(PoisonError::into_inner) = index;
            self.shared.files.replace(files);
        }
        let Options {
            segment_bytes,
            spares,
            ..
        } = self.options;
        let spares = Spares::new(self.disk.clone(), store, segment_bytes, spares);
        self.spares = Arc::new(spares.with(ready, next));
        (self.id, self.active, self.commit) = (store, active, commit);
        (self.dead, self.blocked, self.cleaning) = (None, None, None);
        (self.pass_end, self.since_pass) = (0, segment_bytes);
        self.retire_before(oldest);
        Ok(Opened {
            store,
            is_new,
            unclean: is_unclean,
            cut,
        })
    }

    /// Closes it. When it is opened next, it notices whether anything is missing at its end.
    ///
    /// # Errors
    /// The error of the disk. What was committed is durable nevertheless.
    pub fn close(self) -> io::Result<()> {
        self.spares.close();
        if self.dead.is_some() {
            return Ok(());
        }
        let file = identity::clean_file(self.id, self.commit);
        replace(&*self.disk, identity::CLEAN, &file)
    }

    /// Its identity.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Reads it, while commits go on.
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    /// Why it takes no commits until it is opened again.
    pub fn is_dead(&self) -> Option<&str> {
        self.dead.as_deref()
    }

    /// How much room it needs.
    pub fn usage(&self) -> Usage {
        Usage {
            disk_bytes: self.shared.files.bytes() + self.spares.kept(),
            live_bytes: self.shared.index().live.total,
        }
    }

    /// Why old segments cannot be given up, if something in the oldest one is damaged. It is tried
    /// again when the store is opened again.
    pub fn blocked(&self) -> Option<&Damage> {
        self.blocked.as_ref()
    }

    /// Makes changes, all or none. When it returns, they are durable.
    ///
    /// # Errors
    /// [`CommitError`] if the disk fails, or a change is too large.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<Done>, CommitError> {
        if let Some(reason) = &self.dead {
            let reason = format!("the store has to be opened again: {reason}");
            return Err(CommitError::NotWritten { reason });
        }
        let shared = self.shared.clone();
        let index = shared.index();
        let mut ops = std::mem::take(&mut self.ops);
        ops.clear();
        let mut stage = Stage::new(&index, ops);
        let mut done = Vec::with_capacity(changes.len());
        for change in changes {
            done.push(stage.change(change)?);
        }
        self.ops = stage.ops;
        self.since_pass += self.ops.len() as u64;
        let (oldest, step) = self.next_step(&index);
        drop(index);
        if self.ops.is_empty() && oldest.is_none() && step.is_none() {
            return Ok(done);
        }
        let copied = step.as_ref().map_or(&[][..], |step| &step.ops);
        let mut first = copied.to_vec();
        if let Some(segment) = oldest {
            Op::Oldest { segment }.put(&mut first);
        }
        let adds = |change: &Change| {
            matches!(
                change,
                Change::Append { .. } | Change::Save { .. } | Change::Copy { .. }
            )
        };
        self.write(&first, changes.iter().any(adds))?;
        if let Some(Step { next, .. }) = step {
            match (next, &mut self.cleaning) {
                (Some(next), Some(cleaning)) => cleaning.go_on_at(next),
                _ => self.cleaning = None,
            }
        }
        if let Some(segment) = oldest {
            self.retire_before(segment);
        }
        Ok(done)
    }

    /// Copies what keeps old segments from being given up, a part of it. Whether there is more to
    /// do. Commits do the same, so it need be called
    /// only while there are none.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn maintain(&mut self) -> Result<bool, CommitError> {
        self.commit(&[])?;
        Ok(self.has_work())
    }

    /// Whether [`maintain`](Self::maintain) has something to do.
    pub fn has_work(&self) -> bool {
        self.dead.is_none() && self.is_due(&self.shared.index())
    }

    /// Makes the next segment, unless there are enough. Whether it made one.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn make_spare(&self) -> io::Result<bool> {
        self.spares.make_one()
    }

    /// `adds`: it may not use the last segment of a full disk, which is for what makes room.
    fn write(&mut self, first: &[u8], adds: bool) -> Result<(), CommitError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(HEADER, 0);
        let written = self.write_frame(&mut frame, first, adds);
        self.frame = frame;
        if let Err(CommitError::Unknown { reason }) = &written {
            self.dead = Some(reason.clone());
        }
        written
    }

    fn write_frame(
        &mut self,
        frame: &mut Vec<u8>,
        first: &[u8],
        adds: bool,
    ) -> Result<(), CommitError> {
        let content = first.len() + self.ops.len();
        if content > FRAME_MAX {
            let reason = format!("{content} bytes in one commit are more than {FRAME_MAX}");
            return Err(CommitError::NotWritten { reason });
        }
        let bytes = frame::whole(content) as u64;
        let fits = |active: &Active| active.offset + bytes <= self.options.segment_bytes;
        if !self.active.as_ref().is_some_and(fits) {
            self.next_segment(adds)?;
            self.shared.index().checkpoint(frame);
        }
        let Some(active) = &mut self.active else {
            let reason = "there is no segment".to_owned();
            return Err(CommitError::NotWritten { reason });
        };
        frame.extend_from_slice(first);
        frame.extend_from_slice(&self.ops);
        let commit = self.commit + 1;
        let length = frame.len();
        frame::finish(frame, active.seed, active.offset, commit);
        let written = active.file.write_at(frame, active.offset);
        let written = written.and_then(|()| active.file.sync());
        written.map_err(|error| CommitError::Unknown {
            reason: explain(&error),
        })?;
        let begin = active.offset + HEADER as u64;
        active.offset += frame.len() as u64;
        self.commit = commit;
        self.shared.files.grown(active.segment, active.offset);
        let mut index = self
            .shared
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let content = frame.get(HEADER..length).unwrap_or_default();
        // The same as when the store is opened.
        for op in Ops::new(content) {
            let applied = match op {
                Ok((at, op)) => {
                    let place = u32::try_from(begin + at as u64).unwrap_or(u32::MAX);
                    index.apply(active.segment, place, &op)
                }
                Err(at) => Err(format!("no operation at {at}")),
            };
            applied.map_err(|reason| CommitError::Unknown { reason })?;
        }
        Ok(())
    }

    /// Goes on in the next segment. If there is none, nothing has changed.
    fn next_segment(&mut self, adds: bool) -> Result<(), CommitError> {
        let spare = self.spares.take(adds);
        let spare = spare.map_err(|error| CommitError::NotWritten {
            reason: format!("no further segment can be made: {}", explain(&error)),
        })?;
        let (segment, file) = (spare.segment, spare.file);
        self.shared.files.add(segment, file.clone(), spare.bytes);
        self.active = Some(Active {
            segment,
            file,
            seed: Seed::new(self.id, segment),
            offset: segment::FIRST_FRAME,
        });
        Ok(())
    }

    fn retire_before(&self, segment: u32) {
        for retired in self.shared.files.retire_before(segment) {
            self.spares.retire(retired);
        }
    }

    /// Whether something is to be copied or given up.
    fn is_due(&self, index: &crate::index::Index) -> bool {
        let (Some(active), Some(oldest)) = (&self.active, self.shared.files.oldest()) else {
            return false;
        };
        if oldest >= active.segment || self.blocked.is_some() {
            return false;
        }
        if self.cleaning.is_some() || index.live.of(oldest) == 0 {
            return true;
        }
        let needed = index.live.total.saturating_mul(self.options.factor);
        let wanted = needed.saturating_add(2 * self.options.segment_bytes);
        // A pass that has copied everything, and has not freed enough, is not followed by another
        // one at once.
        let may_begin =
            oldest <= self.pass_end || self.since_pass >= self.options.segment_bytes / 2;
        may_begin && self.shared.files.bytes() > wanted
    }

    /// The oldest segment that is needed after this commit, if that has changed, and what this
    /// commit copies.
    fn next_step(&mut self, index: &crate::index::Index) -> (Option<u32>, Option<Step>) {
        if !self.is_due(index) {
            return (None, None);
        }
        let (Some(active), Some(mut oldest)) = (&self.active, self.shared.files.oldest()) else {
            return (None, None);
        };
        let last = active.segment;
        let first = oldest;
        while oldest < last && index.live.of(oldest) == 0 {
            oldest += 1;
        }
        if oldest > first {
            self.cleaning = None;
            return (Some(oldest), None);
        }
        if self.cleaning.is_none() {
            if oldest > self.pass_end {
                (self.pass_end, self.since_pass) = (last, 0);
            }
            match self
                .shared
                .files
                .get(oldest)
                .and_then(|file| read_all(&*file))
            {
                Ok(bytes) => {
                    let seed = Seed::new(self.id, oldest);
                    self.cleaning = Some(Cleaning::new(oldest, bytes, seed));
                }
                Err(error) => {
                    self.block(Damage {
                        file: segment::name(oldest),
                        offset: 0,
                        what: explain(&error),
                    });
                    return (None, None);
                }
            }
        }
        let step = self.cleaning.as_ref();
        match step.map(|cleaning| cleaning.step(index, self.ops.len())) {
            None => (None, None),
            Some(Ok(step)) => {
                let freed = step.next.is_none().then_some(oldest + 1);
                (freed, Some(step))
            }
            Some(Err(damage)) => {
                self.block(damage);
                (None, None)
            }
        }
    }

    fn block(&mut self, damage: Damage) {
        tracing::error!(
            directory = self.disk.describe(),
            %damage,
            "an old segment cannot be read, so the room that it takes cannot be used again"
        );
        self.cleaning = None;
        self.blocked = Some(damage);
    }
}
