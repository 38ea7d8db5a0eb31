//! What happened to a message, before it is the error of an ask or of a tell.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;

/// What happened to a message, in the form that travels between the parts of a node and between
/// nodes.
///
/// The public errors are made from it: [`AskError`](crate::AskError) for an ask,
/// [`TellError`](crate::TellError) for a tell, a dead letter if no sender waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[doc(hidden)]
pub enum Failure {
    #[error("{}", Unreachable { node, reason, maybe_handled: *maybe_handled })]
    Unreachable {
        node: String,
        reason: String,
        maybe_handled: bool,
    },
    #[error("`{message}` is not handled in state `{state}`")]
    Unhandled { state: String, message: String },
    #[error("the handler panicked: {message}")]
    Panicked { message: String },
    #[error("the target stopped")]
    Stopped,
    #[error("a queue on the way is full")]
    Full,
    /// Full for good: under the target's overflow policy no sender waits for room.
    #[error("the mailbox is full")]
    MailboxFull,
    #[error("{}", Quarantined(reason, *retry_after))]
    Quarantined {
        reason: String,
        retry_after: Duration,
    },
    #[error("{}", Deadlock(chain))]
    Deadlock { chain: Vec<String> },
    #[error("{}", UnknownEntity(name, role.as_deref()))]
    UnknownEntity { name: String, role: Option<String> },
    #[error("{NO_QUORUM}")]
    NoQuorum,
    #[error("the entity could not start: {reason}")]
    Init { reason: String },
    #[error("`{message}` cannot be decoded: {reason}")]
    Undecodable { message: String, reason: String },
    #[error("the message cannot be encoded: {reason}")]
    Unencodable { reason: String },
    #[error("the message has {bytes} bytes, a frame at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("{0}")]
    InvalidId(InvalidId),
    #[error("the reply could not be carried back: {reason}")]
    Reply { reason: String },
}

pub(super) const NO_QUORUM: &str =
    "no quorum: nobody can say where the entity lives, or its node may not act without the leader";

pub(super) struct Quarantined<'a>(pub(super) &'a str, pub(super) Duration);

impl fmt::Display for Quarantined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reason, after) = self;
        write!(
            f,
            "the entity fails too often and takes no messages for {after:.1?}; its last failure: {reason}"
        )
    }
}

pub(super) struct Deadlock<'a>(pub(super) &'a [String]);

impl fmt::Display for Deadlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ask would never be answered, since each waits for the next: {}",
            self.0.join(" -> ")
        )
    }
}

pub(super) struct UnknownEntity<'a>(pub(super) &'a str, pub(super) Option<&'a str>);

impl fmt::Display for UnknownEntity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, role) = self;
        match role {
            Some(role) => write!(
                f,
                "no node hosts entities of type `{name}`: that takes a member with the role `{role}`, started with \
                 `ActorSystem::builder(..).role(\"{role}\")`"
            ),
            None => write!(
                f,
                "no node hosts entities of type `{name}`; is the crate that defines it linked, or registered with \
                 `ActorSystem::builder().entity::<T>()`?"
            ),
        }
    }
}

pub(super) struct Unreachable<'a> {
    pub(super) node: &'a str,
    pub(super) reason: &'a str,
    pub(super) maybe_handled: bool,
}

impl fmt::Display for Unreachable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handled = if self.maybe_handled {
            "may have been"
        } else {
            "was not"
        };
        write!(
            f,
            "`{}` is unreachable ({}); the message {handled} handled",
            self.node, self.reason
        )
    }
}
