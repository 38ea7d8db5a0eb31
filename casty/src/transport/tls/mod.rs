//! TLS between processes: mutual, version 1.3 alone, with an identity in each certificate.
//!
//! Names of hosts mean nothing here: where a node will run is not known when its certificate is
//! made.

mod certificate;
mod error;
mod files;
mod judge;
mod loaded;
mod net;
mod stream;
mod times;
mod uri;
mod words;

use std::path::PathBuf;

use self::files::Files;
pub(crate) use self::net::{Below, TlsNet};
pub use self::{
    certificate::CertificateInfo,
    error::TlsError,
    uri::{Identity, NoIdentity},
};

/// The files from which a process has its certificate, its key, and the authorities that it trusts.
///
/// They are read at the start, and again every 30 seconds: replaced files are used for the next
/// connections, without a restart. Files that do not fit together, such as a new certificate and a
/// key that is not replaced yet, are left alone with a warning, and the old ones stay in use.
///
/// A certificate names its process in a URI: see [`Identity`]. Make certificates by `casty cert`,
/// or have them made by an authority of your own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "give it to a builder"]
pub struct Tls(Files);

impl Tls {
    /// The files of a process, all in PEM: its certificate, with intermediate ones after it if
    /// there are any; its private key; and the certificates of the authorities that sign those of
    /// its peers.
    ///
    /// While an authority is replaced, the last file has the old one and the new one.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authorities: impl Into<PathBuf>,
    ) -> Self {
        Self(Files {
            certificate: certificate.into(),
            key: key.into(),
            authorities: authorities.into(),
            revoked: None,
        })
    }

    /// A file with lists of revoked certificates, in PEM, one or more for each authority. It is
    /// read again with the others. Default: none.
    pub fn revoked(mut self, lists: impl Into<PathBuf>) -> Self {
        self.0.revoked = Some(lists.into());
        self
    }

    /// Reads the files and judges the certificate as a peer with the same authorities would.
    ///
    /// # Errors
    /// [`TlsError`]: what a start with these files would say.
    pub fn check(&self) -> Result<CertificateInfo, TlsError> {
        loaded::Loaded::read(&self.0).map(|loaded| loaded.info)
    }

    /// Reads what the certificate says, whichever authority has signed it and whatever its time.
    ///
    /// # Errors
    /// [`TlsError::Read`], [`TlsError::Malformed`].
    pub fn read_certificate(path: impl Into<PathBuf>) -> Result<CertificateInfo, TlsError> {
        loaded::read_certificate(&path.into())
    }
}
