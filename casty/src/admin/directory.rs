//! What can be done with the directory of a node that does not run.

use std::path::Path;

use uuid::Uuid;

use crate::persistence::{JournalError, local};

/// Says that the directory of a node was moved, and that nothing in it is missing. Returns the
/// identity of its store.
///
/// A node of a cluster refuses to start with a directory that is not where it was
/// ([`StartError::DirectoryCopied`](crate::error::StartError::DirectoryCopied)): a copy, or one
/// restored from a backup, may lack what the node has confirmed to others. Only the operator knows
/// that it was moved while the node was stopped, and that the node has not run elsewhere since. If
/// that is not so, entities may lose what was acknowledged: start with an empty directory then,
/// which the other nodes fill.
///
/// This reads the whole directory, and blocks for so long.
///
/// # Errors
/// [`JournalError`] if it is not the directory of a node, is in use, or cannot be read or written.
///
/// ```no_run
/// # fn main() -> Result<(), casty::persistence::JournalError> {
/// casty::admin::adopt_directory("/mnt/new-disk/shop")?;
/// # Ok(())
/// # }
/// ```
pub fn adopt_directory(directory: impl AsRef<Path>) -> Result<Uuid, JournalError> {
    local::adopt(directory.as_ref())
}
