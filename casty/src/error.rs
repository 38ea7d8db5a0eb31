//! The errors, one type for each public operation.
//!
//! Every variant says what happened to the message: certainly not handled (a retry is safe), or
//! possibly handled (retry only if handling it twice is harmless).

use std::{convert::Infallible, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;

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
    /// ([`Context::pipe`](crate::Context::pipe)), or answer [later](crate::Later).
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
    /// The message was handled, but its reply could not be sent back.
    Reply {
        /// The error of the encoder or the decoder.
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
            _ => false,
        }
    }
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
            Failure::Stopped => Self::Stopped,
            Failure::Full | Failure::MailboxFull => Self::Full,
            Failure::UnknownEntity { name, role } => Self::UnknownEntity { name, role },
            Failure::NoQuorum => Self::NoQuorum,
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
            Failure::Reply { reason } => Self::Reply { reason },
        }
    }
}

impl<E: fmt::Display> fmt::Display for AskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity(error) => write!(f, "the handler answered with an error: {error}"),
            Self::Timeout { after } => write!(f, "no reply within {after:?}"),
            Self::Unreachable {
                node,
                reason,
                maybe_handled,
            } => {
                write!(
                    f,
                    "{}",
                    Unreachable {
                        node,
                        reason,
                        maybe_handled: *maybe_handled
                    }
                )
            }
            Self::Unhandled { state, message } => {
                write!(f, "`{message}` is not handled in state `{state}`")
            }
            Self::Panicked { message } => write!(f, "the handler panicked: {message}"),
            Self::Stopped => f.write_str("the target stopped before it handled the message"),
            Self::Full => f.write_str("a queue on the way is full"),
            Self::UnknownEntity { name, role } => {
                write!(f, "{}", UnknownEntity(name, role.as_deref()))
            }
            Self::NoQuorum => f.write_str(NO_QUORUM),
            Self::Init { reason } => write!(f, "the entity could not start: {reason}"),
            Self::Quarantined {
                reason,
                retry_after,
            } => write!(f, "{}", Quarantined(reason, *retry_after)),
            Self::Deadlock { chain } => write!(f, "{}", Deadlock(chain)),
            Self::Undecodable { message, reason } => {
                write!(f, "the receiver could not decode `{message}`: {reason}")
            }
            Self::Unencodable { reason } => write!(f, "the message cannot be encoded: {reason}"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "the message has {bytes} bytes, a frame at most {bytes_max}"
                )
            }
            Self::InvalidId(invalid) => invalid.fmt(f),
            Self::Reply { reason } => write!(f, "the reply could not be carried back: {reason}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AskError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Entity(error) => Some(error),
            _ => None,
        }
    }
}

const NO_QUORUM: &str =
    "no quorum: nobody can say where the entity lives, or its node may not act without the leader";

struct Quarantined<'a>(&'a str, Duration);

impl fmt::Display for Quarantined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reason, after) = self;
        write!(
            f,
            "the entity fails too often and takes no messages for {after:.1?}; its last failure: {reason}"
        )
    }
}

struct Deadlock<'a>(&'a [String]);

impl fmt::Display for Deadlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ask would never be answered, since each waits for the next: {}",
            self.0.join(" -> ")
        )
    }
}

struct UnknownEntity<'a>(&'a str, Option<&'a str>);

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

struct Unreachable<'a> {
    node: &'a str,
    reason: &'a str,
    maybe_handled: bool,
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
}

impl<M> TellError<M> {
    /// Returns the message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message)
            | Self::Stopped(message)
            | Self::NoQuorum(message)
            | Self::Unreachable { message, .. }
            | Self::UnknownEntity { message, .. }
            | Self::InvalidId { message, .. }
            | Self::Unencodable { message, .. }
            | Self::TooLarge { message, .. }
            | Self::Init { message, .. }
            | Self::Quarantined { message, .. } => message,
        }
    }

    pub(crate) fn new(message: M, failure: Failure) -> Self {
        match failure {
            Failure::Full | Failure::MailboxFull => Self::Full(message),
            Failure::NoQuorum => Self::NoQuorum(message),
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
            // The other failures happen after a message was accepted, and a tell does not wait for
            // that.
            Failure::Stopped
            | Failure::Deadlock { .. }
            | Failure::Unhandled { .. }
            | Failure::Panicked { .. }
            | Failure::Undecodable { .. }
            | Failure::Reply { .. } => Self::Stopped(message),
        }
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("not sent: a queue on the way is full"),
            Self::Stopped(_) => f.write_str("not sent: the target has stopped"),
            Self::Unreachable { node, reason, .. } => {
                write!(f, "not sent: `{node}` is unreachable ({reason})")
            }
            Self::NoQuorum(_) => write!(f, "not sent: {NO_QUORUM}"),
            Self::UnknownEntity { name, role, .. } => {
                write!(f, "not sent: {}", UnknownEntity(name, role.as_deref()))
            }
            Self::InvalidId { reason, .. } => write!(f, "not sent: {reason}"),
            Self::Unencodable { reason, .. } => write!(f, "not sent: cannot be encoded: {reason}"),
            Self::TooLarge {
                bytes, bytes_max, ..
            } => {
                write!(
                    f,
                    "not sent: the message has {bytes} bytes, a frame at most {bytes_max}"
                )
            }
            Self::Init { reason, .. } => {
                write!(f, "not sent: the entity could not start: {reason}")
            }
            Self::Quarantined {
                reason,
                retry_after,
                ..
            } => write!(f, "not sent: {}", Quarantined(reason, *retry_after)),
        }
    }
}

// Written by hand: the user's message need not be `Debug`, and its content belongs in no log.
impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TellError({self})")
    }
}

impl<M> std::error::Error for TellError<M> {}

/// What happened to a message, in the form that travels between the parts of a node and between
/// nodes.
///
/// The public errors are made from it: [`AskError`] for an ask, [`TellError`] for a tell, a dead
/// letter if no sender waits.
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

/// Why a [`TieBreaker`](crate::TieBreaker) gave no verdict. The claim may have counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TieError {
    /// The tie-breaker could not be asked, or did not understand. casty repeats the claim.
    #[error("the tie-breaker cannot be reached: {reason}")]
    Unreachable {
        /// The reason.
        reason: String,
    },
    /// The tie-breaker did not answer within
    /// [`Settings::decide_timeout`](crate::Settings::decide_timeout). casty repeats the claim.
    #[error("the tie-breaker has not answered in {after:?}")]
    Timeout {
        /// How long the node waited.
        after: Duration,
    },
}

/// Why a system did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system cannot listen on the address: it is in use, not of this machine, or not
    /// permitted.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The requested address.
        address: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A setting is missing or out of range.
    #[error("setting `{setting}`: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// Two entity types claim the same wire name. Pin one with `#[entity(name = "...")]`.
    #[error(
        "entity types `{first}` and `{second}` share the wire name `{name}`; pin one with #[entity(name = \"...\")]"
    )]
    DuplicateEntity {
        /// The shared wire name.
        name: String,
        /// One Rust type.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The state directory of this node cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
}

/// Why a state directory cannot be used: see
/// [`SystemBuilder::state_dir`](crate::SystemBuilder::state_dir).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// Another system, in this process or another, uses the directory and still runs.
    #[error("`{}` is in use by another system", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another node, or to a node of another cluster. Give each node a
    /// directory of its own.
    #[error("`{}` belongs to {what} `{theirs}`, not to `{ours}`", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What differs: `cluster` or `node`.
        what: &'static str,
        /// The owner of the directory.
        theirs: String,
        /// This node, or its cluster.
        ours: String,
    },
    /// Another version of casty has written the directory, in a format that this version does not
    /// know.
    #[error("`{}` is in format {format}, which this version of casty does not know", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// The number of the format.
        format: u32,
    },
    /// The contents are not what casty wrote. Nothing was changed. If you remove the directory, the
    /// node joins without a kept state. This is safe as long as a majority of the voters has kept
    /// theirs.
    #[error("`{}` is damaged: {reason}", path.display())]
    Corrupted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the contents.
        reason: String,
    },
    /// The operating system does not let this process read or write it.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
}

/// Why a node does not become, or does not see, what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A seed refused this node and will refuse it again: another cluster name, another protocol
    /// version, or a catalog that contradicts the cluster's.
    #[error("`{seed}` refused this node: {reason}")]
    Refused {
        /// The seed that refused.
        seed: String,
        /// Its reason.
        reason: String,
    },
    /// The cluster declared this incarnation Down, and this node stays out
    /// ([`OnDown::Stop`](crate::OnDown::Stop)). A new process may join.
    #[error("the cluster declared this node down")]
    Down,
    /// The Raft engine of the cluster map failed on this node, for good. The node is no longer a
    /// member.
    #[error("the engine of the cluster map failed: {reason}")]
    Engine {
        /// The engine's error.
        reason: String,
    },
    /// The system is shutting down.
    #[error("the system is shutting down")]
    ShutDown,
}

/// Why a shutdown was not entirely graceful. The system has stopped in either case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// When the time was up, handlers were still running, or the cluster had not agreed to the
    /// leave.
    #[error("shutdown was not complete after {after:?}: {waiting_for}")]
    Timeout {
        /// The configured bound.
        after: Duration,
        /// What was still under way.
        waiting_for: &'static str,
    },
    /// The operating system cannot report signals. Nothing was shut down.
    #[error("cannot wait for the signal to end: {reason}")]
    Signal {
        /// The operating system's error.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tell_error_gives_the_message_back_and_keeps_its_content_out_of_the_log() {
        let error = TellError::new("secret", Failure::Full);
        assert_eq!(
            format!("{error:?}"),
            "TellError(not sent: a queue on the way is full)"
        );
        assert_eq!(error.into_message(), "secret");
    }

    #[test]
    fn only_what_may_have_been_handled_says_so() {
        let lost = Failure::Unreachable {
            node: "n".into(),
            reason: "r".into(),
            maybe_handled: true,
        };
        assert!(AskError::<Infallible>::from(lost).maybe_handled());
        assert!(!AskError::<Infallible>::from(Failure::Full).maybe_handled());
        assert!(
            AskError::<Infallible>::Timeout {
                after: Duration::ZERO
            }
            .maybe_handled()
        );
    }
}
