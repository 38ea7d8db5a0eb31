//! A view of a system that does not keep the system alive, for the checks of a simulation.

use std::sync::{Arc, Weak};

use crate::{
    id::{Epoch, MemberId, ShardId},
    protocol::{
        allocation,
        map::{ClusterMap, Status},
    },
    system::Inner,
};

/// See [`ActorSystem::glance`].
pub(crate) struct WeakSystem(pub(super) Weak<Inner>);

impl WeakSystem {
    pub(crate) fn view(&self) -> Option<View> {
        let inner = self.0.upgrade()?;
        let node = inner.node.as_ref()?;
        let serving = inner.runtime.gate().is_some_and(|gate| gate.is_open());
        let whole = node.map.get();
        let map = whole.as_deref();
        let membership = node.current_membership();
        let engine = membership.voter.engine();
        Some(View {
            member: node.peers.local().member.clone(),
            serving,
            seat: engine.as_ref().map(|engine| engine.seat().0),
            suspects: membership.rumors.dead().len(),
            undecided: engine.map_or(0, |engine| engine.electorate().undecided.len()),
            failed: node.failed.get().map(|error| error.to_string()),
            uuid: map.map_or(0, |map| map.identity.uuid.as_u128()),
            generation: map.map_or(0, |map| map.identity.generation.number()),
            founder: map.map_or(0, |map| map.identity.generation.founder()),
            version: map.map_or(0, |map| map.version),
            voters: map.map_or(0, |map| {
                let up = |id: &&MemberId| map.status(id) == Some(Status::Up);
                map.voters.keys().filter(up).count()
            }),
            up: map.map_or(0, |map| map.up().count()),
            map: whole,
            system: self.0.clone(),
        })
    }
}

/// The state of a simulated node, for checks.
#[doc(hidden)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct View {
    pub member: MemberId,
    /// Whether the node holds a lease, by its own clock.
    pub serving: bool,
    /// The seat in which it decides, or is being taught.
    pub seat: Option<u32>,
    /// Members that seem dead to it.
    pub suspects: usize,
    /// Commands in its log that are not in its map yet.
    pub undecided: usize,
    /// Why the process will never be a member.
    pub failed: Option<String>,
    /// The cluster of its map, which the fields below are of too.
    pub uuid: u128,
    pub generation: u32,
    /// The number by which the generation names its founder.
    pub founder: u16,
    pub version: u64,
    /// Voters that are Up.
    pub voters: usize,
    pub up: usize,
    map: Option<Arc<ClusterMap>>,
    system: Weak<Inner>,
}

// What takes a look at each shard or buffer is a function: most conditions of tests, which are
// checked at each step of simulated time, need none of it.
impl View {
    /// The shards whose entities may act on this node, now.
    pub fn serves(&self) -> Vec<(String, ShardId, Epoch)> {
        let Some(inner) = self.system.upgrade().filter(|_| self.serving) else {
            return Vec::new();
        };
        let serves = inner.regions.iter().flat_map(|region| {
            let (name, open) = (region.name().to_owned(), region.open_shards());
            open.into_iter()
                .map(move |(shard, epoch)| (name.clone(), shard, epoch))
        });
        serves.collect()
    }

    /// Shards that had an owner and have none now that is Up.
    pub fn homeless(&self) -> usize {
        let Some(map) = &self.map else { return 0 };
        let owners: Vec<_> = map
            .up()
            .filter_map(|id| Some(map.member(id)?.slot))
            .collect();
        let homes = map.kinds.values().flat_map(|table| table.iter());
        homes
            .filter(|home| home.epoch != Epoch::ZERO)
            .filter(|home| home.owner.is_none_or(|owner| !owners.contains(&owner)))
            .count()
    }

    /// By how many shards of one type two members are further apart than they may be.
    pub fn spread(&self) -> usize {
        self.map.as_deref().map_or(0, allocation::spread)
    }

    /// The fill of each buffer, now: its name, its size, and its bound.
    pub fn held(&self) -> Vec<(&'static str, usize, usize)> {
        let inner = self.system.upgrade();
        let node = inner.as_ref().and_then(|inner| inner.node.as_ref());
        node.map(|node| node.held()).unwrap_or_default()
    }
}
