//! The traces in which a plain reading of the protocol loses something, as a model of it found
//! them. Each is carried out twice: as the rules are, where nothing is lost, and with the rule
//! broken, where the world notices.
//!
//! A, B and C are nodes, x and y records. In a comment, e2 is an epoch.

use super::world::*;
use crate::{infra::mutants, protocol::copies::*};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A and B are in sync, and C is not.
fn two_of_three() -> Plan {
    Plan {
        in_sync: 2,
        copies_min: 1,
        ..Plan::default()
    }
}

fn three() -> Plan {
    Plan::default()
}

fn one_is_enough() -> Plan {
    Plan {
        copies_min: 1,
        ..Plan::default()
    }
}

/// Carries a trace out, with the rule and without it.
fn trace(rule: &'static str, plan: Plan, script: fn(&mut World)) {
    let run = || {
        let mut world = World::new(plan);
        script(&mut world);
        world.broken
    };
    assert_eq!(run(), None, "the rule holds");
    let broken = mutants::breaking(rule, run);
    assert!(broken.is_some(), "nobody notices that `{rule}`");
}

impl World {
    /// What is on its way between these nodes arrives, and is synced, and answered.
    fn settle(&mut self, nodes: &[usize]) {
        loop {
            let inside = |it: &Envelope| nodes.contains(&it.from) && nodes.contains(&it.to);
            let arrives = self.take(inside);
            let is_calm = arrives.is_empty();
            for envelope in &arrives {
                self.deliver(envelope);
            }
            for node in nodes {
                self.sync(*node);
            }
            if is_calm && !self.soup.iter().any(inside) {
                return;
            }
        }
    }

    /// As [`settle`](Self::settle), and what is read for copies is sent.
    fn settle_all(&mut self, nodes: &[usize]) {
        loop {
            self.settle(nodes);
            let mut is_calm = true;
            for node in nodes {
                while self.read(*node) {
                    is_calm = false;
                }
            }
            if is_calm {
                return;
            }
        }
    }

    /// Takes messages out of the world.
    fn take(&mut self, which: impl Fn(&Envelope) -> bool) -> Vec<Envelope> {
        let all = std::mem::take(&mut self.soup);
        let (taken, left) = all.into_iter().partition(|it| which(it));
        self.soup = left;
        taken
    }

    fn between(&mut self, from: usize, to: usize) -> Vec<Envelope> {
        self.take(|it| it.from == from && it.to == to)
    }

    /// What is on its way from one node to another arrives.
    fn pass(&mut self, from: usize, to: usize) {
        for envelope in self.between(from, to) {
            self.deliver(&envelope);
        }
    }

    fn see_all(&mut self, node: usize) {
        while self.see(node) {}
    }

    /// All that is proposed is decided.
    fn decide(&mut self) {
        for proposal in std::mem::take(&mut self.proposals) {
            self.apply(proposal);
        }
    }

    /// A process is Down, and its lease is over, although it lives.
    fn falsely_down(&mut self, node: usize) {
        self.down(node);
        self.running(node).lease = false;
    }

    fn dies(&mut self, node: usize) {
        let steps = self.steps_unsynced(node);
        self.crash(node, steps);
        self.down(node);
    }

    fn leader_drops(&mut self, node: usize) {
        let change = self.set_change(node);
        self.apply(Proposal::LeaderDrops(change));
    }

    /// A node becomes the owner, if it may, and sees it.
    fn becomes_owner(&mut self, node: usize) -> bool {
        let before = self.epoch();
        if self.propose_owner(node) {
            self.decide();
        }
        let is_owner = self.epoch() > before;
        self.see_all(node);
        is_owner
    }

    /// The process ends in order, and another one begins.
    fn begins_anew(&mut self, node: usize) {
        self.end(node);
        self.restart(node);
    }

    /// C or, if it may not, B takes over for good from A.
    fn c_or_b_goes_on(&mut self) {
        self.dies(A);
        if self.becomes_owner(C) {
            self.leader_drops(A);
            self.see_all(C);
            self.settle_all(&[B, C]);
        } else {
            assert!(self.becomes_owner(B), "somebody is in sync");
            self.leader_drops(A);
            self.see_all(B);
            self.settle_all(&[B, C]);
        }
        self.calm();
    }
}

/// A copy counts once it has all that was let out, not when it is within one batch of that.
#[test]
fn x01_a_copy_is_added_when_it_is_nearly_there() {
    trace(
        "copies_are_added_within_one_batch",
        two_of_three(),
        |world| {
            world.append(A);
            world.calm();
            assert_eq!(world.let_out.len(), 1);
            world.want(C);
            world.see_all(A);
            world.settle(&[A, C]);
            world.decide();
            world.c_or_b_goes_on();
        },
    );
}

/// A copy is required from the moment it is proposed: the map may have it before the owner sees
/// that, and no timeout changes it.
#[test]
fn x02_a_copy_counts_only_when_the_owner_sees_it() {
    let script: fn(&mut World) = |world| {
        world.want(C);
        world.see_all(A);
        world.settle(&[A, C]);
        world.decide();
        assert!(world.map().has(world.nodes[C].id));
        world.append(A);
        world.settle(&[A, B]);
        world.wait(A, DROP_AFTER);
        world.settle(&[A, B]);
        world.proposals.clear();
        world.c_or_b_goes_on();
    };
    trace("a_proposed_copy_is_not_required", two_of_three(), script);
    trace("a_proposed_copy_is_forgotten", two_of_three(), script);
}

/// During a takeover nothing was let out yet under the epoch, and all of the log counts.
#[test]
fn x03_a_copy_is_added_when_it_has_what_is_known_to_be_durable() {
    let rule = "copies_are_added_on_what_is_durable_alone";
    trace(rule, two_of_three(), |world| {
        world.append(A);
        world.calm();
        world.begins_anew(A);
        assert!(world.becomes_owner(A));
        world.sync(A);
        world.want(C);
        world.see_all(A);
        world.settle(&[A, C]);
        world.decide();
        world.c_or_b_goes_on();
    });
}

/// A set changes by compare-and-set on the epoch and on the version.
#[test]
fn x04_a_proposal_of_another_time_fits() {
    trace("copies_change_in_any_epoch", two_of_three(), |world| {
        world.want(C);
        world.see_all(A);
        world.settle(&[A, C]);
        let late = std::mem::take(&mut world.proposals);
        assert_eq!(late.len(), 1);
        world.falsely_down(A);
        world.begins_anew(A);
        assert!(world.becomes_owner(B));
        world.soup.clear();
        // C is out of reach, so B does not add it.
        world.sync(B);
        world.settle(&[A, B]);
        world.append(B);
        world.settle(&[A, B]);
        world.wait(B, DROP_AFTER);
        assert_eq!(world.let_out.len(), 1);
        world.proposals = late;
        world.decide();
        world.dies(B);
        if world.becomes_owner(C) {
            world.leader_drops(B);
            world.see_all(C);
        } else {
            assert!(world.becomes_owner(A));
        }
        world.soup.clear();
        world.sync(C);
        world.settle_all(&[A, C]);
    });
    trace("copies_change_in_any_version", two_of_three(), |world| {
        world.want(C);
        world.see_all(A);
        world.settle(&[A, C]);
        let late = std::mem::take(&mut world.proposals);
        assert_eq!(late.len(), 1);
        // Another change is first, and C is wanted no more.
        let change = world.set_change(B);
        world.change(|map, _| {
            map.wanted.clear();
            map.stored
                .drop_copy(change.of(number(change.store)), None, 1)
        });
        world.see_all(A);
        world.append(A);
        world.sync(A);
        assert_eq!(world.let_out.len(), 1);
        world.proposals = late;
        world.decide();
        world.dies(A);
        if world.becomes_owner(C) {
            world.leader_drops(A);
        }
        world.restart(A);
        world.becomes_owner(A);
        world.calm();
    });
}

/// Whether a new owner is in sync is tested when the map changes.
#[test]
fn x05_an_owner_was_in_sync_when_it_was_proposed() {
    let rule = "assignments_are_checked_when_proposed";
    trace(rule, three(), |world| {
        world.falsely_down(A);
        world.propose_owner(C);
        let assignment = std::mem::take(&mut world.proposals);
        let change = world.set_change(C);
        let by = world.nodes[A].id;
        world.apply(Proposal::Set(CopyProposal::Drop(change), by));
        world.see_all(A);
        world.append(A);
        world.settle(&[A, B]);
        assert_eq!(world.let_out.len(), 1, "writes need no lease");
        world.proposals = assignment;
        world.decide();
        world.calm();
    });
}

/// A planned move goes only into a store that is in sync when the owner releases the shard.
#[test]
fn x06_a_release_goes_to_a_store_that_is_not_in_sync() {
    trace("a_release_goes_outside", two_of_three(), |world| {
        world.append(A);
        world.calm();
        let is_broken = mutants::on("a_release_goes_outside");
        assert_eq!(world.move_to(C), is_broken);
        let slot = world.nodes[C].member;
        world.change(|map, _| {
            map.stored.home.moving = Some(slot);
            Ok(())
        });
        world.see_all(A);
        assert!(world.hand_over(A));
        world.decide();
        world.calm();
    });
}

/// An owner fences its own store first, and that is synced before it sends anything.
#[test]
fn x07_an_owner_fences_the_others_first() {
    let script: fn(&mut World) = |world| {
        world.append(A);
        world.settle(&[A, B]);
        let late = world.between(A, C);
        world.falsely_down(A);
        assert!(world.becomes_owner(C));
        let fence = world.between(C, A);
        world.crash(C, 0);
        world.restart(C);
        for envelope in &late {
            world.deliver(envelope);
        }
        world.sync(C);
        world.pass(C, A);
        assert_eq!(world.let_out.len(), 1);
        for envelope in &fence {
            world.deliver(envelope);
        }
        world.begins_anew(A);
        assert!(world.becomes_owner(A));
        world.calm();
    };
    trace("appends_leave_before_the_fence_is_synced", three(), script);
    trace("the_own_store_is_not_fenced", three(), script);
}

/// Nothing of an epoch is ever cut under it.
#[test]
fn x08_a_doubled_fence_cuts_what_came_after_it() {
    trace("a_late_append_cuts", three(), |world| {
        world.falsely_down(A);
        assert!(world.becomes_owner(B));
        world.sync(B);
        let mut late = world.soup.clone();
        late.retain(|it| it.from == B && it.to == A);
        assert!(!late.is_empty());
        world.settle(&[A, B, C]);
        world.append(B);
        world.settle(&[A, B, C]);
        assert_eq!(world.let_out.len(), 1);
        for envelope in &late {
            world.deliver(envelope);
        }
        world.dies(B);
        world.begins_anew(A);
        assert!(world.becomes_owner(A));
        world.leader_drops(B);
        world.calm();
    });
}

/// C holds b of e1 at the position at which the owner of e3 has x of e2, and never heard of e2.
fn another_record_at_the_position(world: &mut World) {
    world.append(A);
    world.pass(A, C);
    world.sync(C);
    world.falsely_down(A);
    assert!(world.becomes_owner(B));
    world.soup.clear();
    world.crash(A, 0);
    world.restart(A);
    world.wait_until_due(B);
    world.sync(B);
    world.wait_until_due(B);
    world.settle(&[A, B]);
    world.append(B);
    world.settle(&[A, B]);
    assert_eq!(world.let_out.len(), 0);
    world.dies(B);
    world.soup.clear();
    assert!(world.becomes_owner(A));
    world.restart(B);
    world.calm();
    assert_eq!(world.let_out.len(), 1);
    world.dies(A);
    assert!(world.becomes_owner(C));
    world.restart(A);
    world.calm();
}

/// A position alone proves no record, and neither does the length of a log.
#[test]
fn x09_a_position_proves_a_record() {
    let script = another_record_at_the_position;
    trace("positions_alone_prove_a_record", three(), script);
    trace("the_length_is_confirmed", three(), script);
}

/// A confirmation waits for the sync, also where there was nothing to write but a cut.
#[test]
fn x10_a_cut_is_confirmed_and_comes_back() {
    trace("a_cut_is_not_synced", three(), |world| {
        world.append(A);
        world.pass(A, C);
        world.sync(C);
        world.crash(A, 0);
        world.restart(A);
        assert!(world.becomes_owner(B));
        world.sync(B);
        world.pass(B, C);
        world.pass(C, B);
        world.settle(&[A, B]);
        world.pass(B, C);
        world.pass(C, B);
        world.crash(C, 0);
        world.restart(C);
        world.dies(B);
        world.soup.clear();
        assert!(world.becomes_owner(C));
        world.restart(B);
        world.calm();
    });
}

/// A promise is on the disk, and no older epoch is taken as long as it is there.
#[test]
fn x11_a_copy_takes_an_append_of_an_epoch_that_is_over() {
    let script: fn(&mut World) = |world| {
        world.append(A);
        let late = world.between(A, C);
        world.soup.clear();
        world.crash(A, 0);
        world.restart(A);
        assert!(world.becomes_owner(B));
        world.calm();
        world.begins_anew(C);
        for envelope in &late {
            world.deliver(envelope);
        }
        world.dies(B);
        assert!(world.becomes_owner(C));
        world.restart(B);
        world.calm();
    };
    trace("a_promise_is_not_kept", three(), script);
    trace("copies_take_old_epochs", three(), script);
}

/// The own appends of an owner pass the test that those of others pass.
#[test]
fn x12_a_stale_owner_writes_to_its_own_store() {
    trace("a_stale_owner_writes", three(), |world| {
        world.falsely_down(A);
        assert!(world.becomes_owner(B));
        world.sync(B);
        world.settle(&[A, B, C]);
        assert!(world.machine(B).is_complete());
        world.append(A);
        world.begins_anew(A);
        world.dies(B);
        assert!(world.becomes_owner(A));
        world.restart(B);
        world.calm();
    });
}

/// What was written is not taken back: an epoch and a position name one record for ever.
#[test]
fn x13_a_position_is_used_for_another_record() {
    trace("a_position_is_used_twice", three(), |world| {
        world.append(A);
        world.pass(A, C);
        world.sync(C);
        world.soup.clear();
        world.append(A);
        world.wait(A, RESEND_AFTER);
        world.calm();
        assert!(!world.let_out.is_empty());
        world.dies(A);
        assert!(world.becomes_owner(C));
        world.restart(A);
        world.calm();
    });
}

/// The owner's own sync counts.
#[test]
fn x14_all_in_sync_is_read_as_all_others() {
    trace("the_own_sync_is_not_counted", three(), |world| {
        world.append(A);
        for copy in [B, C] {
            world.pass(A, copy);
            world.sync(copy);
            world.pass(copy, A);
        }
        world.crash(A, 0);
        world.restart(A);
        assert!(world.becomes_owner(A));
        world.calm();
    });
}

/// Before a takeover is complete nothing leaves, not even what the log has.
#[test]
fn x15_a_new_owner_reads_from_its_log_at_once() {
    let rule = "outputs_leave_before_the_takeover_is_complete";
    trace(rule, three(), |world| {
        world.append(A);
        world.pass(A, C);
        world.sync(C);
        world.crash(A, 0);
        world.down(A);
        assert!(world.becomes_owner(C));
        world.sync(C);
        assert_eq!(world.machine(C).head(), 1);
    });
}

/// What was confirmed under another epoch is void, also if the same process owns again.
#[test]
fn x16_a_confirmation_of_another_epoch_counts() {
    trace("confirmations_of_any_epoch_count", three(), |world| {
        world.append(A);
        world.sync(A);
        world.pass(A, C);
        world.sync(C);
        let late = world.between(C, A);
        assert!(late[0].is_confirmation());
        world.soup.clear();
        world.falsely_down(A);
        assert!(world.becomes_owner(B));
        world.sync(B);
        world.pass(B, C);
        world.sync(C);
        world.soup.clear();
        assert_eq!(world.nodes[C].disk.log.len(), 0, "it is cut");
        world.dies(B);
        world.begins_anew(A);
        assert!(world.becomes_owner(A));
        world.restart(B);
        world.sync(A);
        world.settle_all(&[A, B]);
        for envelope in &late {
            world.deliver(envelope);
        }
        world.dies(A);
        world.soup.clear();
        assert!(world.becomes_owner(C));
        world.restart(A);
        world.calm();
    });
}

/// The set never falls below `copies_min`, and nothing is let out with fewer stores.
#[test]
fn x17_drops_go_on_down_to_one() {
    let plan = Plan {
        in_sync: 2,
        ..Plan::default()
    };
    trace("drops_go_on_down_to_one", plan, |world| {
        world.append(A);
        world.wait(A, DROP_AFTER);
        world.decide();
        world.see_all(A);
        world.sync(A);
    });
}

/// The map outlives all its voters, and no process goes on from an older one.
#[test]
fn x18_the_map_is_lost_in_a_restart() {
    let script: fn(&mut World) = |world| {
        let before = world.map().in_sync();
        world.down(C);
        world.leader_drops(C);
        world.see_all(A);
        world.append(A);
        world.settle(&[A, B]);
        assert_eq!(world.let_out.len(), 1);
        for node in [A, B, C] {
            world.end(node);
            world.down(node);
        }
        // Preconditions of the protocol, not rules of the machine: the voters keep the map.
        if mutants::on("the_map_is_forgotten") {
            world.replace_map([world.nodes[C].id].into());
        }
        if mutants::on("the_map_is_one_drop_behind") {
            world.replace_map(before);
        }
        world.restart(C);
        let is_owner = world.becomes_owner(C);
        world.sync(C);
        world.restart(A);
        world.restart(B);
        assert!(is_owner || world.becomes_owner(A));
        world.calm();
    };
    trace("the_map_is_forgotten", three(), script);
    trace("the_map_is_one_drop_behind", three(), script);
}

/// A directory restored from a backup is another store.
#[test]
fn x19_a_restored_store_keeps_its_id() {
    trace("a_restored_store_keeps_its_id", two_of_three(), |world| {
        world.append(A);
        world.calm();
        world.end(B);
        world.restore_from_backup(B, 0);
        world.restart(B);
        world.dies(A);
        if world.becomes_owner(B) {
            world.leader_drops(A);
        }
        world.restart(A);
        world.becomes_owner(A);
        world.calm();
    });
}

/// A read needs the lease, an owner is assigned once the lease is over, and nothing leaves after
/// the release.
#[test]
fn x20_an_owner_reads_after_another_has_taken_over() {
    trace("reads_without_a_lease", one_is_enough(), |world| {
        world.falsely_down(A);
        a_is_dropped_and_b_goes_on(world);
    });
    trace(
        "assigns_before_the_lease_is_over",
        one_is_enough(),
        |world| {
            world.down(A);
            a_is_dropped_and_b_goes_on(world);
        },
    );
    trace("it_serves_after_the_release", one_is_enough(), |world| {
        world.move_to(B);
        world.see_all(A);
        assert!(world.hand_over(A));
        world.decide();
        world.see_all(B);
        let change = world.set_change(A);
        let by = world.nodes[B].id;
        assert!(world.apply(Proposal::Set(CopyProposal::Drop(change), by)));
        world.see_all(B);
        world.sync(B);
        world.settle(&[B, C]);
        world.append(B);
        world.settle(&[B, C]);
        assert_eq!(world.let_out.len(), 1);
    });
}

fn a_is_dropped_and_b_goes_on(world: &mut World) {
    world.leader_drops(A);
    if world.becomes_owner(B) {
        world.sync(B);
        world.settle(&[B, C]);
        world.append(B);
        world.settle(&[B, C]);
        assert_eq!(world.let_out.len(), 1);
    }
}

/// A and B have what C lacks, and are lost. The shard begins anew with what C has.
fn lost_with_a_and_b(world: &mut World, begins_empty: bool) {
    world.append(A);
    world.settle_all(&[A, B]);
    assert_eq!(world.let_out.len(), 1, "acknowledged");
    for node in [A, B] {
        world.dies(node);
    }
    assert!(!world.becomes_owner(C), "it is not in sync");
    assert!(world.begin_anew(C, begins_empty));
    assert!(world.becomes_owner(C));
    world.settle(&[C]);
    assert!(world.machine(C).is_complete());
}

/// The stores that were lost are back, and become copies again: what they alone had is gone.
fn what_was_lost_is_back(world: &mut World, begins_empty: bool) {
    lost_with_a_and_b(world, begins_empty);
    for node in [A, B] {
        world.restart(node);
        assert!(world.want(node));
        world.see_all(C);
        world.settle_all(&[A, B, C]);
        world.decide();
        world.see_all(C);
        assert!(world.map().has(world.nodes[node].id), "a copy again");
        assert_eq!(world.nodes[node].disk.log, world.nodes[C].disk.log);
    }
    // Whichever of them owns it next, nothing is back.
    world.dies(C);
    assert!(world.becomes_owner(B));
    world.settle_all(&[A, B]);
    assert!(world.nodes[B].disk.log.is_empty() || !begins_empty);
}

#[test]
fn what_a_lost_store_alone_had_never_comes_back() {
    for begins_empty in [true, false] {
        let mut world = World::new(two_of_three());
        what_was_lost_is_back(&mut world, begins_empty);
        assert_eq!(world.broken, None);
    }
}

#[test]
fn a_life_that_begins_empty_needs_a_cleared_store() {
    trace("an_owner_keeps_what_was_given_up", three(), |world| {
        world.append(A);
        world.settle_all(&[A, B, C]);
        for node in [A, B, C] {
            world.dies(node);
        }
        // The store is there again, but its number is not in the set: it was dropped meanwhile.
        world.leader_drops(C);
        world.restart(C);
        if world.begin_anew(C, true) {
            world.becomes_owner(C);
            world.settle(&[C]);
        }
    });
}

#[test]
fn the_last_owner_of_a_life_has_no_epoch_of_the_next_one() {
    trace("an_owner_outlives_its_life", two_of_three(), |world| {
        world.append(A);
        world.settle_all(&[A, B]);
        // A could not hand the shard over, and is cut off before that is decided.
        let (by, expected) = (world.nodes[A].member, world.epoch());
        world.propose(Proposal::Keep { by, expected });
        world.falsely_down(A);
        world.dies(B);
        assert!(world.begin_anew(C, false));
        world.decide();
        world.see_all(A);
        world.settle(&[A, B, C]);
    });
}
