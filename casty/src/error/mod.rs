//! The errors of systems and clients: why one does not start, join, connect or stop; and what is
//! wrong with a key.
//!
//! The errors of a message are [`AskError`] and [`TellError`].

mod delay;
pub(crate) mod failure;
mod key;
pub(crate) mod send;
mod stored;
mod system;

pub use self::{
    delay::Delay,
    key::InvalidKey,
    stored::StoredError,
    system::{ConnectError, JoinError, ShutdownError, StartError, StateDirError},
};
pub(crate) use self::{
    failure::Failure,
    send::{AskError, TellError},
};
