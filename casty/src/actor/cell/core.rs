//! The part of a cell that does not depend on the types of its messages and its state.
//!
//! Nothing here is generic, so it is compiled once, in casty, and not again for each type of actor.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Waker,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    actor::{
        cell::{
            gate::Lapses,
            host::Host,
            present::{Present, Shown},
        },
        context::watch::{WatchId, Watcher},
        handle::{AnyCell, CellName, ChildEvent, Signal},
        tasks::lingering::RecentRuns,
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    id::Epoch,
    infra::concurrent::AtomicBool,
};

/// The part of a cell that is read without its lock.
pub(super) struct Core {
    pub(super) name: CellName,
    /// Set when a signal is queued, and read between two messages.
    pub(super) signalled: AtomicBool,
    /// Set when the actor may be somewhere else by now. The cell handles nothing from then on.
    severed: AtomicBool,
    /// Set when the cell should have closed by now: no call that awaits goes on.
    overdue: AtomicBool,
    /// Whether the run is in a call that awaits something, or waits for children.
    awaits: AtomicBool,
    pub(super) present: Present,
    /// When the last message from outside, or result of work, was handled, in milliseconds of
    /// [`Runtime::coarse_millis`](crate::actor::runtime::Runtime::coarse_millis).
    pub(super) used: AtomicU32,
}

impl Core {
    pub(super) fn new(name: CellName, used: u32) -> Self {
        Self {
            name,
            signalled: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            awaits: AtomicBool::new(false),
            present: Present::default(),
            used: AtomicU32::new(used),
        }
    }

    pub(super) fn is_entity(&self) -> bool {
        matches!(self.name, CellName::Entity(_))
    }

    pub(super) fn sever(&self) {
        self.severed.store(true, Ordering::Release);
        // A run looks at this between two messages.
        self.signalled.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_overdue(&self) {
        self.overdue.store(true, Ordering::Release);
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Whether calls that await something end, whatever the lease.
    pub(super) fn ends_calls(&self) -> bool {
        self.is_severed() || self.is_overdue()
    }

    pub(super) fn set_awaiting(&self, awaits: bool) {
        self.awaits.store(awaits, Ordering::Release);
    }

    pub(super) fn is_awaiting(&self) -> bool {
        self.awaits.load(Ordering::Acquire)
    }

    /// Why a call was dropped where it awaited something.
    #[cold]
    pub(super) fn why_cut_short(&self) -> &'static str {
        if self.is_overdue() {
            "the entity had to stop, and had not done so within `stop_timeout`"
        } else if self.is_entity() {
            "its node lost its lease"
        } else {
            "the actor had to stop at once"
        }
    }

    pub(super) fn is_severed(&self) -> bool {
        self.severed.load(Ordering::Acquire)
    }

    pub(super) fn path(&self, kind: &str) -> ActorPath {
        let id = match &self.name {
            CellName::Entity(id) => id.to_string(),
            CellName::Actor(number) => number.to_string(),
        };
        ActorPath {
            kind: kind.to_owned(),
            id,
        }
    }

    /// The epoch under which the actor is here; [`Epoch::ZERO`] once it may be somewhere else: it
    /// was severed, or the gate was closed `since`.
    pub(super) fn epoch(&self, host: &dyn Host, since: Lapses) -> Epoch {
        let epoch = host.epoch();
        // After the look at the owner: the epoch was in force at the moment of this check.
        let is_here =
            !self.is_severed() && host.gate().is_none_or(|gate| gate.is_open_since(since));
        if is_here { epoch } else { Epoch::ZERO }
    }

    /// Tells the parent what became of this actor, if it has a parent that still lives.
    pub(super) fn tell_parent(&self, host: &dyn Host, event: ChildEvent) {
        if let CellName::Actor(number) = self.name
            && let Some(parent) = host.parent()
        {
            parent.child(number, event);
        }
    }

    /// Tells the parent, the watchers and the callers of `close` that the cell has closed.
    #[cold]
    pub(super) fn ended(
        &self,
        host: &dyn Host,
        rare: Option<Box<Rare>>,
        reason: &TerminatedReason,
    ) {
        self.tell_parent(host, ChildEvent::Ended);
        let Some(rare) = rare else { return };
        for watcher in rare.watchers.into_values() {
            watcher.tell(self.path(host.kind()), reason.clone());
        }
        for closed in rare.on_closed {
            let _ = closed.send(());
        }
    }
}

/// Where the run of a cell is. See the drawing in [`run`](super::run).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no run.
    Idle,
    Running,
    /// The run waits for the next message, or signal.
    Waiting,
    /// The run waits for a time to pass, or for a lease. A message does not end the wait.
    Paused,
    /// The run waits for a time to pass. A message ends the wait.
    Resting,
    /// The run waits until outputs may leave. A message or a signal ends the wait.
    Settling,
    Closed,
}

/// How long a run has waited for a message, counted in the rounds of
/// [`LingeringRuns`](crate::actor::tasks::lingering::LingeringRuns).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Short,
    /// Since the last round.
    Long,
    /// The run must end as soon as it has nothing to do: no round will look at it again.
    Over,
}

/// The part of a cell that its lock protects, apart from the messages and the state.
pub(super) struct Status {
    pub(super) phase: Phase,
    /// Of a run that has shown something.
    pub(super) seen: Option<Box<Shown>>,
    /// The cell takes no more messages, and closes once the mailbox is empty.
    pub(super) closing: bool,
    /// Of a run that waits for a message, or in a handler.
    pub(super) waker: Option<Waker>,
    pub(super) recent: RecentRuns,
    pub(super) wait: Wait,
    // Boxed: most cells never need it.
    rare: Option<Box<Rare>>,
}

/// The parts of a [`Status`] that few cells have.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) signals: VecDeque<Signal>,
    /// In the order of their watches.
    watchers: BTreeMap<WatchId, Watcher>,
    /// How many of them there are before it is worth a look which are wanted.
    watchers_max: usize,
    on_closed: Vec<oneshot::Sender<()>>,
    /// Until when the cell takes no messages, and what their senders are told.
    failing: Option<(Instant, Failure)>,
    /// Ends the pause of a run.
    interrupt: Option<Arc<Notify>>,
    /// How the cell ended, if not in order.
    ended: Option<TerminatedReason>,
}

/// The fewest watchers that are looked at.
const WATCHERS_MIN: usize = 16;

impl Rare {
    fn watch(&mut self, watcher: Watcher) {
        if self.watchers.len() >= self.watchers_max.max(WATCHERS_MIN) {
            self.watchers.retain(|_, watcher| watcher.is_wanted());
            self.watchers_max = self.watchers.len() * 2;
        }
        self.watchers.insert(watcher.id, watcher);
    }

    #[cold]
    #[inline(never)]
    fn refusal(&self) -> Option<Box<Failure>> {
        let (until, failure) = self.failing.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        if left.is_zero() {
            return None;
        }
        let mut failure = failure.clone();
        if let Failure::Quarantined { retry_after, .. } = &mut failure {
            *retry_after = left;
        }
        Some(Box::new(failure))
    }
}

/// Why a cell accepts no envelopes, or not this one. Of two words, so that it is returned in
/// registers: each sender looks whether there is one.
pub(crate) enum RefusalReason {
    Closed,
    Failing(Box<Failure>),
}

/// The consequences of a change of a cell's [`Status`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Schedule the run.
    Schedule,
}

impl Status {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            seen: None,
            closing: false,
            waker: None,
            recent: RecentRuns::default(),
            wait: Wait::Short,
            rare: None,
        }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Why the cell takes no messages at present.
    #[inline]
    pub(super) fn refusal(&self) -> Option<RefusalReason> {
        if self.phase == Phase::Closed || self.closing {
            return Some(RefusalReason::Closed);
        }
        let failure = self.rare.as_ref()?.refusal()?;
        Some(RefusalReason::Failing(failure))
    }

    pub(super) fn refuse_until(&mut self, until: Instant, failure: Failure) {
        self.rare().failing = Some((until, failure));
    }

    pub(super) fn refuse_no_more(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.failing = None;
        }
    }

    /// From here on, the next sender wakes the run.
    pub(super) fn wait_for_more(&mut self, waker: &Waker) {
        self.phase = Phase::Waiting;
        self.wait = Wait::Short;
        self.wake_by(waker);
    }

    /// The run's, by which senders and signals wake it.
    pub(super) fn wake_by(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Begins a pause, which the returned handle ends.
    pub(super) fn pause(&mut self, phase: Phase) -> Arc<Notify> {
        let interrupt = Arc::new(Notify::new());
        self.phase = phase;
        self.rare().interrupt = Some(interrupt.clone());
        interrupt
    }

    /// The pause is over.
    pub(super) fn resume(&mut self) {
        self.phase = Phase::Running;
        self.rare().interrupt = None;
    }

    /// Ends the pause of the run.
    #[cold]
    pub(super) fn interrupt(&mut self) {
        self.phase = Phase::Running;
        if let Some(interrupt) = self.rare.as_ref().and_then(|rare| rare.interrupt.as_ref()) {
            interrupt.notify_one();
        }
    }

    /// The signals that came since the last call.
    #[cold]
    pub(super) fn take_signals(&mut self) -> VecDeque<Signal> {
        self.rare
            .as_mut()
            .map(|rare| std::mem::take(&mut rare.signals))
            .unwrap_or_default()
    }

    /// Whether the entity is to be erased.
    pub(super) fn is_to_be_erased(&self) -> bool {
        let rare = self.rare.as_ref();
        rare.is_some_and(|rare| rare.signals.iter().any(|it| matches!(it, Signal::Erase(_))))
    }

    pub(super) fn signal(&mut self, signal: Signal, core: &Core) -> Then {
        if self.phase == Phase::Closed {
            return Then::Nothing;
        }
        let erases = matches!(signal, Signal::Erase(_));
        self.rare().signals.push_back(signal);
        core.signalled.store(true, Ordering::Relaxed);
        // A cell that rests has no activation to tell.
        match self.phase {
            Phase::Resting if !erases => Then::Nothing,
            _ => Then::Schedule,
        }
    }

    /// No message is taken from here on. `closed` is told when the cell has closed; dropped at
    /// once if it has.
    pub(super) fn close(&mut self, closed: oneshot::Sender<()>) -> Then {
        if self.phase == Phase::Closed {
            return Then::Nothing;
        }
        self.closing = true;
        self.rare().on_closed.push(closed);
        if self.phase == Phase::Paused {
            self.interrupt();
            return Then::Nothing;
        }
        Then::Schedule
    }

    /// The cell has closed. Returns what [`Core::ended`] needs.
    pub(super) fn closed(&mut self, reason: &TerminatedReason) -> Option<Box<Rare>> {
        self.phase = Phase::Closed;
        self.waker = None;
        let rare = self.rare.take();
        if *reason != TerminatedReason::Stopped {
            self.rare().ended = Some(reason.clone());
        }
        rare
    }

    /// Ends the run if it has waited since the last call, or if it waits `at_all`. Returns whether
    /// there is a run yet, and what to wake for its end.
    pub(super) fn end_wait(&mut self, at_all: bool) -> (bool, Option<Waker>) {
        match self.phase {
            Phase::Idle | Phase::Closed => return (false, None),
            Phase::Running | Phase::Paused | Phase::Resting | Phase::Settling => {
                return (true, None);
            }
            Phase::Waiting => {}
        }
        if self.wait == Wait::Short && !at_all {
            self.wait = Wait::Long;
            return (true, None);
        }
        self.wait = Wait::Over;
        self.recent.reset();
        (false, self.waker.take())
    }

    /// Keeps a watcher; gives it back, with the reason, if the cell has closed.
    pub(super) fn watch(&mut self, watcher: Watcher) -> Result<(), (Watcher, TerminatedReason)> {
        if self.phase == Phase::Closed {
            let ended = self.rare.as_ref().and_then(|rare| rare.ended.clone());
            return Err((watcher, ended.unwrap_or(TerminatedReason::Stopped)));
        }
        self.rare().watch(watcher);
        Ok(())
    }

    pub(super) fn unwatch(&mut self, watch: WatchId) {
        if let Some(rare) = &mut self.rare {
            rare.watchers.remove(&watch);
        }
    }
}

/// A cell as the functions of its life see it, whatever the type of its actor.
pub(super) trait Untyped: AnyCell {
    fn core(&self) -> &Core;

    fn host(&self) -> &dyn Host;

    /// Looks at the status under the cell's lock, and at whether the mailbox is empty.
    fn with_status(&self, look: &mut dyn FnMut(&mut Status, bool));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::actor::{
        cell::{core::*, gate::Gate},
        runtime::Runtime,
    };

    struct Owner(Arc<Gate>);

    impl Host for Owner {
        fn runtime(&self) -> &Arc<Runtime> {
            unreachable!("nothing runs here")
        }

        fn kind(&self) -> &'static str {
            "Owner"
        }

        fn can_init(&self) -> bool {
            true
        }

        fn parent(&self) -> Option<Arc<dyn AnyCell>> {
            None
        }

        fn gate(&self) -> Option<&Arc<Gate>> {
            Some(&self.0)
        }

        fn epoch(&self) -> Epoch {
            Epoch(7)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_epoch_is_zero_once_the_lease_has_lapsed_also_under_the_next_one() {
        let gate = Arc::new(Gate::new());
        let (core, host) = (Core::new(CellName::Actor(1), 0), Owner(gate.clone()));
        let second = Duration::from_secs(1);
        gate.open_until(Instant::now() + second);
        let since = gate.lapses();
        assert_eq!(core.epoch(&host, since), Epoch(7));
        tokio::time::advance(second).await;
        assert_eq!(core.epoch(&host, since), Epoch::ZERO);
        gate.open_until(Instant::now() + second);
        assert_eq!(core.epoch(&host, since), Epoch::ZERO);
        let since = gate.lapses();
        assert_eq!(core.epoch(&host, since), Epoch(7));
        core.sever();
        assert_eq!(core.epoch(&host, since), Epoch::ZERO);
    }
}
