//! The failure of a message, before it becomes the error of an ask or of a tell.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{key::InvalidKey, system::JoinError},
    id::InvalidId,
};

/// What happened to a message, in the form that travels between the parts of a node and between
/// nodes.
///
/// The public errors are made from it: [`AskError`](crate::AskError) for an ask,
/// [`TellError`](crate::TellError) for a tell, a dead letter if no sender waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[doc(hidden)]
pub enum Failure {
    Unreachable {
        node: String,
        reason: String,
        maybe_handled: bool,
    },
    Unhandled {
        state: String,
        message: String,
    },
    Panicked {
        message: String,
    },
    Stopped,
    Full,
    /// Full for good: under the target's overflow policy no sender waits for room.
    MailboxFull,
    Quarantined {
        reason: String,
        retry_after: Duration,
    },
    Deadlock {
        chain: Vec<String>,
    },
    UnknownEntity {
        name: String,
        role: Option<String>,
    },
    NoQuorum,
    /// The sender's node will never be in a cluster, so no entity will have a home for it.
    NotMember {
        reason: Box<JoinError>,
    },
    Init {
        reason: String,
    },
    Undecodable {
        message: String,
        reason: String,
    },
    Unencodable {
        reason: String,
    },
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    InvalidId(InvalidId),
    InvalidKey(InvalidKey),
    Reply {
        reason: String,
    },
    /// What the message has changed, or what its answer shows, is not stored.
    NotStored {
        reason: String,
        /// It may be stored all the same.
        possibly: bool,
    },
    /// The same: fewer stores than must have it answer.
    NotEnoughCopies {
        missing: Vec<String>,
        possibly: bool,
    },
    /// What the message would have changed has too many bytes to be stored.
    RecordTooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    /// The sender's certificate does not give it the right. The message was not handled.
    Forbidden {
        who: String,
        /// As `Counter/value`.
        message: String,
    },
    /// The sender is at a limit of the target's node. The message was not handled.
    Limited {
        limit: String,
        max: u64,
    },
    /// Too many sends of the entity's shard wait for their receivers.
    OutboxFull {
        waiting: usize,
    },
    /// The entity cannot be read from its store at present. The message was not handled.
    StoreUnavailable {
        reason: String,
    },
    /// What is stored of the entity cannot be read. The message was not handled.
    Unreadable {
        reason: String,
    },
    /// The message is for an active entity alone, and this one is not. No other sender learns of
    /// it.
    NotActive,
}

impl Failure {
    /// More than a limit of the settings allows.
    pub(crate) fn limited(limit: &str, max: u64) -> Self {
        Self::Limited {
            limit: limit.to_owned(),
            max,
        }
    }
}

fn handled(possibly: bool) -> &'static str {
    if possibly { "may have been" } else { "was not" }
}

fn stored(possibly: bool) -> &'static str {
    if possibly {
        "may not be stored"
    } else {
        "is not stored"
    }
}

fn write_unknown(f: &mut fmt::Formatter<'_>, name: &str, role: Option<&str>) -> fmt::Result {
    write!(f, "no node hosts entities of type `{name}`")?;
    match role {
        Some(role) => write!(
            f,
            ": that takes a member with the role `{role}`, started with \
             `ActorSystem::builder(..).role(\"{role}\")`"
        ),
        None => f.write_str(
            "; is the crate that defines it linked, or registered with \
             `ActorSystem::builder().entity::<T>()`?",
        ),
    }
}

// The only place with these texts: `AskError` and `TellError` print through it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable {
                node,
                reason,
                maybe_handled,
            } => {
                let handled = handled(*maybe_handled);
                write!(
                    f,
                    "`{node}` is unreachable ({reason}); the message {handled} handled"
                )
            }
            Self::Unhandled { state, message } => {
                write!(f, "`{message}` is not handled in state `{state}`")
            }
            Self::Panicked { message } => write!(f, "the handler panicked: {message}"),
            Self::Stopped => f.write_str("the target stopped before it handled the message"),
            Self::Full => f.write_str("a queue on the way is full"),
            Self::MailboxFull => f.write_str("the mailbox is full"),
            Self::Quarantined {
                reason,
                retry_after,
            } => write!(
                f,
                "the entity fails too often and takes no messages for {retry_after:.1?}; its last \
                 failure: {reason}"
            ),
            Self::Deadlock { chain } => write!(
                f,
                "the ask would never be answered, since each actor waits for the next: {}",
                chain.join(" -> ")
            ),
            Self::UnknownEntity { name, role } => write_unknown(f, name, role.as_deref()),
            Self::NoQuorum => f.write_str(
                "no quorum: the cluster has no leader to give the entity a home, or the entity's \
                 node has lost its lease",
            ),
            Self::NotMember { reason } => {
                write!(f, "this node is no member of the cluster: {reason}")
            }
            Self::Init { reason } => write!(f, "the entity could not start: {reason}"),
            Self::Undecodable { message, reason } => {
                write!(f, "the receiver could not decode `{message}`: {reason}")
            }
            Self::Unencodable { reason } => write!(f, "the message cannot be encoded: {reason}"),
            Self::TooLarge { bytes, bytes_max } => write!(
                f,
                "the message has {bytes} bytes, a frame at most {bytes_max}"
            ),
            Self::InvalidId(invalid) => invalid.fmt(f),
            Self::InvalidKey(invalid) => invalid.fmt(f),
            Self::Reply { reason } => write!(f, "the reply could not be carried back: {reason}"),
            Self::NotStored { reason, possibly } => {
                let stored = stored(*possibly);
                write!(f, "what the entity has changed {stored}: {reason}")
            }
            Self::NotEnoughCopies { missing, possibly } => write!(
                f,
                "what the entity has changed {}: too few nodes with copies answer; these do not: {}",
                stored(*possibly),
                missing.join(", ")
            ),
            Self::RecordTooLarge { bytes, bytes_max } => write!(
                f,
                "what the entity has changed is not stored: it has {bytes} bytes, and at most \
                 {bytes_max} are stored"
            ),
            Self::Forbidden { who, message } => {
                write!(
                    f,
                    "`{who}` may not send `{message}`: see `SystemBuilder::access`"
                )
            }
            Self::Limited { limit, max } => write!(
                f,
                "the sender is at a limit of the target's node: `{limit}` is {max} there"
            ),
            Self::NotActive => f.write_str("the entity is not active"),
            Self::OutboxFull { waiting } => write!(
                f,
                "what the entity has changed is not stored: {waiting} sends of its shard wait for \
                 their receivers"
            ),
            Self::StoreUnavailable { reason } => {
                write!(f, "the entity cannot be read from its store now: {reason}")
            }
            Self::Unreadable { reason } => {
                write!(f, "what is stored of the entity cannot be read: {reason}")
            }
        }
    }
}
