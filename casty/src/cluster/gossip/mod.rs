//! Failure detection: SWIM, by foca, over our own links; and each node's facts record.
//!
//! Hints, never authority. The leader of the map turns them into decisions; every other node tells
//! its own users that a member is unreachable, and no more.

pub(crate) mod codec;
mod inbox;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::{NonZeroU8, NonZeroUsize},
    sync::Arc,
};

use foca::{AccumulatingRuntime, Foca, Member, NoCustomBroadcast, OwnedNotification, Timer};
use futures_util::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_bytes::ByteBuf;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

pub(crate) use self::inbox::{GossipInbox, Input, Inputs};
use self::{
    codec::{GossipId, MessagePack},
    inbox::Queued,
};
use crate::{
    cluster::{
        map_watch::MapWatch,
        peers::{Peers, wire::Request},
        process::Process,
        region::AnyRegion,
        rumors::{Rumors, Said},
    },
    config::Settings,
    event::Event,
    id::MemberId,
    message,
    protocol::{
        facts::{Facts, FactsTable},
        liveness::FailureDetector,
    },
    transport::{handshake::Lane, link::Peer},
};

/// Bytes of gossip that may wait to be written to one peer. More is dropped: gossip sends
/// everything again anyway.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;

pub(crate) fn config(settings: &Settings) -> foca::Config {
    let default = foca::Config::simple();
    foca::Config {
        probe_period: settings.gossip_interval,
        probe_rtt: settings.gossip_interval / 3,
        suspect_to_down_after: settings.suspect_after,
        max_transmissions: NonZeroU8::new(10).unwrap_or(default.max_transmissions),
        max_packet_size: NonZeroUsize::new(64 * 1024).unwrap_or(default.max_packet_size),
        notify_down_members: true,
        ..default
    }
}

type Swim = Foca<GossipId, MessagePack, StdRng, NoCustomBroadcast>;

/// The parts that a node's gossip uses in every incarnation.
pub(crate) struct GossipParts {
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) regions: Arc<[Arc<dyn AnyRegion>]>,
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
    pub(crate) roles: BTreeSet<String>,
}

/// One node's gossip.
pub(crate) struct Gossip {
    parts: GossipParts,
    member: MemberId,
    rumors: Arc<Rumors>,
    swim: Swim,
    effects: AccumulatingRuntime<GossipId>,
    timers: DelayQueue<Timer<GossipId>>,
    facts: FactsTable,
    liveness: FailureDetector,
    unreachable: BTreeSet<MemberId>,
    /// Members of the map that gossip has been told of. Gossip is told once, and judges them by
    /// itself from then on.
    introduced: BTreeSet<MemberId>,
    rng: StdRng,
}

impl Gossip {
    /// `rumors`: the store for what gossip hears.
    pub(crate) fn new(
        parts: GossipParts,
        member: MemberId,
        rumors: Arc<Rumors>,
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let id = GossipId {
            member: member.clone(),
            address: parts.address,
            renewal: 0,
        };
        let facts = Facts {
            version: 1,
            address: parts.address,
            catalog: parts.peers.catalog().to_vec(),
            roles: parts.roles.clone(),
            load: 0,
        };
        let settings = &parts.settings;
        let codec = MessagePack::new(member.clone(), parts.map.clone());
        let swim_rng = StdRng::seed_from_u64(rng.random());
        Self {
            swim: Foca::new(id, config(settings), swim_rng, codec),
            effects: AccumulatingRuntime::new(),
            timers: DelayQueue::new(),
            facts: FactsTable::new(member.clone(), facts),
            liveness: FailureDetector::new(settings.suspect_after * 3),
            unreachable: BTreeSet::new(),
            introduced: BTreeSet::new(),
            rng,
            member,
            rumors,
            parts,
        }
    }

    /// Runs until the node leaves or stops.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let cancel = self.parts.process.cancel.clone();
        let mut ticks = tokio::time::interval(self.parts.settings.gossip_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0_u64;
        loop {
            self.drain();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                queued = inputs.recv() => match queued.map(|Queued { input, room }| {
                    // It is handled at once, or not at all.
                    drop(room);
                    input
                }) {
                    Some(Input::Leave) => {
                        if let Err(error) = self.swim.leave_cluster(&mut self.effects) {
                            tracing::debug!(%error, "gossip said no goodbye");
                        }
                        self.drain();
                        return;
                    }
                    Some(Input::Renew(member, rumors)) => {
                        self = Self::new(self.parts, member, rumors, self.rng.random());
                    }
                    Some(input) => self.handle(input),
                    None => return,
                },
                Some(timer) = self.timers.next() => {
                    if let Err(error) = self.swim.handle_timer(timer.into_inner(), &mut self.effects) {
                        tracing::debug!(%error, "gossip timer");
                    }
                }
                _ = ticks.tick() => {
                    self.tick(tick);
                    tick += 1;
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Datagram { from, datagram } => {
                let Some(map) = self.parts.map.get() else {
                    return;
                };
                if !MessagePack::is_from(&datagram, &from, &map) {
                    tracing::debug!(%from, "gossip under another name");
                    return;
                }
                if let Err(error) = self.swim.handle_data(&datagram, &mut self.effects) {
                    tracing::debug!(%error, "gossip datagram refused");
                }
            }
            Input::Digest { from, mut digest } => {
                digest.retain(|member, _| self.is_named(member));
                let (newer, behind) = self.facts.compare(&digest);
                let Some(peer) = self.peer(&from) else { return };
                if !newer.is_empty() {
                    self.send(peer.clone(), &Request::Facts(newer));
                }
                if behind {
                    self.send_digest(peer);
                }
            }
            Input::Facts(mut records) => {
                records.retain(|member, _| self.is_named(member));
                self.facts.merge(records);
                self.publish_facts();
            }
            Input::Renew(..) | Input::Leave => {}
        }
    }

    /// Whether the map has this member, and not as Down.
    fn is_named(&self, member: &MemberId) -> bool {
        let map = self.parts.map.get();
        map.is_some_and(|map| map.is_present(member))
    }

    fn publish_facts(&self) {
        let said = self.facts.digest().into_keys().filter_map(|member| {
            let facts = self.facts.get(&member)?;
            let said = Said {
                load: facts.load,
                roles: facts.roles.clone(),
            };
            Some((member, said))
        });
        self.rumors.set_said(said.collect());
    }

    /// Carries out foca's effects.
    fn drain(&mut self) {
        while let Some((to, bytes)) = self.effects.to_send() {
            let peer = Peer {
                address: to.address,
                member: Some(to.member),
            };
            self.send(peer, &Request::Gossip(ByteBuf::from(bytes.to_vec())));
        }
        while let Some((after, timer)) = self.effects.to_schedule() {
            self.timers.insert(timer, after);
        }
        while let Some(notification) = self.effects.to_notify() {
            match notification {
                OwnedNotification::MemberUp(id) => self.reached(&id.member),
                OwnedNotification::Rename(_, new) => self.reached(&new.member),
                OwnedNotification::MemberDown(id) => {
                    let map = self.parts.map.get();
                    if map.is_some_and(|map| map.is_present(&id.member)) {
                        self.lost(&id.member);
                    }
                    self.liveness.handle_down(id.member);
                }
                OwnedNotification::Active
                | OwnedNotification::Idle
                | OwnedNotification::Defunct
                | OwnedNotification::Rejoin(_) => {}
            }
        }
    }

    fn reached(&mut self, member: &MemberId) {
        self.liveness.handle_alive(member);
        if self.unreachable.remove(member) {
            self.parts
                .process
                .runtime
                .publish(|| Event::ReachableMember(member.clone()));
        }
        self.facts.handle_met(member);
        self.greet();
    }

    /// Sends this node's record to members that it has met, once the map says where they are.
    fn greet(&mut self) {
        let map = self.parts.map.get();
        let is_member =
            |member: &MemberId| map.as_ref().is_some_and(|m| m.member(member).is_some());
        let greeted = self.facts.greet(is_member);
        if greeted.is_empty() {
            return;
        }
        let (me, facts) = self.facts.mine();
        let news = Request::Facts(BTreeMap::from([(me, facts)]));
        for peer in greeted.iter().filter_map(|member| self.peer(member)) {
            self.send(peer, &news);
        }
    }

    fn lost(&mut self, member: &MemberId) {
        if self.unreachable.insert(member.clone()) {
            tracing::warn!(%member, "a member is unreachable");
            self.parts
                .process
                .runtime
                .publish(|| Event::UnreachableMember(member.clone()));
        }
    }

    fn tick(&mut self, tick: u64) {
        let Some(map) = self.parts.map.get() else {
            return;
        };
        let others: BTreeMap<MemberId, SocketAddr> = map
            .present()
            .filter(|(id, _)| **id != self.member)
            .map(|(id, member)| (id.clone(), member.address))
            .collect();
        let alive: BTreeSet<MemberId> = self
            .swim
            .iter_members()
            .map(|member| member.id().member.clone())
            .collect();
        self.unreachable
            .retain(|member| others.contains_key(member));
        self.introduce(&others, &alive);
        self.greet();
        let load = self
            .parts
            .regions
            .iter()
            .map(|region| region.active())
            .sum();
        if self.facts.set_load(load) {
            let (me, facts) = self.facts.mine();
            let news = Request::Facts(BTreeMap::from([(me, facts)]));
            for (member, address) in &others {
                self.send(
                    Peer {
                        address: *address,
                        member: Some(member.clone()),
                    },
                    &news,
                );
            }
            self.publish_facts();
        }
        // About once a second: what a record lacks is noticed by that.
        if tick.is_multiple_of(4) && !others.is_empty() {
            self.facts.retain(|member| others.contains_key(member));
            let nth = self.rng.random_range(0..others.len());
            if let Some((member, address)) = others.iter().nth(nth) {
                self.send_digest(Peer {
                    address: *address,
                    member: Some(member.clone()),
                });
            }
        }
        let members = others.into_keys().collect();
        let dead = self.liveness.handle_tick(&members, &alive, Instant::now());
        for member in &dead {
            self.lost(member);
        }
        self.rumors.set_dead(dead.into_iter().collect());
    }

    /// Introduces the members of the map to gossip, which probes them from then on. Every node
    /// learns of them by the map, so nothing is sent for it. Members that gossip has given up are
    /// greeted, a few at a time: a live one answers, and knows the others.
    fn introduce(&mut self, others: &BTreeMap<MemberId, SocketAddr>, alive: &BTreeSet<MemberId>) {
        self.introduced.retain(|member| others.contains_key(member));
        let strangers = others.iter().filter(|(member, _)| !alive.contains(member));
        let id = |(member, address): (&MemberId, &SocketAddr)| GossipId {
            member: member.clone(),
            address: *address,
            renewal: 0,
        };
        let (given_up, fresh): (Vec<_>, Vec<_>) =
            strangers.partition(|(member, _)| self.introduced.contains(*member));
        self.introduced
            .extend(fresh.iter().map(|(member, _)| (*member).clone()));
        let fresh = fresh
            .into_iter()
            .map(|stranger| Member::alive(id(stranger)));
        if let Err(error) = self.swim.apply_many(fresh, false, &mut self.effects) {
            tracing::debug!(%error, "gossip could not be told of members");
        }
        for (member, address) in given_up.into_iter().take(3) {
            let id = id((member, address));
            if let Err(error) = self.swim.announce(id, &mut self.effects) {
                tracing::debug!(%member, %error, "gossip could not introduce itself");
            }
        }
    }

    fn peer(&self, member: &MemberId) -> Option<Peer> {
        let address = self.parts.map.get()?.member(member)?.address;
        Some(Peer {
            address,
            member: Some(member.clone()),
        })
    }

    fn send_digest(&self, to: Peer) {
        let (from, _) = self.facts.mine();
        self.send(
            to,
            &Request::Digest {
                from,
                digest: self.facts.digest(),
            },
        );
    }

    fn send(&self, to: Peer, request: &Request) {
        let link = self.parts.peers.link(to, Lane::Control);
        if link.control_bytes() > BACKLOG_BYTES_MAX {
            return;
        }
        match message::codec::to_vec(request) {
            // A peer that cannot be reached does not answer probes either, and gossip notices that.
            Ok(bytes) => drop(link.send_control(&bytes)),
            Err(error) => tracing::error!(%error, "gossip cannot be encoded"),
        }
    }
}

/// A datagram in which one member says to another that it has renewed itself often. Each member is
/// given with its address.
#[cfg(feature = "sim")]
pub(crate) fn renewed(who: (MemberId, SocketAddr), to: (MemberId, SocketAddr)) -> Vec<u8> {
    let id = |(member, address), renewal| GossipId {
        member,
        address,
        renewal,
    };
    let codec = MessagePack::new(who.0.clone(), Arc::default());
    let rng = StdRng::seed_from_u64(0);
    let mut swim = Swim::new(id(who, 99), config(&Settings::default()), rng, codec);
    let mut effects = AccumulatingRuntime::new();
    if let Err(error) = swim.announce(id(to, 0), &mut effects) {
        tracing::error!(%error, "a datagram of gossip cannot be read");
    }
    let sent = effects.to_send();
    sent.map_or_else(Vec::new, |(_, bytes)| bytes.to_vec())
}
