//! The events, and what they say of actors and messages.

use std::{any::Any, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{error::Failure, id::MemberId, infra::printable::Printable};

/// Something that happened in a system. [`ActorSystem::events`](crate::ActorSystem::events)
/// subscribes to it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A member is Up: it may own shards.
    MemberUp(MemberId),
    /// A member left, or was declared Down.
    MemberLeft(MemberId),
    /// Gossip cannot reach a member. It is a hint and no verdict: the node is still a member.
    UnreachableMember(MemberId),
    /// Gossip reaches a member again.
    ReachableMember(MemberId),
    /// All nodes of the cluster that a [`ClusterClient`](crate::ClusterClient) was connected to are
    /// gone, and the client goes on with another cluster of the same name, at the same addresses.
    /// Its entities begin afresh, and fencing tokens of the two clusters cannot be compared.
    ClusterReplaced,
    /// An actor, or an entity's activation, started.
    ActorStarted(ActorPath),
    /// An actor, or an entity's activation, stopped.
    ActorStopped(ActorPath),
    /// A handler or a hook of an actor failed. The supervision policy of its type decides what
    /// follows: see [`entity`](macro@crate::entity).
    ActorFailed {
        /// The actor that failed.
        who: ActorPath,
        /// The text of the panic, or the hook's error.
        reason: String,
    },
    /// An actor goes on after a failure: with a fresh state, or with the state it had.
    ActorRestarted(ActorPath),
    /// A state machine has changed its state. A handler that returned the state it had taken made a
    /// transition too.
    Transition {
        /// The actor, or entity.
        who: ActorPath,
        /// The name of the state that was left.
        from: &'static str,
        /// The name of the state that was entered.
        to: &'static str,
        /// The wire name of the message that was handled.
        message: &'static str,
    },
    /// Something an actor [emitted](crate::Context::emit).
    Emitted(Emitted),
    /// A message that no actor will handle, or a failure that no sender learned of.
    DeadLetter(DeadLetter),
    /// This subscriber was too slow and has lost this many events.
    Missed(u64),
}

/// An application's own event.
#[derive(Clone)]
#[non_exhaustive]
pub struct Emitted {
    /// The actor that emitted it.
    pub by: ActorPath,
    event: Arc<dyn Any + Send + Sync>,
}

impl Emitted {
    pub(crate) fn new(by: ActorPath, event: impl Any + Send + Sync) -> Self {
        Self {
            by,
            event: Arc::new(event),
        }
    }

    /// The event, if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.event.downcast_ref()
    }
}

impl fmt::Debug for Emitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitted")
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// The actor that an event is about: the name of its type, and its id. Printed, it is one line: a
/// line break in an id is escaped, and an id that is very long is cut.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorPath {
    /// The wire name of the entity or actor type.
    pub kind: String,
    /// The entity's id, or the actor's number on its node.
    pub id: String,
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, Printable(&self.id))
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The end of a watched actor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terminated {
    /// The actor that ended. [`is`](Self::is) compares it with a reference.
    pub who: ActorPath,
    /// Why it ended.
    pub reason: TerminatedReason,
    /// The actor's number on its node.
    pub(crate) number: u64,
    /// The actor's node, unless it was this node.
    pub(crate) member: Option<MemberId>,
}

/// Why an actor ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TerminatedReason {
    /// The actor stopped, or was gone before it was watched.
    #[error("it stopped")]
    Stopped,
    /// The actor failed, and its supervision policy ends it.
    #[error("it failed: {0}")]
    Failed(String),
    /// The actor's node left the cluster, was declared down, or cannot be reached.
    #[error("its node is gone: {0}")]
    NodeGone(String),
}

/// A message that could not be delivered, or whose handling failed while no sender waited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The actor that it was for.
    pub to: ActorPath,
    /// The message's wire name, never its content.
    pub message: String,
    /// Why it became a dead letter.
    pub reason: DeadLetterReason,
}

/// Why a message became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// The target stopped before it handled this message.
    #[error("the target stopped")]
    Stopped,
    /// A bounded queue had no room.
    #[error("a queue on the way was full")]
    Full,
    /// The node that holds the target could not be reached. The message was not handled.
    #[error("`{node}` is unreachable: {reason}")]
    Unreachable {
        /// The node's name or address.
        node: String,
        /// The reason.
        reason: String,
    },
    /// The connection was lost before the other side confirmed the message. The message may have
    /// been handled.
    #[error("the connection to `{node}` was lost; the message may have been handled")]
    ConnectionLost {
        /// The node's name or address.
        node: String,
    },
    /// The state that the target was in has no handler for this message.
    #[error("`{message}` is not handled in state `{state}`")]
    Unhandled {
        /// The state's name.
        state: String,
        /// The message's wire name.
        message: String,
    },
    /// The handler panicked on this message.
    #[error("the handler panicked: {0}")]
    Panicked(String),
    /// An operator has given it up: its handler has failed again and again.
    #[error("an operator has given it up")]
    GivenUp,
    /// Another reason, as text.
    #[error("{0}")]
    Other(String),
}

impl From<Failure> for DeadLetterReason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Stopped => Self::Stopped,
            Failure::Full | Failure::MailboxFull => Self::Full,
            Failure::Unreachable {
                node,
                maybe_handled: true,
                ..
            } => Self::ConnectionLost { node },
            Failure::Unreachable { node, reason, .. } => Self::Unreachable { node, reason },
            Failure::Panicked { message } => Self::Panicked(message),
            Failure::Unhandled { state, message } => Self::Unhandled { state, message },
            other => Self::Other(other.to_string()),
        }
    }
}
