//! The way into a cluster: ask the places, found or join, wait for the map.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::{Greeted, Membership, MembershipEffect, NodeView, Operation, Stage};
use crate::{
    error::JoinError,
    id::ClusterIdentity,
    infra::backoff::Backoff,
    protocol::{
        bootstrap::{Bootstrap, Decision, SeedAnswer},
        leader_client::LeaderError,
        map::{MapError, Status},
    },
};

/// A process that looks for its cluster.
#[derive(Debug)]
pub(super) struct Seeking {
    places: Vec<String>,
    /// The places of the last answers.
    asked: Vec<String>,
    /// The process was a member before. So there is a cluster, and none is to be founded.
    anew: bool,
    bootstrap: Option<Bootstrap>,
    /// When to say again for whom the process waits.
    warn_at: Option<Instant>,
    step: SeekingStep,
}

/// How often a process says for whom it waits.
const WARN_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum SeekingStep {
    /// The kept state of an earlier incarnation is removed. Then the process stops, if it was told
    /// to, or asks the places after a pause.
    Forgetting {
        stops: bool,
        pause: Duration,
    },
    /// The engine starts from what was kept.
    Sitting,
    /// The places are asked.
    Asking,
    Pausing {
        until: Instant,
    },
    Founding,
    /// A proposal is under way, through this place.
    Proposing {
        place: usize,
        what: Proposed,
    },
    /// The map is to show what was decided.
    Awaiting {
        place: usize,
        what: Awaited,
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
enum Proposed {
    Join,
    Up,
}

#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// Any map: a client only watches.
    Map,
    Member,
    Up,
}

impl Seeking {
    pub(super) fn sitting(places: Vec<String>, anew: bool) -> Self {
        Self {
            places,
            asked: Vec::new(),
            anew,
            bootstrap: None,
            warn_at: None,
            step: SeekingStep::Sitting,
        }
    }

    pub(super) fn forgetting(places: Vec<String>, stops: bool, pause: Duration) -> Self {
        Self {
            step: SeekingStep::Forgetting { stops, pause },
            ..Self::sitting(places, true)
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.step {
            SeekingStep::Pausing { until } | SeekingStep::Awaiting { until, .. } => Some(until),
            _ => None,
        }
    }
}

impl Membership {
    fn seeking(&mut self) -> Option<&mut Seeking> {
        match &mut self.stage {
            Stage::Seeking(seeking) => Some(seeking),
            _ => None,
        }
    }

    fn go_to(&mut self, step: SeekingStep) {
        if let Some(seeking) = self.seeking() {
            seeking.step = step;
        }
    }

    pub(super) fn handle_forgotten(&mut self, view: &NodeView<'_>) {
        match self.seeking().map(|seeking| &seeking.step) {
            Some(SeekingStep::Forgetting { stops: true, .. }) => {
                self.effects.push(MembershipEffect::Abandon);
                self.fail(JoinError::Down);
            }
            Some(SeekingStep::Forgetting { pause, .. }) if !pause.is_zero() => {
                let until = view.now + *pause;
                self.go_to(SeekingStep::Pausing { until });
            }
            Some(_) => self.ask_places(),
            None => {}
        }
    }

    pub(super) fn handle_sat(
        &mut self,
        voters: Result<Vec<SocketAddr>, String>,
        view: &NodeView<'_>,
    ) {
        let own = self.config.address;
        let Some(seeking) = self.seeking() else {
            return;
        };
        match voters {
            Err(reason) => return self.fail(JoinError::Engine { reason }),
            Ok(voters) if view.keeps_seat => {
                // The cluster may be at the seeds, where its voters were, and here.
                seeking.anew = true;
                for place in own.into_iter().chain(voters) {
                    let place = place.to_string();
                    if !seeking.places.contains(&place) {
                        seeking.places.push(place);
                    }
                }
            }
            Ok(_) => {}
        }
        self.ask_places();
    }

    fn ask_places(&mut self) {
        let pauses = Backoff::new(self.config.backoff, self.config.backoff_max);
        let (own, expect) = (self.config.address, self.config.expect);
        let Some(seeking) = self.seeking() else {
            return;
        };
        seeking.step = SeekingStep::Asking;
        let own = own.filter(|_| !seeking.anew);
        let fresh = || Bootstrap::new(own, expect, pauses);
        let bootstrap = seeking.bootstrap.get_or_insert_with(fresh);
        // A place that is known by a name as well is asked twice.
        let known = bootstrap
            .known()
            .iter()
            .filter(|known| Some(**known) != own);
        for known in known.map(ToString::to_string) {
            if !seeking.places.contains(&known) {
                seeking.places.push(known);
            }
        }
        let places = seeking.places.clone();
        self.begin_operation(Operation::Greet(places));
    }

    pub(super) fn handle_answers(&mut self, greeted: &[Greeted], view: &NodeView<'_>) {
        let answers: Vec<SeedAnswer> = greeted.iter().map(|place| place.answer.clone()).collect();
        let Some(seeking) = self.seeking() else {
            return;
        };
        seeking.asked = greeted.iter().map(|place| place.place.clone()).collect();
        let (SeekingStep::Asking, Some(bootstrap)) = (&seeking.step, &mut seeking.bootstrap) else {
            return;
        };
        let told = bootstrap.told().clone();
        let decision = bootstrap.handle_round(&answers, view.jitter);
        let tells = (*bootstrap.told() != told).then(|| bootstrap.told().clone());
        let waits = matches!(decision, Decision::Retry { .. });
        self.tell_of_wait(waits, greeted, view);
        match decision {
            Decision::Found => {
                self.go_to(SeekingStep::Founding);
                // Before it founds: no other seeker may count on this process from now on.
                self.effects.push(MembershipEffect::TellSeekers(None));
                self.begin_operation(Operation::Found);
            }
            Decision::Join { seed } => self.join_through(seed, greeted.get(seed), view),
            Decision::Give { .. } if self.has_only_met(view) => {
                let pause = self.pauses.pause(view.jitter);
                self.forget_met(pause, view);
            }
            Decision::Give { seed, reason } => self.fail_at(seed, reason),
            Decision::Retry { after }
                if answers.iter().any(is_in_no_cluster) && self.has_only_met(view) =>
            {
                self.forget_met(after, view);
            }
            Decision::Retry { after } => {
                if tells.is_some() {
                    self.effects.push(MembershipEffect::TellSeekers(tells));
                }
                let until = view.now + after;
                self.go_to(SeekingStep::Pausing { until });
            }
        }
    }

    /// Names the seeds that this process waits for, at first and every now and then. A seed whose
    /// name means nothing is a mistake also where others answer.
    fn tell_of_wait(&mut self, waits: bool, greeted: &[Greeted], view: &NodeView<'_>) {
        let Some(seeking) = self.seeking() else {
            return;
        };
        let is_cause = |greeted: &&Greeted| match greeted.answer {
            SeedAnswer::Myself | SeedAnswer::Kept => false,
            SeedAnswer::Unresolved(_) => true,
            _ => waits,
        };
        let causes: Vec<Greeted> = greeted.iter().filter(is_cause).cloned().collect();
        if !causes.is_empty() && seeking.warn_at.is_none_or(|at| at <= view.now) {
            seeking.warn_at = Some(view.now + WARN_EVERY);
            self.effects.push(MembershipEffect::Wait(causes));
        }
    }

    /// Whether this process has met a cluster, and was never a member of it or of another.
    fn has_only_met(&mut self, view: &NodeView<'_>) -> bool {
        let was_member = self.was_member || view.keeps_seat || self.is_client();
        let is_fresh = self.seeking().is_some_and(|seeking| !seeking.anew);
        view.identity.is_some() && is_fresh && !was_member
    }

    /// Nobody knows the cluster any more that this process was about to join. So it is what it was
    /// before it met that cluster: otherwise it would wait for ever, and others for it.
    fn forget_met(&mut self, pause: Duration, view: &NodeView<'_>) {
        let former = self.former;
        self.end_session();
        self.begin(view);
        self.former = former;
        let until = view.now + pause;
        self.go_to(SeekingStep::Pausing { until });
        let bootstrap = self
            .seeking()
            .and_then(|seeking| seeking.bootstrap.as_ref());
        let told = bootstrap.map(|bootstrap| bootstrap.told().clone());
        self.effects.push(MembershipEffect::TellSeekers(told));
    }

    fn fail_at(&mut self, place: usize, reason: String) {
        let seed = self
            .seeking()
            .and_then(|seeking| seeking.asked.get(place).cloned());
        let seed = seed.unwrap_or_default();
        self.fail(JoinError::Refused { seed, reason });
    }

    /// A retry may succeed later. A member that the map shows Up has nothing to try: the answer to
    /// its proposal was lost.
    fn try_again(&mut self, view: &NodeView<'_>) {
        if self.is_up(view) {
            return self.become_member(None, view);
        }
        let until = view.now + self.pauses.pause(view.jitter);
        self.go_to(SeekingStep::Pausing { until });
    }

    fn join_through(&mut self, place: usize, greeted: Option<&Greeted>, view: &NodeView<'_>) {
        match greeted.and_then(|greeted| greeted.cluster.as_ref()) {
            Some(cluster) => {
                let identity = cluster.identity;
                let is_other = |former: &ClusterIdentity| {
                    former.uuid != identity.uuid || former.generation > identity.generation
                };
                if self.former.as_ref().is_some_and(is_other) {
                    return self.try_again(view);
                }
                self.note_met(identity);
                self.effects.push(MembershipEffect::Meet(cluster.clone()));
            }
            // From its own seat it knows the voters.
            None if view.keeps_seat => {}
            None => return self.try_again(view),
        }
        if self.is_client() {
            return self.await_map(place, Awaited::Map, view);
        }
        let what = Proposed::Join;
        self.go_to(SeekingStep::Proposing { place, what });
        self.begin_operation(Operation::Join);
    }

    pub(super) fn handle_decided(&mut self, result: Result<u64, LeaderError>, view: &NodeView<'_>) {
        let Some(Seeking {
            step: SeekingStep::Proposing { place, what },
            ..
        }) = self.seeking()
        else {
            return;
        };
        let (place, what) = (*place, *what);
        let awaited = match what {
            Proposed::Join => Awaited::Member,
            Proposed::Up => Awaited::Up,
        };
        match result {
            Ok(version) => {
                self.effects.push(MembershipEffect::Heard(version));
                self.await_map(place, awaited, view);
            }
            // The first answer was lost, and this is the second try.
            Err(LeaderError::Refused(MapError::WrongStatus(_))) => {
                self.await_map(place, awaited, view);
            }
            // Down before it was Up: the next incarnation may join.
            Err(LeaderError::Refused(MapError::Superseded(who) | MapError::UnknownMember(who)))
                if who == self.me =>
            {
                self.rejoin(view);
            }
            // A process of its name had a clock that was ahead.
            Err(LeaderError::Refused(MapError::Older { member, than })) if member == self.me => {
                self.greatest = self.greatest.max(than);
                self.handle_seat_gone(view);
            }
            Err(LeaderError::Refused(MapError::NameTaken { by, .. })) => {
                self.fail(JoinError::NameTaken { by });
            }
            Err(LeaderError::Refused(MapError::Seat(who))) if who == self.me => {
                self.handle_seat_gone(view);
            }
            // Nor is it let in before the leader reaches it.
            Err(
                LeaderError::Unreachable(_) | LeaderError::Refused(MapError::NotReached { .. }),
            ) => self.try_again(view),
            Err(LeaderError::Refused(refused)) => self.fail_at(place, refused.to_string()),
        }
    }

    fn is_up(&self, view: &NodeView<'_>) -> bool {
        let status = view.map.and_then(|map| map.status(&self.me));
        status == Some(Status::Up)
    }

    fn await_map(&mut self, place: usize, what: Awaited, view: &NodeView<'_>) {
        let until = view.now + self.config.map_within;
        self.go_to(SeekingStep::Awaiting { place, what, until });
        self.look_at_map(view);
    }

    /// Goes on once the map shows what was decided.
    pub(super) fn look_at_map(&mut self, view: &NodeView<'_>) {
        let me = self.me.clone();
        let (Some(map), Some(seeking)) = (view.map, self.seeking()) else {
            return;
        };
        let (place, what) = match seeking.step {
            SeekingStep::Awaiting { place, what, .. } => (place, what),
            // The map is faster than the answer.
            SeekingStep::Proposing {
                what: Proposed::Up, ..
            } if map.status(&me) == Some(Status::Up) => return self.become_member(None, view),
            _ => return,
        };
        match what {
            Awaited::Member if map.member(&me).is_some() => {
                let what = Proposed::Up;
                seeking.step = SeekingStep::Proposing { place, what };
                self.begin_operation(Operation::Up);
            }
            Awaited::Member => {}
            // A member that leaves at once may never be seen Up.
            Awaited::Up if map.status(&me) == Some(Status::Joining) => {}
            Awaited::Map | Awaited::Up => self.become_member(None, view),
        }
    }

    pub(super) fn handle_seeking_tick(&mut self, view: &NodeView<'_>) {
        let Some(seeking) = self.seeking() else {
            return;
        };
        match seeking.step {
            SeekingStep::Pausing { until } if until <= view.now => self.ask_places(),
            SeekingStep::Awaiting { until, .. } if until <= view.now => self.try_again(view),
            _ => {}
        }
    }
}

/// Whether a process answers that has no cluster.
fn is_in_no_cluster(answer: &SeedAnswer) -> bool {
    matches!(answer, SeedAnswer::Seeker(_) | SeedAnswer::NoCluster)
}
