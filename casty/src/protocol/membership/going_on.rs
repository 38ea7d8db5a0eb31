//! How a node goes on without the leader: by an operator's command, as the survivor of two, or by
//! the word of a tie-breaker. Why the last is safe: [`tie`](crate::protocol::tie).

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Asking, CommandId, Greeted, Membership, MembershipEffect, NodeView, Operation, Spreading,
    Stage, TELLINGS_MAX, says_left_behind,
};
use crate::{
    config::Availability,
    error::JoinError,
    id::{ClusterIdentity, Generation, MemberId},
    protocol::{
        bootstrap::SeedAnswer,
        map::{ClusterMap, Status},
        tie,
    },
    tie::{TieError, Verdict},
};

/// A command to go on without the leader, while it is checked.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) command: Option<CommandId>,
    force: bool,
    /// The map to go on from. Claims are made by this map.
    map: Arc<ClusterMap>,
    /// Members that are still to be claimed against, the next one last.
    unclaimed: Vec<MemberId>,
}

/// A node whose session has ended, before it is a member again.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The session has ended. What this node has reported is not newer than the map that it looks
    /// at from now on: a claim by an older map would not be safe.
    SessionEnded {
        at: Instant,
    },
    Tie(TieWait),
    /// The operator is answered first: its connection ends with all others.
    Answering {
        until: Instant,
        map: Arc<ClusterMap>,
    },
    /// Leases of the last generation may be in use.
    Leases {
        until: Instant,
        identity: ClusterIdentity,
        map: Arc<ClusterMap>,
    },
    /// The new generation is being founded.
    Founding,
}

/// The second of two nodes waits for the tie-breaker.
#[derive(Debug)]
pub(super) struct TieWait {
    map: Arc<ClusterMap>,
    rival: MemberId,
    places: Vec<String>,
    /// The rival can serve no more from then on.
    over: Instant,
    /// When to claim, and when to look for the rival. `None` while it is under way.
    claim_at: Option<Instant>,
    greet_at: Option<Instant>,
    pause: std::time::Duration,
    /// An operator has decided for this node.
    forced: bool,
}

impl Waiting {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Tie(tie) if tie.forced => Some(tie.over),
            Self::Tie(tie) => tie.claim_at.into_iter().chain(tie.greet_at).min(),
            Self::Answering { until, .. } | Self::Leases { until, .. } => Some(*until),
            Self::SessionEnded { at } => Some(*at),
            Self::Founding => None,
        }
    }
}

impl Membership {
    // ---- When to go on.

    pub(super) fn look_whether_alone(&mut self, view: &NodeView<'_>) {
        if self.config.has_tie_breaker {
            self.look_whether_second(view);
        } else if self.config.availability == Availability::Prefer {
            self.look_whether_survivor(view);
        }
    }

    /// Ends this membership once the sole voter, the other of two, seems lost.
    fn look_whether_second(&mut self, view: &NodeView<'_>) {
        let Some(map) = view.map else { return };
        let rival = tie::rival(map, &self.me);
        let lost = rival.is_some_and(|rival| view.dead.contains(&rival)) && !view.serves;
        // The entities have paused, and can go on as they are if the other is back soon.
        let patience = self.config.lease.lease / 2;
        if self.second.handle_tick(lost, patience, view.now) {
            self.end_session();
            self.stage = Stage::Waiting(Waiting::SessionEnded { at: view.now });
        }
    }

    /// The survivor of two goes on by itself, if it was told to prefer that.
    fn look_whether_survivor(&mut self, view: &NodeView<'_>) {
        let Some(map) = view.map else { return };
        let mut others = map
            .members
            .iter()
            .filter(|(id, member)| **id != self.me && member.status != Status::Down);
        let alone = map.status(&self.me) == Some(Status::Up)
            && others
                .next()
                .is_some_and(|(other, _)| view.dead.contains(other))
            && others.next().is_none()
            && !view.serves;
        if !alone {
            self.alone_since = None;
            return;
        }
        let since = *self.alone_since.get_or_insert(view.now);
        if since + self.config.lease.guard <= view.now {
            self.alone_since = None;
            if self.recovery.is_none() {
                self.handle_recover(None, false, view);
            }
        }
    }

    // ---- A recovery, until it may begin.

    pub(super) fn handle_recover(
        &mut self,
        command: Option<CommandId>,
        force: bool,
        view: &NodeView<'_>,
    ) {
        // A node that has left its generation for one that is gone goes on from what it knew.
        let Some(map) = view.map.or(self.last_map.as_ref()).cloned() else {
            return self.reply(command, Err("it knows no cluster"));
        };
        if !map.members.keys().any(|id| id.node == self.me.node) {
            return self.reply(command, Err("it is no member"));
        }
        match &mut self.stage {
            _ if self.config.address.is_none() => {
                return self.reply(command, Err("it is no member"));
            }
            Stage::Leaving | Stage::Ended => return self.reply(command, Err("it is no member")),
            Stage::Waiting(Waiting::Tie(_)) if !force => {
                let reason = "it waits until the tie-breaker says which of the two goes on";
                return self.reply(command, Err(reason));
            }
            Stage::Waiting(Waiting::Tie(tie)) => {
                tie.forced = true;
                return self.reply(command, Ok(()));
            }
            Stage::Waiting(_) => return self.reply(command, Err("it is about to go on")),
            Stage::Seeking(_) | Stage::Member { .. } => {}
        }
        if self
            .recovery
            .as_ref()
            .is_some_and(|under_way| under_way.command.is_some())
        {
            return self.reply(command, Err("another recovery is under way"));
        }
        self.recovery = Some(Recovery {
            command,
            force,
            map,
            unclaimed: Vec::new(),
        });
        self.begin_operation(Operation::AskLeader);
    }

    pub(super) fn reply(&mut self, command: Option<CommandId>, result: Result<(), &str>) {
        if let Some(command) = command {
            let result = result.map_err(ToOwned::to_owned);
            self.effects.push(MembershipEffect::Reply(command, result));
        }
    }

    pub(super) fn give_up_recovery(&mut self, reason: &str) {
        if let Some(recovery) = self.recovery.take() {
            self.reply(recovery.command, Err(reason));
        }
    }

    pub(super) fn handle_has_leader(&mut self, has_leader: bool, view: &NodeView<'_>) {
        let Some(recovery) = &mut self.recovery else {
            return;
        };
        if has_leader {
            return self
                .give_up_recovery("the cluster has a leader: there is nothing to recover from");
        }
        if recovery.force {
            let map = recovery.map.clone();
            let others = self.addresses_of_others(&map);
            if others.is_empty() {
                return self.begin_recovery(view);
            }
            return self.begin_operation(Operation::AskOthers(Asking::Recovery, others));
        }
        let alive = recovery.map.members.iter().find(|(id, member)| {
            **id != self.me && member.status != Status::Down && !view.dead.contains(id)
        });
        if let Some((alive, _)) = alive {
            let reason = format!(
                "`{alive}` seems alive: let more of the cluster come back; if the majority is lost \
                 for good, `casty recover --force` goes on all the same, and `{alive}` joins as a \
                 new member"
            );
            return self.give_up_recovery(&reason);
        }
        recovery.unclaimed = unclaimed(&recovery.map, &self.me, self.config.has_tie_breaker);
        self.claim_next(view);
    }

    /// Another survivor may have been told to go on before this one.
    pub(super) fn handle_survivors_asked(&mut self, answers: &[Greeted], view: &NodeView<'_>) {
        if answers.iter().any(says_left_behind) {
            let reason = "another member has begun a new generation, which this node is to join";
            return self.give_up_recovery(reason);
        }
        self.begin_recovery(view);
    }

    /// Whether this node is to begin a generation, and has announced it, or is about to.
    pub(super) fn is_about_to_found(&self) -> bool {
        use Waiting::{Answering, Founding, Leases};
        matches!(
            self.stage,
            Stage::Waiting(Answering { .. } | Leases { .. } | Founding)
        )
    }

    fn claim_next(&mut self, view: &NodeView<'_>) {
        let Some(recovery) = &self.recovery else {
            return;
        };
        match recovery.unclaimed.last() {
            Some(other) => {
                let claim = Operation::Claim(recovery.map.identity, other.clone());
                self.begin_operation(claim);
            }
            None => self.begin_recovery(view),
        }
    }

    fn begin_recovery(&mut self, view: &NodeView<'_>) {
        let Some(recovery) = self.recovery.take() else {
            return;
        };
        self.end_session();
        self.reply(recovery.command, Ok(()));
        self.stage = Stage::Waiting(Waiting::Answering {
            until: view.now + self.config.backoff,
            map: recovery.map,
        });
    }

    // ---- The second of two, and the tie-breaker.

    fn wait_for_verdict(&mut self, view: &NodeView<'_>) {
        let rival = view.map.and_then(|map| tie::rival(map, &self.me));
        let (Some(map), Some(rival)) = (view.map, rival) else {
            return self.rejoin_or_stop(view);
        };
        let mut places = self.config.seeds.clone();
        for member in map.members.values() {
            let place = member.address.to_string();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let over = view.now + tie::wait_before_claim(self.config.lease.guard);
        self.stage = Stage::Waiting(Waiting::Tie(TieWait {
            map: map.clone(),
            rival,
            places: places.clone(),
            over,
            claim_at: Some(over),
            greet_at: None,
            pause: self.config.backoff,
            forced: false,
        }));
        self.begin_operation(Operation::Greet(places));
    }

    /// The rival lives, or the cluster is in a later generation: this node joins it as a new
    /// member.
    pub(super) fn handle_rival_greeted(&mut self, greeted: &[Greeted], view: &NodeView<'_>) {
        let backoff = self.config.backoff;
        let Stage::Waiting(Waiting::Tie(tie)) = &mut self.stage else {
            return;
        };
        if tie.forced {
            return;
        }
        if greeted.iter().any(|place| tie.is_reached(place)) {
            return self.rejoin_or_stop(view);
        }
        tie.greet_at = Some(view.now + backoff);
    }

    pub(super) fn handle_verdict(
        &mut self,
        verdict: Result<Verdict, TieError>,
        view: &NodeView<'_>,
    ) {
        if let Some(recovery) = &mut self.recovery {
            let other = recovery.unclaimed.pop();
            return match (verdict, other) {
                (Ok(Verdict::Won), _) => self.claim_next(view),
                (Ok(Verdict::Lost), Some(other)) => {
                    let reason = format!("the tie-breaker has decided for `{other}`");
                    self.give_up_recovery(&reason);
                }
                (Ok(Verdict::Lost), None) => {}
                (Err(error), _) => self.give_up_recovery(&error.to_string()),
            };
        }
        let longest = self.config.backoff_max;
        let Stage::Waiting(Waiting::Tie(tie)) = &mut self.stage else {
            return;
        };
        if tie.forced {
            return;
        }
        match verdict {
            Ok(Verdict::Won) => {
                let map = tie.map.clone();
                self.found_without_rival(map, view);
            }
            Ok(Verdict::Lost) => self.rejoin_or_stop(view),
            Err(_) => {
                let pause = tie.pause.mul_f64(0.5 + view.jitter / 2.0);
                tie.claim_at = Some(view.now + pause);
                tie.pause = (tie.pause * 2).min(longest);
            }
        }
    }

    // ---- The next generation.

    pub(super) fn handle_waiting_tick(&mut self, view: &NodeView<'_>) {
        let Stage::Waiting(waiting) = &mut self.stage else {
            return;
        };
        match waiting {
            Waiting::SessionEnded { .. } => self.wait_for_verdict(view),
            Waiting::Tie(tie) if tie.forced && tie.over <= view.now => {
                let map = tie.map.clone();
                self.found_without_rival(map, view);
            }
            Waiting::Tie(tie) if tie.forced => {}
            Waiting::Tie(tie) => {
                let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= view.now).is_some();
                let claims = due(&mut tie.claim_at);
                let greets = due(&mut tie.greet_at).then(|| tie.places.clone());
                let claim = Operation::Claim(tie.map.identity, tie.rival.clone());
                if claims {
                    self.begin_operation(claim);
                }
                if let Some(places) = greets {
                    self.begin_operation(Operation::Greet(places));
                }
            }
            Waiting::Answering { until, map } if *until <= view.now => {
                let map = map.clone();
                self.begin(view);
                self.wait_for_leases(map, view);
            }
            Waiting::Leases {
                until,
                identity,
                map,
            } if *until <= view.now => {
                let (identity, map) = (*identity, map.clone());
                self.found_generation(identity, map);
            }
            Waiting::Answering { .. } | Waiting::Leases { .. } | Waiting::Founding => {}
        }
    }

    /// Waits until every lease of the last generation is over. The next generation is announced
    /// meanwhile: a member of the last one that lives, or wakes, stops before this node serves.
    fn wait_for_leases(&mut self, map: Arc<ClusterMap>, view: &NodeView<'_>) {
        let guard = self.config.lease.guard;
        // Where there is a tie-breaker, the sole voter may have granted leases for as long as it
        // had heard this node.
        let guards = if self.config.has_tie_breaker { 2 } else { 1 };
        let Some(identity) = self.next_generation(&map, view) else {
            return self.begin_anew(false, view);
        };
        self.stage = Stage::Waiting(Waiting::Leases {
            until: view.now + guard * guards,
            identity,
            map,
        });
        self.effects.push(MembershipEffect::Announce(identity));
        if !self.last_addresses.is_empty() {
            self.begin_operation(Operation::Greet(self.last_addresses.clone()));
        }
    }

    fn next_generation(&self, map: &ClusterMap, view: &NodeView<'_>) -> Option<ClusterIdentity> {
        let seconds = u32::try_from(view.clock.0 / 1000).unwrap_or(u32::MAX);
        let heard_of = self.heard_of.map_or(0, Generation::number);
        let at_least = seconds.max(heard_of.saturating_add(1));
        let generation = map.next_generation(&self.me.node, at_least)?;
        Some(ClusterIdentity {
            generation,
            ..map.identity
        })
    }

    /// The rival can serve no more.
    fn found_without_rival(&mut self, map: Arc<ClusterMap>, view: &NodeView<'_>) {
        self.begin(view);
        match self.next_generation(&map, view) {
            Some(identity) => self.found_generation(identity, map),
            // A rival is only ever one in a map that has this node.
            None => self.begin_anew(false, view),
        }
    }

    fn found_generation(&mut self, identity: ClusterIdentity, map: Arc<ClusterMap>) {
        self.stage = Stage::Waiting(Waiting::Founding);
        self.begin_operation(Operation::FoundGeneration(identity, map));
    }

    /// A cluster, or a generation, has been founded.
    pub(super) fn handle_founded(&mut self, result: Result<(), String>, view: &NodeView<'_>) {
        let is_generation = match self.stage {
            Stage::Waiting(Waiting::Founding) => true,
            Stage::Seeking(_) => false,
            _ => return,
        };
        if let Err(reason) = result {
            return self.fail(JoinError::Engine { reason });
        }
        // Members of the last generation that live hear of this one when they are greeted. Some may
        // have moved to the addresses of seeds since.
        let spreading = is_generation.then(|| Spreading {
            places: self.places(),
            left: Some(TELLINGS_MAX),
            next: Some(view.now),
        });
        self.become_member(spreading, view);
        self.spread(view);
    }
}

impl TieWait {
    fn is_reached(&self, greeted: &Greeted) -> bool {
        let ours = self.map.identity;
        match &greeted.cluster {
            Some(cluster) => {
                let theirs = cluster.identity;
                theirs.uuid == ours.uuid
                    && (theirs.generation > ours.generation || cluster.by == self.rival)
            }
            // The member has refused this node because of what has become of the cluster.
            None => greeted.answer == SeedAnswer::Cluster,
        }
    }
}

/// The members to claim against before a recovery: the sole voter, or, where that is this node, all
/// others. With more voters there is no tie.
fn unclaimed(map: &ClusterMap, me: &MemberId, has_tie_breaker: bool) -> Vec<MemberId> {
    let mut voters = map.voters.keys();
    match (voters.next(), voters.next()) {
        (Some(voter), None) if has_tie_breaker && voter == me => {
            let others = map.members.iter().rev().filter(|(id, member)| {
                *id != me && !matches!(member.status, Status::Down | Status::Joining)
            });
            others.map(|(id, _)| id.clone()).collect()
        }
        (Some(voter), None) if has_tie_breaker => vec![voter.clone()],
        _ => Vec::new(),
    }
}
