//! The errors of a message that was sent, or could not be.

mod tell;

use std::{convert::Infallible, fmt, time::Duration};

pub use self::tell::TellError;
use crate::{
    error::{delay::Delay, failure::Failure, key::InvalidKey, system::JoinError},
    id::InvalidId,
};

/// Why an ask has no answer.
///
/// `E` is the error type of a handler that returns `Result<T, E>`; handlers without one use
/// [`Infallible`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError<E = Infallible> {
    /// The handler ran and returned this error. Whether a retry helps depends on the error.
    Entity(E),
    /// No reply in time. The message may have been handled: retry only if handling it twice is
    /// harmless.
    Timeout {
        /// How long the asker waited.
        after: Duration,
        /// What held it up, where the target is an entity whose node says so. An asker that has
        /// waited for a second or more waits up to a sixteenth longer for this.
        delay: Option<Box<Delay>>,
    },
    /// The node that holds the target cannot be reached, or was lost while the ask was under way.
    Unreachable {
        /// The node's name or address.
        node: String,
        /// The reason.
        reason: String,
        /// `false`: the message was certainly not handled, a retry is safe.
        maybe_handled: bool,
    },
    /// The entity is in a state that does not handle this message. It was not handled.
    Unhandled {
        /// The state the entity was in.
        state: String,
        /// The message's wire name.
        message: String,
    },
    /// The handler panicked. Its effects on the state are lost with the state.
    Panicked {
        /// The text of the panic.
        message: String,
    },
    /// The target stopped before it handled the message. Send to an entity again to start it
    /// afresh; a stopped actor stays stopped.
    Stopped,
    /// A bounded queue on the way had no room in time. The message was not handled. Retry later.
    Full,
    /// No node hosts this type of entity. The message was not handled. A retry is useless until a
    /// node that hosts the type joins.
    UnknownEntity {
        /// The type's wire name.
        name: String,
        /// The role that a node needs to host the type, if the type names one.
        role: Option<String>,
    },
    /// The cluster has no leader that could give the entity a home, or the entity's node has lost
    /// its lease and must not act. The message was not handled. Retry later.
    NoQuorum,
    /// The node of the sender will never be a member of the cluster. The message was not handled. A
    /// retry is useless.
    NotMember {
        /// Why it will not.
        reason: JoinError,
    },
    /// The entity's `#[init]` failed, or is backing off after a failure. The message was not
    /// handled. Retry later.
    Init {
        /// The error of `#[init]`, as text.
        reason: String,
    },
    /// The entity failed too often and does not start for a while. The message was not handled.
    /// Retry after the pause.
    Quarantined {
        /// The last failure, as text.
        reason: String,
        /// When the entity starts again.
        retry_after: Duration,
    },
    /// The target waits, in a handler of its own, for the asking actor, or for an actor that waits
    /// for it: a circle. So the message was not handled, and never could be. A retry from the same
    /// handler fails the same way. Ask from a task of its own
    /// ([`Context::pipe`](crate::Context::pipe)), or answer [later](crate::reply::Later).
    Deadlock {
        /// The actors of the circle, each waiting for the next. The target is first and last.
        chain: Vec<String>,
    },
    /// The receiver could not decode the message: the two nodes run different versions of its type.
    /// The message was not handled.
    Undecodable {
        /// The message type's name.
        message: String,
        /// The decoder's error.
        reason: String,
    },
    /// The message cannot be encoded. It was not sent.
    Unencodable {
        /// The encoder's error.
        reason: String,
    },
    /// The message is larger than a frame may be. It was not sent.
    TooLarge {
        /// Size of the encoded message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The id is not a valid entity id. The message was not sent.
    InvalidId(InvalidId),
    /// The [key](crate::call::Call::key) of the ask is refused. The message was not handled.
    InvalidKey(InvalidKey),
    /// The message was handled, but its reply could not be sent back.
    Reply {
        /// The error of the encoder or the decoder.
        reason: String,
    },
    /// The message was handled, but what it changed is not stored, or what it read is not. The
    /// entity goes on from what is stored.
    NotStored {
        /// The error of the store.
        reason: String,
        /// `false`: nothing of the message is stored, and a retry cannot store it twice. `true`: it
        /// may be stored, since the connection was lost before the store had confirmed it. Then
        /// retry only if handling the message twice is harmless.
        possibly: bool,
    },
    /// The message was handled, but what it changed is not stored in as many copies as must have it
    /// (`copies_min`): too few of the nodes with copies answer. The entity goes on once they do, or
    /// once other nodes have become copies.
    NotEnoughCopies {
        /// The nodes that do not answer.
        missing: Vec<String>,
        /// `false`: nothing of the message is stored, and a retry cannot store it twice. `true`: it
        /// was written, and is stored once enough copies have it. Then retry only if handling the
        /// message twice is harmless.
        possibly: bool,
    },
    /// The message was handled, but what it changed has more bytes than a record of a stored entity
    /// may have, so nothing of it is stored. The entity starts again from what is stored, as after
    /// a panic. A durable entity whose state is too large is to be split into several.
    RecordTooLarge {
        /// Size of the record.
        bytes: usize,
        /// The limit: [`BODY_BYTES_MAX`](crate::persistence::BODY_BYTES_MAX).
        bytes_max: usize,
    },
    /// The certificate of this process does not give it the right to send this message: see
    /// [`SystemBuilder::access`](crate::SystemBuilder::access). The message was not handled.
    Forbidden {
        /// This process, as its certificate names it: `client/web`.
        who: String,
        /// The wire names of the type and of the message: `Counter/value`.
        message: String,
    },
    /// The node of the target limits what one process may ask of it, or how fast a client makes
    /// entities, and this process is at the limit: see [`Limits`](crate::access::Limits). The
    /// message was not handled. Retry later.
    Limited {
        /// The name of the limit, such as `asks_per_peer_max`.
        limit: String,
        /// Its value on that node.
        max: u64,
    },
    /// The message was handled, but it sends something, and too many sends of the entity's shard
    /// wait for their receivers: `casty outbox` shows for which. Nothing of it is stored. Retry
    /// later.
    OutboxFull {
        /// How many sends wait.
        waiting: usize,
    },
    /// The entity cannot be read from its store at present. The message was not handled. Retry
    /// later.
    StoreUnavailable {
        /// The error of the store.
        reason: String,
    },
    /// What is stored of the entity cannot be read: an event of a version that this code does not
    /// know, or damage. The message was not handled. A retry is useless until a node runs code that
    /// can read it.
    Unreadable {
        /// What cannot be read: the entity, the number of the record, and the event.
        reason: String,
    },
}

impl<E> AskError<E> {
    /// Whether the target may have handled the message. If `false`, a retry cannot handle it twice.
    pub fn maybe_handled(&self) -> bool {
        match self {
            Self::Entity(_) | Self::Timeout { .. } | Self::Panicked { .. } | Self::Reply { .. } => {
                true
            }
            Self::Unreachable { maybe_handled, .. } => *maybe_handled,
            Self::NotStored { possibly, .. } | Self::NotEnoughCopies { possibly, .. } => *possibly,
            _ => false,
        }
    }

    /// The error of the handler as `Ok`, and each other one as `Err`, without the type of the
    /// handler's error. It makes one flat error of the two:
    ///
    /// ```standalone_crate
    /// use casty::prelude::*;
    ///
    /// /// Why no money was taken: an error of the application alone.
    /// #[message]
    /// #[derive(Debug, PartialEq)]
    /// enum Refusal {
    ///     Short { by: u64 },
    ///     TryLater,
    /// }
    ///
    /// impl From<AskError> for Refusal {
    ///     fn from(_: AskError) -> Self {
    ///         Self::TryLater
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Till {
    ///     cents: u64,
    /// }
    ///
    /// #[entity]
    /// impl Till {
    ///     #[message]
    ///     fn take(&mut self, cents: u64) -> Result<u64, Refusal> {
    ///         let short = || Refusal::Short { by: cents - self.cents };
    ///         self.cents = self.cents.checked_sub(cents).ok_or_else(short)?;
    ///         Ok(self.cents)
    ///     }
    /// }
    ///
    /// async fn take(till: &TillRef, cents: u64) -> Result<u64, Refusal> {
    ///     let taken = till.take(cents).await;
    ///     taken.map_err(|error| error.into_entity().unwrap_or_else(Refusal::from))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let system = ActorSystem::local("app");
    /// let till = system.entity::<Till>("a");
    /// assert_eq!(take(&till, 5).await, Err(Refusal::Short { by: 5 }));
    /// system.shutdown().await.unwrap();
    /// assert_eq!(take(&till, 5).await, Err(Refusal::TryLater));
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each error that is not the handler's.
    pub fn into_entity(self) -> Result<E, AskError> {
        self.split()
    }

    /// Replaces the error of the handler, and keeps each other one.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// let error: AskError<u16> = AskError::Entity(404);
    /// assert_eq!(error.map_entity(|code| code.to_string()), AskError::Entity("404".to_owned()));
    /// ```
    pub fn map_entity<F>(self, map: impl FnOnce(E) -> F) -> AskError<F> {
        match self.split() {
            Ok(error) => AskError::Entity(map(error)),
            Err(other) => other,
        }
    }

    fn split<F>(self) -> Result<E, AskError<F>> {
        Err(match self {
            Self::Entity(error) => return Ok(error),
            Self::Timeout { after, delay } => AskError::Timeout { after, delay },
            Self::Unreachable {
                node,
                reason,
                maybe_handled,
            } => AskError::Unreachable {
                node,
                reason,
                maybe_handled,
            },
            Self::Unhandled { state, message } => AskError::Unhandled { state, message },
            Self::Panicked { message } => AskError::Panicked { message },
            Self::Stopped => AskError::Stopped,
            Self::Full => AskError::Full,
            Self::UnknownEntity { name, role } => AskError::UnknownEntity { name, role },
            Self::NoQuorum => AskError::NoQuorum,
            Self::NotMember { reason } => AskError::NotMember { reason },
            Self::Init { reason } => AskError::Init { reason },
            Self::Quarantined {
                reason,
                retry_after,
            } => AskError::Quarantined {
                reason,
                retry_after,
            },
            Self::Deadlock { chain } => AskError::Deadlock { chain },
            Self::Undecodable { message, reason } => AskError::Undecodable { message, reason },
            Self::Unencodable { reason } => AskError::Unencodable { reason },
            Self::TooLarge { bytes, bytes_max } => AskError::TooLarge { bytes, bytes_max },
            Self::InvalidId(invalid) => AskError::InvalidId(invalid),
            Self::InvalidKey(invalid) => AskError::InvalidKey(invalid),
            Self::Reply { reason } => AskError::Reply { reason },
            Self::NotStored { reason, possibly } => AskError::NotStored { reason, possibly },
            Self::RecordTooLarge { bytes, bytes_max } => {
                AskError::RecordTooLarge { bytes, bytes_max }
            }
            Self::NotEnoughCopies { missing, possibly } => {
                AskError::NotEnoughCopies { missing, possibly }
            }
            Self::Forbidden { who, message } => AskError::Forbidden { who, message },
            Self::Limited { limit, max } => AskError::Limited { limit, max },
            Self::OutboxFull { waiting } => AskError::OutboxFull { waiting },
            Self::StoreUnavailable { reason } => AskError::StoreUnavailable { reason },
            Self::Unreadable { reason } => AskError::Unreadable { reason },
        })
    }

    /// Whether another try may succeed, and handles the message at most once.
    pub(crate) fn repeat(&self) -> Repeat {
        match self {
            Self::Full
            | Self::UnknownEntity { .. }
            | Self::NoQuorum
            | Self::Init { .. }
            | Self::StoreUnavailable { .. }
            | Self::OutboxFull { .. }
            | Self::Limited { .. }
            | Self::NotStored {
                possibly: false, ..
            }
            | Self::NotEnoughCopies {
                possibly: false, ..
            }
            | Self::Unreachable {
                maybe_handled: false,
                ..
            } => Repeat::Soon,
            Self::Quarantined { retry_after, .. } => Repeat::After(*retry_after),
            Self::Stopped => Repeat::IfItStartsAgain,
            _ => Repeat::Never,
        }
    }
}

impl<E> AskError<E> {
    /// The same for an ask with a key, which is handled once however often it is sent.
    pub(crate) fn repeat_keyed(&self) -> Repeat {
        match self {
            Self::Timeout { .. }
            | Self::Unreachable { .. }
            | Self::NotStored { .. }
            | Self::NotEnoughCopies { .. } => Repeat::Soon,
            _ => self.repeat(),
        }
    }
}

/// Whether, and when, a message that certainly was not handled is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It may have been handled, or each try ends the same way.
    Never,
    Soon,
    /// The target has stopped.
    IfItStartsAgain,
    /// Not before this time has passed.
    After(Duration),
}

impl<E> From<Failure> for AskError<E> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable {
                node,
                reason,
                maybe_handled,
            } => Self::Unreachable {
                node,
                reason,
                maybe_handled,
            },
            Failure::Unhandled { state, message } => Self::Unhandled { state, message },
            Failure::Panicked { message } => Self::Panicked { message },
            // Those who ask for an active entity alone get `None` instead.
            Failure::Stopped | Failure::NotActive => Self::Stopped,
            Failure::Full | Failure::MailboxFull => Self::Full,
            Failure::UnknownEntity { name, role } => Self::UnknownEntity { name, role },
            Failure::NoQuorum => Self::NoQuorum,
            Failure::NotMember { reason } => Self::NotMember { reason: *reason },
            Failure::Init { reason } => Self::Init { reason },
            Failure::Quarantined {
                reason,
                retry_after,
            } => Self::Quarantined {
                reason,
                retry_after,
            },
            Failure::Deadlock { chain } => Self::Deadlock { chain },
            Failure::Undecodable { message, reason } => Self::Undecodable { message, reason },
            Failure::Unencodable { reason } => Self::Unencodable { reason },
            Failure::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            Failure::InvalidId(invalid) => Self::InvalidId(invalid),
            Failure::InvalidKey(invalid) => Self::InvalidKey(invalid),
            Failure::Reply { reason } => Self::Reply { reason },
            Failure::NotStored { reason, possibly } => Self::NotStored { reason, possibly },
            Failure::RecordTooLarge { bytes, bytes_max } => {
                Self::RecordTooLarge { bytes, bytes_max }
            }
            Failure::NotEnoughCopies { missing, possibly } => {
                Self::NotEnoughCopies { missing, possibly }
            }
            Failure::Forbidden { who, message } => Self::Forbidden { who, message },
            Failure::Limited { limit, max } => Self::Limited { limit, max },
            Failure::OutboxFull { waiting } => Self::OutboxFull { waiting },
            Failure::StoreUnavailable { reason } => Self::StoreUnavailable { reason },
            Failure::Unreadable { reason } => Self::Unreadable { reason },
        }
    }
}

impl<E: fmt::Display> fmt::Display for AskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = match self {
            Self::Entity(error) => return error.fmt(f),
            Self::Timeout { after, delay } => {
                write!(f, "no reply within {after:?}")?;
                return delay.iter().try_for_each(|delay| write!(f, "; {delay}"));
            }
            Self::Unreachable {
                node,
                reason,
                maybe_handled,
            } => Failure::Unreachable {
                node: node.clone(),
                reason: reason.clone(),
                maybe_handled: *maybe_handled,
            },
            Self::Unhandled { state, message } => Failure::Unhandled {
                state: state.clone(),
                message: message.clone(),
            },
            Self::Panicked { message } => Failure::Panicked {
                message: message.clone(),
            },
            Self::Stopped => Failure::Stopped,
            Self::Full => Failure::Full,
            Self::UnknownEntity { name, role } => Failure::UnknownEntity {
                name: name.clone(),
                role: role.clone(),
            },
            Self::NoQuorum => Failure::NoQuorum,
            Self::NotMember { reason } => Failure::NotMember {
                reason: Box::new(reason.clone()),
            },
            Self::Init { reason } => Failure::Init {
                reason: reason.clone(),
            },
            Self::Quarantined {
                reason,
                retry_after,
            } => Failure::Quarantined {
                reason: reason.clone(),
                retry_after: *retry_after,
            },
            Self::Deadlock { chain } => Failure::Deadlock {
                chain: chain.clone(),
            },
            Self::Undecodable { message, reason } => Failure::Undecodable {
                message: message.clone(),
                reason: reason.clone(),
            },
            Self::Unencodable { reason } => Failure::Unencodable {
                reason: reason.clone(),
            },
            Self::TooLarge { bytes, bytes_max } => Failure::TooLarge {
                bytes: *bytes,
                bytes_max: *bytes_max,
            },
            Self::InvalidId(invalid) => Failure::InvalidId(invalid.clone()),
            Self::InvalidKey(invalid) => Failure::InvalidKey(invalid.clone()),
            Self::Reply { reason } => Failure::Reply {
                reason: reason.clone(),
            },
            Self::NotStored { reason, possibly } => Failure::NotStored {
                reason: reason.clone(),
                possibly: *possibly,
            },
            Self::RecordTooLarge { bytes, bytes_max } => Failure::RecordTooLarge {
                bytes: *bytes,
                bytes_max: *bytes_max,
            },
            Self::NotEnoughCopies { missing, possibly } => Failure::NotEnoughCopies {
                missing: missing.clone(),
                possibly: *possibly,
            },
            Self::Forbidden { who, message } => Failure::Forbidden {
                who: who.clone(),
                message: message.clone(),
            },
            Self::Limited { limit, max } => Failure::Limited {
                limit: limit.clone(),
                max: *max,
            },
            Self::OutboxFull { waiting } => Failure::OutboxFull { waiting: *waiting },
            Self::StoreUnavailable { reason } => Failure::StoreUnavailable {
                reason: reason.clone(),
            },
            Self::Unreadable { reason } => Failure::Unreadable {
                reason: reason.clone(),
            },
        };
        failure.fmt(f)
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AskError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The error itself is what this one prints.
            Self::Entity(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
