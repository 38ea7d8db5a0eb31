//! The members by slot, and the search for homes of shards that messages wait for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::{
    cluster::{
        contact::Contact,
        locks::Rank,
        peers::{
            Peers,
            reads::{Read, ReadAnswer},
            wire::Proposal,
        },
        process::Process,
        reading::ask::ask_peer,
        region::{AnyRegion, Mesh},
    },
    error::{Delay, Failure},
    event::Event,
    id::{EntityId, MemberId, ShardId},
    infra::{cancel::unless, mutants, sync::Ranked},
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, MapError, Slot, Status},
    },
    transport::{
        handshake::Lane,
        link::{Link, Peer},
    },
};

/// The pause before a home is asked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// How many late asks have other nodes asked for their delays at a time. An asker does without
/// where more are late.
const EXPLAINING_MAX: usize = 64;

/// The requests of regions for homes. Lives as long as the process.
pub(crate) struct Homes {
    peers: Arc<Peers>,
    slots: Ranked<BTreeMap<Slot, Peer>>,
    /// A permit for each ask whose delay another node is asked for.
    explaining: Arc<Semaphore>,
    /// Shards that messages wait for, by entity type.
    wanted: Ranked<BTreeSet<(u16, ShardId)>>,
    work: Notify,
}

impl Homes {
    pub(crate) fn new(peers: Arc<Peers>) -> Arc<Self> {
        Arc::new(Self {
            peers,
            slots: Rank::Slots.mutex(BTreeMap::new()),
            explaining: Arc::new(Semaphore::new(EXPLAINING_MAX)),
            wanted: Rank::Wanted.mutex(BTreeSet::new()),
            work: Notify::new(),
        })
    }

    /// The member that the map knows by this slot.
    pub(crate) fn peer_at(&self, slot: Slot) -> Option<Peer> {
        self.slots.lock().get(&slot).cloned()
    }

    fn set_slots(&self, map: &ClusterMap) {
        let peer = |id: &MemberId, address| Peer {
            address,
            member: Some(id.clone()),
        };
        let members = map.present();
        let slots = members.map(|(id, m)| (m.slot, peer(id, m.address)));
        *self.slots.lock() = slots.collect();
    }
}

impl Mesh for Homes {
    fn messages_to(&self, member: Slot) -> Option<Arc<Link>> {
        let peer = self.peer_at(member)?;
        Some(self.peers.link(peer, Lane::Messages))
    }

    fn delay(
        &self,
        member: Slot,
        kind: &str,
        id: &EntityId,
        within: Duration,
    ) -> Option<BoxFuture<'static, Option<Delay>>> {
        let peer = self.peer_at(member)?;
        let place = self.explaining.clone().try_acquire_owned().ok()?;
        let (peers, kind, id) = (self.peers.clone(), kind.to_owned(), id.clone());
        Some(Box::pin(async move {
            let asked = ask_peer(&peers, &peer, Read::Look { kind, id });
            let answer = timeout(within, asked).await;
            drop(place);
            let Ok(Ok(ReadAnswer::Look(look))) = answer else {
                return None;
            };
            Some(look.active?.delay(peer.member?.node))
        }))
    }

    fn resolve(&self, kind: u16, shard: ShardId) {
        self.wanted.lock().insert((kind, shard));
        self.work.notify_one();
    }
}

/// Takes a map over: homes, links, events. `me`: this node's slot, if it is a member.
pub(crate) fn handle_map(
    homes: &Homes,
    regions: &[Arc<dyn AnyRegion>],
    contact: &Contact,
    before: Option<&ClusterMap>,
    map: &ClusterMap,
    me: Option<Slot>,
) {
    homes.set_slots(map);
    for region in regions {
        region.handle_map(map, me);
    }
    drop_links(contact, map);
    publish_members(&contact.process, before, map);
}

/// Ends the links to processes that are no members any more.
fn drop_links(contact: &Contact, map: &ClusterMap) {
    let peers = &contact.peers;
    let dropped = peers
        .take_links(|member| !map.is_present(member) && !contact.voters.is_awaited(member, map));
    // A member that is Down is not heard either.
    let is_down = |peer: &MemberId| map.status(peer) == Some(Status::Down);
    peers.cut(|peer| is_down(peer) && !mutants::on("the_dead_may_renew"));
    for link in dropped {
        let member = link.peer.member.as_ref();
        let is_listed = member.is_some_and(|member| map.member(member).is_some());
        let reason = "it is no member of the cluster any more";
        if is_listed {
            link.kill(reason);
        } else {
            link.retire(reason);
        }
    }
}

fn publish_members(process: &Process, before: Option<&ClusterMap>, map: &ClusterMap) {
    let was = |id: &MemberId| before.and_then(|before| before.status(id));
    for id in map.up().filter(|id| was(id) != Some(Status::Up)) {
        tracing::info!(member = %id, "a member is up");
        process.runtime.publish(|| Event::MemberUp(id.clone()));
    }
    for (id, member) in before.into_iter().flat_map(ClusterMap::present) {
        if member.status != Status::Joining && !map.is_present(id) {
            tracing::info!(member = %id, "a member has left");
            process.runtime.publish(|| Event::MemberLeft(id.clone()));
        }
    }
}

/// Finds homes for shards that messages wait for, for as long as the process runs. `contact` gives
/// the present incarnation's.
pub(crate) async fn resolve(
    process: Arc<Process>,
    homes: Arc<Homes>,
    regions: Arc<[Arc<dyn AnyRegion>]>,
    contact: impl Fn() -> Arc<Contact>,
) {
    while unless(&process.cancel, homes.work.notified())
        .await
        .is_some()
    {
        let wanted = std::mem::take(&mut *homes.wanted.lock());
        let mut by_kind = BTreeMap::<u16, Vec<ShardId>>::new();
        for (kind, shard) in wanted {
            by_kind.entry(kind).or_default().push(shard);
        }
        let mut failed = false;
        for (kind, shards) in by_kind {
            if let Some(region) = regions.get(usize::from(kind)) {
                let contact = contact();
                let asking = ask_for_homes(&contact, &**region, shards);
                match unless(&process.cancel, asking).await {
                    Some(decided) => failed |= !decided,
                    None => return,
                }
            }
        }
        if failed || regions.iter().any(|region| !region.waiting().is_empty()) {
            // The homes may be undecided, decided but not in this node's map yet, or still owned by
            // a member that leaves. The waiting messages have deadlines of their own. Until then
            // the homes are asked for again.
            let pause = tokio::time::sleep(PAUSE);
            if unless(&process.cancel, pause).await.is_none() {
                return;
            }
            want_again(&homes, &regions);
        }
    }
}

/// Asks the leader for homes of shards. Returns whether there was a decision, for or against.
async fn ask_for_homes(contact: &Contact, region: &dyn AnyRegion, shards: Vec<ShardId>) -> bool {
    let proposal = Proposal::Allocate {
        kind: region.name().to_owned(),
        shards: shards.clone(),
    };
    match contact.leader.propose(proposal).await {
        Ok(version) => contact.source.handle_version(version),
        Err(LeaderError::Refused(MapError::UnknownKind(name))) => {
            let role = region.role().map(ToOwned::to_owned);
            region.handle_no_home(&shards, &Failure::UnknownEntity { name, role });
        }
        Err(error) => {
            tracing::debug!(kind = region.name(), %error, "no home yet");
            return false;
        }
    }
    true
}

fn want_again(homes: &Homes, regions: &[Arc<dyn AnyRegion>]) {
    // The regions are read before the lock: a region that asks for homes takes this lock while it
    // holds the one that `waiting` takes.
    let mut waiting = Vec::new();
    for (kind, region) in (0..).zip(regions) {
        waiting.extend(region.waiting().into_iter().map(|shard| (kind, shard)));
    }
    let mut wanted = homes.wanted.lock();
    wanted.extend(waiting);
    if !wanted.is_empty() {
        homes.work.notify_one();
    }
}
