//! What a store needs of a disk: one directory of files.

mod folder;
mod memory;
#[cfg(feature = "sim")]
mod simulated;

use std::{any::Any, io, sync::Arc};

#[cfg(feature = "sim")]
pub use self::simulated::{Fault, SimDisk};
pub use self::{folder::Folder, memory::Memory};

/// It is held by one process, or one store of it, until it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// Where a directory is, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path, without links.
    pub path: String,
    /// A copy of the directory has another mark. It stays when the directory is renamed.
    pub mark: String,
}

/// A directory of files. [`Folder`] is one of the operating system.
///
/// What is written is on the disk for good once it is synced: the bytes of a file by
/// [`DiskFile::sync`], and the names of files by [`Disk::sync`].
pub trait Disk: Send + Sync + 'static {
    /// The directory, for errors and logs.
    fn describe(&self) -> String;

    /// Where the directory is, and which one it is, once it is locked. `None` if that is not known.
    ///
    /// # Errors
    /// The error of the disk.
    fn place(&self) -> io::Result<Option<Place>> {
        Ok(None)
    }

    /// A small file of another directory, if it can be read.
    fn read_elsewhere(&self, _path: &str, _name: &str) -> Option<Vec<u8>> {
        None
    }

    /// Makes the directory, if it does not exist, and locks it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process, or another store of this one, has locked
    /// it.
    fn lock(&self) -> io::Result<Lock>;

    /// The names of the files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, in place of the file of this name if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name. A file of that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. What has it open goes on.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until what became of names is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads from an offset until the buffer is full, or the file ends. How many bytes it has read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes it shorter, or longer by zeros.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Waits until what was written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// All of a file.
pub(crate) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.bytes()?).map_err(io::Error::other)?;
    let mut buffer = vec![0; bytes];
    let read = file.read_at(&mut buffer, 0)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// Replaces a file by one with these bytes: after a crash it has the former ones, or these.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    let file = disk.create(&new)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&new, name)?;
    disk.sync()
}
