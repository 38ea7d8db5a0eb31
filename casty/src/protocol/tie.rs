//! Which of two nodes goes on without the other, where a tie-breaker outside of the cluster
//! decides. Asks the tie-breaker nothing itself.
//!
//! A claim names a pair of members, each with its incarnation, and a generation of the cluster. The
//! first of the two members that claims the pair wins, for ever. The *sole voter* A (the only
//! member that decides) and another member B may claim the pair {A, B}.
//!
//! **Why A and B never both serve.** Let B have won, and let E be the end of B's session. B founds
//! a new generation at the earliest two guards after E ([`Second`]).
//!
//! - A sole voter grants no lease, not even its own, unless it has *heard* each other member that
//!   could claim within one lease, or has won the claim of their pair ([`Ties::missing`]). A has
//!   not won, so its last grant is within one lease of when it last heard B, by A's clock.
//! - A hears B when a renewal arrives from B that echoes a [`Stamp`] of A. What counts is when A
//!   *gave* the stamp, not when B sent the renewal or when it arrived. B sends nothing after E, so
//!   A gave the stamp before E, however long the renewal was under way.
//! - A lease counts from when its owner asked for it, which is before it was granted. So every
//!   owner that A granted a lease, A itself included, has stopped two leases after E. A guard is a
//!   lease that a fast clock measures while a slow clock lives through it. So two guards by B's
//!   clock are enough.
//! - If A is no longer the sole voter, it needs other voters, and B's map may not know them. So B
//!   claims only by a map in which the voters are exactly {A} and the members that are not Down
//!   exactly {A, B} ([`rival`]). A in turn lets no other member vote before each member that could
//!   claim has reported a map as new as the last change of the members
//!   ([`Ties::may_change_voters`]). From then on B's map has a third member until it has other
//!   voters. The same holds when a sole voter hands over to another member.
//! - B must not claim by an older map after a renewal that reports a newer one. B ensures this: it
//!   stops renewing first, and looks at its map again afterwards.
//!
//! **No member is Down without a claim** while there is a sole voter. Otherwise B could win while A
//! serves B's shards and has forgotten about B. This includes a member whose next incarnation
//! joins: the earlier process may have won, and founded a generation that others have joined since.
//! An incarnation needs no claim only if the joining process itself has been that incarnation,
//! since the process knows that it has founded no generation ([`Ties::unclaimed`]). So a node that
//! gave up waiting for the tie-breaker can join a sole voter that cannot reach the tie-breaker
//! either, and both go on.
//!
//! **A sole voter that has lost** a claim grants nothing more, but keeps its state: if the winner
//! dies before it has founded a generation, no other node has that state. The loser starts as a new
//! member once it hears of the new generation.
//!
//! A Joining member cannot claim, since B has to be Up in its own map. So a Joining member counts
//! as heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::map::{ClusterMap, Slot, Status};
use crate::{
    id::{Incarnation, MemberId},
    infra::mutants,
};

/// When a leader answered a renewal, by its own clock. Only the leader that gave it can interpret
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    term: u64,
    /// Microseconds since the leader's term began.
    at: u64,
}

/// The report of a member that renews its lease, in a cluster with a tie-breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of the member's map.
    pub(crate) version: u64,
    /// The last stamp that the member received.
    pub(crate) echo: Option<Stamp>,
}

/// The part of a member's report that does not follow from its map.
#[derive(Debug, Default)]
pub(crate) struct Renewing {
    echo: Option<Stamp>,
    /// The membership has ended. A leader must hear nothing more that it could take for a sign of
    /// life.
    over: bool,
}

impl Renewing {
    /// A leader wants to get this stamp back.
    pub(crate) fn handle_stamp(&mut self, stamp: Stamp) {
        self.echo = Some(stamp);
    }

    /// The membership has ended.
    pub(crate) fn handle_end(&mut self) {
        self.over = true;
    }

    /// The report of a member whose map has this version; `None` after the end.
    pub(crate) fn report(&self, version: u64) -> Option<Report> {
        let echo = self.echo;
        (!self.over).then_some(Report { version, echo })
    }
}

/// A leader's knowledge of the members that could claim against it.
#[derive(Debug)]
pub(crate) struct Ties {
    me: MemberId,
    /// How long a lease lasts, and how long a member may be silent.
    lease: Duration,
    leading: Option<TieTerm>,
    won: BTreeSet<MemberId>,
    lost: BTreeSet<MemberId>,
    /// When each pair was last claimed.
    tried: BTreeMap<MemberId, Instant>,
}

#[derive(Debug)]
struct TieTerm {
    term: u64,
    since: Instant,
    /// When the last echoed stamp of each member was given.
    heard: BTreeMap<MemberId, Instant>,
    /// When the leader noticed that a member has been silent for too long.
    missed_since: BTreeMap<MemberId, Instant>,
    /// The version of each member's map.
    versions: BTreeMap<MemberId, u64>,
    /// The members that are not Down, and the map version that last changed them.
    members: BTreeSet<Slot>,
    changed: u64,
}

impl Ties {
    pub(crate) fn new(me: MemberId, lease: Duration) -> Self {
        Self {
            me,
            lease,
            leading: None,
            won: BTreeSet::new(),
            lost: BTreeSet::new(),
            tried: BTreeMap::new(),
        }
    }

    /// This node leads in `term`. A new leader has heard from no member.
    pub(crate) fn handle_leading(&mut self, term: u64, now: Instant) {
        if self.leading.as_ref().is_none_or(|known| known.term != term) {
            self.leading = Some(TieTerm {
                term,
                since: now,
                heard: BTreeMap::new(),
                missed_since: BTreeMap::new(),
                versions: BTreeMap::new(),
                members: BTreeSet::new(),
                changed: 0,
            });
        }
    }

    pub(crate) fn handle_following(&mut self) {
        self.leading = None;
    }

    /// A member renews.
    pub(crate) fn handle_renewal(&mut self, member: &MemberId, report: Report, now: Instant) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let known = leading.versions.entry(member.clone()).or_default();
        *known = report.version.max(*known);
        let stamp = report.echo.filter(|stamp| stamp.term == leading.term);
        let mut given = stamp.map(|stamp| leading.since + Duration::from_micros(stamp.at));
        if mutants::on("heard_when_it_arrives") {
            given = Some(now);
        }
        // A member cannot echo a stamp of the future.
        if let Some(given) = given.filter(|given| *given <= now) {
            let heard = leading.heard.entry(member.clone()).or_insert(given);
            *heard = given.max(*heard);
        }
    }

    /// The stamp of an answer that is given now.
    pub(crate) fn stamp(&self, now: Instant) -> Option<Stamp> {
        let leading = self.leading.as_ref()?;
        let at = now.saturating_duration_since(leading.since).as_micros();
        Some(Stamp {
            term: leading.term,
            at: u64::try_from(at).ok()?,
        })
    }

    /// This node has a new map.
    pub(crate) fn handle_map(&mut self, map: &ClusterMap, now: Instant) {
        let present = |id: &MemberId| map.member(id).is_some();
        self.won.retain(|id| present(id));
        self.lost.retain(|id| present(id));
        self.tried.retain(|id, _| present(id));
        let Some(leading) = &mut self.leading else {
            return;
        };
        leading.heard.retain(|id, _| present(id));
        leading.versions.retain(|id, _| present(id));
        let members = map.members.values().filter(|m| m.status != Status::Down);
        let members: BTreeSet<Slot> = members.map(|member| member.slot).collect();
        if leading.members != members {
            (leading.members, leading.changed) = (members, map.version);
        }
        for (id, member) in &map.members {
            if member.status == Status::Joining {
                leading.heard.insert(id.clone(), now);
            }
        }
        let missed: BTreeSet<&MemberId> = claimants(map, &self.me)
            .filter(|id| !heard(leading, self.lease, id, now))
            .collect();
        leading.missed_since.retain(|id, _| missed.contains(id));
        for id in missed {
            leading.missed_since.entry(id.clone()).or_insert(now);
        }
    }

    /// The member that keeps the sole voter from granting `to` a lease: it may have won the claim
    /// by now.
    pub(crate) fn missing<'a>(
        &self,
        map: &'a ClusterMap,
        to: &MemberId,
        now: Instant,
    ) -> Option<&'a MemberId> {
        if mutants::on("grants_without_a_claim") {
            return None;
        }
        let leading = self.leading.as_ref();
        // The session of the asking member has not ended. If it ends meanwhile, the lease is of no
        // use to the member.
        claimants(map, &self.me).filter(|id| *id != to).find(|id| {
            let heard = leading.is_some_and(|leading| heard(leading, self.lease, id, now));
            !heard && !self.won.contains(*id)
        })
    }

    /// Whether a member has been silent for so long that the sole voter should claim the pair and
    /// go on without it. Half a lease gives a live member time to be heard, in case it was this
    /// node that stood still.
    pub(crate) fn is_overdue(&self, member: &MemberId, now: Instant) -> bool {
        let since = self
            .leading
            .as_ref()
            .and_then(|term| term.missed_since.get(member));
        since.is_some_and(|since| *since + self.lease / 2 <= now)
    }

    /// Whether to claim the pair now. If so, notes the attempt.
    pub(crate) fn claim_now(&mut self, member: &MemberId, now: Instant) -> bool {
        let pause = self.lease / 3;
        let recently = |tried: &Instant| *tried + pause > now;
        if self.lost.contains(member) || self.tried.get(member).is_some_and(recently) {
            return false;
        }
        self.tried.insert(member.clone(), now);
        true
    }

    /// The tie-breaker has answered. Returns whether the verdict is new.
    pub(crate) fn handle_verdict(&mut self, member: &MemberId, won: bool) -> bool {
        let verdicts = if won { &mut self.won } else { &mut self.lost };
        verdicts.insert(member.clone())
    }

    pub(crate) fn has_won(&self, member: &MemberId) -> bool {
        self.won.contains(member)
    }

    /// The earlier incarnations that a joining member would replace, and that the sole voter has to
    /// claim first. The joining process has itself been every incarnation of its node since
    /// `since`, so those need no claim.
    pub(crate) fn unclaimed(
        &self,
        map: &ClusterMap,
        joining: &MemberId,
        since: Incarnation,
    ) -> Vec<MemberId> {
        let older = map.members.iter().filter(|(id, member)| {
            id.node == joining.node
                && id.incarnation < joining.incarnation.min(since)
                && member.status != Status::Down
        });
        let open = older.filter(|(id, _)| !self.won.contains(*id));
        open.map(|(id, _)| id.clone()).collect()
    }

    /// Whether the sole voter may let other members vote.
    pub(crate) fn may_change_voters(&self, map: &ClusterMap) -> bool {
        let Some(leading) = &self.leading else {
            return false;
        };
        if mutants::on("others_vote_too_soon") || leading.members.len() <= 2 {
            return true;
        }
        claimants(map, &self.me).all(|id| {
            leading
                .versions
                .get(id)
                .is_some_and(|v| *v >= leading.changed)
        })
    }
}

fn heard(term: &TieTerm, lease: Duration, member: &MemberId, now: Instant) -> bool {
    let heard = term.heard.get(member);
    heard.is_some_and(|heard| *heard + lease > now)
}

/// The members that could claim against the sole voter.
fn claimants<'a>(map: &'a ClusterMap, me: &MemberId) -> impl Iterator<Item = &'a MemberId> {
    let members = map.members.iter().filter(move |(id, _)| *id != me);
    members
        .filter(|(_, member)| matches!(member.status, Status::Up | Status::Leaving))
        .map(|(id, _)| id)
}

/// The member that `me` may claim against: the sole voter, if the two are the only members.
pub(crate) fn rival(map: &ClusterMap, me: &MemberId) -> Option<MemberId> {
    let mut voters = map.voters.keys();
    let voter = voters.next().filter(|voter| *voter != me)?;
    let others = map
        .members
        .iter()
        .filter(|(id, member)| *id != me && member.status != Status::Down);
    let only = others.map(|(id, _)| id).eq([voter]);
    let up = map.status(me) == Some(Status::Up);
    (voters.next().is_none() && only && up).then(|| voter.clone())
}

/// The second of two nodes, when it seems to have lost the first.
#[derive(Debug, Default)]
pub(crate) struct Second {
    lost_since: Option<Instant>,
}

impl Second {
    /// Whether to end the session, and go on alone or as another member. `lost`: gossip takes the
    /// other node for dead, and this node has no lease.
    pub(crate) fn handle_tick(&mut self, lost: bool, patience: Duration, now: Instant) -> bool {
        if !lost {
            self.lost_since = None;
            return false;
        }
        let since = *self.lost_since.get_or_insert(now);
        let over = since + patience <= now;
        if over {
            self.lost_since = None;
        }
        over
    }
}

/// How long the second of two nodes waits between the end of its session and its claim.
pub(crate) fn wait_before_claim(guard: Duration) -> Duration {
    if mutants::on("claims_without_waiting") {
        return Duration::ZERO;
    }
    guard * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::map::{
        Command, VoterPlace,
        tests::{address, founded, join, member},
    };

    const MS: Duration = Duration::from_millis(1);
    const LEASE: Duration = Duration::from_millis(1200);

    fn cluster(names: &[&str]) -> ClusterMap {
        let mut map = founded(4);
        for name in names {
            join(&mut map, &member(name, 1));
        }
        map
    }

    /// `a` begins to lead.
    fn leading(map: &ClusterMap, now: Instant) -> Ties {
        let mut ties = Ties::new(member("a", 1), LEASE);
        ties.handle_leading(1, now);
        ties.handle_map(map, now);
        ties
    }

    fn report(version: u64, echo: Option<Stamp>) -> Report {
        Report { version, echo }
    }

    fn voters(map: &mut ClusterMap, names: &[&str]) {
        let place = |id: &MemberId| VoterPlace {
            seat: map.member(id).unwrap().seat,
            address: address(1),
        };
        let voters = names.iter().map(|name| member(name, 1));
        let voters = voters.map(|id| (id.clone(), place(&id))).collect();
        map.apply(&Command::Voters { voters }).unwrap();
    }

    #[test]
    fn the_sole_voter_grants_nothing_before_every_other_member_was_heard_or_claimed() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let (a, b) = (member("a", 1), member("b", 1));
        let mut ties = leading(&map, now);
        assert_eq!(ties.missing(&map, &a, now), Some(&b));
        // A member that asks is alive.
        assert_eq!(ties.missing(&map, &b, now), None);
        let stamp = ties.stamp(now);
        ties.handle_renewal(&b, report(1, stamp), now + 5 * MS);
        assert_eq!(ties.missing(&map, &a, now + LEASE - MS), None);
        assert_eq!(ties.missing(&map, &a, now + LEASE), Some(&b));
        assert!(ties.handle_verdict(&b, true));
        assert_eq!(ties.missing(&map, &a, now + LEASE), None);
        // Of three members, both others have to be heard, even before one of them is granted a
        // lease.
        let map = cluster(&["b", "c"]);
        let c = member("c", 1);
        assert_eq!(ties.missing(&map, &b, now), Some(&c));
    }

    #[test]
    fn heard_is_when_the_stamp_was_given_and_not_when_it_came_back() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let (a, b) = (member("a", 1), member("b", 1));
        let mut ties = leading(&map, now);
        let stamp = ties.stamp(now + 100 * MS);
        // The renewal was under way for a long time.
        let late = now + 5000 * MS;
        ties.handle_renewal(&b, report(1, stamp), late);
        assert_eq!(ties.missing(&map, &a, now + 100 * MS), None);
        assert_eq!(ties.missing(&map, &a, late), Some(&b));
        // An old stamp does not undo a newer one, and without a stamp nothing is heard.
        let fresh = ties.stamp(late);
        ties.handle_renewal(&b, report(1, fresh), late + MS);
        ties.handle_renewal(&b, report(1, stamp), late + 2 * MS);
        ties.handle_renewal(&b, report(1, None), late + 3 * MS);
        assert_eq!(ties.missing(&map, &a, late + LEASE - MS), None);
        assert_eq!(ties.missing(&map, &a, late + LEASE), Some(&b));
    }

    #[test]
    fn a_stamp_of_another_term_or_of_the_future_says_nothing() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let (a, b) = (member("a", 1), member("b", 1));
        let mut ties = leading(&map, now);
        let old = ties.stamp(now + 100 * MS);
        ties.handle_renewal(&b, report(1, old), now + 50 * MS);
        assert_eq!(ties.missing(&map, &a, now + 50 * MS), Some(&b));
        ties.handle_leading(2, now + 200 * MS);
        ties.handle_renewal(&b, report(1, old), now + 400 * MS);
        assert_eq!(ties.missing(&map, &a, now + 400 * MS), Some(&b));
        ties.handle_following();
        assert_eq!(ties.stamp(now), None);
    }

    #[test]
    fn a_joining_member_counts_as_heard_until_a_lease_after_it_is_up() {
        let (mut map, now) = (founded(4), Instant::now());
        let (a, b) = (member("a", 1), member("b", 1));
        let mut ties = leading(&map, now);
        map.apply(&Command::Join {
            member: b.clone(),
            address: address(2),
            catalog: Vec::new(),
            lease: crate::protocol::map::tests::lease(),
            tie_breaker: false,
            since: Incarnation(1),
            seat: None,
            store: None,
            zone: None,
        })
        .unwrap();
        assert_eq!(ties.missing(&map, &a, now), None);
        ties.handle_map(&map, now + 50 * MS);
        map.apply(&Command::Up { member: b.clone() }).unwrap();
        ties.handle_map(&map, now + 100 * MS);
        assert_eq!(ties.missing(&map, &a, now + 49 * MS + LEASE), None);
        assert_eq!(ties.missing(&map, &a, now + 50 * MS + LEASE), Some(&b));
        // A leaving member may not know yet that it leaves.
        map.apply(&Command::Leave { member: b.clone() }).unwrap();
        assert_eq!(ties.missing(&map, &a, now + 50 * MS + LEASE), Some(&b));
        map.apply(&Command::Down { member: b }).unwrap();
        assert_eq!(ties.missing(&map, &a, now + 50 * MS + LEASE), None);
    }

    #[test]
    fn a_member_missed_for_half_a_lease_is_claimed_and_not_too_often() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let b = member("b", 1);
        let mut ties = leading(&map, now);
        assert!(!ties.is_overdue(&b, now + LEASE / 2 - MS));
        assert!(ties.is_overdue(&b, now + LEASE / 2));
        let stamp = ties.stamp(now);
        ties.handle_renewal(&b, report(1, stamp), now + 10 * MS);
        ties.handle_map(&map, now + 10 * MS);
        assert!(!ties.is_overdue(&b, now + LEASE / 2));
        // This node has stood still: it misses the member from when it notices.
        let woken = now + 10 * LEASE;
        ties.handle_map(&map, woken);
        assert!(!ties.is_overdue(&b, woken));
        assert!(ties.is_overdue(&b, woken + LEASE / 2));
        assert!(ties.claim_now(&b, woken));
        assert!(!ties.claim_now(&b, woken + LEASE / 3 - MS));
        assert!(ties.claim_now(&b, woken + LEASE / 3));
        assert!(ties.handle_verdict(&b, false));
        assert!(!ties.handle_verdict(&b, false), "that is no news");
        assert!(!ties.claim_now(&b, woken + LEASE), "it has lost");
        assert!(!ties.has_won(&b));
    }

    #[test]
    fn others_vote_once_every_member_knows_that_there_are_more_than_two() {
        let (map, now) = (cluster(&["b"]), Instant::now());
        let mut ties = leading(&map, now);
        assert!(ties.may_change_voters(&map), "it hands over to the other");
        let map = cluster(&["b", "c"]);
        ties.handle_map(&map, now);
        let (b, c) = (member("b", 1), member("c", 1));
        ties.handle_renewal(&c, report(map.version, None), now);
        ties.handle_renewal(&b, report(map.version - 1, None), now);
        assert!(!ties.may_change_voters(&map));
        ties.handle_renewal(&b, report(map.version, None), now);
        assert!(ties.may_change_voters(&map));
        // A late report changes nothing.
        ties.handle_renewal(&b, report(1, None), now);
        assert!(ties.may_change_voters(&map));
        // There may have been two members in between.
        let mut later = map;
        later.apply(&Command::Down { member: c }).unwrap();
        join(&mut later, &member("d", 1));
        ties.handle_map(&later, now);
        let d = member("d", 1);
        ties.handle_renewal(&d, report(later.version, None), now);
        assert!(!ties.may_change_voters(&later));
        ties.handle_renewal(&b, report(later.version, None), now);
        assert!(ties.may_change_voters(&later));
        // A new leader has had no reports.
        ties.handle_leading(2, now);
        ties.handle_map(&later, now);
        assert!(!ties.may_change_voters(&later));
    }

    #[test]
    fn only_what_a_process_has_been_itself_is_replaced_without_a_claim() {
        let map = cluster(&["b"]);
        let (b, now) = (member("b", 1), Instant::now());
        let mut ties = leading(&map, now);
        let unclaimed =
            |ties: &Ties, since| ties.unclaimed(&map, &member("b", 3), Incarnation(since));
        assert_eq!(unclaimed(&ties, 1), []);
        assert_eq!(unclaimed(&ties, 2), std::slice::from_ref(&b));
        assert_eq!(unclaimed(&ties, 3), std::slice::from_ref(&b));
        // A process cannot vouch for incarnations before its own.
        assert_eq!(unclaimed(&ties, 9), std::slice::from_ref(&b));
        assert_eq!(ties.unclaimed(&map, &b, Incarnation(9)), []);
        ties.handle_verdict(&b, true);
        assert_eq!(unclaimed(&ties, 3), []);
    }

    #[test]
    fn only_the_second_of_exactly_two_members_claims_against_the_sole_voter() {
        let (a, b) = (member("a", 1), member("b", 1));
        let mut map = cluster(&["b"]);
        assert_eq!(rival(&map, &b), Some(a.clone()));
        assert_eq!(rival(&map, &a), None, "it decides itself");
        assert_eq!(rival(&map, &member("c", 1)), None);
        voters(&mut map, &["a", "b"]);
        assert_eq!(rival(&map, &b), None);
        voters(&mut map, &["b"]);
        assert_eq!(rival(&map, &b), None);
        assert_eq!(rival(&map, &a), Some(b.clone()));
        let mut map = cluster(&["b", "c"]);
        assert_eq!(rival(&map, &b), None);
        map.apply(&Command::Down {
            member: member("c", 1),
        })
        .unwrap();
        assert_eq!(rival(&map, &b), Some(a));
        map.apply(&Command::Leave { member: b.clone() }).unwrap();
        assert_eq!(rival(&map, &b), None, "it leaves");
    }

    #[test]
    fn the_second_is_patient_and_waits_until_the_first_can_serve_no_more() {
        let (mut second, now) = (Second::default(), Instant::now());
        assert!(!second.handle_tick(true, 600 * MS, now));
        assert!(!second.handle_tick(true, 600 * MS, now + 599 * MS));
        assert!(!second.handle_tick(false, 600 * MS, now + 600 * MS));
        assert!(!second.handle_tick(true, 600 * MS, now + 601 * MS));
        assert!(second.handle_tick(true, 600 * MS, now + 1201 * MS));
        // The longest that the first node serves after it was last heard: its clock is slow, and a
        // fast clock measures it.
        let times = crate::protocol::lease::LeaseTimes::new(LEASE, 0.05);
        let longest = (LEASE * 2).mul_f64(1.05 / 0.95);
        assert!(wait_before_claim(times.guard) > longest);
    }
}
