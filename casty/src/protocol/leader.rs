//! What the leader of the cluster map does: it declares members Down, gives their shards to others,
//! evens the load, and chooses the voters. Proposes nothing itself.
//!
//! Every effect may be repeated, and may come too late. A command that no longer fits the map is
//! refused where it is applied.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    allocation,
    failed_moves::FailedMoves,
    lease::Grants,
    map::{Assignment, ClusterMap, Command, Seat, Status},
    placement::{self, CopyPlan},
    tie::Ties,
};
use crate::{
    id::{Generation, MemberId},
    infra::mutants,
};

/// The most members that vote.
const VOTERS_MAX: usize = 5;

/// How many Down members are remembered. A remembered incarnation cannot come back as a new member.
const DOWN_MAX: usize = 256;

/// The most assignments in one command: a command has to fit in a frame. The rest follows at once.
const ASSIGNMENTS_MAX: usize = 16 * 1024;

/// The leader's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderTimes {
    /// A member that has not renewed its lease for this long is declared Down, whatever gossip
    /// says.
    pub(crate) silent_max: Duration,
    /// A Down member is forgotten after this long.
    pub(crate) remember_down: Duration,
    /// How many shards may be moving between members at a time.
    pub(crate) moves_max: usize,
}

/// The Raft engine's own view of its voters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Electorate {
    pub(crate) voters: BTreeSet<Seat>,
    /// All members that the engine replicates to, voters included.
    pub(crate) nodes: BTreeSet<Seat>,
    /// A change of voters is under way.
    pub(crate) changing: bool,
    /// Members that have nearly all of the log.
    pub(crate) caught_up: BTreeSet<Seat>,
    /// Commands that are in the log and not yet in the map. Any of them may still be decided,
    /// however old it is and whichever leader proposed it.
    pub(crate) undecided: Vec<Command>,
}

impl Electorate {
    /// Whether this member decides alone.
    pub(crate) fn is_sole(&self, seat: Seat) -> bool {
        !self.changing && self.voters.iter().eq([&seat])
    }
}

/// The effects for the shell, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaderEffect {
    Propose(Command),
    /// Ask the tie-breaker whether this node may go on without this member. If it may, declare the
    /// member Down.
    Claim(MemberId),
    /// Replicate to this member, so that it may vote later.
    Teach(MemberId),
    /// Make these seats, and no others, the voters.
    Elect(BTreeSet<Seat>),
    /// Hand the leadership over.
    Abdicate(Seat),
    /// Stop replicating to these seats.
    Dismiss(BTreeSet<Seat>),
}

/// One node's time as leader.
#[derive(Debug)]
pub(crate) struct Leader {
    me: MemberId,
    times: LeaderTimes,
    down_since: BTreeMap<MemberId, Instant>,
    /// Since when each of these members is dead by gossip.
    dead_since: BTreeMap<MemberId, Instant>,
    /// When this leader first saw each member.
    known_since: BTreeMap<MemberId, Instant>,
    failed_moves: FailedMoves,
    /// The last version of the map in which nothing was to be done about copies.
    settled: Option<(Generation, u64)>,
}

impl Leader {
    pub(crate) fn new(me: MemberId, times: LeaderTimes) -> Self {
        Self {
            me,
            times,
            down_since: BTreeMap::new(),
            dead_since: BTreeMap::new(),
            known_since: BTreeMap::new(),
            failed_moves: FailedMoves::default(),
            settled: None,
        }
    }

    /// What the leader does now. `dead`: members that gossip takes for dead. `ties`: present if the
    /// cluster has a tie-breaker.
    pub(crate) fn handle_tick(
        &mut self,
        map: &ClusterMap,
        dead: &BTreeSet<MemberId>,
        electorate: &Electorate,
        grants: &Grants,
        ties: Option<&mut Ties>,
        now: Instant,
    ) -> Vec<LeaderEffect> {
        // This process votes from the seat of an earlier process and has not joined yet. Before it
        // has, it would give away the shards that it is about to take over.
        if map.member(&self.me).is_none() {
            return Vec::new();
        }
        self.failed_moves.handle_map(map, now);
        let mine = map.member(&self.me).map(|member| member.seat);
        // With more than one voter no tie is possible.
        let mut ties = ties.filter(|_| mine.is_some_and(|mine| electorate.is_sole(mine)));
        self.known_since
            .retain(|id, _| map.members.contains_key(id));
        for id in map.members.keys() {
            self.known_since.entry(id.clone()).or_insert(now);
        }
        self.dead_since.retain(|id, _| dead.contains(id));
        for id in dead {
            self.dead_since.entry(id.clone()).or_insert(now);
        }
        let mut effects = Vec::new();
        let propose = |command| LeaderEffect::Propose(command);
        let silent: Vec<&MemberId> = map
            .members
            .iter()
            .filter(|(id, m)| **id != self.me && m.status != Status::Down)
            .map(|(id, _)| id)
            .filter(|id| {
                self.is_dead(id, grants, now)
                    || match &ties {
                        // A member that renews counts as heard, even while the leader grants no
                        // leases.
                        Some(ties) => ties.is_overdue(id, now),
                        None => self.is_silent(id, grants, now),
                    }
            })
            .collect();
        for id in Self::expendable(map, &silent, electorate) {
            match &mut ties {
                Some(ties) if !ties.has_won(id) => {
                    if ties.claim_now(id, now) {
                        effects.push(LeaderEffect::Claim(id.clone()));
                    }
                }
                _ => effects.push(propose(Command::Down { member: id.clone() })),
            }
        }
        let is_over = |slot| {
            let owner = map.by_slot(slot);
            owner.is_some_and(|(id, member)| {
                let over = grants.is_over(id, now) || mutants::on("takes_over_without_waiting");
                member.status == Status::Down && over
            })
        };
        let mut assignments = allocation::take_over(map, is_over);
        assignments.truncate(ASSIGNMENTS_MAX);
        if !assignments.is_empty() {
            effects.push(propose(Command::Assign { assignments }));
        }
        let members = self.forgotten(map, now).into_iter();
        effects.extend(members.map(|member| propose(Command::Remove { member })));
        // Shards that wait for a dead owner's lease come first: until they have homes, no shard
        // moves for a better balance.
        let plan = self.plan_copies(map);
        if effects.is_empty() {
            let moves = self.moves(map, plan.moves, now);
            if !moves.is_empty() {
                self.failed_moves.handle_revoked(map, &moves);
                effects.push(propose(Command::Revoke { moves }));
            }
        }
        effects.extend(plan.commands.into_iter().map(propose));
        let alive = |id: &MemberId| !silent.contains(&id);
        effects.extend(self.electorate(map, alive, electorate));
        effects
    }

    /// What is to be done about copies. It follows from the map alone.
    fn plan_copies(&mut self, map: &ClusterMap) -> CopyPlan {
        if self.settled == Some(map.age()) {
            return CopyPlan::default();
        }
        let plan = placement::plan(map);
        self.settled = (plan == CopyPlan::default()).then(|| map.age());
        plan
    }

    /// The shards that are to move now. `planned`: those that have to move because of their copies.
    fn moves(&self, map: &ClusterMap, planned: Vec<Assignment>, now: Instant) -> Vec<Assignment> {
        let homes = map.kinds.values().flat_map(|table| table.iter());
        let moving = homes.filter(|home| home.moving.is_some()).count();
        let room = self.times.moves_max.saturating_sub(moving);
        let may_move = |kind: &str, shard, is_leaving| {
            self.failed_moves.may_move(kind, shard, is_leaving, now)
        };
        let mut moves = allocation::rebalance(map, room, may_move);
        for to in planned {
            let is_same = |other: &Assignment| (&other.kind, other.shard) == (&to.kind, to.shard);
            if moves.len() < room
                && may_move(&to.kind, to.shard, false)
                && !moves.iter().any(is_same)
            {
                moves.push(to);
            }
        }
        moves
    }

    /// The silent members that may be declared Down. A Down member that is alive joins again as a
    /// new member and has forgotten its vote. So a voter is declared Down only while the voters
    /// that are heard from remain a majority. Members that an undecided command declares Down do
    /// not count as heard.
    fn expendable<'a>(
        map: &ClusterMap,
        silent: &[&'a MemberId],
        electorate: &Electorate,
    ) -> Vec<&'a MemberId> {
        let mut coming = Cow::Borrowed(map);
        for command in &electorate.undecided {
            // A refused command changes nothing, now or later.
            let _ = coming.to_mut().apply(command);
        }
        let heard = |seat: &&Seat| {
            let member = coming.by_seat(**seat);
            member.is_some_and(|(id, m)| m.status != Status::Down && !silent.contains(&id))
        };
        let left = electorate.voters.iter().filter(heard).count();
        let fine = !electorate.changing && left * 2 > electorate.voters.len();
        let votes = |id: &MemberId| {
            let member = map.member(id);
            member.is_some_and(|member| electorate.voters.contains(&member.seat))
        };
        let may =
            |id: &&&MemberId| fine || !votes(id) || mutants::on("a_majority_of_voters_may_be_down");
        silent.iter().filter(may).copied().collect()
    }

    /// Whether a member is dead by gossip, and does not contradict. A member that renews its lease
    /// lives, whatever others say of it. But if gossip does not reach it for long, others cannot
    /// reach it either, and it is of no use.
    fn is_dead(&self, member: &MemberId, grants: &Grants, now: Instant) -> bool {
        let Some(since) = self.dead_since.get(member) else {
            return false;
        };
        let for_long = *since + self.times.silent_max <= now;
        for_long || !grants.has_renewed_lately(member, now)
    }

    fn is_silent(&self, member: &MemberId, grants: &Grants, now: Instant) -> bool {
        let Some(settled) = grants.settled() else {
            return false;
        };
        let heard = [grants.until(member), self.known_since.get(member).copied()];
        let heard = heard.into_iter().flatten().fold(settled, Instant::max);
        heard + self.times.silent_max <= now
    }

    /// Down members that need not be remembered: a newer incarnation of the node has joined, or the
    /// time or the room for remembering them is over.
    fn forgotten(&mut self, map: &ClusterMap, now: Instant) -> Vec<MemberId> {
        let down = |id: &MemberId| map.status(id) == Some(Status::Down);
        self.down_since.retain(|id, _| down(id));
        for id in map.members.keys().filter(|id| down(id)) {
            self.down_since.entry(id.clone()).or_insert(now);
        }
        let surplus = self.down_since.len().saturating_sub(DOWN_MAX);
        let mut oldest: Vec<_> = self.down_since.iter().collect();
        oldest.sort_by_key(|(id, since)| (**since, (*id).clone()));
        let replaced = |id: &MemberId| {
            let same_name = map.members.keys().filter(|other| other.node == id.node);
            same_name.max().is_some_and(|newest| newest != id)
        };
        let mut forgotten = Vec::new();
        for (age, (id, since)) in oldest.into_iter().enumerate() {
            let old = age < surplus || *since + self.times.remember_down <= now;
            let Some(member) = map.member(id) else {
                continue;
            };
            if (old || replaced(id)) && map.owned(member.slot) == 0 {
                forgotten.push(id.clone());
            }
        }
        forgotten
    }

    /// Chooses the voters: the largest odd number of Up members, at most five. This member comes
    /// first, then present voters, then the oldest members.
    fn electorate(
        &self,
        map: &ClusterMap,
        alive: impl Fn(&MemberId) -> bool,
        now: &Electorate,
    ) -> Option<LeaderEffect> {
        let up = map.members.iter();
        let mut up: Vec<_> = up
            .filter(|(id, m)| m.status == Status::Up && alive(id))
            .map(|(id, member)| {
                (
                    *id != self.me,
                    !now.voters.contains(&member.seat),
                    member.seat,
                )
            })
            .collect();
        up.sort_unstable();
        if up.is_empty() {
            return None;
        }
        let first = |count| -> BTreeSet<Seat> {
            let first = up.iter().take(count);
            first.map(|(_, _, seat)| *seat).collect()
        };
        let mut wanted = first(odd(up.len().min(VOTERS_MAX)));
        let lost = |seat: &&Seat| {
            let member = map.by_seat(**seat);
            member.is_none_or(|(id, member)| member.status == Status::Down || !alive(id))
        };
        let (voters, lost) = (now.voters.len(), now.voters.iter().filter(lost).count());
        let present = up.iter().filter(|(_, new, _)| !new).count();
        let fewer = odd(present);
        let decide = present * 2 > voters;
        if decide && !now.changing && fewer.div_ceil(2) > voters.div_ceil(2).saturating_sub(lost) {
            // The present voters that are left tolerate more failures among themselves than the
            // full set of voters does now. Drop the lost voters first; new voters follow once they
            // have the log, which may take a while.
            wanted = first(fewer);
        }
        let new: Vec<Seat> = wanted.difference(&now.voters).copied().collect();
        if let Some(stranger) = new.iter().find(|seat| !now.nodes.contains(seat)) {
            let (id, _) = map.by_seat(*stranger)?;
            return Some(LeaderEffect::Teach(id.clone()));
        }
        if !new.iter().all(|seat| now.caught_up.contains(seat)) {
            return None;
        }
        // Hand over, even after the other voters are elected: a leader without a vote decides
        // nothing that lasts. It would remove itself from the engine and not learn that this is
        // done.
        let mine = map.member(&self.me).map(|member| member.seat);
        if mine.is_none_or(|mine| !wanted.contains(&mine))
            && let Some(heir) = wanted.intersection(&now.voters).next()
        {
            return Some(LeaderEffect::Abdicate(*heir));
        }
        if wanted != now.voters || now.changing {
            return Some(LeaderEffect::Elect(wanted));
        }
        let rest: BTreeSet<Seat> = now.nodes.difference(&wanted).copied().collect();
        (!rest.is_empty()).then_some(LeaderEffect::Dismiss(rest))
    }
}

/// The largest odd number up to `count`.
fn odd(count: usize) -> usize {
    if mutants::on("an_even_number_votes") {
        return count.min(4);
    }
    match count % 2 {
        0 => count.saturating_sub(1),
        _ => count,
    }
}

#[cfg(test)]
mod tests;
