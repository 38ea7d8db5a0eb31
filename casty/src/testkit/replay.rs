//! Replays of recordings: the flight recorder's messages, handled again by the code of today.

use std::{fmt, panic::AssertUnwindSafe, path::Path, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    runtime,
    time::{self, Instant},
};

use super::machine::MachineHost;
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
    persistence::Memory,
    recorder::{
        Recording, RecordingError, Section,
        answers::Answers,
        difference,
        recording::{Noted, RecordedTurn, StateAfter, TurnOutcome},
    },
};

/// How long a handler may await something, by the paused clock: then it awaits what the recording
/// does not have.
const HANDLER_LIMIT: Duration = Duration::from_hours(1);

/// Replays a recording of the [flight recorder](crate::recorder): hands its messages, one by one, to
/// the handlers of today, and compares what becomes of each, and the state after it, with what is
/// recorded, up to the first difference.
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit};
/// # use casty::admin::Admin;
///
/// #[message]
/// #[derive(Default)]
/// struct Account {
///     balance: i64,
/// }
///
/// #[entity(record = 256)]
/// impl Account {
///     #[message]
///     fn deposit(&mut self, amount: i64) -> i64 {
///         self.balance += amount;
///         self.balance
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("alice.casty");
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// #     let node = ActorSystem::builder("bank").start().await?;
/// #     node.wait_for(1).await?;
/// #     node.entity::<Account>("alice").deposit(5).await?;
/// #     let admin = Admin::connect("bank", [node.address()]).await?;
/// #     admin.recording("Account", "alice").await?.unwrap().write(&file)?;
/// #     node.shutdown().await?;
/// #     Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// // Written by `casty record Account/alice --write alice.casty`, or when it failed.
/// let replayed = testkit::replay::<Account>(&file)?;
/// assert_eq!(replayed.messages(), 1);
/// replayed.expect_same();
/// # Ok(())
/// # }
/// ```
///
/// Each part of the recording begins with a state, from which the replay goes on. Handlers run on
/// the thread of the test, with a paused clock that shows the times of the recording. What they ask
/// of other actors is answered from the recording, and nothing else that they send, spawn, begin or
/// pipe leaves them; timers and the results of work come as messages of the recording. So a handler
/// that does nothing else than casty knows of does what it did. What it reads elsewhere, such as the
/// time of the system, randomness, a database or a resource, is not recorded, and shows as a
/// difference, if it makes one; [`replay_with`] gives resources that answer as they did.
///
/// A state that only differs by the order of its bytes counts as the same, since a `HashMap` is
/// written in another order in each process.
///
/// # Errors
/// The file cannot be read.
///
/// # Panics
/// Within a tokio runtime, such as a `#[tokio::test]`: it has a runtime of its own.
pub fn replay<E: Entity>(file: impl AsRef<Path>) -> Result<Replayed, RecordingError> {
    let recording = Recording::read(file)?;
    Ok(replay_with::<E>(&recording, |builder| builder))
}

/// As [`replay`], in a system that `configure` has configured, for example with
/// [resources](SystemBuilder::resource).
///
/// # Panics
/// As [`replay`], and if the configuration is refused.
pub fn replay_with<E: Entity>(
    recording: &Recording,
    configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
) -> Replayed {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing that could lack");
    let system = {
        let _entered = runtime.enter();
        configure(ActorSystem::builder("replay"))
            .for_tests(Memory::new())
            .start_local()
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let mut replayed = Replayed {
        entity: format!("{}/{}", recording.kind, recording.id),
        messages: 0,
        skipped: Vec::new(),
        difference: None,
    };
    let first = recording.sections.iter().find_map(|it| it.turns.first());
    let clock = first.map(|turn| (runtime.block_on(async { Instant::now() }), turn.at));
    let stage = Stage {
        runtime,
        system,
        clock,
        id: EntityId::new(&recording.id),
    };
    let mut before = 0;
    for section in &recording.sections {
        replayed.difference = stage.play::<E>(section, before, &mut replayed);
        if replayed.difference.is_some() {
            break;
        }
        before += section.turns.len();
    }
    replayed
}

/// What became of a [replay].
#[derive(Clone, Debug)]
#[must_use = "a replay may have found a difference"]
pub struct Replayed {
    entity: String,
    messages: usize,
    skipped: Vec<String>,
    difference: Option<Difference>,
}

impl Replayed {
    /// How many messages did the same as in the recording.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// What of the recording could not be replayed, and why: parts without a state, and messages
    /// without a wire form with all that follow them, up to the next state.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The first message that did something else than in the recording.
    pub const fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// Requires that all that could be replayed did the same as in the recording.
    ///
    /// # Panics
    /// If there is a difference: the text says which. And if no message could be replayed.
    #[track_caller]
    pub fn expect_same(&self) {
        assert!(self.difference.is_none() && self.messages > 0, "{self}");
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} messages did the same as in the recording",
            self.entity, self.messages
        )?;
        if let Some(difference) = &self.difference {
            write!(f, "; then {difference}")?;
        }
        for skipped in &self.skipped {
            write!(f, "\nnot replayed: {skipped}")?;
        }
        Ok(())
    }
}

/// A message that did something else than in the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its number in the recording, from 1 on.
    pub number: usize,
    /// The message, with its arguments, as text.
    pub message: String,
    /// What is different, as text.
    pub reason: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "message {}, `{}`: {}",
            self.number, self.message, self.reason
        )
    }
}

/// Where recordings are replayed.
struct Stage {
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
    /// Replays a section. `before`: how many messages there are before it.
    fn play<E: Entity>(
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
                number,
                message: turn.shown(),
                reason,
            })
        };
        let thawed = {
            let _entered = self.runtime.enter();
            let actors = self.system.runtime();
            actors.enter(|| E::thaw(&recorded.name, &recorded.bytes))
        };
        let state = match thawed {
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
                return None;
            }
        }
        None
    }

    fn enter<E: Entity>(&self, state: E, last: (String, Noted)) -> Played<E> {
        let _entered = self.runtime.enter();
        let host = Arc::new(MachineHost::<E>::new(self.system.runtime().clone()));
        let name = CellName::Entity(self.id.clone());
        let cell = Cell::new(name, host, E::POLICY.mailbox, None);
        // What comes to it is in the recording.
        cell.seal();
        let mut context = Context::new(cell.clone());
        context.core().attach(0, None);
        Played {
            cell,
            context,
            outlet: Outlet::sink(self.runtime.handle().clone()),
            state,
            last,
        }
    }

    /// Handles a message. An error says what is different.
    fn handle<E: Entity>(&self, played: &mut Played<E>, turn: &RecordedTurn) -> Result<(), String> {
        let bytes = turn.bytes.as_ref().map_or(&[][..], |bytes| bytes);
        let message = {
            let _entered = self.runtime.enter();
            let actors = self.system.runtime();
            actors.enter(|| of_stored::<E::Message>(&turn.message, bytes))
        };
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
        let handled = self.runtime.block_on(async {
            if let Some((origin, first)) = self.clock {
                let passed = Duration::from_micros(turn.at.saturating_sub(first));
                time::sleep_until(origin + passed).await;
            }
            let holding = Holding::new(outlet, 0);
            let handling = async {
                chain::records(Some(answers.clone()));
                let handling = AssertUnwindSafe(state.handle(message, context)).catch_unwind();
                let mut handling = std::pin::pin!(handling);
                let handled = holding.lets(handling.as_mut()).await;
                chain::records(None);
                handled
            };
            let handling = AsAsker::new(cell.clone(), handling);
            time::timeout(HANDLER_LIMIT, handling).await
        });
        context.forget_written();
        context.core().forget_requests();
        drop(context.take_raised());
        let Ok(handled) = handled else {
            return Err(format!(
                "its handler awaits something that is not in the recording; there it {}",
                turn.outcome
            ));
        };
        if let Some(wrong) = answers.wrong() {
            return Err(wrong);
        }
        let now = outcome::<E>(&handled);
        if now != turn.outcome {
            return Err(format!("it {now}; in the recording it {}", turn.outcome));
        }
        same_state(&handled, state, last, &turn.state)
    }
}

/// Compares the state after a message. `last`: the state that was recorded before it.
fn same_state<E: Entity>(
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
    let mut bytes = Vec::new();
    let name = state
        .freeze(&mut bytes)
        .map_err(|error| format!("the state after it cannot be written: {}", error.0))?;
    let now = (name.to_owned(), Noted::of(&bytes));
    if now == *last {
        return Ok(());
    }
    let differences = if now.0 == last.0 {
        difference::of_states(&now.1, &last.1)
    } else {
        Vec::new()
    };
    if !differences.is_empty() {
        let differences = differences.join("; ");
        return Err(format!("the state after it is another: {differences}"));
    }
    let shown = |(name, state): &(String, Noted)| {
        let gap = if name.is_empty() { "" } else { " " };
        format!("{name}{gap}{}", state.shown_state())
    };
    Err(format!(
        "the state after it is {}; in the recording it is {}",
        shown(&now),
        shown(last)
    ))
}

fn came_from(caller: &Caller) -> CameFrom {
    match caller {
        Caller::Local => CameFrom::Here,
        Caller::Unverified => CameFrom::Peer(None),
        other => CameFrom::Peer(Some(Arc::new(other.clone()))),
    }
}
