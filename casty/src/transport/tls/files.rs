//! Where a process has its certificate from.

use std::path::PathBuf;

/// The files of a process, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) authorities: PathBuf,
    /// Lists of revoked certificates.
    pub(super) revoked: Option<PathBuf>,
}
