//! Models of casty's own primitives, which shuttle runs under many schedules.
//!
//! A model is a small program with a few threads and tasks that says what must hold at its end. The
//! checker decides at each lock, atomic and poll which of them goes on: at random, and by
//! "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (Burckhardt and others,
//! 2010), which finds a bug that needs few preemptions with a known probability. A task without a
//! waker is found as a deadlock. Each model names rules that can be broken on purpose, under which
//! it must fail.
//!
//! Run by `casty-models`; see CONTRIBUTING.md.

mod ask;
mod cell;
mod environment;
mod pool;
mod published;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

/// A program to check.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The primitive that it checks.
    pub name: &'static str,
    /// The property that holds in each execution.
    pub property: &'static str,
    /// The rules that make the model fail when they are broken.
    pub mutants: &'static [&'static str],
    program: fn(),
}

/// All models.
pub const MODELS: &[Model] = &[
    Model {
        name: "ask",
        property: "an asker hears one outcome of its own ask, whenever the answer, the deadline and \
                   the end of an earlier asker come",
        mutants: &["an_answer_wakes_no_asker", "a_slot_in_use_is_kept"],
        program: ask::program,
    },
    Model {
        name: "pool",
        property: "each cell given to the pool runs once, and a task that waits for a cell is ended when \
                   none comes",
        mutants: &[
            "a_runner_is_woken_before_its_work",
            "a_late_runner_is_not_watched",
        ],
        program: pool::program,
    },
    Model {
        name: "cell",
        property: "each message is handled, in the order of its sender, whether the cell's run \
                   begins, handles another one, waits for more or ends",
        mutants: &[
            "a_message_wakes_no_waiting_run",
            "a_wake_up_during_a_handler_is_forgotten",
            "a_run_rests_without_a_last_look",
        ],
        program: cell::program,
    },
    Model {
        name: "homes",
        property: "nothing is queued at an old owner behind the fence, and nothing is lost",
        mutants: &["readers_are_not_waited_for"],
        program: published::program,
    },
];

/// Preemptions that a schedule of the second kind has.
const PREEMPTIONS: usize = 3;

/// Far more steps than a model has. An execution with more steps never ends.
const STEPS_MAX: usize = 20_000;

/// Runs a model under random schedules for so long, half of it under each kind. Returns how many
/// executions there were, or what was wrong in the first that failed.
///
/// # Errors
/// The property does not hold.
pub fn check(model: &Model, seed: u64, during: Duration) -> Result<usize, String> {
    let mut config = Config::new();
    // Handlers of debug builds need more than the default.
    config.stack_size = 0x4_0000;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.max_time = Some(during / 2);
    config.silence_warnings = true;
    let program = model.program;
    let run = || {
        let random = RandomScheduler::new_from_seed(seed, usize::MAX);
        let random = Runner::new(random, config.clone()).run(program);
        let few = PctScheduler::new_from_seed(seed, PREEMPTIONS, usize::MAX);
        random + Runner::new(few, config.clone()).run(program)
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a panic".to_owned())
    })
}
