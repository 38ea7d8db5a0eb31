//! The agreed cluster map, and the commands that change it.
//!
//! Deterministic: equal commands in equal order make equal maps, on every node. Whether a change is wise is decided
//! before it is proposed, elsewhere; whether it is possible is decided here, when it is applied.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::lease::LeaseTimes;
use crate::{
    id::{CatalogEntry, ClusterIdentity, Epoch, Incarnation, MemberId, ShardId},
    mutants,
};

/// A member in the shard tables. Never used twice in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) u32);

/// A member's number in the engine that decides: its own slot, or that of an earlier process of the same node, whose log
/// and vote it has kept. Only a process that has forgotten nothing takes a seat over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seat(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// Known, not yet ready.
    Joining,
    /// May own shards.
    Up,
    /// Hands its shards over; gets no new ones.
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
    /// The entity types it hosts.
    pub(crate) kinds: Vec<String>,
}

/// Where one of those who decide sits, and listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) seat: Seat,
    pub(crate) address: SocketAddr,
}

/// Who owns a shard, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) owner: Option<Slot>,
    /// Of the present owner, or of the last one.
    pub(crate) epoch: Epoch,
    /// Where it is to move: its owner hands it over.
    pub(crate) moving: Option<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterMap {
    pub(crate) identity: ClusterIdentity,
    /// Counts the commands that changed something.
    pub(crate) version: u64,
    /// Who decides.
    pub(crate) voters: BTreeMap<MemberId, Place>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    /// Shard tables, by entity type. Shared between versions: a command copies only the table it changes.
    pub(crate) kinds: BTreeMap<String, Arc<Vec<Home>>>,
    /// How long leases are; the same for all members, or one could serve what another has been given.
    lease: LeaseTimes,
    /// Whether something outside decides between two members; the same for all, or one would go on without asking.
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
        /// The first incarnation that the process of this member has been.
        since: Incarnation,
        /// The seat that it has kept. It is to be one that votes, and its node's.
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
    /// Forgets a member that left, or is down.
    Remove {
        member: MemberId,
    },
    /// New owners for shards that have none, or whose owner is Down and can serve no more. Whether it can, whoever
    /// proposes this has to know: see [`lease`](super::lease).
    Assign {
        assignments: Vec<Assignment>,
    },
    /// The owners are asked to give these shards up, each to the member it is to move to.
    Revoke {
        moves: Vec<Assignment>,
    },
    /// Its owner gives shards up, and has stopped everything in them. One that was to move has its new home at once.
    Release {
        member: MemberId,
        kind: String,
        shards: Vec<(ShardId, Epoch)>,
    },
    /// Its owner could not hand shards over, and goes on with them, each under a new epoch.
    Keep {
        member: MemberId,
        kind: String,
        shards: Vec<(ShardId, Epoch)>,
    },
    /// Who decides from now on. It follows from the engine's own membership; nobody proposes it.
    Voters {
        voters: BTreeMap<MemberId, Place>,
    },
}

/// One shard's new owner; refused if its epoch has changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    pub(crate) expected: Epoch,
    pub(crate) to: MemberId,
}

/// Why a command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error("`{0}` is not a member")]
    UnknownMember(MemberId),
    #[error("`{0}` was superseded by a newer incarnation, or declared down")]
    Superseded(MemberId),
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
    /// Whoever kept it joins without: others may have decided since.
    #[error("the seat that `{0}` has kept votes no more")]
    Seat(MemberId),
    #[error("no member hosts entity type `{0}`")]
    UnknownKind(String),
    #[error("the shard's owner has changed meanwhile")]
    Stale,
}

impl ClusterMap {
    /// A cluster of one: its founder, who is Up from the start.
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
        map.voters.insert(founder, Place { seat, address });
        map
    }

    /// Of two maps, the newer is greater. A generation may begin with a lower version than the last has come to elsewhere.
    pub(crate) fn age(&self) -> (u32, u64) {
        (self.identity.generation, self.version)
    }

    pub(crate) fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn status(&self, id: &MemberId) -> Option<Status> {
        self.members.get(id).map(|member| member.status)
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

    /// How many shards a member owns.
    pub(crate) fn owned(&self, slot: Slot) -> usize {
        let of = |table: &Arc<Vec<Home>>| table.iter().filter(|h| h.owner == Some(slot)).count();
        self.kinds.values().map(of).sum()
    }

    pub(crate) fn by_slot(&self, slot: Slot) -> Option<(&MemberId, &Member)> {
        self.members.iter().find(|(_, member)| member.slot == slot)
    }

    /// Who sits there: of several processes of one node, the last.
    pub(crate) fn by_seat(&self, seat: Seat) -> Option<(&MemberId, &Member)> {
        let mut members = self.members.iter();
        members.rfind(|(_, member)| member.seat == seat)
    }

    /// Changes the map, or says why not; then it is as before.
    pub(crate) fn apply(&mut self, command: &Command) -> Result<(), Refused> {
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
                .or_insert_with(|| Arc::new(vec![Home::default(); entry.shards as usize]));
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

    /// What has to be the same on all nodes.
    fn check_agreement(&self, lease: LeaseTimes, tie_breaker: bool) -> Result<(), Refused> {
        if lease != self.lease {
            let (ours, theirs) = (self.lease.lease, lease.lease);
            return Err(Refused::Lease { ours, theirs });
        }
        if tie_breaker != self.tie_breaker {
            let ours = self.tie_breaker;
            return Err(Refused::TieBreaker { ours });
        }
        Ok(())
    }

    fn join(
        &mut self,
        id: &MemberId,
        address: SocketAddr,
        catalog: &[CatalogEntry],
        seat: Option<Seat>,
    ) -> Result<(), Refused> {
        for entry in catalog {
            if let Some(table) = self.kinds.get(&entry.name)
                && table.len() != entry.shards as usize
            {
                return Err(Refused::Shards {
                    kind: entry.name.clone(),
                    ours: u32::try_from(table.len()).unwrap_or(u32::MAX),
                    theirs: entry.shards,
                });
            }
        }
        match self.status(id) {
            // Asked twice, because the first answer was lost.
            Some(Status::Joining | Status::Up) => return Ok(()),
            Some(Status::Leaving | Status::Down) => return Err(Refused::Superseded(id.clone())),
            None => {}
        }
        let same_node = self.members.keys().filter(|other| other.node == id.node);
        let (newer, older): (Vec<_>, Vec<_>) = same_node
            .cloned()
            .partition(|other| other.incarnation > id.incarnation);
        if !newer.is_empty() {
            return Err(Refused::Superseded(id.clone()));
        }
        let before = seat.map(|seat| self.sat_before(id, seat)).transpose()?;
        // A restarted node takes its own place. What its former self owned is free only once that can serve no more.
        for old in older {
            if let Some(member) = self.members.get_mut(&old) {
                member.status = Status::Down;
            }
        }
        let seat = self.insert(id.clone(), address, catalog, Status::Joining, seat);
        if let Some(before) = before {
            self.voters.remove(&before);
            self.voters.insert(id.clone(), Place { seat, address });
        }
        Ok(())
    }

    /// Who of a member's node has voted from this seat until now. One that has lost its vote never gets it back: then
    /// nobody has to know whether what was kept of it is all that there was.
    fn sat_before(&self, id: &MemberId, seat: Seat) -> Result<MemberId, Refused> {
        if mutants::on("a_removed_seat_sits_again")
            && let Some((before, _)) = self.by_seat(seat)
        {
            return Ok(before.clone());
        }
        let mut voters = self.voters.iter();
        let before = voters.find(|(voter, place)| place.seat == seat && voter.node == id.node);
        let (before, _) = before.ok_or_else(|| Refused::Seat(id.clone()))?;
        Ok(before.clone())
    }

    fn advance(&mut self, id: &MemberId, from: &[Status], to: Status) -> Result<(), Refused> {
        let member = self
            .members
            .get_mut(id)
            .ok_or_else(|| Refused::UnknownMember(id.clone()))?;
        if !from.contains(&member.status) {
            return Err(Refused::WrongStatus(id.clone()));
        }
        member.status = to;
        Ok(())
    }

    fn remove(&mut self, id: &MemberId) -> Result<(), Refused> {
        let Some(member) = self.members.get(id) else {
            return Err(Refused::UnknownMember(id.clone()));
        };
        let leaves = matches!(member.status, Status::Leaving | Status::Down);
        if !leaves || self.owned(member.slot) > 0 {
            return Err(Refused::WrongStatus(id.clone()));
        }
        self.members.remove(id);
        Ok(())
    }

    fn table(&mut self, kind: &str) -> Result<&mut Vec<Home>, Refused> {
        match self.kinds.get_mut(kind) {
            Some(table) => Ok(Arc::make_mut(table)),
            None => Err(Refused::UnknownKind(kind.to_owned())),
        }
    }

    /// The slots that assignments lead to, or why not all of them are possible: it is all or nothing.
    fn targets(
        &self,
        assignments: &[Assignment],
        free: impl Fn(&Home) -> bool,
    ) -> Result<Vec<Slot>, Refused> {
        let mut targets = Vec::with_capacity(assignments.len());
        for Assignment {
            kind,
            shard,
            expected,
            to,
        } in assignments
        {
            let unknown = || Refused::UnknownKind(kind.clone());
            let table = self.kinds.get(kind).ok_or_else(unknown)?;
            let home = table.get(shard.index()).ok_or(Refused::Stale)?;
            if home.epoch != *expected || !free(home) {
                return Err(Refused::Stale);
            }
            let owner = self.members.get(to).filter(|_| self.hosts(to, kind));
            let owner = owner.ok_or_else(|| Refused::WrongStatus(to.clone()))?;
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
        Epoch::new(self.identity.generation, self.sequence)
    }

    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Refused> {
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
                *home = Home {
                    owner: Some(owner),
                    epoch,
                    moving: None,
                };
            }
        }
        Ok(())
    }

    fn revoke(&mut self, moves: &[Assignment]) -> Result<(), Refused> {
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

    /// Those of the shards that a member owns at these epochs; refused if there are none.
    fn owned_of(
        &self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<Vec<ShardId>, Refused> {
        let unknown = || Refused::UnknownMember(id.clone());
        let slot = self.member(id).ok_or_else(unknown)?.slot;
        let unknown = || Refused::UnknownKind(kind.to_owned());
        let table = self.kinds.get(kind).ok_or_else(unknown)?;
        let owned = |(shard, epoch): &&(ShardId, Epoch)| {
            table
                .get(shard.index())
                .is_some_and(|home| home.owner == Some(slot) && home.epoch == *epoch)
        };
        let owned: Vec<ShardId> = shards.iter().filter(owned).map(|(s, _)| *s).collect();
        if owned.is_empty() {
            return Err(Refused::Stale);
        }
        Ok(owned)
    }

    fn release(
        &mut self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(), Refused> {
        for shard in self.owned_of(id, kind, shards)? {
            let moving = self.kinds[kind].get(shard.index()).and_then(|h| h.moving);
            let target = moving.filter(|slot| {
                let member = self.by_slot(*slot);
                member.is_some_and(|(id, _)| self.hosts(id, kind))
            });
            let epoch = target.map(|_| self.next_epoch());
            if let Some(home) = self.table(kind)?.get_mut(shard.index()) {
                *home = Home {
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
    ) -> Result<(), Refused> {
        for shard in self.owned_of(id, kind, shards)? {
            // Whoever has heard that it is not here any more believes a later epoch only.
            let epoch = self.next_epoch();
            if let Some(home) = self.table(kind)?.get_mut(shard.index()) {
                (home.epoch, home.moving) = (epoch, None);
            }
        }
        Ok(())
    }

    /// The map that a new generation of the cluster begins with: all that is known of the shards but their owners,
    /// and one member.
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
            let unowned = |home: &Home| Home {
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
pub(crate) mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::id::NodeId;

    pub(crate) fn member(name: &str, incarnation: u64) -> MemberId {
        MemberId {
            node: NodeId::new(name),
            incarnation: Incarnation(incarnation),
        }
    }

    pub(crate) fn catalog(shards: u32) -> Vec<CatalogEntry> {
        vec![CatalogEntry {
            name: "Counter".into(),
            shards,
            fingerprint: 0,
        }]
    }

    pub(crate) fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub(crate) fn lease() -> LeaseTimes {
        LeaseTimes::new(Duration::from_secs(1), 0.05)
    }

    pub(crate) fn founded(shards: u32) -> ClusterMap {
        let identity = ClusterIdentity {
            uuid: Uuid::from_u128(1),
            generation: 7,
        };
        ClusterMap::found(
            identity,
            member("a", 1),
            address(1),
            &catalog(shards),
            lease(),
            false,
        )
    }

    pub(crate) fn join(map: &mut ClusterMap, id: &MemberId) {
        let shards = u32::try_from(map.kinds["Counter"].len()).unwrap();
        let (member, address) = (id.clone(), address(2));
        map.apply(&Command::Join {
            member,
            address,
            catalog: catalog(shards),
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        })
        .unwrap();
        map.apply(&Command::Up { member: id.clone() }).unwrap();
    }

    fn assign(shard: u32, expected: Epoch, to: &MemberId) -> Command {
        Command::Assign {
            assignments: vec![assignment(shard, expected, to)],
        }
    }

    pub(crate) fn assignment(shard: u32, expected: Epoch, to: &MemberId) -> Assignment {
        Assignment {
            kind: "Counter".into(),
            shard: ShardId(shard),
            expected,
            to: to.clone(),
        }
    }

    fn release(member: &MemberId, shard: u32, epoch: Epoch) -> Command {
        Command::Release {
            member: member.clone(),
            kind: "Counter".into(),
            shards: vec![(ShardId(shard), epoch)],
        }
    }

    fn home(map: &ClusterMap, shard: usize) -> Home {
        map.kinds["Counter"][shard]
    }

    #[test]
    fn epochs_carry_the_generation_and_grow_with_each_assignment() {
        let (mut map, a) = (founded(4), member("a", 1));
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        map.apply(&assign(1, Epoch::ZERO, &a)).unwrap();
        assert_eq!(home(&map, 0).epoch, Epoch::new(7, 1));
        assert_eq!(home(&map, 1).epoch, Epoch::new(7, 2));
        let shards = vec![(ShardId(0), Epoch::new(7, 1))];
        let release = Command::Release {
            member: a.clone(),
            kind: "Counter".into(),
            shards,
        };
        map.apply(&release).unwrap();
        assert_eq!(
            home(&map, 0),
            Home {
                owner: None,
                epoch: Epoch::new(7, 1),
                moving: None,
            }
        );
        map.apply(&assign(0, Epoch::new(7, 1), &a)).unwrap();
        assert_eq!(home(&map, 0).epoch, Epoch::new(7, 3));
    }

    #[test]
    fn an_assignment_with_a_stale_epoch_changes_nothing() {
        let (mut map, a) = (founded(4), member("a", 1));
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        let before = map.clone();
        assert_eq!(map.apply(&assign(0, Epoch::ZERO, &a)), Err(Refused::Stale));
        assert_eq!(map.apply(&assign(99, Epoch::ZERO, &a)), Err(Refused::Stale));
        assert_eq!(map, before);
    }

    #[test]
    fn an_owned_shard_is_not_assigned_away() {
        let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
        join(&mut map, &b);
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        assert_eq!(
            map.apply(&assign(0, Epoch::new(7, 1), &b)),
            Err(Refused::Stale)
        );
    }

    #[test]
    fn only_members_that_are_up_and_host_the_type_get_shards() {
        let (mut map, b) = (founded(4), member("b", 1));
        let refused = Err(Refused::WrongStatus(b.clone()));
        assert_eq!(map.apply(&assign(0, Epoch::ZERO, &b)), refused);
        let join = Command::Join {
            member: b.clone(),
            address: address(2),
            catalog: vec![],
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        map.apply(&join).unwrap();
        map.apply(&Command::Up { member: b.clone() }).unwrap();
        assert_eq!(map.apply(&assign(0, Epoch::ZERO, &b)), refused);
    }

    #[test]
    fn a_restarted_node_takes_the_place_of_its_former_self() {
        let (mut map, old, new) = (founded(4), member("b", 1), member("b", 2));
        join(&mut map, &old);
        map.apply(&assign(3, Epoch::ZERO, &old)).unwrap();
        join(&mut map, &new);
        assert_eq!(map.status(&old), Some(Status::Down));
        let slot = map.member(&old).unwrap().slot;
        assert_eq!(home(&map, 3).owner, Some(slot), "it may still serve");
        let remove = Command::Remove {
            member: old.clone(),
        };
        assert!(map.apply(&remove).is_err());
        map.apply(&assign(3, Epoch::new(7, 1), &new)).unwrap();
        assert_eq!(home(&map, 3).epoch, Epoch::new(7, 2));
        map.apply(&remove).unwrap();
        let again = Command::Join {
            member: old.clone(),
            address: address(2),
            catalog: vec![],
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        assert_eq!(map.apply(&again), Err(Refused::Superseded(old)));
    }

    fn sit(id: &MemberId, seat: Seat) -> Command {
        Command::Join {
            member: id.clone(),
            address: address(3),
            catalog: vec![],
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: Some(seat),
        }
    }

    #[test]
    fn a_process_that_has_kept_the_seat_of_its_node_votes_from_there() {
        let (mut map, old, new) = (founded(4), member("a", 1), member("a", 2));
        map.apply(&sit(&new, Seat(1))).unwrap();
        assert_eq!(map.status(&old), Some(Status::Down));
        let sits = map.member(&new).unwrap();
        assert_eq!((sits.slot, sits.seat), (Slot(2), Seat(1)));
        assert_eq!(map.by_seat(Seat(1)).unwrap().0, &new);
        let place = Place {
            seat: Seat(1),
            address: address(3),
        };
        assert_eq!(map.voters, BTreeMap::from([(new.clone(), place)]));
        // Also where the process before has been forgotten: it left, and had nobody to leave its vote to.
        map.apply(&Command::Down {
            member: new.clone(),
        })
        .unwrap();
        map.apply(&Command::Remove { member: new }).unwrap();
        let third = member("a", 3);
        map.apply(&sit(&third, Seat(1))).unwrap();
        assert_eq!(map.by_seat(Seat(1)).unwrap().0, &third);
    }

    #[test]
    fn a_seat_is_taken_over_by_its_own_node_only_and_only_while_it_votes() {
        let (mut map, b, again) = (founded(4), member("b", 1), member("b", 2));
        join(&mut map, &b);
        let before = map.clone();
        // It never voted.
        assert_eq!(
            map.apply(&sit(&again, Seat(2))),
            Err(Refused::Seat(again.clone()))
        );
        assert_eq!(
            map.apply(&sit(&again, Seat(1))),
            Err(Refused::Seat(again.clone()))
        );
        assert_eq!(map, before);
        let place = Place {
            seat: Seat(2),
            address: address(2),
        };
        let voters = BTreeMap::from([(b, place)]);
        map.apply(&Command::Voters { voters }).unwrap();
        let a = member("a", 2);
        assert_eq!(map.apply(&sit(&a, Seat(1))), Err(Refused::Seat(a)));
        map.apply(&sit(&again, Seat(2))).unwrap();
    }

    #[test]
    fn a_shard_moves_when_its_owner_gives_it_up_and_not_before() {
        let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
        join(&mut map, &b);
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
        let revoke = Command::Revoke { moves };
        map.apply(&revoke).unwrap();
        let slots = |id: &MemberId| Some(map.member(id).unwrap().slot);
        let (of_a, of_b) = (slots(&a), slots(&b));
        let moving = Home {
            owner: of_a,
            epoch: Epoch::new(7, 1),
            moving: of_b,
        };
        assert_eq!(home(&map, 0), moving);
        assert_eq!(map.apply(&revoke), Err(Refused::Stale), "it moves already");
        map.apply(&release(&a, 0, Epoch::new(7, 1))).unwrap();
        let there = Home {
            owner: of_b,
            epoch: Epoch::new(7, 2),
            moving: None,
        };
        assert_eq!(home(&map, 0), there);
        assert_eq!(
            map.apply(&release(&a, 0, Epoch::new(7, 1))),
            Err(Refused::Stale)
        );
    }

    #[test]
    fn a_shard_that_cannot_be_handed_over_is_kept() {
        let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
        join(&mut map, &b);
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        let before = home(&map, 0);
        let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
        map.apply(&Command::Revoke { moves }).unwrap();
        let kept = Home {
            epoch: Epoch::new(7, 2),
            ..before
        };
        map.apply(&Command::Keep {
            member: a,
            kind: "Counter".into(),
            shards: vec![(ShardId(0), Epoch::new(7, 1))],
        })
        .unwrap();
        assert_eq!(home(&map, 0), kept);
    }

    #[test]
    fn a_shard_whose_target_has_gone_is_free() {
        let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
        join(&mut map, &b);
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
        map.apply(&Command::Revoke { moves }).unwrap();
        map.apply(&Command::Down { member: b }).unwrap();
        map.apply(&release(&a, 0, Epoch::new(7, 1))).unwrap();
        assert_eq!(home(&map, 0).owner, None);
    }

    #[test]
    fn a_reborn_map_keeps_epochs_and_forgets_owners() {
        let (mut map, a, b) = (founded(4), member("a", 1), member("b", 2));
        map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
        let identity = ClusterIdentity {
            generation: 8,
            ..map.identity
        };
        let mut reborn = map.reborn(identity, b.clone(), address(2), &catalog(4));
        assert!(reborn.version > map.version);
        assert_eq!((home(&reborn, 0).owner, reborn.members.len()), (None, 1));
        reborn.apply(&assign(0, Epoch::new(7, 1), &b)).unwrap();
        assert_eq!(home(&reborn, 0).epoch, Epoch::new(8, 1));
    }

    #[test]
    fn joining_twice_is_joining_once() {
        let (mut map, b) = (founded(4), member("b", 1));
        join(&mut map, &b);
        let slot = map.member(&b).unwrap().slot;
        let again = Command::Join {
            member: b.clone(),
            address: address(2),
            catalog: catalog(4),
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        map.apply(&again).unwrap();
        assert_eq!(map.member(&b).unwrap().slot, slot);
        assert_eq!(map.status(&b), Some(Status::Up));
    }

    #[test]
    fn shard_counts_must_agree() {
        let mut map = founded(4);
        let join = Command::Join {
            member: member("b", 1),
            address: address(2),
            catalog: catalog(5),
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        let refused = Refused::Shards {
            kind: "Counter".into(),
            ours: 4,
            theirs: 5,
        };
        assert_eq!(map.apply(&join), Err(refused));
    }

    #[test]
    fn leases_must_be_equally_long() {
        let mut map = founded(4);
        let join = Command::Join {
            member: member("b", 1),
            address: address(2),
            catalog: catalog(4),
            lease: LeaseTimes::new(Duration::from_secs(2), 0.05),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        let refused = map.apply(&join).unwrap_err();
        assert!(matches!(refused, Refused::Lease { .. }), "{refused}");
    }

    #[test]
    fn all_have_a_tie_breaker_or_none_has() {
        let mut map = founded(4);
        let join = Command::Join {
            member: member("b", 1),
            address: address(2),
            catalog: catalog(4),
            lease: lease(),
            tie_breaker: true,
            since: Incarnation(1),
            seat: None,
        };
        let refused = map.apply(&join).unwrap_err();
        assert_eq!(refused, Refused::TieBreaker { ours: false });
        assert_eq!(
            refused.to_string(),
            "this cluster has no tie-breaker, and that node has one; `tie_breaker` must be given to all nodes or to none"
        );
    }

    #[test]
    fn down_is_final() {
        let (mut map, b) = (founded(4), member("b", 1));
        join(&mut map, &b);
        map.apply(&Command::Down { member: b.clone() }).unwrap();
        let refused = Err(Refused::WrongStatus(b.clone()));
        assert_eq!(map.apply(&Command::Up { member: b.clone() }), refused);
        assert_eq!(map.apply(&Command::Down { member: b.clone() }), refused);
        let join = Command::Join {
            member: b.clone(),
            address: address(2),
            catalog: vec![],
            lease: lease(),
            tie_breaker: false,
            since: Incarnation(0),
            seat: None,
        };
        assert_eq!(map.apply(&join), Err(Refused::Superseded(b.clone())));
        map.apply(&Command::Remove { member: b.clone() }).unwrap();
        assert_eq!(map.status(&b), None);
    }

    #[test]
    fn a_map_survives_the_wire() {
        let (mut map, b) = (founded(4), member("b", 1));
        join(&mut map, &b);
        let bytes = crate::message::codec::to_vec(&map).unwrap();
        assert_eq!(
            crate::message::codec::decode::<ClusterMap>(&bytes).unwrap(),
            map
        );
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let members = || (0..3u8, 1..3u64).prop_map(|(n, i)| member(&format!("m{n}"), i));
        let epochs = (0..12u32).prop_map(|n| {
            if n == 0 {
                Epoch::ZERO
            } else {
                Epoch::new(7, n)
            }
        });
        prop_oneof![
            (members(), proptest::option::of(0..4u32)).prop_map(|(member, seat)| Command::Join {
                member,
                address: address(2),
                catalog: catalog(3),
                lease: lease(),
                tie_breaker: false,
                since: Incarnation(0),
                seat: seat.map(Seat),
            }),
            members().prop_map(|member| Command::Up { member }),
            members().prop_map(|member| Command::Leave { member }),
            members().prop_map(|member| Command::Down { member }),
            members().prop_map(|member| Command::Remove { member }),
            (0..4u32, epochs.clone(), members()).prop_map(|(s, e, m)| assign(s, e, &m)),
            (0..4u32, epochs.clone(), members()).prop_map(|(s, e, to)| Command::Revoke {
                moves: vec![assignment(s, e, &to)]
            }),
            (0..4u32, epochs.clone(), members()).prop_map(|(s, e, member)| Command::Keep {
                member,
                kind: "Counter".into(),
                shards: vec![(ShardId(s), e)],
            }),
            (0..4u32, epochs, members()).prop_map(|(s, e, member)| release(&member, s, e)),
        ]
    }

    proptest! {
        /// Invariant 3: a shard's epoch never decreases; and a refused command changes nothing.
        #[test]
        fn epochs_never_decrease_and_owners_are_members(
            commands in proptest::collection::vec(any_command(), 0..200)
        ) {
            let mut map = founded(3);
            for command in commands {
                let before = map.clone();
                let result = map.apply(&command);
                if result.is_err() {
                    prop_assert_eq!(&map, &before);
                }
                for (now, then) in map.kinds["Counter"].iter().zip(before.kinds["Counter"].iter()) {
                    prop_assert!(now.epoch >= then.epoch);
                    if now.owner != then.owner && now.owner.is_some() {
                        prop_assert!(now.epoch > then.epoch);
                    }
                    if let Some(slot) = now.owner {
                        prop_assert!(map.by_slot(slot).is_some());
                    }
                }
            }
        }
    }
}
