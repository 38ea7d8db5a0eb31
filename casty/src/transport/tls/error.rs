//! Why certificates, keys and lists cannot be used.

use std::{io, path::PathBuf};

use super::uri::{Identity, NoIdentity};

/// Why a process cannot use its certificate, its key, or its list of authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file is not what it should be: PEM, with at least one entry of its kind.
    #[error("`{}` is no PEM file with {expected}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should have.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key is not that of the certificate. While files are replaced, one of them may be newer
    /// than the other for a moment.
    #[error("the key in `{}` is not that of the certificate in `{}`", key.display(), certificate.display())]
    OtherKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The certificate does not say which process it is for.
    #[error("the certificate names no process of a cluster: {source}")]
    NoIdentity {
        /// The URI that is there in place of one.
        source: NoIdentity,
    },
    /// A peer would refuse the certificate.
    #[error("a peer with the same authorities would refuse the certificate: {reason}")]
    Refused {
        /// Why, in the words that the peer would log.
        reason: String,
    },
    /// The certificate is for another process than this one.
    #[error("the certificate is for `{found}`, and this process needs one for `{needed}`")]
    OtherProcess {
        /// The identity in the certificate.
        found: Identity,
        /// What it has to be.
        needed: String,
    },
}
