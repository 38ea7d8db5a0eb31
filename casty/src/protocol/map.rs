//! The agreed cluster map, and the commands that change it.
//!
//! The map is deterministic: equal commands in equal order make equal maps on every node. Whether a
//! change is wise is decided elsewhere, before it is proposed. Whether it is possible is decided
//! here, when it is applied.

mod copying;
mod lives;
mod ownership;
mod places;
mod stores;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    copying::{COPY_CHANGES_MAX, can_be_spared},
    lives::{Beginning, NewLife},
    places::{KindCopies, Site, StorePlace},
};
pub(crate) use super::home::{ShardHome, Slot};
use super::{
    copies::{CopyPlaces, CopyProposal, SetRefused, StoreId, StoreNo},
    lease::LeaseTimes,
};
use crate::{
    id::{
        CatalogEntry, ClusterIdentity, CopySettings, Epoch, Generation, Incarnation, MemberId,
        NodeId, ShardId, Voter,
    },
    infra::mutants,
};

/// How many shards all entity types of a cluster may have. Each takes 24 bytes of each node's
/// memory, and up to 9 where the whole map is sent, which has to fit into a frame.
pub(crate) const SHARDS_MAX: u64 = 1 << 18;

/// A member's number in the Raft engine: its own slot, or the seat of an earlier process of the
/// same node whose log and vote it has kept. Only a process that has lost none of that state may
/// take over a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seat(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Known, and not yet ready.
    Joining,
    /// May own shards.
    Up,
    /// Hands its shards over and gets no new ones.
    Leaving,
    /// Declared dead. Final for this incarnation.
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) slot: Slot,
    pub(crate) seat: Seat,
    pub(crate) address: SocketAddr,
    pub(crate) status: Status,
    /// The entity types that it hosts.
    pub(crate) kinds: Vec<String>,
    /// The zone that one of its roles names.
    #[serde(default)]
    pub(crate) zone: Option<String>,
}

impl Member {
    /// Declared Down.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Status::Down
    }
}

/// A voter's seat, and the address it listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoterPlace {
    pub(crate) seat: Seat,
    pub(crate) address: SocketAddr,
}

impl From<(&MemberId, &VoterPlace)> for Voter {
    fn from((member, place): (&MemberId, &VoterPlace)) -> Self {
        Self {
            member: member.clone(),
            address: place.address,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterMap {
    pub(crate) identity: ClusterIdentity,
    /// Counts the commands that changed the map.
    pub(crate) version: u64,
    /// The members that decide.
    pub(crate) voters: BTreeMap<MemberId, VoterPlace>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    /// Shard tables by entity type. Versions share them: a command copies only the table it
    /// changes.
    pub(crate) kinds: BTreeMap<String, Arc<Vec<ShardHome>>>,
    /// The copies of the entity types that are kept in copies.
    #[serde(default)]
    pub(crate) copies: BTreeMap<String, KindCopies>,
    /// The stores by their numbers in `copies`.
    #[serde(default)]
    pub(crate) stores: Arc<BTreeMap<StoreNo, StorePlace>>,
    /// How long leases last. It must be the same for all members: with a longer lease, one member
    /// could still serve a shard that another has been given.
    lease: LeaseTimes,
    /// Whether a tie-breaker decides between two members. It must be the same for all members:
    /// without it, a member would go on without asking.
    tie_breaker: bool,
    sequence: u32,
    next_slot: u32,
    /// The last number that was given to a store; 0 before the first.
    #[serde(default)]
    last_store: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Join {
        member: MemberId,
        address: SocketAddr,
        catalog: Vec<CatalogEntry>,
        lease: LeaseTimes,
        tie_breaker: bool,
        /// The first incarnation that the member's process has been.
        since: Incarnation,
        /// The seat that the member's process has kept. It must be a voting seat of the same node.
        seat: Option<Seat>,
        /// The store of the member's process, if it has one.
        #[serde(default)]
        store: Option<StoreId>,
        /// The zone that the member is in, if it says so.
        #[serde(default)]
        zone: Option<String>,
    },
    Up {
        member: MemberId,
    },
    Leave {
        member: MemberId,
    },
    Down {
        member: MemberId,
    },
    /// Forgets a member that has left, or is Down.
    Remove {
        member: MemberId,
    },
    /// New owners for shards that have none, or whose owner is Down and can no longer serve. The
    /// proposer has to make sure that the old owner cannot: see [`lease`](super::lease). The
    /// owner's store has to be in sync, if the type is kept in copies.
    Assign {
        assignments: Vec<Assignment>,
    },
    /// Asks the owners to give these shards up, each to the member it is to move to.
    Revoke {
        moves: Vec<Assignment>,
    },
    /// The owner gives shards up, after it has stopped everything in them. A shard that was to move
    /// has its new home at once, unless the store there is not in sync.
    Release {
        member: MemberId,
        kind: String,
        shards: Vec<(ShardId, Epoch)>,
    },
    /// The owner could not hand shards over, and goes on with them, each under a new epoch.
    Keep {
        member: MemberId,
        kind: String,
        shards: Vec<(ShardId, Epoch)>,
    },
    /// Copies come and go.
    Copies {
        /// The owner of the shards. `None`: the leader, which may only drop copies.
        by: Option<MemberId>,
        kind: String,
        changes: Vec<(ShardId, CopyProposal)>,
    },
    /// A store whose process is gone is in sync no more, wherever enough others are.
    DropStore {
        store: StoreId,
    },
    /// The stores in sync of these shards are given up: none of them has a process, and what they
    /// alone have is lost. They are not expected back.
    BeginAnew {
        kind: String,
        lives: Vec<NewLife>,
    },
    /// Stores are to become copies.
    Want {
        wants: Vec<Wanted>,
    },
    /// So many copies must have what leaves, from now on.
    CopiesMin {
        kind: String,
        min: u8,
    },
    /// The members that decide from now on. It follows from the engine's own membership and is
    /// never proposed.
    Voters {
        voters: BTreeMap<MemberId, VoterPlace>,
    },
}

/// One shard's new owner. Left out if the shard's epoch has changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    pub(crate) expected: Epoch,
    pub(crate) to: MemberId,
    /// The stores that are in sync if none ever was, the owner's among them. A number that is
    /// another store's by now does no harm: there is nothing yet that a store could lack.
    #[serde(default)]
    pub(crate) copies: Vec<StoreNo>,
}

/// A store that is to become a copy of a shard; `None`: none is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    /// A number that is another store's by now does no harm: a copy counts once it has all there
    /// is.
    pub(crate) store: Option<StoreNo>,
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum MapError {
    #[error("`{0}` is not a member")]
    UnknownMember(MemberId),
    #[error("`{0}` was superseded by a newer incarnation, or declared down")]
    Superseded(MemberId),
    /// A process of the same name had a clock that was ahead, and an incarnation from it.
    #[error(
        "`{member}` is older than a process of its name: the next incarnation after {than} may join"
    )]
    Older { member: MemberId, than: Incarnation },
    /// The name belongs to a process that answers.
    #[error(
        "`{member}` cannot join: another process of its name is a member, and answers at `{by}`"
    )]
    NameTaken { member: MemberId, by: SocketAddr },
    #[error(
        "`{member}` cannot join: the leader does not reach it at `{address}`, the address that it advertises: {reason}"
    )]
    NotReached {
        member: MemberId,
        address: SocketAddr,
        reason: String,
    },
    #[error("`{0}` is not in a state for this")]
    WrongStatus(MemberId),
    #[error(
        "entity type `{kind}` has {ours} shards in this cluster, and {theirs} there; the number must be the same on all nodes"
    )]
    Shards {
        kind: String,
        ours: u32,
        theirs: u32,
    },
    #[error(
        "leases last {ours:?} in this cluster, and {theirs:?} there; `lease` and `clock_drift` must be the same on all nodes"
    )]
    Lease { ours: Duration, theirs: Duration },
    #[error(
        "{}; `tie_breaker` must be given to all nodes or to none",
        if *.ours { "this cluster has a tie-breaker, and that node has none" }
        else { "this cluster has no tie-breaker, and that node has one" }
    )]
    TieBreaker { ours: bool },
    /// The process has to join without its seat: the other voters may have decided without it.
    #[error("the seat that `{0}` has kept votes no more")]
    Seat(MemberId),
    #[error("no member hosts entity type `{0}`")]
    UnknownKind(String),
    #[error("the shard's owner has changed meanwhile")]
    Stale,
    #[error(
        "`{member}` cannot join: store {store} is in use by `{by}`; a directory of records belongs to one node, and a copy of it needs an empty directory in its place"
    )]
    StoreTaken {
        member: MemberId,
        store: StoreId,
        by: MemberId,
    },
    #[error(
        "`{member}` cannot own shards of entity type `{kind}`, which is kept in copies: give the node a directory for records"
    )]
    NoStore { member: MemberId, kind: String },
    #[error(
        "entity type `{kind}` is kept in {} in this cluster, and in {} there; the settings must be the same on all nodes",
        as_text(*.ours),
        as_text(*.theirs)
    )]
    Copies {
        kind: String,
        ours: Option<CopySettings>,
        theirs: Option<CopySettings>,
    },
    #[error(
        "`{member}` cannot join: it keeps records {}, and this cluster {}; all its nodes have to do the same",
        if *.in_memory { "in memory" } else { "in a directory" },
        if *.in_memory { "in directories" } else { "in memory" }
    )]
    MixedStores { member: MemberId, in_memory: bool },
    #[error(
        "`{member}` cannot join: with its entity types the cluster would have {shards} shards, at most {SHARDS_MAX} are possible"
    )]
    TooManyShards { member: MemberId, shards: u64 },
    #[error("the cluster knows as many stores as it has numbers for")]
    TooManyStores,
    #[error("the cluster does not know store {0}")]
    UnknownStore(StoreId),
    #[error("store {0} is in use")]
    StoreInUse(StoreId),
    #[error("{0} changes are too many for one command")]
    TooManyChanges(usize),
    #[error("{min} copies of entity type `{kind}` cannot be asked for now")]
    CopiesMin { kind: String, min: u8 },
    #[error(transparent)]
    Set(SetRefused),
}

impl From<SetRefused> for MapError {
    fn from(refused: SetRefused) -> Self {
        match refused {
            SetRefused::Stale => Self::Stale,
            refused => Self::Set(refused),
        }
    }
}

fn as_text(settings: Option<CopySettings>) -> String {
    match settings {
        Some(settings) => settings.to_string(),
        None => "no copies".to_owned(),
    }
}

impl ClusterMap {
    /// A cluster of one member: its founder, Up from the start.
    pub(crate) fn found(
        identity: ClusterIdentity,
        founder: MemberId,
        site: &Site,
        catalog: &[CatalogEntry],
        lease: LeaseTimes,
        tie_breaker: bool,
    ) -> Self {
        let mut map = Self {
            identity,
            version: 1,
            voters: BTreeMap::new(),
            members: BTreeMap::new(),
            kinds: BTreeMap::new(),
            copies: BTreeMap::new(),
            stores: Arc::default(),
            lease,
            tie_breaker,
            sequence: 0,
            next_slot: 1,
            last_store: 0,
        };
        let seat = map.insert(founder.clone(), site, catalog, Status::Up, None);
        if let Some(store) = site.store {
            map.place_store(&founder, store, catalog);
        }
        let address = site.address;
        map.voters.insert(founder, VoterPlace { seat, address });
        map
    }

    /// Orders maps by age: the newer map has the greater value. A new generation may begin with a
    /// lower version than the last generation reached elsewhere.
    pub(crate) fn age(&self) -> (Generation, u64) {
        (self.identity.generation, self.version)
    }

    pub(crate) fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn status(&self, id: &MemberId) -> Option<Status> {
        self.members.get(id).map(|member| member.status)
    }

    /// Whether a process is a member, and not declared Down.
    pub(crate) fn is_present(&self, id: &MemberId) -> bool {
        self.members.get(id).is_some_and(|member| !member.is_gone())
    }

    /// The members that are not Down.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter().filter(|(_, member)| !member.is_gone())
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = &MemberId> {
        self.members
            .iter()
            .filter(|(_, m)| m.status == Status::Up)
            .map(|(id, _)| id)
    }

    /// Whether a member may own shards of an entity type.
    pub(crate) fn hosts(&self, id: &MemberId, kind: &str) -> bool {
        self.member(id)
            .is_some_and(|m| m.status == Status::Up && m.kinds.iter().any(|name| name == kind))
    }

    /// The owner of a shard, unless it is Down.
    pub(crate) fn owner(&self, kind: &str, shard: ShardId) -> Option<&MemberId> {
        let home = self.kinds.get(kind)?.get(shard.index())?;
        let (id, member) = self.by_slot(home.owner?)?;
        (!member.is_gone()).then_some(id)
    }

    /// How many shards a member owns.
    pub(crate) fn owned(&self, slot: Slot) -> usize {
        let of =
            |table: &Arc<Vec<ShardHome>>| table.iter().filter(|h| h.owner == Some(slot)).count();
        self.kinds.values().map(of).sum()
    }

    pub(crate) fn by_slot(&self, slot: Slot) -> Option<(&MemberId, &Member)> {
        self.members.iter().find(|(_, member)| member.slot == slot)
    }

    /// The member in this seat: of several processes of one node, the last.
    pub(crate) fn by_seat(&self, seat: Seat) -> Option<(&MemberId, &Member)> {
        let mut members = self.members.iter();
        members.rfind(|(_, member)| member.seat == seat)
    }

    /// Changes the map. On an error the map is unchanged.
    pub(crate) fn apply(&mut self, command: &Command) -> Result<(), MapError> {
        match command {
            Command::Join {
                member,
                address,
                catalog,
                lease,
                tie_breaker,
                since: _,
                seat,
                store,
                zone,
            } => {
                self.check_agreement(*lease, *tie_breaker)?;
                let site = Site {
                    address: *address,
                    zone: zone.clone(),
                    store: *store,
                };
                self.join(member, &site, catalog, *seat)?;
            }
            Command::Up { member } => self.advance(member, &[Status::Joining], Status::Up)?,
            Command::Leave { member } => {
                self.advance(member, &[Status::Joining, Status::Up], Status::Leaving)?;
            }
            Command::Down { member } => {
                let alive = [Status::Joining, Status::Up, Status::Leaving];
                self.advance(member, &alive, Status::Down)?;
            }
            Command::Remove { member } => self.remove(member)?,
            Command::Assign { assignments } => self.assign(assignments)?,
            Command::Revoke { moves } => self.revoke(moves)?,
            Command::Release {
                member,
                kind,
                shards,
            } => self.release(member, kind, shards)?,
            Command::Keep {
                member,
                kind,
                shards,
            } => self.keep(member, kind, shards)?,
            Command::Copies { by, kind, changes } => {
                self.change_copies(by.as_ref(), kind, changes)?;
            }
            Command::DropStore { store } => self.drop_store(*store)?,
            Command::BeginAnew { kind, lives } => self.begin_anew(kind, lives)?,
            Command::Want { wants } => self.want(wants)?,
            Command::CopiesMin { kind, min } => self.set_copies_min(kind, *min)?,
            Command::Voters { voters } => self.voters.clone_from(voters),
        }
        self.version += 1;
        Ok(())
    }

    fn insert(
        &mut self,
        id: MemberId,
        site: &Site,
        catalog: &[CatalogEntry],
        status: Status,
        seat: Option<Seat>,
    ) -> Seat {
        let mut slot = Slot(self.next_slot);
        self.next_slot += 1;
        if mutants::on("numbers_are_given_twice")
            && let Some((_, before)) = self.members.iter().find(|(other, _)| other.node == id.node)
        {
            slot = before.slot;
        }
        let seat = seat.unwrap_or(Seat(slot.0));
        for entry in catalog {
            self.kinds
                .entry(entry.name.clone())
                .or_insert_with(|| Arc::new(vec![ShardHome::default(); entry.shards as usize]));
            if let Some(settings) = entry.copies {
                self.insert_copies(entry, settings);
            }
        }
        let kinds = catalog.iter().map(|entry| entry.name.clone()).collect();
        self.members.insert(
            id,
            Member {
                slot,
                seat,
                address: site.address,
                status,
                kinds,
                zone: site.zone.clone(),
            },
        );
        seat
    }

    /// Checks the settings that have to be equal on all nodes.
    fn check_agreement(&self, lease: LeaseTimes, tie_breaker: bool) -> Result<(), MapError> {
        if lease != self.lease {
            let (ours, theirs) = (self.lease.lease, lease.lease);
            return Err(MapError::Lease { ours, theirs });
        }
        if tie_breaker != self.tie_breaker {
            let ours = self.tie_breaker;
            return Err(MapError::TieBreaker { ours });
        }
        Ok(())
    }

    fn join(
        &mut self,
        id: &MemberId,
        site: &Site,
        catalog: &[CatalogEntry],
        seat: Option<Seat>,
    ) -> Result<(), MapError> {
        for entry in catalog {
            if let Some(table) = self.kinds.get(&entry.name)
                && table.len() != entry.shards as usize
            {
                return Err(MapError::Shards {
                    kind: entry.name.clone(),
                    ours: u32::try_from(table.len()).unwrap_or(u32::MAX),
                    theirs: entry.shards,
                });
            }
        }
        let new = |entry: &&CatalogEntry| !self.kinds.contains_key(&entry.name);
        let new = catalog.iter().filter(new).map(|it| u64::from(it.shards));
        let present = self.kinds.values().map(|table| table.len() as u64);
        let shards = new.chain(present).sum();
        if shards > SHARDS_MAX {
            let member = id.clone();
            return Err(MapError::TooManyShards { member, shards });
        }
        match self.status(id) {
            // A repeated request: the first answer was lost.
            Some(Status::Joining | Status::Up) => return Ok(()),
            Some(Status::Leaving | Status::Down) => return Err(MapError::Superseded(id.clone())),
            None => {}
        }
        let same_node = self.members.keys().filter(|other| other.node == id.node);
        let (newer, older): (Vec<_>, Vec<_>) = same_node
            .cloned()
            .partition(|other| other.incarnation > id.incarnation);
        if let Some(than) = newer.iter().map(|other| other.incarnation).max() {
            let member = id.clone();
            return Err(MapError::Older { member, than });
        }
        let before = seat.map(|seat| self.sat_before(id, seat)).transpose()?;
        self.check_store(id, catalog, site.store)?;
        // A restarted node replaces its earlier incarnations. Their shards are free only once those
        // incarnations can no longer serve.
        for old in older {
            if let Some(member) = self.members.get_mut(&old) {
                member.status = Status::Down;
            }
        }
        let seat = self.insert(id.clone(), site, catalog, Status::Joining, seat);
        if let Some(store) = site.store {
            self.place_store(id, store, catalog);
        }
        if let Some(before) = before {
            let address = site.address;
            self.voters.remove(&before);
            self.voters.insert(id.clone(), VoterPlace { seat, address });
        }
        Ok(())
    }

    /// The member of the same node that has voted from this seat until now. A seat that has lost
    /// its vote never gets it back: the process that kept it may have missed decisions.
    fn sat_before(&self, id: &MemberId, seat: Seat) -> Result<MemberId, MapError> {
        if mutants::on("a_removed_seat_sits_again")
            && let Some((before, _)) = self.by_seat(seat)
        {
            return Ok(before.clone());
        }
        let mut voters = self.voters.iter();
        let before = voters.find(|(voter, place)| place.seat == seat && voter.node == id.node);
        let (before, _) = before.ok_or_else(|| MapError::Seat(id.clone()))?;
        Ok(before.clone())
    }

    fn advance(&mut self, id: &MemberId, from: &[Status], to: Status) -> Result<(), MapError> {
        let member = self
            .members
            .get_mut(id)
            .ok_or_else(|| MapError::UnknownMember(id.clone()))?;
        if !from.contains(&member.status) {
            return Err(MapError::WrongStatus(id.clone()));
        }
        member.status = to;
        Ok(())
    }

    fn remove(&mut self, id: &MemberId) -> Result<(), MapError> {
        let Some(member) = self.members.get(id) else {
            return Err(MapError::UnknownMember(id.clone()));
        };
        let leaves = matches!(member.status, Status::Leaving | Status::Down);
        if !leaves || self.owned(member.slot) > 0 {
            return Err(MapError::WrongStatus(id.clone()));
        }
        if member.status == Status::Leaving {
            self.leave_store(id);
        }
        self.members.remove(id);
        self.forget_stores();
        Ok(())
    }

    /// The generation in which this member goes on from this map: `at_least`, a time in seconds,
    /// but later than this map's and later than all its epochs. `None` if the map has no process of
    /// its node.
    pub(crate) fn next_generation(&self, founder: &NodeId, at_least: u32) -> Option<Generation> {
        let mut own = self.members.iter().filter(|(id, _)| id.node == *founder);
        let slot = own.next_back()?.1.slot.0;
        let last = self.identity.generation.number();
        let after = last.saturating_add(self.sequence >> 16).saturating_add(1);
        // Slots count processes: two that differ by a multiple of 65,536 are not alive at once.
        let number = at_least.max(after);
        Some(if mutants::on("generations_have_no_founder") {
            Generation::new(number, 0)
        } else {
            let slot = (slot & 0xffff) as u16;
            self.identity.generation.begun_by(slot, number)
        })
    }

    /// The map that a new generation of the cluster begins with: the shards keep their epochs and
    /// lose their owners, and there is one member. The stores keep their numbers, and what is in
    /// sync stays so: no shard is begun anew.
    pub(crate) fn reborn(
        &self,
        identity: ClusterIdentity,
        founder: MemberId,
        site: &Site,
        catalog: &[CatalogEntry],
    ) -> Self {
        // The store has its number already.
        let without = Site {
            store: None,
            ..site.clone()
        };
        let mut map = Self::found(
            identity,
            founder.clone(),
            &without,
            catalog,
            self.lease,
            self.tie_breaker,
        );
        map.version = self.version + 1;
        for (kind, table) in &self.kinds {
            let unowned = |home: &ShardHome| ShardHome {
                owner: None,
                moving: None,
                ..*home
            };
            map.kinds
                .insert(kind.clone(), Arc::new(table.iter().map(unowned).collect()));
        }
        for (kind, copies) in &self.copies {
            let places = copies.shards.iter();
            let places = places.map(|places| CopyPlaces {
                wanted: None,
                ..*places
            });
            let shards = Arc::new(places.collect());
            let copies = KindCopies {
                shards,
                ..copies.clone()
            };
            map.copies.insert(kind.clone(), copies);
        }
        (map.stores, map.last_store) = (self.stores.clone(), self.last_store);
        if let Some(store) = site.store {
            map.place_store(&founder, store, catalog);
        }
        map
    }
}

#[cfg(test)]
pub(crate) mod tests;
