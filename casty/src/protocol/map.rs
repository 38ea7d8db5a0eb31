//! The agreed cluster map, and the commands that change it.
//!
//! The map is deterministic: equal commands in equal order make equal maps on every node. Whether a
//! change is wise is decided elsewhere, before it is proposed. Whether it is possible is decided
//! here, when it is applied.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::lease::LeaseTimes;
use crate::{
    id::{
        CatalogEntry, ClusterIdentity, Epoch, Generation, Incarnation, MemberId, NodeId, ShardId,
        Voter,
    },
    infra::mutants,
};

/// A member's number in the shard tables. Never used twice in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) u32);

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

/// The owner of a shard, and the epoch of the ownership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardHome {
    pub(crate) owner: Option<Slot>,
    /// The epoch of the present owner, or of the last owner.
    pub(crate) epoch: Epoch,
    /// The member that the shard is to move to: the owner hands it over.
    pub(crate) moving: Option<Slot>,
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
    /// How long leases last. It must be the same for all members: with a longer lease, one member
    /// could still serve a shard that another has been given.
    lease: LeaseTimes,
    /// Whether a tie-breaker decides between two members. It must be the same for all members:
    /// without it, a member would go on without asking.
    tie_breaker: bool,
    sequence: u32,
    next_slot: u32,
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
    /// proposer has to make sure that the old owner cannot: see [`lease`](super::lease).
    Assign {
        assignments: Vec<Assignment>,
    },
    /// Asks the owners to give these shards up, each to the member it is to move to.
    Revoke {
        moves: Vec<Assignment>,
    },
    /// The owner gives shards up, after it has stopped everything in them. A shard that was to move
    /// has its new home at once.
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
    /// The members that decide from now on. It follows from the engine's own membership and is
    /// never proposed.
    Voters {
        voters: BTreeMap<MemberId, VoterPlace>,
    },
}

/// One shard's new owner. Refused if the shard's epoch has changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    pub(crate) expected: Epoch,
    pub(crate) to: MemberId,
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
}

impl ClusterMap {
    /// A cluster of one member: its founder, Up from the start.
    pub(crate) fn found(
        identity: ClusterIdentity,
        founder: MemberId,
        address: SocketAddr,
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
            lease,
            tie_breaker,
            sequence: 0,
            next_slot: 1,
        };
        let seat = map.insert(founder.clone(), address, catalog, Status::Up, None);
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
            } => {
                self.check_agreement(*lease, *tie_breaker)?;
                self.join(member, *address, catalog, *seat)?;
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
            Command::Voters { voters } => self.voters.clone_from(voters),
        }
        self.version += 1;
        Ok(())
    }

    fn insert(
        &mut self,
        id: MemberId,
        address: SocketAddr,
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
        }
        let kinds = catalog.iter().map(|entry| entry.name.clone()).collect();
        self.members.insert(
            id,
            Member {
                slot,
                seat,
                address,
                status,
                kinds,
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
        address: SocketAddr,
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
        // A restarted node replaces its earlier incarnations. Their shards are free only once those
        // incarnations can no longer serve.
        for old in older {
            if let Some(member) = self.members.get_mut(&old) {
                member.status = Status::Down;
            }
        }
        let seat = self.insert(id.clone(), address, catalog, Status::Joining, seat);
        if let Some(before) = before {
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
        self.members.remove(id);
        Ok(())
    }

    fn table(&mut self, kind: &str) -> Result<&mut Vec<ShardHome>, MapError> {
        match self.kinds.get_mut(kind) {
            Some(table) => Ok(Arc::make_mut(table)),
            None => Err(MapError::UnknownKind(kind.to_owned())),
        }
    }

    /// The slots of the assignments' new owners, or why one of the assignments is not possible. All
    /// of them apply, or none.
    fn targets(
        &self,
        assignments: &[Assignment],
        free: impl Fn(&ShardHome) -> bool,
    ) -> Result<Vec<Slot>, MapError> {
        let mut targets = Vec::with_capacity(assignments.len());
        for Assignment {
            kind,
            shard,
            expected,
            to,
        } in assignments
        {
            let unknown = || MapError::UnknownKind(kind.clone());
            let table = self.kinds.get(kind).ok_or_else(unknown)?;
            let home = table.get(shard.index()).ok_or(MapError::Stale)?;
            if home.epoch != *expected || !free(home) {
                return Err(MapError::Stale);
            }
            let owner = self.members.get(to).filter(|_| self.hosts(to, kind));
            let owner = owner.ok_or_else(|| MapError::WrongStatus(to.clone()))?;
            targets.push(owner.slot);
        }
        Ok(targets)
    }

    fn next_epoch(&mut self) -> Epoch {
        if !(mutants::on("epochs_are_given_twice") && self.sequence.is_multiple_of(3))
            || self.sequence == 0
        {
            self.sequence += 1;
        }
        Epoch::in_generation(self.identity.generation, self.sequence)
    }

    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), MapError> {
        let is_down = |owner| {
            let owner = self.by_slot(owner);
            owner.is_none_or(|(_, member)| member.status == Status::Down)
        };
        let targets = self.targets(assignments, |home| home.owner.is_none_or(is_down))?;
        for (assignment, owner) in assignments.iter().zip(targets) {
            let epoch = self.next_epoch();
            if let Some(home) = self
                .table(&assignment.kind)?
                .get_mut(assignment.shard.index())
            {
                *home = ShardHome {
                    owner: Some(owner),
                    epoch,
                    moving: None,
                };
            }
        }
        Ok(())
    }

    fn revoke(&mut self, moves: &[Assignment]) -> Result<(), MapError> {
        let targets = self.targets(moves, |home| home.owner.is_some() && home.moving.is_none())?;
        for (to, target) in moves.iter().zip(targets) {
            if let Some(home) = self.table(&to.kind)?.get_mut(to.shard.index())
                && home.owner != Some(target)
            {
                home.moving = Some(target);
            }
        }
        Ok(())
    }

    /// The shards of the list that the member owns at these epochs. An error if there are none.
    fn owned_of(
        &self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<ShardId>, MapError> {
        let unknown = || MapError::UnknownMember(id.clone());
        let slot = self.member(id).ok_or_else(unknown)?.slot;
        let unknown = || MapError::UnknownKind(kind.to_owned());
        let table = self.kinds.get(kind).ok_or_else(unknown)?;
        let owned = |(shard, epoch): &&(ShardId, Epoch)| {
            table
                .get(shard.index())
                .is_some_and(|home| home.owner == Some(slot) && home.epoch == *epoch)
        };
        let owned: Vec<ShardId> = shards.iter().filter(owned).map(|(s, _)| *s).collect();
        if owned.is_empty() {
            return Err(MapError::Stale);
        }
        Ok(owned)
    }

    fn release(
        &mut self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(), MapError> {
        for shard in self.owned_of(id, kind, shards)? {
            let moving = self.kinds[kind].get(shard.index()).and_then(|h| h.moving);
            let target = moving.filter(|slot| {
                let member = self.by_slot(*slot);
                member.is_some_and(|(id, _)| self.hosts(id, kind))
            });
            let epoch = target.map(|_| self.next_epoch());
            if let Some(home) = self.table(kind)?.get_mut(shard.index()) {
                *home = ShardHome {
                    owner: target,
                    epoch: epoch.unwrap_or(home.epoch),
                    moving: None,
                };
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(), MapError> {
        for shard in self.owned_of(id, kind, shards)? {
            // A node that has heard of the shard's leaving believes only a later epoch.
            let epoch = self.next_epoch();
            if let Some(home) = self.table(kind)?.get_mut(shard.index()) {
                (home.epoch, home.moving) = (epoch, None);
            }
        }
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
    /// lose their owners, and there is one member.
    pub(crate) fn reborn(
        &self,
        identity: ClusterIdentity,
        founder: MemberId,
        address: SocketAddr,
        catalog: &[CatalogEntry],
    ) -> Self {
        let mut map = Self::found(
            identity,
            founder,
            address,
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
        map
    }
}

#[cfg(test)]
pub(crate) mod tests;
