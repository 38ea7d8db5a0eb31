//! What one process is in its cluster, and what it becomes next. Does nothing itself.
//!
//! ```text
//!              founded, or joined and Up
//!   Seeking ──────────────────────────────▶ Member
//!    ▲   ▲                                   │  │
//!    │   └── Down, left behind, seat gone ───┘  │ the other of two is lost;
//!    │       (also while Seeking)               │ an operator recovers the cluster
//!    │                                          ▼
//!    └────── tie lost, or the rival lives ── Waiting ──▶ Member of the next generation
//!
//!   any ── leave ──▶ Leaving          any ── refused for good, told to stop ──▶ Ended
//! ```
//!
//! Down is final for an incarnation. So everything that belongs to the incarnation ends at once
//! ([`MembershipEffect::EndSession`]), and the process goes on as another member
//! ([`MembershipEffect::Begin`]). What it keeps is what was never the cluster's: its actors, its
//! event stream, its `ActorSystem`.
//!
//! An operation that takes time is started by [`MembershipEffect::Start`] and answered by
//! [`MembershipInput::Done`]. Both carry the [`Session`]: the answer to an operation of an ended
//! session changes nothing.

mod contract;
mod going_on;
pub(crate) mod leaving;
mod replaced;
mod seeking;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::contract::{
    Asking, CommandId, Greeted, Introduction, MembershipConfig, MembershipEffect, MembershipInput,
    NodeView, Operation, Outcome, Session, Sight,
};
use self::{
    going_on::{Recovery, Waiting},
    seeking::Seeking,
};
use super::{
    bootstrap::SeedAnswer,
    leader_client::LeaderError,
    lease::Lease,
    map::{ClusterMap, MapError, Status},
    tie::Second,
};
use crate::{
    config::{Availability, OnDown},
    error::JoinError,
    id::{ClusterIdentity, Generation, Incarnation, MemberId},
    infra::{backoff::Backoff, mutants},
};

/// The period in which a member checks whether it is the only one left, if it may go on then.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The number of times that the members of the last generation are told of the next. With the
/// default pause of a second, an operator has an hour to bring such a node back.
const TELLINGS_MAX: u32 = 3600;

#[derive(Debug)]
enum Stage {
    Seeking(Box<Seeking>),
    /// A member, or a client that watches the map.
    Member {
        spreading: Option<Spreading>,
    },
    /// The session has ended; the node is about to go on without the leader.
    Waiting(Waiting),
    Leaving,
    Ended,
}

/// Greets processes that may not know of a new generation, or may have begun one.
#[derive(Debug)]
struct Spreading {
    places: Vec<String>,
    /// Rounds left. `None`: places that are members are greeted as well, until the session ends.
    left: Option<u32>,
    /// `None` while a round is under way.
    next: Option<Instant>,
}

impl Spreading {
    /// A process that is in the new generation need not be told of it.
    fn handle_answers(&mut self, answers: &[Greeted], ours: Option<ClusterIdentity>) {
        if self.left.is_none() {
            return;
        }
        let knows = |greeted: &Greeted| {
            let identity = greeted.cluster.as_ref().map(|cluster| cluster.identity);
            greeted.answer == SeedAnswer::Myself || (identity.is_some() && identity == ours)
        };
        self.places.retain(|place| {
            let mut of_it = answers.iter().filter(|greeted| greeted.place == *place);
            !of_it.next().is_some_and(knows) || !of_it.all(knows)
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    Off,
    UnderWay,
    /// The sole voter has granted itself a lease, counted from `sent`, and asks the others whether
    /// it may use it.
    Held {
        sent: Instant,
        version: u64,
    },
    At(Instant),
}

/// One process in its cluster.
#[derive(Debug)]
pub(crate) struct Membership {
    config: MembershipConfig,
    me: MemberId,
    session: Session,
    stage: Stage,
    lease: Lease,
    renewal: Renewal,
    /// A map has had this member.
    was_member: bool,
    /// The cluster that an earlier incarnation of this process was in.
    former: Option<ClusterIdentity>,
    /// The last map of an earlier incarnation: an operator may have the node go on from there if
    /// the generation that it was to join is gone.
    last_map: Option<Arc<ClusterMap>>,
    /// The greatest generation that this process has heard of.
    heard_of: Option<Generation>,
    /// Where a process of a later generation was last heard. The last map may have no member of
    /// that generation.
    heard_at: Option<SocketAddr>,
    /// When others were last asked about a generation that a dialer has claimed.
    claim_asked: Option<Instant>,
    /// The cluster that this client has given up.
    given_up: Option<ClusterIdentity>,
    /// A client looks whether its cluster is still there.
    looks_around: bool,
    /// Addresses of the others in the last map that an earlier incarnation had. An incarnation that
    /// is declared Down before its first map arrives has no other contacts.
    last_addresses: Vec<String>,
    /// The greatest incarnation of this node that any map had.
    greatest: Incarnation,
    /// The pauses between tries to become a member.
    pauses: Backoff,
    /// The incarnations in a row that were members for less than `backoff_max`, or not at all.
    short_lives: u32,
    /// When this incarnation became a member.
    member_since: Option<Instant>,
    recovery: Option<Recovery>,
    /// When to look whether this member is alone.
    look_at: Option<Instant>,
    alone_since: Option<Instant>,
    second: Second,
    effects: Vec<MembershipEffect>,
}

impl Membership {
    pub(crate) fn new(config: MembershipConfig, me: MemberId) -> Self {
        Self {
            greatest: me.incarnation,
            pauses: Backoff::new(config.backoff, config.backoff_max),
            short_lives: 0,
            member_since: None,
            stage: Stage::Seeking(Box::new(Seeking::sitting(config.seeds.clone(), false))),
            config,
            me,
            session: Session::default(),
            lease: Lease::default(),
            renewal: Renewal::Off,
            was_member: false,
            former: None,
            last_map: None,
            heard_of: None,
            heard_at: None,
            claim_asked: None,
            given_up: None,
            looks_around: false,
            last_addresses: Vec::new(),
            recovery: None,
            look_at: None,
            alone_since: None,
            second: Second::default(),
            effects: Vec::new(),
        }
    }

    /// Begins to look for a cluster.
    pub(crate) fn start(&mut self) -> Vec<MembershipEffect> {
        self.begin_operation(Operation::SitAgain);
        std::mem::take(&mut self.effects)
    }

    /// The present session.
    #[cfg(test)]
    pub(crate) fn session(&self) -> Session {
        self.session
    }

    /// When [`MembershipInput::Tick`] is due at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let renewal = match self.renewal {
            Renewal::At(at) => Some(at),
            Renewal::Off | Renewal::UnderWay | Renewal::Held { .. } => None,
        };
        let state = match &self.stage {
            Stage::Seeking(seeking) => seeking.deadline(),
            Stage::Member { spreading } => spreading.as_ref().and_then(|spreading| spreading.next),
            Stage::Waiting(waiting) => waiting.deadline(),
            Stage::Leaving | Stage::Ended => None,
        };
        renewal.into_iter().chain(state).chain(self.look_at).min()
    }

    /// The effects of an input, in order.
    pub(crate) fn handle(
        &mut self,
        input: MembershipInput,
        view: &NodeView<'_>,
    ) -> Vec<MembershipEffect> {
        self.look_for_namesakes(view);
        match input {
            MembershipInput::Tick => self.handle_tick(view),
            MembershipInput::Map => self.handle_map(view),
            MembershipInput::Down(member) if member == self.me => self.rejoin(view),
            MembershipInput::Generation(theirs, at) => self.handle_generation(theirs, at, view),
            MembershipInput::GenerationClaimed(theirs, address) => {
                self.handle_generation_claimed(theirs, address, view);
            }
            MembershipInput::Outclaimed => self.handle_outclaimed(view),
            MembershipInput::Stranger => self.handle_stranger(view),
            MembershipInput::EngineFailed(error) => self.handle_engine_failed(error),
            MembershipInput::Recover { command, force } => {
                self.handle_recover(command, force, view);
            }
            MembershipInput::Leave => self.handle_leave(view),
            MembershipInput::Done(session, outcome) if session == self.session => {
                self.handle_outcome(outcome, view);
            }
            MembershipInput::Down(_) | MembershipInput::Done(..) => {}
        }
        std::mem::take(&mut self.effects)
    }

    fn begin_operation(&mut self, operation: Operation) {
        self.effects
            .push(MembershipEffect::Start(self.session, operation));
    }

    /// Whether there is a membership to end: a process seeks one, or holds one.
    fn has_session(&self) -> bool {
        matches!(self.stage, Stage::Seeking(_) | Stage::Member { .. })
    }

    fn is_client(&self) -> bool {
        self.config.address.is_none()
    }

    fn handle_outcome(&mut self, outcome: Outcome, view: &NodeView<'_>) {
        match outcome {
            Outcome::Sat(voters) => self.handle_sat(voters, view),
            Outcome::Forgotten => self.handle_forgotten(view),
            Outcome::Greeted(answers) => match &mut self.stage {
                Stage::Seeking(_) => self.handle_answers(&answers, view),
                Stage::Waiting(_) => self.handle_rival_greeted(&answers, view),
                Stage::Member { spreading } => {
                    if let Some(spreading) = spreading {
                        spreading.handle_answers(&answers, view.identity);
                        spreading.next = Some(view.now + self.config.backoff_max);
                    }
                }
                Stage::Leaving | Stage::Ended => {}
            },
            Outcome::Founded(result) => self.handle_founded(result, view),
            Outcome::Decided(result) => self.handle_decided(result, view),
            Outcome::Renewed { sent, result } => self.handle_renewed(sent, result, view),
            Outcome::Seen(sights) => self.handle_seen(&sights, view),
            Outcome::OthersAsked(Asking::Renewal, answers) => {
                self.handle_others_asked(&answers, view);
            }
            Outcome::OthersAsked(Asking::Recovery, answers) => {
                self.handle_survivors_asked(&answers, view);
            }
            // A refusal has said it.
            Outcome::OthersAsked(Asking::Claim, _) => {}
            Outcome::HasLeader(has_leader) => self.handle_has_leader(has_leader, view),
            Outcome::Claimed(verdict) => self.handle_verdict(verdict, view),
        }
    }

    fn handle_tick(&mut self, view: &NodeView<'_>) {
        match &self.stage {
            Stage::Seeking(_) => self.handle_seeking_tick(view),
            Stage::Member { .. } => {
                self.spread(view);
                if self.look_at.is_some_and(|at| at <= view.now) {
                    self.look_at = Some(view.now + LOOK_EVERY);
                    self.look_whether_alone(view);
                }
            }
            Stage::Waiting(_) => self.handle_waiting_tick(view),
            Stage::Leaving | Stage::Ended => {}
        }
        // Unless the session has just ended.
        if matches!(self.renewal, Renewal::At(at) if at <= view.now) {
            self.renew();
        }
    }

    fn handle_map(&mut self, view: &NodeView<'_>) {
        let Some(map) = view.map else { return };
        let over = is_over(map, &self.me, self.was_member);
        self.was_member |= map.member(&self.me).is_some();
        if over && self.has_session() {
            return self.rejoin(view);
        }
        if over {
            // A member that leaves stays away. Its lease opens nothing any more.
            self.lease = Lease::default();
            self.renewal = Renewal::Off;
        }
        if matches!(self.stage, Stage::Seeking(_)) {
            self.look_at_map(view);
        }
        self.look_at_lease(view);
    }

    // ---- The end of an incarnation, and the next one.

    /// A process that was in an earlier generation begins anew, and so does one that was only about
    /// to join it: the introduction came from a member that is behind as well. A process that has
    /// met no cluster cannot be behind: the news was meant for its previous incarnation.
    fn handle_generation(&mut self, theirs: Generation, at: SocketAddr, view: &NodeView<'_>) {
        let behind = view.identity.is_some_and(|ours| ours.generation < theirs);
        if !behind {
            return;
        }
        self.heard_of = self.heard_of.max(Some(theirs));
        self.heard_at = Some(at);
        if self.is_about_to_found() {
            // Another survivor goes on as well, and its generation is the greater one.
            self.end_session();
            return self.begin_anew(false, view);
        }
        let is_member = view.map.is_some_and(|map| {
            let status = map.status(&self.me);
            status.is_some_and(|status| status != Status::Down)
        });
        if !is_member && (view.keeps_seat || view.map.is_none()) {
            self.handle_seat_gone(view);
        } else {
            self.rejoin(view);
        }
    }

    /// A claim ends no membership: it is a reason to ask. Those who can confirm it are the process
    /// that claims, if it can be dialed, and the members of before, of which one has begun that
    /// generation. Claims within a while of the last are left out: peers repeat what they say.
    fn handle_generation_claimed(
        &mut self,
        theirs: Generation,
        address: Option<SocketAddr>,
        view: &NodeView<'_>,
    ) {
        if let Some(address) = address.filter(|_| mutants::on("claims_are_believed")) {
            return self.handle_generation(theirs, address, view);
        }
        let behind = view.identity.is_some_and(|ours| ours.generation < theirs);
        let lately = |asked| view.now < asked + self.config.backoff_max;
        if !behind || self.claim_asked.is_some_and(lately) {
            return;
        }
        self.claim_asked = Some(view.now);
        let mut places = match view.map {
            Some(map) => self.addresses_of_others(map),
            None => self.last_addresses.clone(),
        };
        places.extend(address.map(|address| address.to_string()));
        places.extend(self.config.seeds.iter().cloned());
        places.sort_unstable();
        places.dedup();
        self.begin_operation(Operation::AskOthers(Asking::Claim, places));
    }

    /// This member is Down. The process joins as another one, unless it was told to stay out.
    fn rejoin(&mut self, view: &NodeView<'_>) {
        if self.has_session() {
            self.end_session();
            self.rejoin_or_stop(view);
        }
    }

    fn rejoin_or_stop(&mut self, view: &NodeView<'_>) {
        self.begin_anew(self.config.on_down == OnDown::Stop, view);
    }

    /// The others have gone on without this process, which is no member yet. So it joins as if it
    /// had kept no seat and met no cluster, also where a member would stop.
    fn handle_seat_gone(&mut self, view: &NodeView<'_>) {
        if self.has_session() {
            self.end_session();
            self.begin_anew(false, view);
        }
    }

    fn begin_anew(&mut self, stops: bool, view: &NodeView<'_>) {
        let pause = self.pause_after_life(view);
        self.begin(view);
        let seeking = Seeking::forgetting(self.places(), stops, pause);
        self.stage = Stage::Seeking(Box::new(seeking));
        self.begin_operation(Operation::ForgetSeat);
    }

    /// The pause before the next incarnation asks for its cluster. The first asks at once. Where
    /// incarnation follows incarnation, something is wrong that haste makes worse.
    fn pause_after_life(&mut self, view: &NodeView<'_>) -> Duration {
        let life = |since| view.now.saturating_duration_since(since);
        let was_long = self.member_since.take().map(life) >= Some(self.config.backoff_max);
        if was_long {
            self.short_lives = 0;
            self.pauses.reset();
        }
        self.short_lives = self.short_lives.saturating_add(1);
        if self.short_lives == 1 {
            return Duration::ZERO;
        }
        self.pauses.pause(view.jitter)
    }

    fn end_session(&mut self) {
        self.session.0 += 1;
        self.renewal = Renewal::Off;
        self.look_at = None;
        self.give_up_recovery("it is about to join anew");
        self.effects.push(MembershipEffect::EndSession);
    }

    /// Makes this process another member.
    fn begin(&mut self, view: &NodeView<'_>) {
        self.session.0 += 1;
        let members = view.map.into_iter().flat_map(|map| map.members.values());
        let addresses = members.map(|member| member.address);
        let others = addresses.filter(|address| Some(*address) != self.config.address);
        let others: Vec<String> = others.map(|address| address.to_string()).collect();
        if !others.is_empty() {
            self.last_addresses = others;
        }
        self.former = view.identity.or(self.former);
        self.last_map = view.map.cloned().or_else(|| self.last_map.take());
        self.looks_around = false;
        self.me.incarnation = self.later_incarnation(view.clock);
        self.was_member = false;
        self.lease = Lease::default();
        self.alone_since = None;
        self.second = Second::default();
        self.effects.push(MembershipEffect::Begin(self.me.clone()));
    }

    /// Greater than each incarnation that this node is known to have had, whatever the clock says:
    /// the map takes in no process that is older than one it knows.
    fn later_incarnation(&self, clock: Incarnation) -> Incarnation {
        let least = Incarnation(self.me.incarnation.max(self.greatest).0.saturating_add(1));
        if self.config.counts_incarnations {
            return least;
        }
        clock.max(least)
    }

    /// The map may contain another process of this node's name: an earlier process whose clock was
    /// ahead, or a process that was started beside this one.
    fn look_for_namesakes(&mut self, view: &NodeView<'_>) {
        let members = view.map.into_iter().flat_map(|map| map.members.keys());
        let namesakes = members.filter(|id| id.node == self.me.node);
        if let Some(greatest) = namesakes.map(|id| id.incarnation).max() {
            self.greatest = self.greatest.max(greatest);
        }
    }

    /// The addresses at which the cluster may be: the seeds, the last known addresses of the other
    /// members, and the last process of a later generation.
    fn places(&self) -> Vec<String> {
        let heard = self.heard_at.map(|address| address.to_string());
        let heard = heard.filter(|heard| !self.last_addresses.contains(heard));
        self.seeds_and(self.last_addresses.iter().cloned().chain(heard))
    }

    /// The seeds, and each of these addresses that is none of them.
    fn seeds_and(&self, known: impl Iterator<Item = String>) -> Vec<String> {
        let mut places = self.config.seeds.clone();
        places.extend(known.filter(|known| !self.config.seeds.contains(known)));
        places
    }

    /// The process will never be a member: so it does not vote either, nor decide for others.
    fn fail(&mut self, error: JoinError) {
        self.end_session();
        self.stage = Stage::Ended;
        self.effects.push(MembershipEffect::Fail(error));
    }

    /// A node that cannot decide, nor know what is decided, is as good as dead.
    fn handle_engine_failed(&mut self, error: JoinError) {
        let was_leaving = matches!(self.stage, Stage::Leaving);
        if !was_leaving && !self.has_session() {
            // The engine of an incarnation that has ended.
            return;
        }
        self.end_session();
        self.effects.push(MembershipEffect::Abandon);
        self.effects.push(MembershipEffect::SayGoodbye);
        self.effects.push(MembershipEffect::Fail(error));
        if !was_leaving {
            self.stage = Stage::Ended;
        }
    }

    /// The lease is renewed until the process is gone, so that entities can finish. A process that
    /// the map has, but that has not noticed yet, may own shards as well.
    fn handle_leave(&mut self, view: &NodeView<'_>) {
        if matches!(self.stage, Stage::Ended) {
            return;
        }
        let is_in = view.map.is_some_and(|map| map.member(&self.me).is_some());
        let joins = matches!(self.stage, Stage::Seeking(_)) && is_in;
        self.stage = Stage::Leaving;
        self.look_at = None;
        self.give_up_recovery("it is leaving");
        if joins && !self.is_client() {
            self.renew();
        }
    }

    // ---- What a member does.

    fn become_member(&mut self, spreading: Option<Spreading>, view: &NodeView<'_>) {
        self.stage = Stage::Member { spreading };
        self.member_since = Some(view.now);
        if !self.is_client() {
            let prefers = self.config.availability == Availability::Prefer;
            self.look_at = (self.config.has_tie_breaker || prefers).then_some(view.now);
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.renewal = Renewal::UnderWay;
        self.begin_operation(Operation::Renew);
    }

    fn handle_renewed(
        &mut self,
        sent: Instant,
        result: Result<u64, LeaderError>,
        view: &NodeView<'_>,
    ) {
        self.renewal = Renewal::At(sent + self.config.lease.lease / 3);
        match result {
            Ok(version) => {
                self.effects.push(MembershipEffect::Heard(version));
                let others = self.others_to_ask(sent, view);
                if others.is_empty() {
                    self.lease.handle_granted(sent, version, self.config.lease);
                    self.look_at_lease(view);
                } else {
                    self.renewal = Renewal::Held { sent, version };
                    self.begin_operation(Operation::AskOthers(Asking::Renewal, others));
                }
            }
            Err(LeaderError::Refused(MapError::Superseded(_) | MapError::UnknownMember(_))) => {
                self.renewal = Renewal::Off;
                self.rejoin(view);
            }
            Err(_) => {}
        }
    }

    /// The members to ask before a renewal is used. A sole voter grants its leases to itself, so it
    /// may have stood still while another member was promoted, and no quorum would tell it. Members
    /// that are Down are asked as well: they may have been promoted before this node took them for
    /// dead. With a tie-breaker no lease is granted in this case.
    fn others_to_ask(&self, sent: Instant, view: &NodeView<'_>) -> Vec<String> {
        let Some(map) = view.map else {
            return Vec::new();
        };
        let decides_alone = map.voters.keys().eq([&self.me]);
        let asks = decides_alone && !mutants::on("a_sole_voter_asks_nobody");
        if !asks || self.config.has_tie_breaker || !self.lease.had_ended(sent) {
            return Vec::new();
        }
        self.addresses_of_others(map)
    }

    fn addresses_of_others(&self, map: &ClusterMap) -> Vec<String> {
        let others = map.members.values().map(|member| member.address);
        let others = others.filter(|address| Some(*address) != self.config.address);
        let others: BTreeSet<_> = others.collect();
        others.iter().map(ToString::to_string).collect()
    }

    /// The lease counts from before the others were asked. So if this node has stood still since,
    /// the lease is over, and the others are asked again. Silence decides nothing: the member that
    /// is not heard may be dead, and an operator who promotes it vouches that this node is.
    fn handle_others_asked(&mut self, answers: &[Greeted], view: &NodeView<'_>) {
        let Renewal::Held { sent, version } = self.renewal else {
            return;
        };
        self.renewal = Renewal::At(sent + self.config.lease.lease / 3);
        // The refusal says the same to this node's membership, which ends by it.
        if answers.iter().any(says_left_behind) {
            return;
        }
        self.lease.handle_granted(sent, version, self.config.lease);
        self.look_at_lease(view);
    }

    /// Lets entities act as long as the lease says, if the regions know the map that it was granted
    /// by.
    fn look_at_lease(&mut self, view: &NodeView<'_>) {
        if matches!(self.stage, Stage::Member { .. } | Stage::Leaving)
            && let Some(deadline) = self.lease.handle_map(view.followed)
        {
            self.effects.push(MembershipEffect::OpenGate(deadline));
        }
    }

    fn handle_outclaimed(&mut self, view: &NodeView<'_>) {
        let members = view.map.into_iter().flat_map(|map| map.members.values());
        let mut places: Vec<_> = members.map(|member| member.address.to_string()).collect();
        places.extend(self.config.seeds.iter().cloned());
        if let Stage::Member { spreading } = &mut self.stage {
            *spreading = Some(Spreading {
                places,
                left: None,
                next: Some(view.now),
            });
            self.spread(view);
        }
    }

    /// The next round of greetings, if it is time.
    fn spread(&mut self, view: &NodeView<'_>) {
        let Stage::Member { spreading: present } = &mut self.stage else {
            return;
        };
        let Some(spreading) = present else {
            return;
        };
        if spreading.next.is_none_or(|next| next > view.now) {
            return;
        }
        if let Some(left) = &mut spreading.left {
            let members = view.map.into_iter().flat_map(|map| map.members.values());
            let joined: BTreeSet<_> = members.map(|member| member.address.to_string()).collect();
            spreading.places.retain(|place| !joined.contains(place));
            if *left == 0 || spreading.places.is_empty() {
                *present = None;
                return;
            }
            *left -= 1;
        }
        spreading.next = None;
        let places = spreading.places.clone();
        self.begin_operation(Operation::Greet(places));
    }
}

/// Whether a member has refused this node because of what has become of the cluster.
fn says_left_behind(greeted: &Greeted) -> bool {
    greeted.cluster.is_none() && greeted.answer == SeedAnswer::Cluster
}

/// Whether a member is no member any more by a map. `was_member`: an earlier map had it.
pub(crate) fn is_over(map: &ClusterMap, me: &MemberId, was_member: bool) -> bool {
    match map.status(me) {
        Some(status) => status == Status::Down,
        None => was_member,
    }
}
