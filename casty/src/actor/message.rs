//! What an actor is told, and what it answers.

use crate::message::{codec::EncodeError, wire::Wire};

/// What can be sent to an actor: the enum that `#[entity]` or `#[actor]` makes of the `#[message]`
/// functions.
pub trait Message: Wire {
    /// The message's wire name. Logs and dead letters show it; they never show what a message
    /// contains.
    fn name(&self) -> &'static str;
}

/// The answers of an actor's handlers, one variant a message. Generated, and never seen by a user.
#[doc(hidden)]
pub trait Reply: Send + 'static {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}
