//! The contract between casty and the code of an actor: what its macro implements, the envelope
//! that its cell receives, and what its handlers return.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

#[cfg(feature = "testkit")]
use crate::id::EntityId;
use crate::{
    actor::{
        ask::{
            promise::{Deferred, Later},
            reply::ReplyTo,
        },
        cell::{hooks::HookError, policy::Policy},
        context::Context,
        message::{Message, Reply},
        runtime::Runtime,
        storage::{Retain, Storage},
    },
    error::{Delay, Failure},
    event::{ActorPath, Terminated},
};

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

    /// Handles a message. The macros write this for a type with an `async` handler, and
    /// [`handle_now`](Self::handle_now) for all others: a future of its own takes a type longer to
    /// compile.
    #[doc(hidden)]
    fn handle(
        &mut self,
        message: Self::Message,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Handled<Self>> + Send {
        async move { self.handle_now(message, ctx) }
    }

    /// Handles a message without waiting for anything.
    #[doc(hidden)]
    fn handle_now(&mut self, message: Self::Message, ctx: &mut Context<Self>) -> Handled<Self> {
        let _ = (message, ctx);
        Handled::Unhandled {
            state: Self::NAME,
            silent: false,
        }
    }

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

    /// Whether it has several states. Only then are messages kept for the next one.
    #[doc(hidden)]
    const IS_MACHINE: bool = false;

    /// Whether a part of the state outlives a failure.
    #[doc(hidden)]
    const SURVIVES: bool = false;

    /// How the state is stored.
    #[doc(hidden)]
    const STORAGE: Storage = Storage::None;

    /// How many records after the last snapshot the next one is written.
    #[doc(hidden)]
    const SNAPSHOT_EVERY: u64 = 100;

    /// What is kept of records that a snapshot contains.
    #[doc(hidden)]
    const RETAIN: Retain = Retain::All;

    /// How many nodes keep each shard, where that is not for the node to say.
    #[doc(hidden)]
    const COPIES: Option<u8> = None;

    /// How many of them have to have what gets out, where that is not for the node to say.
    #[doc(hidden)]
    const COPIES_MIN: Option<u8> = None;

    /// Takes over what outlives a failure from the state that failed.
    #[doc(hidden)]
    fn inherit(&mut self, failed: Self) {
        drop(failed);
    }

    /// An actor that this one watches has ended.
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

/// A message, and the way back for its answer.
#[doc(hidden)]
pub struct Envelope<A: Actor> {
    pub(crate) message: A::Message,
    pub(crate) reply: ReplyTo<A::Reply>,
}

impl<A: Actor> Envelope<A> {
    /// Says that the message was not handled. See [`ReplyTo::undelivered`].
    #[cold]
    pub(crate) fn undelivered(
        self,
        runtime: &Runtime,
        to: &dyn Fn() -> ActorPath,
        failure: Failure,
    ) {
        let Self { message, reply } = self;
        // A message of an activation to itself ends with the activation.
        if !matches!(reply, ReplyTo::Own(_)) {
            reply.undelivered(runtime, to, message.name(), failure);
        }
    }
}

impl<A: Actor> fmt::Debug for Envelope<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({})", self.message.name())
    }
}

/// An envelope that was not taken, with the reason.
#[doc(hidden)]
#[derive(Debug)]
pub struct Rejected<A: Actor> {
    pub(crate) envelope: Envelope<A>,
    pub(crate) failure: Failure,
}

impl<A: Actor> Rejected<A> {
    pub(crate) fn new(envelope: Envelope<A>, failure: Failure) -> Self {
        Self { envelope, failure }
    }
}

/// The result of a handler. Generated dispatch returns it.
#[doc(hidden)]
pub enum Handled<A: Actor> {
    Reply(A::Reply),
    /// A [`Promise`](crate::reply::Promise) will reply.
    Later(Deferred<A::Reply>),
    /// The present state has no handler for it. `silent`: its loss is meant, and no dead letter.
    Unhandled {
        state: &'static str,
        silent: bool,
    },
    /// The present state keeps it for the next one.
    Stash(A::Message),
}

impl<A: Actor> Handled<A> {
    /// `wrap` makes the reply's variant of what the promise is kept with.
    pub fn later<R: Send + 'static>(
        later: Later<R>,
        wrap: impl FnOnce(R) -> A::Reply + Send + 'static,
    ) -> Self {
        Self::Later(Deferred(Box::new(move |reply: ReplyTo<A::Reply>| {
            later.settle(move |kept| match kept {
                Ok(value) => reply.answer(wrap(value)),
                Err(failure) => reply.fail(failure),
            });
        })))
    }
}

impl<A: Actor> fmt::Debug for Handled<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reply(_) => "Reply",
            Self::Later(_) => "Later",
            Self::Unhandled { .. } => "Unhandled",
            Self::Stash(_) => "Stash",
        })
    }
}

/// The target of envelopes.
#[doc(hidden)]
pub trait Address<A: Actor>: Clone + Send + Sync + 'static {
    /// Whether a target that has stopped starts again with the next message.
    const STARTS_AGAIN: bool;

    fn runtime(&self) -> &Arc<Runtime>;

    /// The target's name in events.
    fn path(&self) -> ActorPath;

    /// What holds an ask up whose time is up. `within`: how long another node may be asked; `None`:
    /// not at all. `None`: nothing is known.
    fn explain(&self, within: Option<Duration>) -> Option<BoxFuture<'static, Option<Delay>>> {
        let _ = within;
        None
    }

    /// Queues the envelope now, or gives it back.
    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>>;

    /// Queues the envelope as soon as there is room. Dropping the future withdraws it.
    fn send(&self, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>>;

    /// The address of an actor that is alone in its system.
    #[cfg(feature = "testkit")]
    fn of_machine(only: Only<A>) -> Self;

    /// Hands `take` what this system sends to targets that are named by ids, and do not exist
    /// before: to the entities of a type.
    #[cfg(feature = "testkit")]
    fn stand_in(runtime: &Arc<Runtime>, take: Arc<Take<A>>) {
        let _ = (runtime, take);
    }
}

/// An actor that is alone in its system.
#[cfg(feature = "testkit")]
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "not for users")]
pub struct Only<A: Actor>(pub(crate) Arc<crate::actor::cell::Cell<A>>);

/// Takes an envelope to an entity.
#[cfg(feature = "testkit")]
pub(crate) type Take<A> = dyn Fn(EntityId, Envelope<A>) -> Result<(), Rejected<A>> + Send + Sync;
