//! The files of the segments.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    disk::{Disk, DiskFile},
    format::segment,
};

/// How many files of sealed segments are open, at most. Others are opened when they are read.
const OPEN_MAX: usize = 128;

struct Known {
    file: Option<Arc<dyn DiskFile>>,
    bytes: u64,
    /// It was closed and may have been opened again, so that a reader may hold an older handle.
    was_closed: bool,
}

/// A segment that is not needed any more.
pub(crate) struct Retired {
    pub(crate) segment: u32,
    pub(crate) bytes: u64,
    /// If no reader has it, so that it may be written again.
    pub(crate) file: Option<Arc<dyn DiskFile>>,
}

/// The segments that are in use.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    known: Mutex<KnownFiles>,
}

#[derive(Default)]
struct KnownFiles {
    segments: BTreeMap<u32, Known>,
    /// The bytes of all of them.
    bytes: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, KnownFiles> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment, with the length of its file.
    pub(crate) fn add(&self, segment: u32, file: Arc<dyn DiskFile>, bytes: u64) {
        let mut known = self.known();
        let file = Some(file);
        let new = Known {
            file,
            bytes,
            was_closed: false,
        };
        known.bytes += bytes;
        known.segments.insert(segment, new);
        close_some(&mut known.segments, segment);
    }

    /// The file has grown to this length.
    pub(crate) fn grown(&self, segment: u32, bytes: u64) {
        let mut known = self.known();
        if let Some(found) = known.segments.get_mut(&segment) {
            let more = bytes.saturating_sub(found.bytes);
            found.bytes += more;
            known.bytes += more;
        }
    }

    pub(crate) fn get(&self, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        let mut known = self.known();
        let Some(found) = known.segments.get_mut(&segment) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Some(file) = &found.file {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment::name(segment))?;
        found.file = Some(file.clone());
        close_some(&mut known.segments, segment);
        Ok(file)
    }

    /// The oldest segment.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.known().segments.keys().next().copied()
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.known().bytes
    }

    pub(crate) fn retire_before(&self, segment: u32) -> Vec<Retired> {
        let mut known = self.known();
        let kept = known.segments.split_off(&segment);
        let retired = std::mem::replace(&mut known.segments, kept);
        let freed: u64 = retired.values().map(|retired| retired.bytes).sum();
        known.bytes = known.bytes.saturating_sub(freed);
        let retired = retired.into_iter().map(|(segment, known)| {
            let is_alone = |file: &Arc<_>| Arc::strong_count(file) == 1 && !known.was_closed;
            Retired {
                segment,
                bytes: known.bytes,
                file: known.file.filter(is_alone),
            }
        });
        retired.collect()
    }

    /// Knows the segments of another one instead.
    pub(crate) fn replace(&self, other: Self) {
        let other = other.known.into_inner();
        let mut other = other.unwrap_or_else(PoisonError::into_inner);
        let mut known = self.known();
        for (segment, former) in &known.segments {
            // A reader may hold the former handle.
            let is_held = |file: &Arc<_>| Arc::strong_count(file) > 1;
            let is_held = former.file.as_ref().is_some_and(is_held);
            if let Some(new) = other.segments.get_mut(segment) {
                new.was_closed |= former.was_closed || is_held;
            }
        }
        *known = other;
    }
}

/// Closes another file than this one, if too many are open.
fn close_some(known: &mut BTreeMap<u32, Known>, but: u32) {
    let open = known.values().filter(|known| known.file.is_some()).count();
    if open > OPEN_MAX
        && let Some((_, other)) = known
            .iter_mut()
            .find(|(segment, known)| **segment != but && known.file.is_some())
    {
        other.file = None;
        other.was_closed = true;
    }
}
