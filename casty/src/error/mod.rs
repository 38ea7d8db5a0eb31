//! The errors of systems and clients: why one does not start, join, connect or stop.
//!
//! The errors of a message are [`AskError`] and [`TellError`].

pub(crate) mod failure;
pub(crate) mod send;
mod system;

pub use self::system::{ConnectError, JoinError, ShutdownError, StartError, StateDirError};
pub(crate) use self::{
    failure::Failure,
    send::{AskError, TellError},
};
