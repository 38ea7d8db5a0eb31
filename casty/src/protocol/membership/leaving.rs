//! How a node leaves: its shards are given up in order, then its membership, then its connections.
//! Waits for nothing itself.
//!
//! The shell executes one [`LeavingStep`] at a time and says what became of it. All steps share one
//! deadline. Once that has passed each of them fails at once, and the node goes all the same.

use std::sync::Arc;

use crate::{
    id::{Epoch, MemberId, ShardId},
    infra::mutants,
    protocol::map::{ClusterMap, Command, KindCopies, ShardHome, Status},
};

/// The next effect for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeavingStep {
    /// Have this recorded in the map. A command that does not fit the map any more was recorded
    /// before.
    Record(Command),
    /// Wait until the map [has handed over](has_handed_over) what this node had.
    HandOver,
    /// Fail what waits for entities of this node: without a lease none of them handles anything.
    Sever,
    /// Stop all entities of the region with this number.
    StopRegion(usize),
    /// Stop all actors.
    StopActors,
    /// Wait until this node [may end](may_end): what members record that leave at the same time
    /// needs its vote. Without one they would wait for it in vain.
    Outlast,
    /// Tell gossip that this member goes.
    SayGoodbye,
    /// End all tasks, and connections with them.
    Disconnect,
    /// Remove the vote that was kept on disk.
    ForgetSeat,
    /// The node has left.
    End {
        /// The work that was still under way when the time was up.
        late: Option<&'static str>,
    },
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepDone {
    /// The outcome of `Record`: the command is in the map.
    Recorded,
    /// The step is done.
    Done,
    /// The outcome of `StopRegion`: these shards of the entity type had no other home.
    Stopped {
        kind: String,
        shards: Vec<(ShardId, Epoch)>,
    },
    /// The step failed, or the time was up.
    Failed,
    /// The outcome of `Disconnect`: this has not ended in time.
    GoesOn(&'static str),
}

/// The state of a node that begins to leave.
#[derive(Clone, Debug)]
pub(crate) struct Departing {
    pub(crate) me: MemberId,
    /// Whether the node is a member. A node whose engine has failed is not: it has given up
    /// everything it owned, and the other members take it for dead.
    pub(crate) is_member: bool,
    pub(crate) regions: usize,
}

/// A node that leaves.
#[derive(Debug)]
pub(crate) struct Leaving {
    node: Departing,
    step: LeavingStep,
    /// The region to stop next.
    region: usize,
    late: Option<&'static str>,
    /// The last record of this member is in the map.
    removed: bool,
    forgets_seat: bool,
}

impl Leaving {
    /// The node begins to leave: the machine, and the first step.
    pub(crate) fn new(node: Departing) -> (Self, LeavingStep) {
        let member = node.me.clone();
        let mut leaving = Self {
            step: LeavingStep::Record(Command::Leave { member }),
            node,
            region: 0,
            late: None,
            removed: false,
            forgets_seat: false,
        };
        if !leaving.node.is_member {
            leaving.step = leaving.stop_next_region();
        }
        let first = leaving.step.clone();
        (leaving, first)
    }

    /// The next step. `map`: the newest. `serves`: the node holds a lease.
    pub(crate) fn handle_done(
        &mut self,
        done: StepDone,
        map: Option<&ClusterMap>,
        serves: bool,
    ) -> LeavingStep {
        let failed = done == StepDone::Failed;
        self.step = match &self.step {
            LeavingStep::Record(Command::Leave { .. }) if !failed => LeavingStep::HandOver,
            // Without a leader nothing takes the shards either.
            LeavingStep::Record(Command::Leave { .. }) => self.sever_or_stop(serves),
            LeavingStep::HandOver => {
                self.note_late(failed, "shards that have not moved to other nodes");
                self.sever_or_stop(serves)
            }
            LeavingStep::StopRegion(_) => {
                self.note_late(failed, "handlers of entities");
                self.release(done)
            }
            LeavingStep::Sever | LeavingStep::Record(Command::Release { .. }) => {
                self.stop_next_region()
            }
            LeavingStep::StopActors => {
                self.note_late(failed, "handlers of actors");
                match map {
                    Some(map) if self.node.is_member && !may_end(map, &self.node.me) => {
                        LeavingStep::Outlast
                    }
                    _ => self.say_farewell(),
                }
            }
            // The work that is under way on other members does not make this one late.
            LeavingStep::Outlast => self.say_farewell(),
            LeavingStep::Record(_) => {
                self.removed = !failed;
                LeavingStep::SayGoodbye
            }
            LeavingStep::SayGoodbye => {
                self.forgets_seat = self.may_forget_seat(map);
                LeavingStep::Disconnect
            }
            LeavingStep::Disconnect => {
                if let StepDone::GoesOn(what) = done {
                    self.late.get_or_insert(what);
                }
                if self.forgets_seat {
                    LeavingStep::ForgetSeat
                } else {
                    LeavingStep::End { late: self.late }
                }
            }
            LeavingStep::ForgetSeat | LeavingStep::End { .. } => {
                LeavingStep::End { late: self.late }
            }
        };
        self.step.clone()
    }

    fn note_late(&mut self, failed: bool, what: &'static str) {
        if failed {
            self.late = Some(what);
        }
    }

    fn sever_or_stop(&mut self, serves: bool) -> LeavingStep {
        if serves {
            self.stop_next_region()
        } else {
            LeavingStep::Sever
        }
    }

    fn stop_next_region(&mut self) -> LeavingStep {
        let next = self.region;
        if next == self.node.regions {
            return LeavingStep::StopActors;
        }
        self.region += 1;
        LeavingStep::StopRegion(next)
    }

    /// Shards that no other member could take lose their owner now.
    fn release(&mut self, done: StepDone) -> LeavingStep {
        match done {
            StepDone::Stopped { kind, shards } if !shards.is_empty() => {
                LeavingStep::Record(Command::Release {
                    member: self.node.me.clone(),
                    kind,
                    shards,
                })
            }
            _ => self.stop_next_region(),
        }
    }

    /// A member whose handlers still run cannot be forgotten: the others wait until its lease is
    /// over.
    fn say_farewell(&mut self) -> LeavingStep {
        let member = self.node.me.clone();
        match (self.node.is_member, self.late) {
            (false, _) => LeavingStep::Disconnect,
            (true, None) => LeavingStep::Record(Command::Remove { member }),
            (true, Some(_)) => LeavingStep::Record(Command::Down { member }),
        }
    }

    /// Whether the vote of this node is not needed any more: another member has it, or this node
    /// was the last member and its removal is recorded. Otherwise others may wait for this vote:
    /// those that leave at the same time, and could not have that recorded, come back with what
    /// they have kept.
    fn may_forget_seat(&self, map: Option<&ClusterMap>) -> bool {
        let was_last = |map: &ClusterMap| {
            let others = map.members.keys().any(|id| *id != self.node.me);
            map.voters.len() == 1 && (!others || mutants::on("the_last_vote_is_forgotten"))
        };
        let needs_no_vote = |map: &ClusterMap| {
            !map.voters.contains_key(&self.node.me) || (self.removed && was_last(map))
        };
        self.node.is_member && self.late.is_none() && map.is_some_and(needs_no_vote)
    }
}

/// Whether a member has no shard and no copy that another could have, and no vote that another
/// could take.
pub(crate) fn has_handed_over(map: &ClusterMap, me: &MemberId) -> bool {
    let others = || map.up().filter(|id| *id != me);
    let Some(slot) = map.member(me).map(|member| member.slot) else {
        return true;
    };
    let keeps = |(kind, table): (&String, &Arc<Vec<ShardHome>>)| {
        table.iter().any(|home| home.owner == Some(slot)) && others().any(|id| map.hosts(id, kind))
    };
    let store = map.store_no(me);
    let has_copies = |(kind, copies): (&String, &KindCopies)| {
        let mut places = copies.shards.iter();
        store.is_some_and(|store| places.any(|places| places.in_sync.has(store)))
            && others().any(|id| map.hosts(id, kind))
    };
    !map.kinds.iter().any(keeps)
        && !map.copies.iter().any(has_copies)
        && (!map.voters.contains_key(me) || others().next().is_none())
}

/// Whether no member that leaves needs the vote of this one: it is not the only voter, or no
/// other member leaves.
pub(crate) fn may_end(map: &ClusterMap, me: &MemberId) -> bool {
    let only_voter = map.voters.len() == 1 && map.voters.contains_key(me);
    let mut others = map.members.iter().filter(|(id, _)| *id != me);
    !only_voter || !others.any(|(_, member)| member.status == Status::Leaving)
}

/// Whether the voters can take a decision. `votes`: whether each of them may take part.
pub(crate) fn can_decide(votes: impl Iterator<Item = bool>) -> bool {
    let (mut all, mut there) = (0, 0);
    for vote in votes {
        all += 1;
        there += usize::from(vote);
    }
    there * 2 > all
}

#[cfg(test)]
mod tests {
    use super::{LeavingStep::*, *};
    use crate::protocol::map::{
        VoterPlace,
        tests::{address, assignment, founded, join, member},
    };

    fn a() -> MemberId {
        member("a", 1)
    }

    fn leaving(is_member: bool, regions: usize) -> (Leaving, LeavingStep) {
        Leaving::new(Departing {
            me: a(),
            is_member,
            regions,
        })
    }

    /// All steps that a node takes whose steps turn out like this.
    fn steps(
        (mut leaving, first): (Leaving, LeavingStep),
        map: &ClusterMap,
        serves: bool,
        mut outcome: impl FnMut(&LeavingStep) -> StepDone,
    ) -> Vec<LeavingStep> {
        let mut steps = vec![first];
        while let Some(step) = steps.last().filter(|step| !matches!(step, End { .. })) {
            let done = outcome(step);
            steps.push(leaving.handle_done(done, Some(map), serves));
        }
        steps
    }

    /// Everything goes well, and each region has these shards left.
    fn well(shards: &[u32]) -> impl FnMut(&LeavingStep) -> StepDone {
        let shards: Vec<_> = shards
            .iter()
            .map(|shard| (ShardId(*shard), Epoch::new(7, 1)))
            .collect();
        move |step| match step {
            Record(_) => StepDone::Recorded,
            StopRegion(_) => StepDone::Stopped {
                kind: "Counter".into(),
                shards: shards.clone(),
            },
            _ => StepDone::Done,
        }
    }

    fn leave() -> LeavingStep {
        Record(Command::Leave { member: a() })
    }

    fn remove() -> LeavingStep {
        Record(Command::Remove { member: a() })
    }

    fn two_nodes() -> ClusterMap {
        let mut map = founded(4);
        join(&mut map, &member("b", 1));
        map
    }

    /// `b` has taken the vote.
    fn without_vote(mut map: ClusterMap) -> ClusterMap {
        let place = VoterPlace {
            seat: map.member(&member("b", 1)).unwrap().seat,
            address: address(2),
        };
        let voters = std::iter::once((member("b", 1), place)).collect();
        map.apply(&Command::Voters { voters }).unwrap();
        map
    }

    #[test]
    fn a_member_hands_over_stops_and_is_removed() {
        let map = without_vote(two_nodes());
        assert_eq!(
            steps(leaving(true, 2), &map, true, well(&[])),
            [
                leave(),
                HandOver,
                StopRegion(0),
                StopRegion(1),
                StopActors,
                remove(),
                SayGoodbye,
                Disconnect,
                ForgetSeat,
                End { late: None },
            ]
        );
    }

    #[test]
    fn shards_that_no_member_could_take_are_released() {
        let release = Record(Command::Release {
            member: a(),
            kind: "Counter".into(),
            shards: vec![(ShardId(3), Epoch::new(7, 1))],
        });
        let all = steps(leaving(true, 1), &two_nodes(), true, well(&[3]));
        assert_eq!(all[2..5], [StopRegion(0), release, StopActors]);
    }

    /// Nothing takes the shards, and the others find out by themselves.
    #[test]
    fn a_node_that_finds_no_leader_goes_all_the_same() {
        let mut well = well(&[]);
        let no_leader = move |step: &LeavingStep| match step {
            Record(_) => StepDone::Failed,
            step => well(step),
        };
        assert_eq!(
            steps(leaving(true, 1), &two_nodes(), false, no_leader),
            [
                leave(),
                Sever,
                StopRegion(0),
                StopActors,
                remove(),
                SayGoodbye,
                Disconnect,
                End { late: None },
            ]
        );
    }

    #[test]
    fn a_node_that_is_no_member_only_stops() {
        assert_eq!(
            steps(leaving(false, 1), &two_nodes(), false, well(&[])),
            [StopRegion(0), StopActors, Disconnect, End { late: None }]
        );
    }

    /// If the leaving member's handlers still run, the others have to wait until its lease is over.
    #[test]
    fn a_member_whose_handlers_still_run_is_down_and_not_removed() {
        let late = [
            (HandOver, "shards that have not moved to other nodes"),
            (StopRegion(0), "handlers of entities"),
            (StopActors, "handlers of actors"),
        ];
        let map = without_vote(two_nodes());
        for (late, what) in late {
            let mut well = well(&[]);
            let all = steps(leaving(true, 1), &map, true, |step| {
                if *step == late {
                    StepDone::Failed
                } else {
                    well(step)
                }
            });
            let down = Record(Command::Down { member: a() });
            assert_eq!(
                all[all.len() - 4..],
                [down, SayGoodbye, Disconnect, End { late: Some(what) }],
                "it keeps its vote"
            );
        }
    }

    #[test]
    fn tasks_that_do_not_end_are_named_unless_something_else_was_late_before() {
        let mut well = well(&[]);
        let all = steps(leaving(true, 1), &two_nodes(), true, |step| match step {
            Disconnect => StepDone::GoesOn("connections"),
            step => well(step),
        });
        let late = Some("connections");
        assert_eq!(all.last(), Some(&End { late }));
        let all = steps(leaving(true, 1), &two_nodes(), true, |step| match step {
            StopActors => StepDone::Failed,
            Disconnect => StepDone::GoesOn("connections"),
            _ => StepDone::Done,
        });
        let late = Some("handlers of actors");
        assert_eq!(all.last(), Some(&End { late }));
    }

    /// If no member is left to take the vote, the cluster ends with its last voter. If the removal
    /// is not recorded, others may wait for that vote.
    #[test]
    fn the_last_voter_forgets_its_seat_once_it_is_removed() {
        let alone = founded(4);
        let forgets = |map: &ClusterMap, removed: bool| {
            let mut well = well(&[]);
            let all = steps(leaving(true, 0), map, true, |step| match step {
                Record(Command::Remove { .. }) if !removed => StepDone::Failed,
                step => well(step),
            });
            all.contains(&ForgetSeat)
        };
        assert!(forgets(&alone, true));
        assert!(!forgets(&alone, false));
        let mut voters = two_nodes();
        let b = without_vote(voters.clone()).voters.pop_first().unwrap();
        voters.voters.insert(b.0, b.1);
        assert!(!forgets(&voters, true), "another voter needs the vote");
        assert!(forgets(&without_vote(voters), false));
        // Another member leaves at the same time, and could not have that recorded any more.
        let others = two_nodes();
        assert_eq!(others.voters.len(), 1);
        assert!(!forgets(&others, true), "what it has kept needs the vote");
        mutants::breaking("the_last_vote_is_forgotten", || {
            assert!(forgets(&others, true));
        });
    }

    /// All leave at once: the only voter decides for the others, and ends last.
    #[test]
    fn the_only_voter_outlasts_members_that_leave() {
        let mut map = two_nodes();
        assert!(may_end(&map, &a()), "`b` does not leave");
        let b = member("b", 1);
        map.apply(&Command::Leave { member: b.clone() }).unwrap();
        assert!(!may_end(&map, &a()));
        assert!(may_end(&map, &b), "its vote is not needed");
        let expected = [Outlast, remove(), SayGoodbye, Disconnect];
        let all = steps(leaving(true, 0), &map, true, well(&[]));
        assert_eq!(all[3..7], expected);
        let mut well = well(&[]);
        let all = steps(leaving(true, 0), &map, true, |step| match step {
            Outlast => StepDone::Failed,
            step => well(step),
        });
        assert_eq!(all[3..7], expected, "it was not late itself");
        map.apply(&Command::Remove { member: b }).unwrap();
        assert!(may_end(&map, &a()));
    }

    #[test]
    fn what_others_can_take_is_waited_for() {
        let mut map = two_nodes();
        assert!(!has_handed_over(&map, &a()), "its vote");
        map = without_vote(map);
        assert!(has_handed_over(&map, &a()));
        let assignments = vec![assignment(0, Epoch::ZERO, &a())];
        map.apply(&Command::Assign { assignments }).unwrap();
        assert!(!has_handed_over(&map, &a()), "a shard");
        let b = member("b", 1);
        map.apply(&Command::Leave { member: b.clone() }).unwrap();
        assert!(has_handed_over(&map, &a()), "nothing can take it");
        map.apply(&Command::Down { member: b }).unwrap();
        assert!(has_handed_over(&map, &a()));
        assert!(has_handed_over(&map, &member("c", 1)), "no member");
    }
}
