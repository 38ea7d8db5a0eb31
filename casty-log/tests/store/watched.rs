//! A disk that counts what is done to its files.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use casty_log::disk::{Disk, DiskFile, Lock, SimDisk};

#[derive(Debug, Default)]
pub(crate) struct Counts {
    reads: AtomicU64,
    syncs: AtomicU64,
    /// Syncs wait while it is locked.
    gate: Mutex<()>,
}

impl Counts {
    /// How often something was read from a file.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many syncs of files have begun.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    /// Syncs of files that begin from now on wait until this is dropped.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().expect("not poisoned")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Watched {
    disk: SimDisk,
    pub(crate) counts: Arc<Counts>,
}

impl Watched {
    pub(crate) fn new(disk: SimDisk) -> Self {
        let counts = Arc::default();
        Self { disk, counts }
    }

    fn watch(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let counts = self.counts.clone();
        Arc::new(Open { file, counts })
    }
}

impl Disk for Watched {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn lock(&self) -> io::Result<Lock> {
        self.disk.lock()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name).map(|file| self.watch(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.watch(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

struct Open {
    file: Arc<dyn DiskFile>,
    counts: Arc<Counts>,
}

impl DiskFile for Open {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.file.set_bytes(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.counts.hold_syncs());
        self.file.sync()
    }
}
