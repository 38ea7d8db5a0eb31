//! What an actor is told, and what it answers.

use crate::message::{
    codec::{self, DecodeError, EncodeError},
    wire::Wire,
};

/// What can be sent to an actor: the enum that `#[entity]` or `#[actor]` makes of the `#[message]`
/// functions.
pub trait Message: Wire {
    /// The message's wire name. Logs and dead letters show it; they never show what a message
    /// contains.
    fn name(&self) -> &'static str;

    /// Appends the message as it travels between nodes.
    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::encode(self, out)
    }

    /// The internal message of that name, if it has no arguments: such a message has no other form,
    /// and yet goes along when an entity moves that waits for it.
    #[doc(hidden)]
    fn named(name: &str) -> Option<Self> {
        let _ = name;
        None
    }

    /// Reads a message that takes up all of `bytes`.
    #[doc(hidden)]
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }
}

/// The answers of an actor's handlers, one variant a message. Generated, and never seen by a user.
#[doc(hidden)]
pub trait Reply: Send + 'static {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}
