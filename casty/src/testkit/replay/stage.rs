//! Where a recording is replayed: a system of its own, from which nothing gets out.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime,
    time::{self, Instant},
};

use super::replayed::{Difference, Replayed};
use crate::{
    ActorSystem, Entity, SystemBuilder,
    actor::{
        Handled,
        ask::chain::{self, AsAsker},
        cell::{Cell, recorded::outcome},
        context::Context,
        handle::CellName,
        hold::{Holding, Outlet},
        message::of_stored,
    },
    id::EntityId,
    message::caller::{Caller, CameFrom},
    recorder::{
        Recording, Section,
        answers::Answers,
        difference,
        recording::{Noted, RecordedTurn, StateAfter, TurnOutcome},
    },
    testkit::{alone, machine::MachineHost},
};

/// How long a handler may await something, by the paused clock: then it awaits what the recording
/// does not have.
const CALL_LIMIT: Duration = Duration::from_hours(1);

/// Where recordings are replayed.
pub(super) struct Stage {
    runtime: runtime::Runtime,
    system: ActorSystem,
    /// What the paused clock and the recording show at the first message.
    clock: Option<(Instant, u64)>,
    id: EntityId,
}

/// An entity that is replayed, and the state that was recorded last.
struct Played<E: Entity> {
    cell: Arc<Cell<E>>,
    context: Context<E>,
    outlet: Arc<Outlet>,
    state: E,
    last: (String, Noted),
}

impl Stage {
    pub(super) fn new(
        recording: &Recording,
        configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
    ) -> Self {
        let runtime = alone::runtime();
        let system = {
            let _entered = runtime.enter();
            alone::system("replay", configure)
        };
        let first = recording.sections.iter().find_map(|it| it.turns.first());
        let clock = first.map(|turn| (runtime.block_on(async { Instant::now() }), turn.at));
        Self {
            runtime,
            system,
            clock,
            id: EntityId::new(&recording.id),
        }
    }

    /// Reads something with the code of today.
    pub(super) fn read<T>(&self, read: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        self.system.runtime().enter(read)
    }

    /// Replays a section. `before`: how many messages there are before it.
    pub(super) fn play<E: Entity>(
        &self,
        section: &Section,
        before: usize,
        replayed: &mut Replayed,
    ) -> Option<Difference> {
        let recorded = match &section.state {
            Ok(recorded) => recorded,
            Err(reason) => {
                let (from, to) = (before + 1, before + section.turns.len());
                let skipped =
                    format!("messages {from} to {to}, whose state is not known: {reason}");
                replayed.skipped.push(skipped);
                return None;
            }
        };
        let difference = |number: usize, turn: &RecordedTurn, reason: String| {
            Some(Difference {
                place: format!("message {number}, `{}`", turn.shown()),
                reason,
            })
        };
        let state = match self.read(|| E::thaw(&recorded.name, &recorded.bytes)) {
            Ok(state) => state,
            Err(error) => {
                let reason = format!("the state before it cannot be read: {}", error.0);
                return difference(before + 1, section.turns.first()?, reason);
            }
        };
        let last = (recorded.name.clone(), Noted::of(&recorded.bytes));
        let mut played = self.enter(state, last);
        for (number, turn) in (before + 1..).zip(&section.turns) {
            let over = match turn.outcome {
                TurnOutcome::Running | TurnOutcome::CutShort => "did not end",
                _ if turn.bytes.is_none() => "has no wire form, or is too large",
                _ if turn.lacks_answers() => "has asked for more than is recorded",
                _ => "",
            };
            if !over.is_empty() {
                let (message, to) = (&turn.message, before + section.turns.len());
                let skipped = format!("messages {number} to {to}: `{message}` {over}");
                replayed.skipped.push(skipped);
                return None;
            }
            match self.handle(&mut played, turn) {
                Ok(()) => replayed.messages += 1,
                Err(reason) => return difference(number, turn, reason),
            }
            if matches!(turn.outcome, TurnOutcome::Panicked(_)) {
                let (from, to) = (number + 1, before + section.turns.len());
                if from <= to {
                    let skipped = format!("messages {from} to {to}, which follow a failure");
                    replayed.skipped.push(skipped);
                }
                return None;
            }
        }
        None
    }

    /// A cell that takes no message: what comes to its actor is in the recording.
    pub(super) fn cell<E: Entity>(&self) -> (Arc<Cell<E>>, Context<E>) {
        let _entered = self.runtime.enter();
        let host = Arc::new(MachineHost::<E>::new(self.system.runtime().clone()));
        let name = CellName::Entity(self.id.clone());
        let cell = Cell::new(name, host, E::POLICY.mailbox, None);
        cell.seal();
        let mut context = Context::new(cell.clone());
        context.core().attach(0, None);
        (cell, context)
    }

    fn enter<E: Entity>(&self, state: E, last: (String, Noted)) -> Played<E> {
        let (cell, context) = self.cell();
        Played {
            cell,
            context,
            outlet: self.outlet(),
            state,
            last,
        }
    }

    /// Awaits users' code, from which nothing gets out but asks that `answers` has the answers to.
    /// `None`: it awaits something else.
    pub(super) fn attend<E: Entity, T>(
        &self,
        cell: &Arc<Cell<E>>,
        outlet: &Arc<Outlet>,
        answers: &Arc<Answers>,
        code: impl Future<Output = T>,
    ) -> Option<std::thread::Result<T>> {
        self.runtime.block_on(async {
            let holding = Holding::new(outlet, 0);
            let attending = async {
                chain::records(Some(answers.clone()));
                let code = pin!(AssertUnwindSafe(code).catch_unwind());
                let done = holding.lets(code).await;
                chain::records(None);
                done
            };
            let attending = AsAsker::new(cell.clone(), attending);
            time::timeout(CALL_LIMIT, attending).await.ok()
        })
    }

    /// What nothing gets out of.
    pub(super) fn outlet(&self) -> Arc<Outlet> {
        Outlet::sink(self.runtime.handle().clone())
    }

    /// Handles a message. An error says what is different.
    fn handle<E: Entity>(&self, played: &mut Played<E>, turn: &RecordedTurn) -> Result<(), String> {
        let bytes = turn.bytes.as_ref().map_or(&[][..], |bytes| bytes);
        let message = self.read(|| of_stored::<E::Message>(&turn.message, bytes));
        let message = message.map_err(|error| format!("it cannot be read: {}", error.0))?;
        let Played {
            cell,
            context,
            outlet,
            state,
            last,
        } = played;
        context.core().comes_from(|| came_from(&turn.caller), false);
        context.is_reminded(turn.due);
        let answers = Arc::new(Answers::replayed(turn.asks.clone()));
        #[cfg(feature = "sim")]
        let _shows =
            crate::infra::wall_clock::simulated::Shows::new(Duration::from_micros(turn.at));
        if let Some((origin, first)) = self.clock {
            let passed = Duration::from_micros(turn.at.saturating_sub(first));
            self.runtime
                .block_on(async { time::sleep_until(origin + passed).await });
        }
        let handling = state.handle(message, context);
        let handled = self.attend(cell, outlet, &answers, handling);
        context.forget_written();
        context.core().forget_requests();
        drop(context.take_raised());
        if let Some(wrong) = answers.wrong() {
            return Err(wrong);
        }
        let Some(handled) = handled else {
            return Err(format!(
                "its handler awaits something that is not in the recording; there it {}",
                turn.outcome
            ));
        };
        let now = outcome::<E>(&handled);
        if now != turn.outcome {
            return Err(format!("it {now}; in the recording it {}", turn.outcome));
        }
        self.same_state(&handled, state, last, &turn.state)
    }

    /// Compares the state after a message. `last`: the state that was recorded before it.
    fn same_state<E: Entity>(
        &self,
        handled: &std::thread::Result<Handled<E>>,
        state: &E,
        last: &mut (String, Noted),
        recorded: &StateAfter,
    ) -> Result<(), String> {
        if let StateAfter::Changed { name, state } = recorded {
            *last = (name.clone(), state.clone());
        }
        if *recorded == StateAfter::Unknown || handled.is_err() || !state.is_whole() {
            return Ok(());
        }
        let now = frozen(state);
        let now = now.map_err(|why| format!("the state after it cannot be written: {why}"))?;
        let what = self.compare::<E>(&now, last);
        what.map_or(Ok(()), |what| Err(format!("the state after it is {what}")))
    }

    /// Compares two states with their names. `None`: they are the same, also if only the code of
    /// today writes the recorded one as it writes this one.
    pub(super) fn compare<E: Entity>(
        &self,
        now: &(String, Noted),
        recorded: &(String, Noted),
    ) -> Option<String> {
        let what = differ(now, recorded)?;
        let Noted::Whole(bytes) = &recorded.1 else {
            return Some(what);
        };
        let again = self.read(|| E::thaw(&recorded.0, bytes)).ok();
        match again.and_then(|state| frozen(&state).ok()) {
            Some(again) => differ(now, &again),
            None => Some(what),
        }
    }
}

fn frozen<E: Entity>(state: &E) -> Result<(String, Noted), String> {
    let mut bytes = Vec::new();
    let name = state.freeze(&mut bytes).map_err(|error| error.0)?;
    Ok((name.to_owned(), Noted::of(&bytes)))
}

/// Where two states differ.
fn differ(now: &(String, Noted), recorded: &(String, Noted)) -> Option<String> {
    if now == recorded {
        return None;
    }
    if now.0 == recorded.0
        && let (Noted::Whole(_), Noted::Whole(_)) = (&now.1, &recorded.1)
    {
        // None, if only the order in a `HashSet` is another.
        let differences = difference::of_states(&now.1, &recorded.1);
        return (!differences.is_empty()).then(|| format!("another: {}", differences.join("; ")));
    }
    let shown = |(name, state): &(String, Noted)| state.shown_state(name);
    Some(format!(
        "{}; in the recording it is {}",
        shown(now),
        shown(recorded)
    ))
}

fn came_from(caller: &Caller) -> CameFrom {
    match caller {
        Caller::Local => CameFrom::Here,
        Caller::Unverified => CameFrom::Peer(None),
        other => CameFrom::Peer(Some(Arc::new(other.clone()))),
    }
}
