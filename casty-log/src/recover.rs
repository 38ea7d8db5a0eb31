//! Reads the segments when a store is opened.
//!
//! A commit is written only once the one before it is durable. So after a crash only the last frame
//! may be unfinished: it is cut. If anything later stands behind a frame that is not whole, that
//! frame was acknowledged, and the store is damaged. Whole frames that are missing at the very end
//! cannot be noticed, unless the store was closed before: then it says how many there were.

use std::{collections::VecDeque, io, sync::Arc};

use uuid::Uuid;

use crate::{
    Damage, OpenError, Options,
    disk::{Disk, DiskFile, read_all, replace},
    files::Files,
    format::{
        frame::{self, HEADER, Seed},
        identity::{self, Identity},
        op::Ops,
        segment,
    },
    home,
    index::Index,
    spares::Spare,
};

/// Where the next frame goes.
pub(crate) struct Active {
    pub(crate) segment: u32,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) seed: Seed,
    pub(crate) offset: u64,
}

pub(crate) struct Recovered {
    pub(crate) store: Uuid,
    pub(crate) index: Index,
    /// `None` before the first commit.
    pub(crate) active: Option<Active>,
    /// The number of the last commit.
    pub(crate) commit: u64,
    pub(crate) ready: VecDeque<Spare>,
    /// The number of the next segment that is made.
    pub(crate) next: u32,
    pub(crate) is_new: bool,
    pub(crate) is_unclean: bool,
    pub(crate) is_copied: bool,
    /// Where a commit was cut off: the file and the offset.
    pub(crate) cut: Option<(String, u64)>,
}

/// What one disk says.
struct Reading<'a> {
    disk: &'a dyn Disk,
    store: Uuid,
    index: Index,
    active: Option<Active>,
    commit: u64,
    /// The last frame, as it stands in the file.
    last: Option<(Arc<dyn DiskFile>, u64, Vec<u8>)>,
    cut: Option<(String, u64)>,
    empty: VecDeque<Spare>,
}

/// Opens what is there, or makes a store. The directory is locked.
pub(crate) fn recover(
    disk: &dyn Disk,
    files: &Files,
    options: &Options,
) -> Result<Recovered, OpenError> {
    let failed = |what| {
        move |source| OpenError::Io {
            directory: disk.describe(),
            what,
            source,
        }
    };
    let names = disk.names().map_err(failed("listing the files"))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|it| segment::number(it)).collect();
    numbers.sort_unstable();
    let (store, is_new) = match read_identity(disk, &names)? {
        Some(store) => (store, false),
        None if numbers.is_empty() => {
            let store = options.identity.unwrap_or_else(Uuid::now_v7);
            let file = identity::store_file(store);
            replace(disk, identity::STORE, &file).map_err(failed("making a store"))?;
            (store, true)
        }
        None => return Err(damaged(disk, identity::STORE, 0, "the file is missing")),
    };
    let is_copied = home::check(disk, &names, store)?;
    let clean = read_clean(disk, &names, store).map_err(failed("reading the end mark"))?;
    let mut reading = Reading {
        disk,
        store,
        index: Index::default(),
        active: None,
        commit: 0,
        last: None,
        cut: None,
        empty: VecDeque::new(),
    };
    // Before a gap are segments that were not needed any more.
    let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    let first = gap.map_or(0, |gap| gap + 1);
    for &number in &numbers[first..] {
        reading.segment(number, files)?;
    }
    reading.check_whole(numbers.get(first).copied(), clean)?;
    if clean.is_some() {
        let removed = disk.remove(identity::CLEAN).and_then(|()| disk.sync());
        removed.map_err(failed("removing the end mark"))?;
    } else if let Some((file, offset, bytes)) = &reading.last {
        // It may stand in the memory of the operating system only, also after a sync that failed.
        let written = file.write_at(bytes, *offset).and_then(|()| file.sync());
        written.map_err(failed("writing the last commit again"))?;
    }
    for name in &names {
        let is_old = segment::number(name).is_some_and(|number| number < numbers[first]);
        if is_old || is_unfinished(name) {
            match disk.remove(name) {
                // One of them was used again to make the store.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("removing an old file"))?,
            }
        }
    }
    // A process that was killed may have named a segment and not synced that. What is written to
    // the segment from now on must not be lost with its name.
    disk.sync().map_err(failed("syncing the directory"))?;
    let next = numbers.last().map_or(1, |last| last + 1);
    Ok(Recovered {
        store,
        index: reading.index,
        active: reading.active,
        commit: reading.commit,
        ready: reading.empty,
        next,
        is_new,
        is_unclean: !is_new && clean.is_none(),
        is_copied,
        cut: reading.cut,
    })
}

/// Whether a file was begun by a store, and not finished.
fn is_unfinished(name: &str) -> bool {
    let finished = name.strip_suffix(".new");
    finished.is_some_and(|name| {
        matches!(name, identity::STORE | identity::CLEAN | identity::HOME)
            || segment::number(name).is_some()
    })
}

fn damaged(disk: &dyn Disk, file: &str, offset: u64, what: impl Into<String>) -> OpenError {
    OpenError::Damaged {
        directory: disk.describe(),
        damage: Damage {
            file: file.to_owned(),
            offset,
            what: what.into(),
        },
    }
}

fn read_identity(disk: &dyn Disk, names: &[String]) -> Result<Option<Uuid>, OpenError> {
    if !names.iter().any(|name| name == identity::STORE) {
        return Ok(None);
    }
    let bytes = disk.open(identity::STORE).and_then(|file| read_all(&*file));
    let bytes = bytes.map_err(|source| OpenError::Io {
        directory: disk.describe(),
        what: "reading the identity of the store",
        source,
    })?;
    match identity::read_store(&bytes) {
        Identity::Known(store) => Ok(Some(store)),
        Identity::Newer(found) => Err(OpenError::Newer {
            directory: disk.describe(),
            found,
            known: segment::FORMAT,
        }),
        Identity::Damaged => Err(damaged(
            disk,
            identity::STORE,
            0,
            "this is no identity of a store",
        )),
    }
}

/// The number of the last commit, if the store was closed after it. A mark that is damaged is none.
fn read_clean(disk: &dyn Disk, names: &[String], store: Uuid) -> io::Result<Option<u64>> {
    if !names.iter().any(|name| name == identity::CLEAN) {
        return Ok(None);
    }
    let bytes = read_all(&*disk.open(identity::CLEAN)?)?;
    Ok(identity::read_clean(&bytes, store))
}

impl Reading<'_> {
    fn damaged(&self, segment: u32, offset: u64, what: impl Into<String>) -> OpenError {
        damaged(self.disk, &segment::name(segment), offset, what)
    }

    fn segment(&mut self, number: u32, files: &Files) -> Result<(), OpenError> {
        let name = segment::name(number);
        let read = self.disk.open(&name).and_then(|file| {
            let bytes = read_all(&*file)?;
            Ok((file, bytes))
        });
        let (file, bytes) = read.map_err(|source| OpenError::Io {
            directory: self.disk.describe(),
            what: "reading a segment",
            source,
        })?;
        let checked = segment::check(&bytes, self.store, number);
        let seed = checked.map_err(|what| self.damaged(number, 0, what))?;
        let mut offset = usize::try_from(segment::FIRST_FRAME).unwrap_or(usize::MAX);
        let mut last = None;
        while let Some(frame) = frame::frame_at(&bytes, seed, offset) {
            let is_first_of_all = self.active.is_none() && last.is_none();
            if frame.commit != self.commit + 1 && !is_first_of_all {
                return Err(self.gap(number, offset as u64, frame.commit));
            }
            self.frame(number, offset, frame.content)?;
            self.commit = frame.commit;
            last = Some(offset..frame.end);
            offset = frame.end;
        }
        if let Some((_, later)) = frame::later_header(&bytes, seed, offset, self.commit + 1) {
            let what = format!(
                "commit {} is not whole here, and commit {later} follows",
                self.commit + 1
            );
            return Err(self.damaged(number, offset as u64, what));
        }
        let length = bytes.len() as u64;
        // What follows is zeros, or what a former segment left. A frame that was begun has a header
        // of its own.
        let is_cut = frame::header_at(&bytes, seed, offset).is_some();
        let cut = is_cut.then_some((name, offset as u64));
        let Some(last) = last else {
            self.cut = self.cut.take().or(cut);
            self.empty.push_back(Spare {
                segment: number,
                file,
                bytes: length,
            });
            return Ok(());
        };
        if let Some(empty) = self.empty.front() {
            // Segments are used in their order.
            return Err(self.damaged(
                empty.segment,
                segment::FIRST_FRAME,
                "its commits are missing",
            ));
        }
        self.cut = cut;
        let frame = bytes.get(last.clone()).unwrap_or_default().to_vec();
        self.last = Some((file.clone(), last.start as u64, frame));
        files.add(number, file.clone(), length);
        self.active = Some(Active {
            segment: number,
            file,
            seed,
            offset: offset as u64,
        });
        Ok(())
    }

    /// The error for a frame that is not of the next commit.
    fn gap(&self, segment: u32, offset: u64, commit: u64) -> OpenError {
        let what = format!("commit {commit} follows commit {}", self.commit);
        if let Some(empty) = self.empty.front() {
            return self.damaged(empty.segment, segment::FIRST_FRAME, what);
        }
        match &self.active {
            // What is missing stood behind the last whole frame.
            Some(active) if commit > self.commit + 1 => {
                self.damaged(active.segment, active.offset, what)
            }
            _ => self.damaged(segment, offset, what),
        }
    }

    fn frame(&mut self, segment: u32, offset: usize, content: &[u8]) -> Result<(), OpenError> {
        for op in Ops::new(content) {
            let begin = offset + HEADER;
            let (at, applied) = match op {
                Ok((at, op)) => {
                    let place = u32::try_from(begin + at).unwrap_or(u32::MAX);
                    (at, self.index.apply(segment, place, &op))
                }
                Err(at) => (at, Err("this operation is not known".to_owned())),
            };
            applied.map_err(|what| self.damaged(segment, (begin + at) as u64, what))?;
        }
        Ok(())
    }

    /// Checks that nothing is missing.
    fn check_whole(&mut self, first: Option<u32>, clean: Option<u64>) -> Result<(), OpenError> {
        let oldest = self.index.oldest.max(1);
        if let Some(commit) = clean
            && commit != self.commit
        {
            let what = format!(
                "the last commit was {commit}, and {} is the last that is there",
                self.commit
            );
            let (segment, offset) = match &self.active {
                Some(active) => (active.segment, active.offset),
                None => (oldest, segment::FIRST_FRAME),
            };
            return Err(self.damaged(segment, offset, what));
        }
        if let Some(first) = first
            && first > oldest
        {
            let is_empty = self.active.is_none();
            return Err(if is_empty {
                self.damaged(first, segment::FIRST_FRAME, "its commits are missing")
            } else {
                self.damaged(first - 1, 0, "the file is missing")
            });
        }
        if let Err(what) = self.index.finish() {
            return Err(self.damaged(oldest, 0, what));
        }
        Ok(())
    }
}
