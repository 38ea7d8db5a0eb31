//! Messages as values and as bytes. Knows no actor, no socket, no clock.

pub(crate) mod answer;
pub(crate) mod caller;
pub(crate) mod changed;
pub(crate) mod codec;
mod decoder;
mod depth;
mod encoder;
mod error;
pub(crate) mod event_form;
pub(crate) mod form;
mod packed;
pub(crate) mod readable;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
