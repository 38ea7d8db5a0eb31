//! Actors, complete on one node: mailbox, cell, context, references, asks.
//!
//! Nothing here knows of a cluster. How a message reaches an entity is the [`Route`]'s business,
//! how it reaches an actor on another node the [`Carrier`](runtime::Carrier)'s; `cluster`
//! implements both.

pub(crate) mod ask;
pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod envelope;
pub(crate) mod handled;
pub(crate) mod observer;
pub(crate) mod reference;
pub(crate) mod resources;
pub(crate) mod runtime;
pub(crate) mod spy;
#[cfg(feature = "testkit")]
pub(crate) mod tap;
pub(crate) mod tasks;

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        cell::policy::Policy, context::Context, envelope::Envelope, handled::Handled,
        runtime::Runtime,
    },
    error::Failure,
    event::Terminated,
    id::{EntityId, ShardId},
    message::{
        codec::{self, DecodeError, EncodeError},
        wire::Wire,
    },
};

pub(crate) use envelope::Rejected;

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

/// A type whose values are actors. `#[entity]` and `#[actor]` implement it; do not implement it by
/// hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an actor",
    label = "has no messages",
    note = "write `#[entity]` or `#[actor]` above an `impl {Self}` block with `#[message]` functions"
)]
pub trait Actor: Sized + Send + 'static {
    /// What it understands.
    type Message: Message;
    /// Its typed proxy, such as `CounterRef`.
    type Ref: Clone + Send + Sync + 'static;

    /// How it is addressed: [`EntityRef`](crate::EntityRef) or [`ActorRef`](crate::ActorRef).
    #[doc(hidden)]
    type Address: Address<Self>;
    #[doc(hidden)]
    type Reply: Reply;

    /// The type's wire name, unless it was registered under another.
    const NAME: &'static str;

    /// Its mailbox, its failures, its idleness.
    #[doc(hidden)]
    const POLICY: Policy;

    /// The messages with their arguments and replies, as text; nodes compare it to notice version
    /// skew.
    const SCHEMA: &'static str;

    #[doc(hidden)]
    fn proxy(address: Self::Address) -> Self::Ref;

    #[doc(hidden)]
    fn handle(
        &mut self,
        message: Self::Message,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Handled<Self>> + Send;

    /// Whether there is a state to go on with. A handler that takes it by value and fails leaves
    /// none.
    #[doc(hidden)]
    fn is_whole(&self) -> bool {
        true
    }

    /// The present state's name, for a state machine.
    #[doc(hidden)]
    fn state_name(&self) -> &'static str {
        Self::NAME
    }

    /// Someone this actor watches has ended.
    #[doc(hidden)]
    fn on_terminated(
        &mut self,
        who: Terminated,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = (who, ctx);
        async { Ok(()) }
    }

    /// Before the first message of an activation.
    #[doc(hidden)]
    fn on_start(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// After a failure, once there is a state to go on with: after `on_start` of a fresh one.
    #[doc(hidden)]
    fn on_restart(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// After the last message of an activation. It does not run after a failure.
    #[doc(hidden)]
    fn on_stop(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), HookError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }
}

/// An actor that can make its own first state: by its `#[init]` function, or by `Default`.
#[diagnostic::on_unimplemented(
    message = "casty cannot make the first state of `{Self}`",
    note = "write one `#[init]` function in the annotated impl block"
)]
pub trait Init: Actor {
    #[doc(hidden)]
    fn init(ctx: &mut Context<Self>) -> FirstState<'_, Self>;
}

/// A first state, or what makes it: most are made at once, and need no memory of their own until
/// they are.
#[doc(hidden)]
pub enum FirstState<'a, A> {
    Now(Result<A, HookError>),
    Later(BoxFuture<'a, Result<A, HookError>>),
}

impl<'a, A> FirstState<'a, A> {
    pub fn later(made: impl Future<Output = Result<A, HookError>> + Send + 'a) -> Self {
        Self::Later(Box::pin(made))
    }
}

/// An actor that is addressed by type and id, and lives on the node that owns its shard.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entity",
    label = "cannot be addressed by an id",
    note = "write `#[entity]` above an `impl {Self}` block with `#[message]` functions"
)]
pub trait Entity: Init<Address = reference::EntityRef<Self>> {
    /// Into how many shards the entities of this type are divided. The same on every node.
    const SHARDS: NonZeroU32;

    /// Whether the state moves with its shard.
    const MIGRATES: bool = false;

    /// The role of the nodes that host this type. `None`: every member that knows the type does.
    const ROLE: Option<&'static str> = None;

    /// Appends the state, to leave this node; its name, if there are several.
    #[doc(hidden)]
    fn freeze(&self, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        let _ = out;
        Err(EncodeError("it does not migrate".to_owned()))
    }

    /// The state that left another node.
    #[doc(hidden)]
    fn thaw(name: &str, state: &[u8]) -> Result<Self, DecodeError> {
        let _ = (name, state);
        Err(DecodeError("it does not migrate".to_owned()))
    }
}

/// Why an `#[init]`, or another hook, failed, as text: the error may travel to an asker on another
/// node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct HookError(pub String);

/// Somewhere an envelope can be put.
#[doc(hidden)]
pub trait Address<A: Actor>: Clone + Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// Queues the envelope now, or gives it back.
    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>>;

    /// Queues the envelope as soon as there is room. Dropping the future withdraws it.
    fn send(&self, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>>;
}

/// How envelopes reach the entities of one type, wherever they live.
#[doc(hidden)]
pub(crate) trait Route<E: Entity>: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The name this type is registered under.
    fn name(&self) -> &str;

    fn shards(&self) -> NonZeroU32;

    /// Queues now, or gives it back. Where the entity is here, `found` remembers its cell.
    fn try_send(
        &self,
        to: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
        found: &reference::Found<E>,
    ) -> Result<(), Rejected<E>>;

    /// Waits for room, then queues.
    fn send(
        self: Arc<Self>,
        to: EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>>;
}

impl<A: Actor> Rejected<A> {
    pub(crate) fn new(envelope: Envelope<A>, failure: Failure) -> Self {
        Self { envelope, failure }
    }
}
