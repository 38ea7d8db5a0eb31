//! Watches of actors on other nodes.
//!
//! A watch is a question that is answered late: a frame for the actor with an empty payload,
//! answered when the actor ends. Lost with its connection, it is asked again, until the actor's
//! node is no member any more. However many actors here watch the same one, it is asked once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use super::node::Node;
use crate::{
    actor::{
        context::watch::{WatchId, Watcher},
        runtime::ActorAddress,
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    infra::sync::lock,
    message::{
        answer::{Pending, RawAnswer, ReplyPath},
        codec,
    },
    transport::{connection::Inlet, frame::Frame, outbox::Admission},
};

/// What a watch looks like on the wire: no message is encoded as nothing.
pub(crate) const WATCH: &[u8] = &[];

/// Who here watches which actor elsewhere.
#[derive(Default)]
pub(crate) struct Watches(Mutex<HashMap<Arc<ActorAddress>, Vec<Watcher>>>);

impl Watches {
    /// Whether this is the first watch of that actor, so that somebody has to ask.
    fn add(&self, who: &Arc<ActorAddress>, watcher: Watcher) -> bool {
        let mut all = lock(&self.0);
        let first = !all.contains_key(who);
        all.entry(who.clone()).or_default().push(watcher);
        first
    }

    /// The last watch taken back leaves an empty entry: the question is asked, and may be used
    /// again.
    fn remove(&self, who: &Arc<ActorAddress>, watch: WatchId) {
        if let Some(watchers) = lock(&self.0).get_mut(who) {
            watchers.retain(|watcher| watcher.id != watch);
        }
    }

    /// Forgets an actor whose watches were all taken back, before it is asked for again.
    fn is_unwanted(&self, who: &Arc<ActorAddress>) -> bool {
        let mut watches = lock(&self.0);
        let unwanted = watches.get(who).is_none_or(Vec::is_empty);
        if unwanted {
            watches.remove(who);
        }
        unwanted
    }

    fn tell(&self, who: &Arc<ActorAddress>, reason: &TerminatedReason) {
        let watchers = lock(&self.0).remove(who).unwrap_or_default();
        for watcher in watchers {
            let path = ActorPath {
                kind: who.kind.clone(),
                id: who.actor.to_string(),
            };
            watcher.tell(path, reason.clone());
        }
    }
}

struct Asked(oneshot::Sender<RawAnswer>);

impl Pending for Asked {
    fn complete(self: Box<Self>, answer: RawAnswer) {
        // An error means that this node is shutting down.
        let _ = self.0.send(answer);
    }
}

impl Node {
    /// The question is on its way when this returns: a message sent to the actor later arrives
    /// later.
    pub(crate) fn watch_actor(self: &Arc<Self>, who: &Arc<ActorAddress>, watcher: Watcher) {
        if self.watches().add(who, watcher) {
            let first = self.ask_for_end(who);
            let (me, who) = (self.clone(), who.clone());
            self.spawn(async move {
                tokio::select! {
                    biased;
                    () = me.cancel().cancelled() => {}
                    ended = me.end_of(&who, first) => if let Some(reason) = ended {
                        me.watches().tell(&who, &reason);
                    }
                }
            });
        }
    }

    pub(crate) fn unwatch_actor(&self, who: &Arc<ActorAddress>, watch: WatchId) {
        self.watches().remove(who, watch);
    }

    fn ask_for_end(&self, who: &ActorAddress) -> Result<oneshot::Receiver<RawAnswer>, Failure> {
        let link = self.checked_link(who)?;
        let frame = Frame::actor(who.actor, &[], WATCH);
        let place = link.reserve(&frame, Admission::New)?;
        let (asked, answer) = oneshot::channel();
        place.put(Some(Box::new(Asked(asked))));
        Ok(answer)
    }

    /// Resolves when the actor has ended; with `None` if nobody wants to know any more.
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
            if !self.is_member(&who.member) {
                return Some(TerminatedReason::NodeGone(who.member.to_string()));
            }
            if self.watches().is_unwanted(who) {
                return None;
            }
            // The pause of any other second try: the link may be dialing.
            tokio::time::sleep(self.settings().backoff).await;
            asked = self.ask_for_end(who);
        }
    }

    /// Somebody on another node watches an actor here.
    pub(crate) fn handle_watch(&self, inlet: &Arc<Inlet>, actor: u64, correlation: u64) {
        let path: Arc<Inlet> = inlet.clone();
        let tell = move |_, reason: TerminatedReason| {
            let mut payload = Vec::new();
            match codec::encode(&reason, &mut payload) {
                Ok(()) => path.reply(correlation, crate::id::Epoch::ZERO, &payload),
                Err(_) => path.fail(correlation, &Failure::Stopped),
            }
        };
        match self.runtime().actor(actor) {
            Some(cell) => {
                let connection = inlet.cancel.clone();
                let watcher = Watcher::new(self.runtime().next_watch(), tell);
                cell.watch(watcher.while_(move || !connection.is_cancelled()));
            }
            None => inlet.fail(correlation, &Failure::Stopped),
        }
    }
}
