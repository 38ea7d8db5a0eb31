//! A disk that is memory.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
};

use super::{Disk, DiskFile, Lock};

/// A directory in memory: a store in it is gone with the last handle, and a sync waits for nothing.
/// Clones are the same directory.
///
/// ```
/// use std::sync::Arc;
///
/// use casty_log::{Options, Store, disk::Memory};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut options = Options::default();
/// // What is kept ready takes memory too.
/// options.segment_bytes = 1024 * 1024;
/// let (store, opened) = Store::open(Arc::new(Memory::default()), options)?;
/// assert!(opened.is_new);
/// store.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Directory>>);

#[derive(Default)]
struct Directory {
    files: BTreeMap<String, Arc<MemoryFile>>,
    lock: Weak<()>,
}

#[derive(Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files = self.directory().files.len();
        f.debug_struct("Memory")
            .field("files", &files)
            .finish_non_exhaustive()
    }
}

impl Memory {
    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn lock(&self) -> io::Result<Lock> {
        let mut directory = self.directory();
        if directory.lock.strong_count() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Arc::new(());
        directory.lock = Arc::downgrade(&lock);
        Ok(Box::new(lock))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.directory().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = Arc::<MemoryFile>::default();
        self.directory().files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.directory().files.get(name) {
            Some(file) => Ok(file.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut directory = self.directory();
        let file = directory.files.remove(from);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        directory.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.directory().files.remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl DiskFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let rest = bytes.get(place(offset)?..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, written: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let from = place(offset)?;
        let to = from.checked_add(written.len());
        let to = to.ok_or(io::ErrorKind::FileTooLarge)?;
        if bytes.len() < to {
            bytes.resize(to, 0);
        }
        bytes[from..to].copy_from_slice(written);
        Ok(())
    }

    fn set_bytes(&self, length: u64) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        bytes.resize(place(length)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
