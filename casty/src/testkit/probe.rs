//! Probes: test doubles of actors.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::PATIENCE;
use crate::{
    ActorRef, ActorSystem, Entity, Message, Terminated, Wire,
    actor::{
        Actor, Address as _, Envelope,
        ask::reply::ReplyTo,
        context::watch::Watch,
        reference::{self, Spawned},
    },
    error::Failure,
    event::ActorPath,
    id::EntityId,
    message::answer::RawAnswer,
    testkit::probe_target::{Arrival, ProbeTarget},
};

/// A test double of an actor, or of all entities of a type. The test receives the messages that are
/// sent to it, and answers them.
///
/// Senders see no difference to an actor, on other nodes neither. A dropped probe is a stopped
/// actor.
///
/// A probe of an entity type stands for its entities wherever the system of the probe sends to
/// them: actors, entities and the test get it by [`ActorSystem::entity`] and
/// [`Context::entity`](crate::Context::entity). Make the probe first: references that were made
/// before lead to the entities themselves, and so do other nodes.
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit::{self, Probe}};
///
/// #[derive(Default)]
/// struct Wallet {
///     cents: u64,
/// }
///
/// #[entity]
/// impl Wallet {
///     #[message]
///     fn pay(&mut self, cents: u64) -> Result<u64, String> {
///         self.cents = self.cents.checked_sub(cents).ok_or("not enough")?;
///         Ok(self.cents)
///     }
/// }
///
/// #[derive(Default)]
/// struct Taxi;
///
/// #[entity]
/// impl Taxi {
///     #[message]
///     async fn ride(&mut self, who: String, ctx: &mut Context<Self>) -> String {
///         let wallet = ctx.entity::<Wallet>(&who);
///         match wallet.pay(500).await {
///             Ok(left) => format!("{left} left"),
///             Err(why) => format!("walk: {why}"),
///         }
///     }
/// }
///
/// testkit::paused(|system| async move {
///     let mut wallets = Probe::<Wallet>::new(&system);
///     let riding = tokio::spawn(system.entity::<Taxi>("t").ride("ann".into()).into_future());
///     let asked = wallets.expect().await;
///     assert_eq!(asked.entity_id().as_str(), "ann");
///     assert!(matches!(asked.message, WalletMsg::Pay { cents: 500 }));
///     asked.reply(Err::<u64, _>("the bank is closed".to_owned()));
///     assert_eq!(riding.await.unwrap().unwrap(), "walk: the bank is closed");
/// });
/// ```
pub struct Probe<A: Actor> {
    target: Arc<ProbeTarget<A>>,
    received: mpsc::UnboundedReceiver<Arrival<A>>,
    watches: Vec<Watch>,
}

impl<A: Actor> Probe<A> {
    /// Creates a probe in `system`.
    pub fn new(system: &ActorSystem) -> Self {
        let (out, received) = mpsc::unbounded_channel();
        let runtime = system.runtime();
        let number = runtime.next_actor();
        let target = ProbeTarget::new(runtime.clone(), number, out);
        runtime.register(number, target.clone());
        let taking = target.clone();
        let take = move |id, envelope| taking.put(id, envelope);
        A::Address::stand_in(runtime, Arc::new(take));
        Self {
            target,
            received,
            watches: Vec::new(),
        }
    }

    /// The reference to hand to senders. Senders to entities get theirs by
    /// [`ActorSystem::entity`].
    pub fn actor(&self) -> A::Ref
    where
        A::Address: Spawned<A>,
    {
        A::proxy(A::Address::of(ActorRef::elsewhere(self.target.clone())))
    }

    /// The next message, within [`PATIENCE`].
    ///
    /// # Panics
    /// If none comes, or if the end of a watched actor comes first.
    ///
    /// # Cancel safety
    /// Safe: a message is either returned or still to come.
    pub async fn expect(&mut self) -> Received<A> {
        self.expect_within(PATIENCE).await
    }

    /// The next message, within `patience`.
    ///
    /// # Panics
    /// If none comes, or if the end of a watched actor comes first.
    ///
    /// # Cancel safety
    /// Safe: a message is either returned or still to come.
    pub async fn expect_within(&mut self, patience: Duration) -> Received<A> {
        match self.next(patience).await {
            Some(Arrival::Message(to, envelope)) => Received::new(to, envelope),
            Some(Arrival::Terminated(who)) => {
                panic!("expected a message; heard of the end of {} first", who.who)
            }
            None => panic!("expected a message; none came within {patience:?}"),
        }
    }

    /// Requires that no message and no end of a watched actor comes for a time.
    ///
    /// # Panics
    /// If one comes.
    pub async fn expect_no(&mut self, during: Duration) {
        match self.next(during).await {
            None => {}
            Some(Arrival::Message(_, envelope)) => panic!(
                "expected nothing for {during:?}; `{}` came",
                envelope.message.name()
            ),
            Some(Arrival::Terminated(who)) => {
                panic!("expected nothing for {during:?}; {} ended", who.who)
            }
        }
    }

    /// Watches an actor. Its end is then expected with
    /// [`expect_terminated`](Self::expect_terminated).
    pub fn watch<B: Actor>(&mut self, who: &impl AsRef<ActorRef<B>>) {
        let id = self.target.runtime().next_watch();
        let watch = reference::watch(id, who.as_ref(), self.target.weak());
        self.watches.push(watch);
    }

    /// The end of a watched actor, within [`PATIENCE`].
    ///
    /// # Panics
    /// If none comes, or if a message comes first.
    pub async fn expect_terminated(&mut self) -> Terminated {
        self.expect_terminated_within(PATIENCE).await
    }

    /// The end of a watched actor, within `patience`.
    ///
    /// # Panics
    /// If none comes, or if a message comes first.
    pub async fn expect_terminated_within(&mut self, patience: Duration) -> Terminated {
        match self.next(patience).await {
            Some(Arrival::Terminated(who)) => who,
            Some(Arrival::Message(_, envelope)) => panic!(
                "expected the end of an actor; `{}` came first",
                envelope.message.name()
            ),
            None => panic!("expected the end of an actor; none ended within {patience:?}"),
        }
    }

    async fn next(&mut self, patience: Duration) -> Option<Arrival<A>> {
        // The channel does not close: the target holds its other end.
        timeout(patience, self.received.recv()).await.ok().flatten()
    }
}

impl<A: Actor> Drop for Probe<A> {
    fn drop(&mut self) {
        self.received.close();
        for watch in self.watches.drain(..) {
            watch.cancel();
        }
        self.target.end();
        while let Ok(arrival) = self.received.try_recv() {
            if let Arrival::Message(to, envelope) = arrival {
                let path = || ActorPath {
                    kind: A::NAME.to_owned(),
                    id: to.to_string(),
                };
                envelope.undelivered(self.target.runtime(), &path, Failure::Stopped);
            }
        }
    }
}

impl<A: Actor> fmt::Debug for Probe<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.target.path())
    }
}

/// A message that a [`Probe`] received.
#[must_use = "look at the message, or answer it"]
pub struct Received<A: Actor> {
    /// The message.
    pub message: A::Message,
    /// The id of the entity that it is for, or the number of the actor.
    to: EntityId,
    reply: ReplyTo<A::Reply>,
}

impl<A: Actor> Received<A> {
    fn new(to: EntityId, Envelope { message, reply }: Envelope<A>) -> Self {
        Self { message, to, reply }
    }

    /// The id of the entity that the message was sent to.
    pub fn entity_id(&self) -> &EntityId
    where
        A: Entity,
    {
        &self.to
    }

    /// Whether the message was asked, so that its sender waits for an answer.
    pub fn is_asked(&self) -> bool {
        !self.reply.is_nobody()
    }

    /// Answers the message with the value that the handler would return: a `Result` where the
    /// handler returns one.
    ///
    /// The asker gets an answer of another type as an [`AskError::Reply`](crate::AskError::Reply).
    ///
    /// # Panics
    /// If the message was told and not asked, or if the reply cannot be encoded.
    pub fn reply<R: Wire>(self, reply: R) {
        assert!(
            self.is_asked(),
            "the message was told: no sender waits for an answer"
        );
        let mut payload = Vec::new();
        crate::message::codec::encode(&reply, &mut payload).expect("a reply that can be encoded");
        if let Some(asker) = self.reply.into_pending() {
            asker.complete(RawAnswer::Encoded(payload.into()));
        }
    }
}

impl<A: Actor> fmt::Debug for Received<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({})", self.message.name())
    }
}
