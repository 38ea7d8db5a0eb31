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
mod tests {
    use super::*;
    use crate::{
        id::{Epoch, ShardId},
        protocol::{
            lease::LeaseTimes,
            map::{
                Wanted,
                tests::{
                    assignment,
                    copies::{founded_with, kept, up},
                    founded, join, member,
                },
            },
        },
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn leader() -> Leader {
        let times = LeaderTimes {
            silent_max: 3 * SECOND,
            remember_down: 60 * SECOND,
            moves_max: 4,
        };
        Leader::new(member("a", 1), times)
    }

    fn lease() -> LeaseTimes {
        LeaseTimes::new(SECOND, 0.05)
    }

    /// `a` has been leading for long, and `others` have just renewed.
    fn leading_with(others: &[&str], now: Instant) -> Grants {
        let mut grants = Grants::default();
        grants.handle_leading(1, now - 10 * SECOND, lease());
        for name in others {
            grants.grant(&member(name, 1), 1, now, lease());
        }
        grants
    }

    fn seats(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<Seat> {
        numbers.into_iter().map(Seat).collect()
    }

    fn settled(numbers: std::ops::RangeInclusive<u32>) -> Electorate {
        Electorate {
            voters: seats(numbers.clone()),
            nodes: seats(numbers),
            ..Electorate::default()
        }
    }

    fn cluster(names: &[&str]) -> ClusterMap {
        let mut map = founded(4);
        for name in names {
            join(&mut map, &member(name, 1));
        }
        map
    }

    fn down(name: &str) -> LeaderEffect {
        LeaderEffect::Propose(Command::Down {
            member: member(name, 1),
        })
    }

    #[test]
    fn a_dead_member_is_down_and_its_shards_wait_for_its_lease() {
        let (mut map, now) = (cluster(&["b", "c"]), Instant::now());
        let b = member("b", 1);
        let assignments = vec![assignment(0, Epoch::ZERO, &b)];
        map.apply(&Command::Assign { assignments }).unwrap();
        let (mut leader, grants) = (leader(), leading_with(&["b", "c"], now));
        let dead = BTreeSet::from([b.clone()]);
        let mut tick = |map: &ClusterMap, at| {
            let effects = leader.handle_tick(map, &dead, &settled(1..=1), &grants, None, at);
            effects
                .into_iter()
                .filter(|effect| matches!(effect, LeaderEffect::Propose(_)))
                .collect::<Vec<_>>()
        };
        let quiet = now + lease().lease / 2;
        assert_eq!(tick(&map, quiet), [down("b")]);
        map.apply(&Command::Down { member: b }).unwrap();
        assert_eq!(tick(&map, now + SECOND), []);
        let assignments = vec![assignment(0, Epoch::new(7, 1), &member("a", 1))];
        let assign = LeaderEffect::Propose(Command::Assign { assignments });
        assert_eq!(tick(&map, now + lease().guard), [assign]);
    }

    /// The store of a dead member is replaced at once, and its shards go only to stores in sync,
    /// once its lease is over.
    #[test]
    fn shards_with_copies_go_where_these_are_and_their_copies_are_repaired() {
        let catalog = kept(2, 2, 1);
        let (mut map, now) = (founded_with(&catalog), Instant::now());
        for (name, store) in [("b", 2), ("c", 3)] {
            up(&mut map, &member(name, 1), store, catalog.clone());
        }
        let [a, b, c] = ["a", "b", "c"].map(|name| member(name, 1));
        let number = |map: &ClusterMap, id: &MemberId| map.store_no(id).unwrap();
        let (of_b, of_c) = (number(&map, &b), number(&map, &c));
        let to = |shard, expected, to: &MemberId, copies| Assignment {
            kind: "Account".into(),
            copies,
            ..assignment(shard, expected, to)
        };
        let assignments = vec![
            to(0, Epoch::ZERO, &b, vec![of_b, of_c]),
            to(1, Epoch::ZERO, &a, vec![number(&map, &a), of_c]),
        ];
        map.apply(&Command::Assign { assignments }).unwrap();
        let (mut leader, grants) = (leader(), leading_with(&["b", "c"], now));
        let mut tick = |map: &ClusterMap, at| {
            let none = BTreeSet::new();
            let effects = leader.handle_tick(map, &none, &settled(1..=1), &grants, None, at);
            effects
                .into_iter()
                .filter_map(|effect| match effect {
                    LeaderEffect::Propose(command) => Some(command),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(tick(&map, now), []);
        map.apply(&Command::Down { member: b.clone() }).unwrap();
        let store = map.stores[&of_b].id;
        let drop_store = Command::DropStore { store };
        let dropped = tick(&map, now + SECOND);
        assert_eq!(dropped, [drop_store], "before its lease is over");
        map.apply(&dropped[0]).unwrap();
        assert_eq!(tick(&map, now + SECOND), []);
        let assignments = vec![to(0, Epoch::new(7, 1), &c, Vec::new())];
        let assign = Command::Assign { assignments };
        assert_eq!(
            tick(&map, now + lease().guard),
            std::slice::from_ref(&assign)
        );
        map.apply(&assign).unwrap();
        let wants = vec![Wanted {
            kind: "Account".into(),
            shard: ShardId(0),
            store: Some(number(&map, &a)),
        }];
        let after = tick(&map, now + lease().guard);
        assert!(after.contains(&Command::Want { wants }), "{after:?}");
    }

    /// A forged datagram, or a peer that reaches no other, has gossip take a healthy member for
    /// dead.
    #[test]
    fn a_member_that_renews_is_not_down_by_a_rumor_unless_it_lasts() {
        let (map, begun) = (cluster(&["b", "c"]), Instant::now());
        let (mut leader, mut grants) = (leader(), leading_with(&["b", "c"], begun));
        let dead = BTreeSet::from([member("b", 1)]);
        let (mut now, third) = (begun, lease().lease / 3);
        let mut tick = |dead: &BTreeSet<_>, now: Instant| {
            for name in ["b", "c"] {
                grants.grant(&member(name, 1), 1, now, lease());
            }
            let effects = leader.handle_tick(&map, dead, &settled(1..=1), &grants, None, now);
            effects.contains(&down("b"))
        };
        let mut lasts_for = |rumor: &BTreeSet<_>, time: Duration| {
            let until = now + time;
            while now < until {
                assert!(!tick(rumor, now));
                now += third;
            }
            now
        };
        // Another rumor begins anew.
        lasts_for(&dead, 2 * SECOND);
        lasts_for(&BTreeSet::new(), third);
        let end = lasts_for(&dead, 3 * SECOND);
        assert!(tick(&dead, end), "others do not reach it");
    }

    #[test]
    fn a_member_that_does_not_renew_is_down_whatever_gossip_says() {
        let (map, now) = (cluster(&["b", "c"]), Instant::now());
        let (mut leader, mut grants) = (leader(), leading_with(&["b", "c"], now));
        let first = leader.handle_tick(&map, &BTreeSet::new(), &settled(1..=1), &grants, None, now);
        assert!(!first.contains(&down("b")));
        let later = now + lease().guard + 3 * SECOND;
        grants.grant(&member("c", 1), 1, later, lease());
        let effects = leader.handle_tick(
            &map,
            &BTreeSet::new(),
            &settled(1..=1),
            &grants,
            None,
            later,
        );
        assert_eq!(effects, [down("b")]);
        // A new leader has not heard from any member yet.
        grants.handle_leading(2, later, lease());
        let effects = leader.handle_tick(
            &map,
            &BTreeSet::new(),
            &settled(1..=3),
            &grants,
            None,
            later,
        );
        assert_eq!(effects, []);
    }

    #[test]
    fn with_a_tie_breaker_the_sole_voter_claims_before_it_goes_on() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let (b, dead) = (member("b", 1), BTreeSet::from([member("b", 1)]));
        let (mut leader, grants) = (leader(), leading_with(&[], now));
        let mut ties = Ties::new(member("a", 1), SECOND);
        let mut tick = |ties: &mut Ties, electorate, now| {
            leader.handle_tick(&map, &dead, electorate, &grants, Some(ties), now)
        };
        let sole = settled(1..=1);
        assert_eq!(
            tick(&mut ties, &sole, now),
            [LeaderEffect::Claim(b.clone())]
        );
        assert_eq!(tick(&mut ties, &sole, now), [], "it has just asked");
        assert_eq!(
            tick(&mut ties, &sole, now + SECOND),
            [LeaderEffect::Claim(b.clone())]
        );
        ties.handle_verdict(&b, true);
        assert_eq!(tick(&mut ties, &sole, now + SECOND), [down("b")]);
        // With more than one voter there is no tie.
        let mut ties = Ties::new(member("a", 1), SECOND);
        let three = Electorate {
            voters: seats([1, 3, 4]),
            nodes: seats([1, 3, 4]),
            ..Electorate::default()
        };
        let effects = tick(&mut ties, &three, now);
        assert!(!effects.contains(&LeaderEffect::Claim(b)), "{effects:?}");
    }

    #[test]
    fn a_member_that_is_down_is_remembered_for_a_while_or_until_it_comes_back() {
        let (mut map, now) = (cluster(&["b"]), Instant::now());
        let (mut leader, grants) = (leader(), leading_with(&["b"], now));
        map.apply(&Command::Down {
            member: member("b", 1),
        })
        .unwrap();
        let none = BTreeSet::new();
        let remove = LeaderEffect::Propose(Command::Remove {
            member: member("b", 1),
        });
        assert_eq!(
            leader.handle_tick(&map, &none, &settled(1..=1), &grants, None, now),
            []
        );
        let effects = leader.handle_tick(
            &map,
            &none,
            &settled(1..=1),
            &grants,
            None,
            now + 60 * SECOND,
        );
        assert_eq!(effects, std::slice::from_ref(&remove));
        join(&mut map, &member("b", 2));
        let effects = leader.handle_tick(&map, &none, &settled(1..=1), &grants, None, now);
        assert_eq!(effects, [remove]);
    }

    #[test]
    fn a_leader_that_has_not_joined_yet_decides_nothing_by_itself() {
        let (map, now) = (cluster(&["b", "c"]), Instant::now());
        let grants = leading_with(&[], now);
        let mut leader = Leader {
            me: member("a", 2),
            ..leader()
        };
        let dead = BTreeSet::from([member("a", 1), member("b", 1)]);
        let effects = leader.handle_tick(&map, &dead, &settled(1..=3), &grants, None, now);
        assert_eq!(effects, []);
    }

    fn vote(map: &ClusterMap, electorate: &Electorate) -> Option<LeaderEffect> {
        leader().electorate(map, |_| true, electorate)
    }

    #[test]
    fn one_or_two_members_have_one_voter() {
        assert_eq!(vote(&cluster(&[]), &settled(1..=1)), None);
        assert_eq!(vote(&cluster(&["b"]), &settled(1..=1)), None);
    }

    #[test]
    fn the_third_member_makes_three_voters_once_they_know_everything() {
        let map = cluster(&["b", "c"]);
        let mut electorate = settled(1..=1);
        let teach = |name| Some(LeaderEffect::Teach(member(name, 1)));
        assert_eq!(vote(&map, &electorate), teach("b"));
        electorate.nodes.insert(Seat(2));
        assert_eq!(vote(&map, &electorate), teach("c"));
        electorate.nodes.insert(Seat(3));
        electorate.caught_up.insert(Seat(2));
        assert_eq!(vote(&map, &electorate), None);
        electorate.caught_up.insert(Seat(3));
        assert_eq!(
            vote(&map, &electorate),
            Some(LeaderEffect::Elect(seats(1..=3)))
        );
        assert_eq!(vote(&map, &settled(1..=3)), None);
    }

    #[test]
    fn at_most_five_members_vote_and_voters_stay() {
        let map = cluster(&["b", "c", "d", "e", "f", "g"]);
        assert_eq!(vote(&map, &settled(1..=5)), None);
        let electorate = Electorate {
            voters: seats([1, 3, 5, 6, 7]),
            nodes: seats([1, 3, 5, 6, 7]),
            ..Electorate::default()
        };
        assert_eq!(vote(&map, &electorate), None);
    }

    #[test]
    fn a_dead_voter_is_replaced() {
        let map = cluster(&["b", "c", "d"]);
        let alive = |id: &MemberId| *id != member("b", 1);
        let mut electorate = settled(1..=3);
        let got = leader().electorate(&map, alive, &electorate);
        assert_eq!(got, Some(LeaderEffect::Teach(member("d", 1))));
        electorate.nodes.insert(Seat(4));
        electorate.caught_up.insert(Seat(4));
        let got = leader().electorate(&map, alive, &electorate);
        assert_eq!(got, Some(LeaderEffect::Elect(seats([1, 3, 4]))));
        electorate.voters = seats([1, 3, 4]);
        let got = leader().electorate(&map, alive, &electorate);
        assert_eq!(got, Some(LeaderEffect::Dismiss(seats([2]))));
    }

    #[test]
    fn with_two_of_five_voters_lost_the_others_decide_alone_before_newcomers_have_learned() {
        let map = cluster(&["b", "c", "d", "e", "f", "g"]);
        let alive = |id: &MemberId| *id != member("b", 1) && *id != member("c", 1);
        let got = leader().electorate(&map, alive, &settled(1..=5));
        assert_eq!(got, Some(LeaderEffect::Elect(seats([1, 4, 5]))));
        let one = |id: &MemberId| *id != member("b", 1);
        let got = leader().electorate(&map, one, &settled(1..=5));
        assert_eq!(got, Some(LeaderEffect::Teach(member("f", 1))));
    }

    #[test]
    fn a_majority_of_the_voters_is_never_declared_down() {
        let mut map = cluster(&["b", "c", "d", "e", "f"]);
        // `f` does not vote.
        let down = |map: &ClusterMap, silent: &[&str], electorate: &Electorate| {
            let silent: Vec<MemberId> = silent.iter().map(|name| member(name, 1)).collect();
            let silent: Vec<&MemberId> = silent.iter().collect();
            let down = Leader::expendable(map, &silent, electorate).into_iter();
            down.map(|id| id.node.to_string()).collect::<String>()
        };
        let five = settled(1..=5);
        assert_eq!(down(&map, &["b", "c", "f"], &five), "bcf");
        assert_eq!(down(&map, &["b", "c", "d", "f"], &five), "f");
        map.apply(&Command::Down {
            member: member("e", 1),
        })
        .unwrap();
        assert_eq!(down(&map, &["b", "f"], &five), "bf");
        assert_eq!(down(&map, &["b", "c", "f"], &five), "f");
        let changing = Electorate {
            changing: true,
            ..five.clone()
        };
        assert_eq!(down(&map, &["b", "f"], &changing), "f");
        // Another leader proposed this while the member was silent, and could not decide it. The
        // member is heard again, and will be Down.
        let undecided = Electorate {
            undecided: vec![Command::Down {
                member: member("d", 1),
            }],
            ..five
        };
        assert_eq!(down(&map, &["f"], &undecided), "f");
        assert_eq!(down(&map, &["b", "f"], &undecided), "f");
    }

    #[test]
    fn a_leader_that_leaves_hands_over_to_a_voter() {
        let mut map = cluster(&["b", "c", "d"]);
        map.apply(&Command::Leave {
            member: member("a", 1),
        })
        .unwrap();
        let mut electorate = settled(1..=3);
        electorate.nodes.insert(Seat(4));
        electorate.caught_up.insert(Seat(4));
        assert_eq!(
            vote(&map, &electorate),
            Some(LeaderEffect::Abdicate(Seat(2)))
        );
        // While no other member can lead, the voters change first.
        let electorate = Electorate {
            voters: seats([1]),
            nodes: seats([1, 2]),
            caught_up: seats([2]),
            ..Electorate::default()
        };
        let mut map = cluster(&["b"]);
        map.apply(&Command::Leave {
            member: member("a", 1),
        })
        .unwrap();
        assert_eq!(
            vote(&map, &electorate),
            Some(LeaderEffect::Elect(seats([2])))
        );
        // It leads until another voter does.
        let electorate = Electorate {
            voters: seats([2]),
            ..electorate
        };
        assert_eq!(
            vote(&map, &electorate),
            Some(LeaderEffect::Abdicate(Seat(2)))
        );
    }
}
