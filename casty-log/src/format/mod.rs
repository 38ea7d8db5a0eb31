//! What the bytes of the files mean. All numbers are little-endian.

pub(crate) mod frame;
pub(crate) mod identity;
pub(crate) mod op;
pub(crate) mod segment;
pub(crate) mod take;
