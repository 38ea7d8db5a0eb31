//! A disk in memory that fails and crashes as disks do.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{Disk, DiskFile, Lock};

/// What a crash keeps or loses as a whole.
const SECTOR: usize = 512;

/// How an operation of a [`SimDisk`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of the device. A part of what was to be written, or synced, may be on the disk.
    Io,
    /// There is no more room.
    Full,
    /// Nothing may be written.
    ReadOnly,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::other("the device failed"),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

/// A disk in memory. Its clones are the same disk.
///
/// It has what was synced, and what was not. A [crash](Self::crash) keeps any part of the rest: of
/// each write any of its sectors of 512 bytes, and of the changes of names any first part. After a
/// sync that failed, what was not synced can still be read, and the next sync does not write it.
/// All that is random comes from the seed.
///
/// ```
/// use std::sync::Arc;
///
/// use casty_log::{Options, Store, disk::SimDisk};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = SimDisk::new(7);
/// let (store, opened) = Store::open(Arc::new(disk.clone()), Options::default())?;
/// assert!(opened.is_new);
/// disk.crash();
/// drop(store);
/// let (_, opened) = Store::open(Arc::new(disk), Options::default())?;
/// assert!(opened.unclean);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    random: u64,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    /// Changes of names that are not synced, in their order: a name, and the file that has it.
    name_changes: Vec<Vec<(String, Option<u64>)>>,
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    /// How many operations have changed something or synced.
    operations: u64,
    crash_at: Option<u64>,
    is_down: bool,
    /// Handles of a former life of the disk do not work.
    life: u64,
    lock: Weak<()>,
    write_fault: Option<Fault>,
    sync_fault: Option<Fault>,
    /// How many bytes fit on the disk.
    room: u64,
}

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    writes: Vec<(usize, Vec<u8>)>,
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk")
            .field("operations", &state.operations)
            .field("is_down", &state.is_down)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
            next_file: 0,
            operations: 0,
            crash_at: None,
            is_down: false,
            life: 0,
            lock: Weak::new(),
            write_fault: None,
            sync_fault: None,
            room: u64::MAX,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations have written or synced something so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The operation with this number is not finished, and nothing works afterwards, until
    /// [`crash`](Self::crash) ends that.
    pub fn crash_at(&self, operation: u64) {
        self.state().crash_at = Some(operation);
    }

    /// What was not synced is kept or lost by chance, and the disk works again. Open files and
    /// locks of before do not.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// Everything that was written is kept, as when a process is killed: it stays in the memory of
    /// the operating system. Open files and locks of before end.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        (state.is_down, state.crash_at) = (false, None);
        state.lock = Weak::new();
    }

    /// Writes fail from now on, or do no longer.
    pub fn fail_writes(&self, fault: Option<Fault>) {
        self.state().write_fault = fault;
    }

    /// Syncs fail from now on, or do no longer.
    pub fn fail_syncs(&self, fault: Option<Fault>) {
        self.state().sync_fault = fault;
    }

    /// So many bytes more fit on the disk.
    pub fn set_room(&self, bytes: u64) {
        let mut state = self.state();
        state.room = state.used().saturating_add(bytes);
    }

    /// Changes a bit of a file, as a disk that rots. False if there is no such file or byte.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) -> bool {
        self.state().change(name, |contents| {
            for bytes in [&mut contents.bytes, &mut contents.synced] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            offset < contents.bytes.len()
        })
    }

    /// Fills a part of a file with zeros. False if there is no such file.
    pub fn zero(&self, name: &str, from: usize, bytes: usize) -> bool {
        self.state().change(name, |contents| {
            for all in [&mut contents.bytes, &mut contents.synced] {
                let end = (from + bytes).min(all.len());
                if let Some(part) = all.get_mut(from..end) {
                    part.fill(0);
                }
            }
            true
        })
    }

    /// The bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// The contents of a file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(name)?;
        Some(state.files.get(file)?.bytes.clone())
    }
}

impl State {
    /// Random numbers that a seed repeats: xorshift.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn used(&self) -> u64 {
        let used = self.names.values().filter_map(|file| self.files.get(file));
        used.map(|contents| contents.bytes.len() as u64).sum()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Contents) -> bool) -> bool {
        let Some(file) = self.names.get(name) else {
            return false;
        };
        self.files.get_mut(file).is_some_and(change)
    }

    /// Counts an operation. `Ok(true)`: it is the one in which the disk goes down.
    fn begin(&mut self) -> io::Result<bool> {
        if self.is_down {
            return Err(io::Error::other("the disk is down"));
        }
        self.operations += 1;
        self.is_down = self.crash_at == Some(self.operations);
        Ok(self.is_down)
    }

    fn down(is_down: bool) -> io::Result<()> {
        if is_down {
            return Err(io::Error::other("the disk is down"));
        }
        Ok(())
    }

    fn rename(&mut self, changes: Vec<(String, Option<u64>)>) -> io::Result<()> {
        let is_down = self.begin()?;
        if let Some(fault) = self.write_fault {
            return Err(fault.error());
        }
        for (name, file) in &changes {
            match file {
                Some(file) => self.names.insert(name.clone(), *file),
                None => self.names.remove(name),
            };
        }
        self.name_changes.push(changes);
        Self::down(is_down)
    }

    fn crash(&mut self) {
        let changes = std::mem::take(&mut self.name_changes);
        let kept = usize::try_from(self.random()).unwrap_or_default() % (changes.len() + 1);
        for (name, file) in changes.into_iter().take(kept).flatten() {
            match file {
                Some(file) => self.synced_names.insert(name, file),
                None => self.synced_names.remove(&name),
            };
        }
        let mut files = std::mem::take(&mut self.files);
        for contents in files.values_mut() {
            self.settle(contents);
            contents.bytes = contents.synced.clone();
        }
        files.retain(|file, _| self.synced_names.values().any(|named| named == file));
        self.files = files;
        self.names = self.synced_names.clone();
        self.life += 1;
        (self.is_down, self.crash_at) = (false, None);
        self.lock = Weak::new();
    }

    /// Keeps a part of what was not synced.
    fn settle(&mut self, contents: &mut Contents) {
        // All, nothing, or some.
        let most = self.random() % 4;
        for (offset, bytes) in std::mem::take(&mut contents.writes) {
            let mut at = 0;
            while at < bytes.len() {
                let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                let end = end.min(bytes.len());
                let is_kept = match most {
                    0 => true,
                    1 => false,
                    _ => self.random().is_multiple_of(2),
                };
                if is_kept {
                    put(&mut contents.synced, offset + at, &bytes[at..end]);
                }
                at = end;
            }
        }
    }
}

fn put(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[offset..end].copy_from_slice(bytes);
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "a simulated disk".to_owned()
    }

    fn lock(&self) -> io::Result<Lock> {
        let mut state = self.state();
        if state.lock.strong_count() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.write_fault == Some(Fault::ReadOnly) {
            return Err(Fault::ReadOnly.error());
        }
        let lock = Arc::new(());
        state.lock = Arc::downgrade(&lock);
        Ok(Box::new(lock))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        State::down(state.is_down)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = state.next_file;
        state.next_file += 1;
        state.files.insert(file, Contents::default());
        state.rename(vec![(name.to_owned(), Some(file))])?;
        Ok(self.file(file, state.life))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        State::down(state.is_down)?;
        match state.names.get(name) {
            Some(file) => Ok(self.file(*file, state.life)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let Some(file) = state.names.get(from).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        state.rename(vec![(from.to_owned(), None), (to.to_owned(), Some(file))])
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(vec![(name.to_owned(), None)])
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        State::down(state.begin()?)?;
        if let Some(fault) = state.sync_fault {
            return Err(fault.error());
        }
        state.name_changes.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }
}

impl SimDisk {
    fn file(&self, file: u64, life: u64) -> Arc<dyn DiskFile> {
        let disk = self.clone();
        Arc::new(Open { disk, file, life })
    }
}

struct Open {
    disk: SimDisk,
    file: u64,
    life: u64,
}

impl Open {
    /// The state, with this file taken out of it. It has to be put back.
    fn state(&self) -> io::Result<(MutexGuard<'_, State>, Contents)> {
        let mut state = self.disk.state();
        State::down(state.is_down || state.life != self.life)?;
        let contents = state.files.remove(&self.file);
        let contents = contents.ok_or(io::ErrorKind::NotFound)?;
        Ok((state, contents))
    }
}

impl DiskFile for Open {
    fn bytes(&self) -> io::Result<u64> {
        let (mut state, contents) = self.state()?;
        let bytes = contents.bytes.len();
        state.files.insert(self.file, contents);
        Ok(bytes as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, contents) = self.state()?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = contents.bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        state.files.insert(self.file, contents);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, mut contents) = self.state()?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let written = write(&mut state, &mut contents, bytes, offset);
        state.files.insert(self.file, contents);
        written
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let (mut state, mut contents) = self.state()?;
        let set = set_bytes(&mut state, &mut contents, bytes);
        state.files.insert(self.file, contents);
        set
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, mut contents) = self.state()?;
        let synced = sync(&mut state, &mut contents);
        state.files.insert(self.file, contents);
        synced
    }
}

fn write(
    state: &mut State,
    contents: &mut Contents,
    bytes: &[u8],
    offset: usize,
) -> io::Result<()> {
    let is_down = state.begin()?;
    let grows = (offset + bytes.len()).saturating_sub(contents.bytes.len()) as u64;
    let fault = match state.write_fault {
        // The file itself is not among those that are counted.
        None if grows > 0 && state.used() + (offset + bytes.len()) as u64 > state.room => {
            Some(Fault::Full)
        }
        fault => fault,
    };
    let written = match fault {
        None => bytes.len(),
        Some(Fault::Io) => usize::try_from(state.random()).unwrap_or_default() % (bytes.len() + 1),
        Some(_) => 0,
    };
    let bytes = &bytes[..written];
    if written > 0 {
        put(&mut contents.bytes, offset, bytes);
        contents.writes.push((offset, bytes.to_vec()));
    }
    match fault {
        Some(fault) => Err(fault.error()),
        None => State::down(is_down),
    }
}

/// A crash may take back that it has become shorter.
fn set_bytes(state: &mut State, contents: &mut Contents, bytes: u64) -> io::Result<()> {
    let is_down = state.begin()?;
    if let Some(fault) = state.write_fault {
        return Err(fault.error());
    }
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    contents.bytes.resize(bytes, 0);
    for (offset, written) in &mut contents.writes {
        written.truncate(bytes.saturating_sub(*offset));
    }
    State::down(is_down)
}

fn sync(state: &mut State, contents: &mut Contents) -> io::Result<()> {
    State::down(state.begin()?)?;
    if let Some(fault) = state.sync_fault {
        // The next sync does not know of what this one has not written.
        state.settle(contents);
        return Err(fault.error());
    }
    for (offset, bytes) in std::mem::take(&mut contents.writes) {
        put(&mut contents.synced, offset, &bytes);
    }
    contents.synced.resize(contents.bytes.len(), 0);
    Ok(())
}
