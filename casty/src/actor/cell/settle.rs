//! When what a handled message let out may leave.
//!
//! A [turn](super::turn) ends with an [`Output`](super::turn::Output), such as the answer to an
//! ask. The output leaves at once if its [`Conditions`] are met and no earlier output waits.
//! Otherwise it is held, and leaves after the earlier ones, once its conditions are met. The run
//! goes on with the next message meanwhile, as long as it [may](Settle::may_handle).
//!
//! One condition is the node's lease. A lease can be lost while a handler runs: what the handler
//! did is done, but no other actor may hear of it before there is a lease again and the shard is
//! still here. The other, of a stored type, is its store: an output needs the last record whose
//! changes the handler has seen, and leaves once that record is durable.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    actor::{
        cell::{
            core::Core,
            gate::{Gate, Lapses},
        },
        hold::{Holding, Leave},
        storage::Storing,
    },
    error::Failure,
    infra::mutants,
    persistence::writer::Writer,
};

/// Outputs held at a time. A run that holds as many handles no further message.
const HELD_MAX: usize = 1024;

/// The conditions under which outputs may leave.
pub(super) trait Conditions {
    /// The number of the record that an output waits for that is made now.
    fn needs(&self) -> u64;

    fn are_met(&self, needs: u64) -> bool;
}

/// The node holds a lease, the actor is still on this node, and what it has changed is durable.
struct LeaseAndStore<'a> {
    lease: Lease<'a>,
    /// `None` if the type is not stored.
    writer: Option<&'a Writer>,
}

impl<'a> LeaseAndStore<'a> {
    fn new(gate: Option<&'a Gate>, storing: Option<&'a Storing>, core: &'a Core) -> Self {
        Self {
            lease: Lease { gate, core },
            writer: storing.map(|storing| &storing.writer),
        }
    }
}

impl Conditions for LeaseAndStore<'_> {
    fn needs(&self) -> u64 {
        self.writer.map_or(0, Writer::applied)
    }

    fn are_met(&self, needs: u64) -> bool {
        let is_durable = |writer: &Writer| writer.progress().durable() >= needs;
        self.lease.holds()
            && (self.writer.is_none_or(is_durable)
                || mutants::on("an_output_leaves_before_its_record_is_durable"))
    }
}

#[derive(Clone, Copy)]
struct Lease<'a> {
    /// `None` where no other node could have the actor.
    gate: Option<&'a Gate>,
    core: &'a Core,
}

impl Lease<'_> {
    #[inline]
    fn holds(self) -> bool {
        self.gate
            .is_none_or(|gate| gate.is_open() && !self.core.is_severed())
    }
}

/// Outputs in the order of their turns, each with the record that it needs. Pure: no task, no
/// clock.
pub(super) struct Held<T>(VecDeque<(Option<u64>, T)>);

impl<T> Held<T> {
    const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// `needs` is `None` for an output that waits for nothing but the earlier ones.
    fn push(&mut self, needs: Option<u64>, output: T) {
        self.0.push_back((needs, output));
    }

    /// Takes the first output, if it may leave.
    fn next(&mut self, conditions: &impl Conditions) -> Option<T> {
        let (needs, _) = self.0.front()?;
        let may_leave = needs.is_none_or(|needs| conditions.are_met(needs));
        may_leave
            .then(|| self.0.pop_front())
            .flatten()
            .map(|(_, output)| output)
    }
}

/// The outputs of one run that wait, and what they wait for.
pub(super) struct Settle {
    gate: Option<Arc<Gate>>,
    /// Those of the gate when the run began what it does now.
    since: Lapses,
    held: Held<Box<dyn Leave>>,
    /// What the activation writes, if its type is stored.
    storing: Option<Box<Storing>>,
}

impl Settle {
    pub(super) fn new(gate: Option<Arc<Gate>>) -> Self {
        Self {
            gate,
            since: Lapses::default(),
            held: Held::new(),
            storing: None,
        }
    }

    #[inline]
    fn lease<'a>(&'a self, core: &'a Core) -> Lease<'a> {
        Lease {
            gate: self.gate.as_deref(),
            core,
        }
    }

    fn conditions<'a>(&'a self, core: &'a Core) -> LeaseAndStore<'a> {
        LeaseAndStore::new(self.gate.as_deref(), self.storing.as_deref(), core)
    }

    #[inline]
    pub(super) fn is_leased(&self, core: &Core) -> bool {
        self.lease(core).holds()
    }

    /// Whether an output leaves that is let out now, if none is held. `stores`: the type is stored.
    #[inline]
    pub(super) fn are_met(&self, core: &Core, stores: bool) -> bool {
        if !stores {
            return self.is_leased(core);
        }
        let conditions = self.conditions(core);
        conditions.are_met(conditions.needs())
    }

    /// Whether a promise may be kept only while the actor may act.
    pub(super) fn guards(&self) -> bool {
        self.gate.is_some()
    }

    pub(super) fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// The run begins something under the present lease.
    #[inline]
    pub(super) fn renew(&mut self) -> Lapses {
        if let Some(gate) = &self.gate {
            self.since = gate.lapses();
        }
        self.since
    }

    #[inline]
    pub(super) fn since(&self) -> Lapses {
        self.since
    }

    #[inline]
    pub(super) fn holds(&self) -> bool {
        !self.held.0.is_empty()
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.held.0.len() < HELD_MAX
    }

    /// Whether a message may be handled: under a lease, and with room for what it lets out and what
    /// it changes. `stores`: the type is stored.
    #[inline]
    pub(super) fn may_handle(&self, core: &Core, stores: bool) -> bool {
        self.is_leased(core) && self.has_room() && (!stores || self.may_write())
    }

    /// Whether a further record may be written.
    fn may_write(&self) -> bool {
        self.storing
            .as_ref()
            .is_none_or(|storing| storing.writer.failed().is_none() && storing.writer.has_room())
    }

    /// What the activation writes, if its type is stored.
    pub(super) fn writer(&mut self) -> Option<&mut Writer> {
        self.storing.as_mut().map(|storing| &mut storing.writer)
    }

    /// Holds what is about to be let out, if the type is stored.
    pub(super) fn holding(&self) -> Option<Holding> {
        let storing = self.storing.as_ref()?;
        Some(Holding::new(&storing.outlet, storing.writer.applied()))
    }

    pub(super) fn set_storing(&mut self, storing: Option<Box<Storing>>) {
        self.storing = storing;
    }

    pub(super) fn take_storing(&mut self) -> Option<Box<Storing>> {
        self.storing.take()
    }

    /// Whether a record is neither durable nor given up.
    pub(super) fn is_writing(&self) -> bool {
        let storing = self.storing.as_ref();
        storing.is_some_and(|storing| storing.writer.is_writing())
    }

    /// Whether the store has still to decide about a record.
    pub(super) fn is_undecided(&self) -> bool {
        let storing = self.storing.as_ref();
        storing.is_some_and(|storing| storing.writer.is_undecided())
    }

    /// Why a record was not stored, if one was not: the state is worth nothing.
    pub(super) fn failed(&self) -> Option<Failure> {
        let writer = &self.storing.as_ref()?.writer;
        let failed = writer.failed()?;
        let possibly = if mutants::on("what_is_on_its_way_is_not_stored") {
            failed.possibly
        } else {
            writer.progress().may_be_stored()
        };
        Some(failed.failure(possibly))
    }

    /// Holds an output. `fails`: it says that a message was not handled, which needs no condition.
    #[cold]
    pub(super) fn hold(&mut self, output: Box<dyn Leave>, fails: bool, core: &Core) {
        let needs = (!fails).then(|| self.conditions(core).needs());
        self.held.push(needs, output);
    }

    /// Lets go what may leave.
    #[cold]
    pub(super) fn release(&mut self, core: &Core) {
        let conditions = LeaseAndStore::new(self.gate.as_deref(), self.storing.as_deref(), core);
        while let Some(output) = self.held.next(&conditions) {
            output.leave();
        }
    }

    /// Whether [`release`](Self::release) would let something go.
    pub(super) fn may_release(&self, core: &Core) -> bool {
        let conditions = self.conditions(core);
        let first = self.held.0.front();
        first.is_some_and(|(needs, _)| needs.is_none_or(|needs| conditions.are_met(needs)))
    }

    /// Lets go what may leave, and gives up the rest, since what it depends on is not stored.
    #[cold]
    pub(super) fn fail(&mut self, core: &Core, why: &Failure, lost_lease: &Failure) {
        self.release(core);
        let storing = self.storing.as_ref();
        let durable = storing.map_or(0, |storing| storing.writer.progress().durable());
        for (needs, output) in std::mem::take(&mut self.held.0) {
            let is_stored = needs.is_some_and(|needs| needs <= durable);
            output.lose(if is_stored { lost_lease } else { why });
        }
    }

    /// Lets go what may leave, and gives up the rest, for the reason `why`: nothing is held
    /// afterwards.
    #[cold]
    pub(super) fn end(&mut self, core: &Core, why: &dyn Fn() -> Failure) {
        self.release(core);
        if self.holds() {
            let why = why();
            for (_, output) in std::mem::take(&mut self.held.0) {
                output.lose(&why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use crate::{
        actor::{cell::settle::*, handle::CellName},
        infra::sync::lock,
    };

    /// A lease, and a store that has confirmed records up to a number.
    struct Confirmed {
        lease: bool,
        /// The last record that was written.
        written: u64,
        durable: u64,
    }

    impl Conditions for Confirmed {
        fn needs(&self) -> u64 {
            self.written
        }

        fn are_met(&self, needs: u64) -> bool {
            self.lease && self.durable >= needs
        }
    }

    fn leave<T>(held: &mut Held<T>, conditions: &Confirmed) -> Vec<T> {
        std::iter::from_fn(|| held.next(conditions)).collect()
    }

    #[test]
    fn outputs_leave_in_the_order_of_their_turns_however_conditions_are_met() {
        let mut held = Held::new();
        let mut now = Confirmed {
            lease: true,
            written: 3,
            durable: 0,
        };
        held.push(Some(now.needs()), "the answer after record 3");
        // An older record: another activation of the same run may count anew.
        held.push(Some(1), "an answer that needs record 1");
        held.push(None, "a failure");
        now.durable = 1;
        assert_eq!(leave(&mut held, &now), [""; 0], "the first one waits");
        (now.durable, now.lease) = (3, false);
        assert_eq!(leave(&mut held, &now), [""; 0], "without a lease");
        now.lease = true;
        assert_eq!(
            leave(&mut held, &now),
            [
                "the answer after record 3",
                "an answer that needs record 1",
                "a failure"
            ]
        );
    }

    #[test]
    fn a_failure_waits_for_nothing_but_earlier_outputs() {
        let mut held = Held::new();
        let now = Confirmed {
            lease: false,
            written: 1,
            durable: 0,
        };
        held.push(None, "first");
        held.push(Some(now.needs()), "second");
        held.push(None, "third");
        assert_eq!(leave(&mut held, &now), ["first"]);
    }

    proptest! {
        /// Against a plain model: what leaves is a prefix, in order, and each output that leaves
        /// has its conditions met.
        #[test]
        fn no_output_overtakes_or_leaves_early(
            steps in proptest::collection::vec((0u8..4, 0u64..5), 0..100),
        ) {
            let mut held = Held::new();
            let mut now = Confirmed { lease: true, written: 0, durable: 0 };
            let (mut next, mut left) = (0, 0);
            let mut needs = Vec::new();
            for (step, n) in steps {
                match step {
                    0 => {
                        now.written += n;
                        let needed = (n != 4).then(|| now.needs());
                        held.push(needed, next);
                        needs.push(needed);
                        next += 1;
                    }
                    1 => now.durable = now.written.min(now.durable + n),
                    2 => now.lease = n > 1,
                    _ => for output in leave(&mut held, &now) {
                        prop_assert_eq!(output, left);
                        prop_assert!(needs[output].is_none_or(|needs| now.are_met(needs)));
                        left += 1;
                    },
                }
            }
            (now.lease, now.durable) = (true, now.written);
            prop_assert_eq!(leave(&mut held, &now).len(), next - left);
        }
    }

    type Log = Arc<Mutex<Vec<(&'static str, bool)>>>;

    struct Logged(&'static str, Log);

    impl Leave for Logged {
        fn leave(self: Box<Self>) {
            lock(&self.1).push((self.0, true));
        }

        fn lose(self: Box<Self>, _: &Failure) {
            lock(&self.1).push((self.0, false));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_let_out_without_a_lease_leaves_with_the_next_or_is_lost() {
        let second = std::time::Duration::from_secs(1);
        let (gate, core) = (Arc::new(Gate::new()), Core::new(CellName::Actor(1), 0));
        let log = Log::default();
        let output = |name| Box::new(Logged(name, log.clone()));
        let mut settle = Settle::new(Some(gate.clone()));
        assert!(!settle.may_handle(&core, false));
        settle.hold(output("answer"), false, &core);
        settle.hold(output("failure"), true, &core);
        settle.release(&core);
        assert!(lock(&log).is_empty());
        gate.open_until(tokio::time::Instant::now() + second);
        settle.release(&core);
        assert_eq!(*lock(&log), [("answer", true), ("failure", true)]);
        assert!(settle.may_handle(&core, false));
        // Severed: with a lease, but the actor may be on another node.
        core.sever();
        settle.hold(output("late"), false, &core);
        settle.end(&core, &|| Failure::Stopped);
        assert_eq!(lock(&log)[2..], [("late", false)]);
        assert!(!settle.holds());
    }

    #[test]
    fn a_run_that_holds_many_outputs_handles_no_more() {
        let core = Core::new(CellName::Actor(1), 0);
        let mut settle = Settle::new(None);
        for _ in 0..HELD_MAX {
            assert!(settle.may_handle(&core, false));
            settle.hold(Box::new(Logged("answer", Log::default())), false, &core);
        }
        assert!(!settle.may_handle(&core, false));
    }
}
