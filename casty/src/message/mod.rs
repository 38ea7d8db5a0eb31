//! Messages as values and as bytes. Knows no actor, no socket, no clock.

pub(crate) mod answer;
pub(crate) mod codec;
pub(crate) mod form;
mod packed;
pub(crate) mod wire;
