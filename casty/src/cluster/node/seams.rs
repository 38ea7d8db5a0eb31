//! What a node is to its regions, its actors and its links.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Node;
use crate::{
    actor::{
        ask::chain,
        context::watch::{WatchId, Watcher},
        runtime::{ActorAddress, Carrier},
    },
    cluster::{region::Mesh, wire::Response},
    error::Failure,
    event::{ActorPath, DeadLetterReason},
    id::{Epoch, MemberId, ShardId},
    infra::{sync::lock, timer_thread::TimerThread},
    message::{
        answer::{Pending, WayBack},
        codec,
    },
    protocol::{
        map::{Slot, Status},
        membership::MembershipInput,
    },
    transport::{
        frame::{EntityFrame, Frame},
        handshake::{HandshakeRefusal, Hello, Lane, Welcome},
        link::{Link, LinkOwner, Peer},
        outbox::{Admission, LostMessage, LostTo},
    },
};

impl Mesh for Node {
    fn messages_to(&self, member: Slot) -> Option<Arc<Link>> {
        let peer = lock(&self.slots).get(&member).cloned()?;
        Some(self.link(peer, Lane::Messages))
    }

    fn resolve(&self, kind: u16, shard: ShardId) {
        lock(&self.wanted).insert((kind, shard));
        self.wanted_work.notify_one();
    }
}

impl Carrier for Node {
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
        let link = self.actor_link(to);
        Box::pin(async move { link.room().await })
    }

    fn watch(&self, who: &Arc<ActorAddress>, watcher: Watcher) {
        if let Some(me) = self.me.upgrade() {
            me.watch_actor(who, watcher);
        }
    }

    fn unwatch(&self, who: &Arc<ActorAddress>, watch: WatchId) {
        self.unwatch_actor(who, watch);
    }
}

impl Node {
    /// The link for a message to an actor, where the message may be sent now.
    pub(in crate::cluster) fn checked_link(&self, to: &ActorAddress) -> Result<Arc<Link>, Failure> {
        if !chain::may_act() {
            return Err(Failure::NoQuorum);
        }
        self.check_peer(&to.member)?;
        Ok(self.actor_link(to))
    }

    fn actor_link(&self, to: &ActorAddress) -> Arc<Link> {
        let peer = Peer {
            address: to.address,
            member: Some(to.member.clone()),
        };
        self.link(peer, Lane::Messages)
    }

    /// A process that is no member any more is not dialed: its actors are gone.
    fn check_peer(&self, member: &MemberId) -> Result<(), Failure> {
        if self.is_me(member) {
            return Err(Failure::Stopped);
        }
        match self.map() {
            Some(map) if map.status(member).is_none_or(|s| s == Status::Down) => {
                Err(Failure::Unreachable {
                    node: member.node.to_string(),
                    reason: "it is no member of the cluster any more".to_owned(),
                    maybe_handled: false,
                })
            }
            _ => Ok(()),
        }
    }
}

impl LinkOwner for Node {
    fn timer_thread(&self) -> &TimerThread {
        self.runtime().upkeep()
    }

    fn hello(&self, lane: Lane, to: Option<&MemberId>) -> Hello {
        Hello {
            cluster: self.setup.cluster.clone(),
            identity: self.identity(),
            member: self.member(),
            address: self.address(),
            lane,
            keeps_seat: self.kept_seat().is_some(),
            catalog: self.catalog().to_vec(),
            to: to.cloned(),
        }
    }

    fn connected(&self, link: &Arc<Link>, _: &Welcome) {
        self.source_connected(link);
    }

    fn disconnected(&self, link: &Arc<Link>, reason: &str) {
        self.calls.disconnected(link, reason);
    }

    fn refused(&self, link: &Arc<Link>, refusal: &HandshakeRefusal) {
        if let HandshakeRefusal::OtherMember {
            expected,
            found,
            keeps_seat: true,
        } = refusal
            && expected.node == found.node
        {
            self.handle_successor(found, link.peer.address);
        }
        match refusal {
            HandshakeRefusal::Down(member) => {
                let down = MembershipInput::Down(member.clone());
                self.membership().tell(down);
            }
            // The cluster was reborn without this node.
            HandshakeRefusal::Generation { ours, theirs } if ours < theirs => {
                self.membership().tell(MembershipInput::Generation(*theirs));
            }
            _ => {}
        }
    }

    fn control(&self, link: &Arc<Link>, payload: &[u8]) -> Result<(), String> {
        let response: Response = codec::decode(payload).map_err(|error| error.to_string())?;
        self.handle_news(link, response);
        Ok(())
    }

    fn bounced(
        &self,
        _: &Arc<Link>,
        epoch: u64,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        if let Some(region) = self.regions().get(usize::from(frame.kind)) {
            region.bounced(Epoch(epoch), frame, buffer, pending);
        }
    }

    fn dead_letter(&self, message: LostMessage, reason: DeadLetterReason) {
        let path = match message.to {
            LostTo::Entity { kind, id } => ActorPath {
                kind: self
                    .catalog()
                    .get(usize::from(kind))
                    .map_or_else(|| "?".to_owned(), |entry| entry.name.clone()),
                id: id.to_string(),
            },
            LostTo::Actor(actor) => ActorPath {
                kind: "actor".to_owned(),
                id: actor.to_string(),
            },
        };
        self.runtime.dead_letter(path, &message.message, reason);
    }
}
