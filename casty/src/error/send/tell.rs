//! The error of a tell.

use std::{fmt, time::Duration};

use super::Repeat;
use crate::{
    error::{failure::Failure, system::JoinError},
    id::InvalidId,
};

/// Why a tell was refused. The message was certainly not sent, and is returned.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TellError<M> {
    /// The mailbox, or a queue on the way to it, has no room. Retry later.
    Full(M),
    /// The target has stopped.
    Stopped(M),
    /// The node that holds the target cannot be reached. Retry later.
    Unreachable {
        /// The message.
        message: M,
        /// The node's name or address.
        node: String,
        /// The reason.
        reason: String,
    },
    /// The cluster has no leader that could give the entity a home. Retry later.
    NoQuorum(M),
    /// The node of the sender will never be a member of the cluster. A retry is useless.
    NotMember {
        /// The message.
        message: M,
        /// Why it will not.
        reason: JoinError,
    },
    /// No node hosts this type of entity.
    UnknownEntity {
        /// The message.
        message: M,
        /// The type's wire name.
        name: String,
        /// The role that a node needs to host the type, if the type names one.
        role: Option<String>,
    },
    /// The id is not a valid entity id.
    InvalidId {
        /// The message.
        message: M,
        /// What is wrong with the id.
        reason: InvalidId,
    },
    /// The message cannot be encoded.
    Unencodable {
        /// The message.
        message: M,
        /// The encoder's error.
        reason: String,
    },
    /// The message is larger than a frame may be.
    TooLarge {
        /// The message.
        message: M,
        /// Size of the encoded message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The entity's `#[init]` failed a moment ago and is backing off. Retry later.
    Init {
        /// The message.
        message: M,
        /// The error of `#[init]`, as text.
        reason: String,
    },
    /// The entity failed too often and does not start for a while. Retry after the pause.
    Quarantined {
        /// The message.
        message: M,
        /// The last failure, as text.
        reason: String,
        /// When the entity starts again.
        retry_after: Duration,
    },
    /// The sender is a stored entity, and what it had changed before is not stored. It goes on from
    /// what is stored.
    NotStored {
        /// The message.
        message: M,
        /// The error of the store.
        reason: String,
        /// What the sender had changed may be stored all the same.
        possibly: bool,
    },
    /// The same: too few of the nodes with copies answer.
    NotEnoughCopies {
        /// The message.
        message: M,
        /// The nodes that do not answer.
        missing: Vec<String>,
        /// What the sender had changed may be stored all the same.
        possibly: bool,
    },
    /// The entity cannot be read from its store at present. Retry later.
    StoreUnavailable {
        /// The message.
        message: M,
        /// The error of the store.
        reason: String,
    },
    /// What is stored of the entity cannot be read. A retry is useless until a node runs code that
    /// can read it.
    Unreadable {
        /// The message.
        message: M,
        /// What cannot be read: the entity, the number of the record, and the event.
        reason: String,
    },
}

impl<M> TellError<M> {
    /// As [`AskError::repeat`](super::AskError::repeat).
    pub(crate) fn repeat(&self) -> Repeat {
        match self {
            Self::Full(_)
            | Self::NoQuorum(_)
            | Self::Unreachable { .. }
            | Self::UnknownEntity { .. }
            | Self::Init { .. }
            | Self::StoreUnavailable { .. } => Repeat::Soon,
            Self::Quarantined { retry_after, .. } => Repeat::After(*retry_after),
            Self::Stopped(_) => Repeat::IfItStartsAgain,
            Self::NotStored { .. }
            | Self::NotEnoughCopies { .. }
            | Self::Unreadable { .. }
            | Self::NotMember { .. }
            | Self::InvalidId { .. }
            | Self::Unencodable { .. }
            | Self::TooLarge { .. } => Repeat::Never,
        }
    }

    /// Returns the message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message)
            | Self::Stopped(message)
            | Self::NoQuorum(message)
            | Self::Unreachable { message, .. }
            | Self::NotMember { message, .. }
            | Self::UnknownEntity { message, .. }
            | Self::InvalidId { message, .. }
            | Self::Unencodable { message, .. }
            | Self::TooLarge { message, .. }
            | Self::Init { message, .. }
            | Self::Quarantined { message, .. }
            | Self::NotStored { message, .. }
            | Self::NotEnoughCopies { message, .. }
            | Self::StoreUnavailable { message, .. }
            | Self::Unreadable { message, .. } => message,
        }
    }

    pub(crate) fn new(message: M, failure: Failure) -> Self {
        match failure {
            Failure::Full | Failure::MailboxFull => Self::Full(message),
            Failure::NoQuorum => Self::NoQuorum(message),
            Failure::NotMember { reason } => Self::NotMember {
                message,
                reason: *reason,
            },
            Failure::Unreachable { node, reason, .. } => Self::Unreachable {
                message,
                node,
                reason,
            },
            Failure::UnknownEntity { name, role } => Self::UnknownEntity {
                message,
                name,
                role,
            },
            Failure::InvalidId(reason) => Self::InvalidId { message, reason },
            Failure::Unencodable { reason } => Self::Unencodable { message, reason },
            Failure::TooLarge { bytes, bytes_max } => Self::TooLarge {
                message,
                bytes,
                bytes_max,
            },
            Failure::Init { reason } => Self::Init { message, reason },
            Failure::Quarantined {
                reason,
                retry_after,
            } => Self::Quarantined {
                message,
                reason,
                retry_after,
            },
            Failure::NotStored { reason, possibly } => Self::NotStored {
                message,
                reason,
                possibly,
            },
            Failure::NotEnoughCopies { missing, possibly } => Self::NotEnoughCopies {
                message,
                missing,
                possibly,
            },
            Failure::StoreUnavailable { reason } => Self::StoreUnavailable { message, reason },
            Failure::Unreadable { reason } => Self::Unreadable { message, reason },
            // The other failures happen after a message was accepted, and a tell does not wait for
            // that.
            Failure::Stopped
            | Failure::NotActive
            | Failure::Deadlock { .. }
            | Failure::Unhandled { .. }
            | Failure::Panicked { .. }
            | Failure::Undecodable { .. }
            | Failure::InvalidKey(_)
            | Failure::RecordTooLarge { .. }
            | Failure::OutboxFull { .. }
            | Failure::Forbidden { .. }
            | Failure::Limited { .. }
            | Failure::Reply { .. } => Self::Stopped(message),
        }
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = match self {
            Self::Full(_) => Failure::Full,
            Self::Stopped(_) => Failure::Stopped,
            Self::Unreachable { node, reason, .. } => Failure::Unreachable {
                node: node.clone(),
                reason: reason.clone(),
                maybe_handled: false,
            },
            Self::NoQuorum(_) => Failure::NoQuorum,
            Self::NotMember { reason, .. } => Failure::NotMember {
                reason: Box::new(reason.clone()),
            },
            Self::UnknownEntity { name, role, .. } => Failure::UnknownEntity {
                name: name.clone(),
                role: role.clone(),
            },
            Self::InvalidId { reason, .. } => Failure::InvalidId(reason.clone()),
            Self::Unencodable { reason, .. } => Failure::Unencodable {
                reason: reason.clone(),
            },
            Self::TooLarge {
                bytes, bytes_max, ..
            } => Failure::TooLarge {
                bytes: *bytes,
                bytes_max: *bytes_max,
            },
            Self::Init { reason, .. } => Failure::Init {
                reason: reason.clone(),
            },
            Self::Quarantined {
                reason,
                retry_after,
                ..
            } => Failure::Quarantined {
                reason: reason.clone(),
                retry_after: *retry_after,
            },
            Self::NotStored {
                reason, possibly, ..
            } => Failure::NotStored {
                reason: reason.clone(),
                possibly: *possibly,
            },
            Self::NotEnoughCopies {
                missing, possibly, ..
            } => Failure::NotEnoughCopies {
                missing: missing.clone(),
                possibly: *possibly,
            },
            Self::StoreUnavailable { reason, .. } => Failure::StoreUnavailable {
                reason: reason.clone(),
            },
            Self::Unreadable { reason, .. } => Failure::Unreadable {
                reason: reason.clone(),
            },
        };
        write!(f, "not sent: {failure}")
    }
}

// Written by hand: the user's message need not be `Debug`, and its content belongs in no log.
impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TellError({self})")
    }
}

impl<M> std::error::Error for TellError<M> {}
