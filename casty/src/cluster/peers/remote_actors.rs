//! Actors on other nodes: the messages to them, and the watches of actors here on them.
//!
//! A watch is an ask that is answered late: a frame for the actor with an empty payload, answered
//! when the actor ends. If it is lost with its connection, it is asked again, until the actor's
//! node is no member any more. However many actors here watch the same one, it is asked once.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{
    actor::{
        ask::chain,
        context::watch::{WatchId, Watcher},
        runtime::{ActorAddress, Carrier, Runtime},
    },
    cluster::{
        locks::Rank,
        map_watch::MapWatch,
        peers::Peers,
        process::{Job, Process},
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    id::{Epoch, MemberId},
    infra::{cancel::unless, sync::Ranked},
    message::{
        answer::{Pending, RawAnswer, ReplyPath, WayBack},
        codec,
    },
    transport::{
        connection::Inlet,
        frame::Frame,
        handshake::Lane,
        link::{Link, Peer},
        outbox::Admission,
    },
};

/// The payload of a watch. No message is encoded as nothing.
pub(crate) const WATCH: &[u8] = &[];

/// The actors of other nodes, as far as actors here send to them or watch them.
pub(crate) struct RemoteActors {
    me: Weak<Self>,
    process: Arc<Process>,
    peers: Arc<Peers>,
    map: Arc<MapWatch>,
    /// The pause before a lost watch is asked again.
    backoff: Duration,
    watches: Ranked<HashMap<Arc<ActorAddress>, Vec<Watcher>>>,
}

impl RemoteActors {
    pub(crate) fn new(
        process: Arc<Process>,
        peers: Arc<Peers>,
        map: Arc<MapWatch>,
        backoff: Duration,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            process,
            peers,
            map,
            backoff,
            watches: Rank::Watches.mutex(HashMap::new()),
        })
    }

    fn link(&self, to: &ActorAddress) -> Arc<Link> {
        let peer = Peer {
            address: to.address,
            member: Some(to.member.clone()),
        };
        self.peers.link(peer, Lane::Messages)
    }

    /// A process that is no member any more is not dialed: its actors are gone.
    fn check_peer(&self, member: &MemberId) -> Result<(), Failure> {
        if self.peers.is_me(member) {
            return Err(Failure::Stopped);
        }
        match self.map.get() {
            Some(map) if !map.is_present(member) => Err(Failure::Unreachable {
                node: member.node.to_string(),
                reason: "it is no member of the cluster any more".to_owned(),
                maybe_handled: false,
            }),
            _ => Ok(()),
        }
    }

    /// The link for a message to an actor, where the message may be sent now.
    fn checked_link(&self, to: &ActorAddress) -> Result<Arc<Link>, Failure> {
        if !chain::may_act() {
            return Err(Failure::NoQuorum);
        }
        self.check_peer(&to.member)?;
        Ok(self.link(to))
    }

    /// Adds a watch. Returns whether it is the first of that actor, so that the actor's node has to
    /// be asked.
    fn add(&self, who: &Arc<ActorAddress>, watcher: Watcher) -> bool {
        let mut all = self.watches.lock();
        let first = !all.contains_key(who);
        all.entry(who.clone()).or_default().push(watcher);
        first
    }

    /// Forgets an actor whose watches were all taken back, before it is asked for again.
    fn is_unwanted(&self, who: &Arc<ActorAddress>) -> bool {
        let mut watches = self.watches.lock();
        let unwanted = watches.get(who).is_none_or(Vec::is_empty);
        if unwanted {
            watches.remove(who);
        }
        unwanted
    }

    fn tell(&self, who: &Arc<ActorAddress>, reason: &TerminatedReason) {
        let watchers = self.watches.lock().remove(who).unwrap_or_default();
        for watcher in watchers {
            let path = ActorPath {
                kind: who.kind.clone(),
                id: who.actor.to_string(),
            };
            watcher.tell(path, reason.clone());
        }
    }

    fn ask_for_end(&self, who: &ActorAddress) -> Result<oneshot::Receiver<RawAnswer>, Failure> {
        let link = self.checked_link(who)?;
        let frame = Frame::actor(who.actor, &[], WATCH);
        let place = link.reserve(&frame, Admission::New)?;
        let (ends, ended) = oneshot::channel();
        place.put(Some(Box::new(PendingEnd(ends))));
        Ok(ended)
    }

    /// Resolves when the actor has ended; with `None` if nothing watches it any more.
    async fn end_of(
        &self,
        who: &Arc<ActorAddress>,
        first: Result<oneshot::Receiver<RawAnswer>, Failure>,
    ) -> Option<TerminatedReason> {
        let mut asked = first;
        loop {
            let answer = match asked {
                Ok(answer) => answer.await.ok(),
                Err(failure) => Some(RawAnswer::Failed(failure)),
            };
            match answer {
                Some(RawAnswer::Encoded(bytes)) => {
                    // A newer peer may know a reason that this one does not.
                    return Some(codec::decode(&bytes).unwrap_or(TerminatedReason::Stopped));
                }
                Some(RawAnswer::Failed(Failure::Stopped)) => {
                    return Some(TerminatedReason::Stopped);
                }
                Some(RawAnswer::Failed(failure)) => {
                    tracing::debug!(actor = %who.member, %failure, "a watch is asked again");
                }
                None => {}
            }
            let is_member = self
                .map
                .get()
                .is_some_and(|map| map.is_present(&who.member));
            if !is_member {
                return Some(TerminatedReason::NodeGone(who.member.to_string()));
            }
            if self.is_unwanted(who) {
                return None;
            }
            // The pause is that of every retry: the link may be dialing.
            tokio::time::sleep(self.backoff).await;
            asked = self.ask_for_end(who);
        }
    }
}

impl Carrier for RemoteActors {
    fn try_carry(
        &self,
        to: &ActorAddress,
        chain: &[u8],
        payload: &[u8],
        reply: &mut dyn WayBack,
    ) -> Result<(), Failure> {
        let link = self.checked_link(to)?;
        let frame = Frame::actor(to.actor, chain, payload);
        link.reserve(&frame, Admission::New)?.put(reply.take());
        Ok(())
    }

    fn room(&self, to: &ActorAddress) -> BoxFuture<'static, ()> {
        let link = self.link(to);
        Box::pin(async move { link.room().await })
    }

    /// The question is on its way when this returns: a message sent to the actor later arrives
    /// later.
    fn watch(&self, who: &Arc<ActorAddress>, watcher: Watcher) {
        let Some(me) = self.me.upgrade() else { return };
        if self.add(who, watcher) {
            let (first, who) = (self.ask_for_end(who), who.clone());
            self.process.spawn(Job::Watches, async move {
                let ended = unless(&me.process.cancel, me.end_of(&who, first)).await;
                if let Some(Some(reason)) = ended {
                    me.tell(&who, &reason);
                }
            });
        }
    }

    /// The last watch taken back leaves an empty entry: the question is asked, and may be used
    /// again.
    fn unwatch(&self, who: &Arc<ActorAddress>, watch: WatchId) {
        if let Some(watchers) = self.watches.lock().get_mut(who) {
            watchers.retain(|watcher| watcher.id != watch);
        }
    }
}

/// Waits for the end of an actor elsewhere.
struct PendingEnd(oneshot::Sender<RawAnswer>);

impl Pending for PendingEnd {
    fn complete(self: Box<Self>, answer: RawAnswer) {
        // An error means that this node is shutting down.
        let _ = self.0.send(answer);
    }
}

/// The place of a peer's watch among the asks of its connection, until this is dropped.
struct WatchPlace(Arc<Inlet>);

impl WatchPlace {
    fn new(inlet: &Arc<Inlet>) -> Self {
        inlet.begin();
        Self(inlet.clone())
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A peer watches an actor here.
pub(crate) fn handle_watch(runtime: &Runtime, inlet: &Arc<Inlet>, actor: u64, correlation: u64) {
    let place = WatchPlace::new(inlet);
    let tell = move |_, reason: TerminatedReason| {
        let path = &place.0;
        let mut payload = Vec::new();
        match codec::encode(&reason, &mut payload) {
            Ok(()) => path.reply(correlation, Epoch::ZERO, &payload),
            Err(_) => path.fail(correlation, &Failure::Stopped),
        }
    };
    match runtime.actor(actor) {
        Some(cell) => {
            let connection = inlet.cancel.clone();
            let watcher = Watcher::new(runtime.next_watch(), tell);
            cell.watch(watcher.while_(move || !connection.is_cancelled()));
        }
        None => inlet.fail(correlation, &Failure::Stopped),
    }
}
