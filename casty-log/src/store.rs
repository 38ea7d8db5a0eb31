//! A store: commits, one at a time.

use std::{
    io,
    ops::Range,
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
    home,
    reader::Shared,
    recover::{Active, Recovered, recover},
    spares::{Spares, lengthen},
    stage::{Stage, check},
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
    /// The directory is a copy of the one in which the store was, or was restored from a backup: it
    /// may lack what it has confirmed. A store with copies elsewhere must not count on it. It says
    /// so each time, until [`adopt`](Store::adopt) is called.
    pub copied: bool,
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

impl Usage {
    pub(crate) fn of(shared: &Shared, spares: &Spares) -> Self {
        Self {
            disk_bytes: shared.files.bytes() + spares.kept(),
            live_bytes: shared.index().live.total,
        }
    }
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
    /// The frame of the commit that is being made.
    frame: Vec<u8>,
    /// Where its operations are.
    content: Range<usize>,
    /// [`FRAME_MAX`].
    frame_max: usize,
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

/// Puts bytes into the middle of others.
fn insert(all: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = all.len();
    all.resize(end + bytes.len(), 0);
    all.copy_within(at..end, at + bytes.len());
    all[at..at + bytes.len()].copy_from_slice(bytes);
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
            frame: Vec::new(),
            content: 0..0,
            frame_max: FRAME_MAX,
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
            is_copied,
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
            full_pause,
            ..
        } = self.options;
        let spares = Spares::new(self.disk.clone(), store, segment_bytes, spares);
        let spares = spares.pausing(full_pause);
        self.spares = Arc::new(spares.with(ready, next));
        (self.id, self.active, self.commit) = (store, active, commit);
        (self.dead, self.blocked, self.cleaning) = (None, None, None);
        (self.pass_end, self.since_pass) = (0, segment_bytes);
        self.retire_before(oldest);
        Ok(Opened {
            store,
            is_new,
            unclean: is_unclean,
            copied: is_copied,
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

    /// From now on this directory is that of the store, and [`Opened::copied`] says so no longer.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn adopt(&self) -> io::Result<()> {
        home::adopt(&*self.disk, self.id)
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
        Usage::of(&self.shared, &self.spares)
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
        changes.iter().try_for_each(check)?;
        let mut answer = Vec::new();
        self.commit_checked(changes, &[], |done| answer = done)?;
        Ok(answer)
    }

    /// Makes changes that were [checked](check), and that may all have been
    /// [encoded](crate::stage::encode). The answer is given once they are durable, and just before
    /// they can be read: a reader that has the answer waits for them. To put them into the index
    /// takes about as long as to write them, so the callers go on meanwhile.
    pub(crate) fn commit_checked(
        &mut self,
        changes: &[Change],
        encoded: &[Vec<u8>],
        answer: impl FnOnce(Vec<Done>),
    ) -> Result<(), CommitError> {
        if let Some(reason) = &self.dead {
            let reason = format!("the store has to be opened again: {reason}");
            return Err(CommitError::NotWritten { reason });
        }
        let shared = self.shared.clone();
        let index = shared.index();
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.resize(HEADER, 0);
        let mut stage = Stage::new(&index, frame);
        let all = (0..).zip(changes).map(|(at, change)| {
            let encoded: Option<&Vec<u8>> = encoded.get(at);
            stage.change(change, encoded.map(Vec::as_slice))
        });
        let done: Vec<_> = all.collect();
        self.frame = stage.ops;
        let ops = self.frame.len() - HEADER;
        self.since_pass += ops as u64;
        let (oldest, mut step) = self.next_step(&index, ops);
        drop(index);
        if ops == 0 && oldest.is_none() && step.is_none() {
            answer(done);
            return Ok(());
        }
        let mut first = step
            .as_mut()
            .map_or_else(Vec::new, |step| std::mem::take(&mut step.ops));
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
        self.show(|| answer(done));
        if let Some(Step { next, .. }) = step {
            match (next, &mut self.cleaning) {
                (Some(next), Some(cleaning)) => cleaning.go_on_at(next),
                _ => self.cleaning = None,
            }
        }
        if let Some(segment) = oldest {
            self.retire_before(segment);
        }
        Ok(())
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

    /// Writes the frame, with these operations before those that it has. `adds`: it may not use the
    /// last segment of a full disk, which is for what makes room.
    fn write(&mut self, first: &[u8], adds: bool) -> Result<(), CommitError> {
        let (content, most) = (first.len() + self.frame.len() - HEADER, self.frame_max);
        if content > most {
            let reason = format!("{content} bytes in one commit are more than {most}");
            return Err(CommitError::NotWritten { reason });
        }
        let bytes = frame::whole(content) as u64;
        let fits = |active: &Active| active.offset + bytes <= self.options.segment_bytes;
        if self.active.as_ref().is_some_and(fits) {
            insert(&mut self.frame, HEADER, first);
        } else {
            let mut begin = self.next_segment(adds, content)?;
            begin.extend_from_slice(first);
            insert(&mut self.frame, HEADER, &begin);
        }
        let Some(active) = &mut self.active else {
            let reason = "there is no segment".to_owned();
            return Err(CommitError::NotWritten { reason });
        };
        self.content = HEADER..self.frame.len();
        frame::finish(&mut self.frame, active.seed, active.offset, self.commit + 1);
        let written = active.file.write_at(&self.frame, active.offset);
        let written = written.and_then(|()| active.file.sync());
        written.map_err(|error| {
            let reason = explain(&error);
            self.dead = Some(reason.clone());
            CommitError::Unknown { reason }
        })
    }

    /// The frame is durable: it can be read from now on. `answer` is called while nothing can be
    /// read.
    fn show(&mut self, answer: impl FnOnce()) {
        let Some(active) = &mut self.active else {
            return;
        };
        let index = self.shared.index.write();
        let mut index = index.unwrap_or_else(PoisonError::into_inner);
        answer();
        let begin = active.offset + HEADER as u64;
        active.offset += self.frame.len() as u64;
        self.commit += 1;
        self.shared.files.grown(active.segment, active.offset);
        let content = self.frame.get(self.content.clone()).unwrap_or_default();
        // The same as when the store is opened.
        for op in Ops::new(content) {
            let applied = match op {
                Ok((at, op)) => {
                    let place = u32::try_from(begin + at as u64).unwrap_or(u32::MAX);
                    index.apply(active.segment, place, &op)
                }
                Err(at) => Err(format!("no operation at {at}")),
            };
            if let Err(reason) = applied {
                // What was written is durable, and cannot be read before the store is opened again.
                self.dead = Some(reason);
                return;
            }
        }
    }

    /// Goes on in the next segment, with a frame that has so much content. What the frame has to
    /// begin with. If there is no segment, or it cannot be made long enough, nothing has changed.
    fn next_segment(&mut self, adds: bool, content: usize) -> Result<Vec<u8>, CommitError> {
        let refused = |error: io::Error| CommitError::NotWritten {
            reason: format!("no further segment can be made: {}", explain(&error)),
        };
        let mut spare = self.spares.take(adds).map_err(refused)?;
        let mut begin = Vec::new();
        self.shared.index().checkpoint(&mut begin);
        let needed = segment::FIRST_FRAME + frame::whole(begin.len() + content) as u64;
        if needed > spare.bytes {
            if let Err(error) = lengthen(&*spare.file, spare.bytes, needed) {
                self.spares.give_back(spare);
                return Err(refused(error));
            }
            spare.bytes = needed;
        }
        let (segment, file) = (spare.segment, spare.file);
        self.shared.files.add(segment, file.clone(), spare.bytes);
        self.active = Some(Active {
            segment,
            file,
            seed: Seed::new(self.id, segment),
            offset: segment::FIRST_FRAME,
        });
        Ok(begin)
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
    fn next_step(
        &mut self,
        index: &crate::index::Index,
        commit: usize,
    ) -> (Option<u32>, Option<Step>) {
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
        match step.map(|cleaning| cleaning.step(index, commit)) {
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{LogId, Record, disk::SimDisk};

    /// With the real bound it would take 3 GiB of memory.
    #[test]
    fn a_commit_that_no_frame_can_hold_is_refused_and_harms_nothing() {
        assert!(FRAME_MAX as u64 + (1 << 29) < u64::from(u32::MAX));
        let disk = Arc::new(SimDisk::new(1));
        let (mut store, _) = Store::open(disk, Options::default()).expect("opened");
        let log = LogId { kind: 0, shard: 0 };
        let claim = [
            Change::Kind {
                name: "Account".into(),
                shards: NonZeroU32::MIN,
            },
            Change::Claim {
                log,
                epoch: 1,
                owner: "node".into(),
            },
        ];
        store.commit(&claim).expect("claimed");
        store.frame_max = 10_000;
        let append = |position, bytes| Change::Append {
            log,
            epoch: 1,
            records: vec![Record {
                position,
                epoch: 1,
                entity: "ada".into(),
                seq: position,
                at: 0,
                body: vec![7; bytes].into(),
            }],
        };
        let parts = [append(1, 6000), append(2, 6000)];
        let refused = store.commit(&parts).expect_err("refused");
        let CommitError::NotWritten { reason } = &refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("are more than 10000"), "{reason}");
        for part in &parts {
            let done = store.commit(std::slice::from_ref(part));
            assert_eq!(done, Ok(vec![Done::Written]));
        }
        assert_eq!(store.reader().head(log).position, 2);
    }
}
