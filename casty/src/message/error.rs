//! Why a value cannot be written or read.

/// Why a value cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[doc(hidden)]
pub struct EncodeError(pub(crate) String);

/// Why bytes cannot be decoded as a value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[doc(hidden)]
pub struct DecodeError(pub(crate) String);
