//! The invariants of `ARCHITECTURE.md`, a file each, and the storms of faults that they are checked
//! in: [`scenario`] with four and five nodes, [`two`] with two nodes and a tie-breaker,
//! [`operators`] with an operator, [`damage`] where bits flip.
//!
//! After every millisecond of simulated time, each check sees the views of all nodes and the
//! sightings of their internal events.

mod buffers_are_bounded;
pub(crate) mod copies;
pub(crate) mod damage;
pub(crate) mod durable;
mod epochs_only_grow;
mod first_in_first_out;
pub(crate) mod handlers;
mod it_comes_to_rest;
mod it_goes_on;
mod minorities_are_silent;
pub(crate) mod names;
mod no_message_is_lost_in_silence;
mod no_shard_before_its_deadline;
mod numbers_are_unique;
mod one_cluster;
mod one_generation_serves;
mod one_leader_a_term;
mod one_owner_at_a_time;
pub(crate) mod operators;
mod reminders;
pub(crate) mod scenario;
mod sends;
mod the_dead_stay_dead;
mod tokens;
pub(crate) mod two;

use std::{fmt, time::Duration};

use casty::testkit::{Sighting, Sim, View};

use self::scenario::Record;
pub(crate) use self::scenario::{Plan, run};

/// Faults under which invariants are checked.
pub(crate) struct Storm {
    /// That of its test.
    pub(crate) name: &'static str,
    /// Whether it is run under this seed. Some take long, and some share the seeds.
    pub(crate) takes: fn(u64) -> bool,
    pub(crate) run: fn(u64) -> Result<(), Broken>,
}

pub(crate) const STORMS: &[Storm] = &[
    Storm {
        name: "they_hold_in_the_first_quarter_of_the_seeds",
        takes: |seed| seed % 4 == 0,
        run: |seed| run(seed, Plan::of(seed)),
    },
    Storm {
        name: "they_hold_in_the_second_quarter_of_the_seeds",
        takes: |seed| seed % 4 == 1,
        run: |seed| run(seed, Plan::of(seed)),
    },
    Storm {
        name: "they_hold_in_the_third_quarter_of_the_seeds",
        takes: |seed| seed % 4 == 2,
        run: |seed| run(seed, Plan::of(seed)),
    },
    Storm {
        name: "they_hold_in_the_last_quarter_of_the_seeds",
        takes: |seed| seed % 4 == 3,
        run: |seed| run(seed, Plan::of(seed)),
    },
    Storm {
        name: "they_hold_when_a_leader_is_succeeded",
        takes: |seed| seed % 4 == 0,
        run: |seed| run(seed, Plan::succession()),
    },
    Storm {
        name: "they_hold_where_the_map_is_kept_on_disk",
        takes: |seed| seed % 64 == 0,
        run: |seed| run(seed, Plan::kept(seed)),
    },
    Storm {
        name: "they_hold_where_a_member_does_not_vote",
        takes: |seed| seed % 8 == 0,
        run: |seed| run(seed, Plan::of_four(seed)),
    },
    Storm {
        name: "they_hold_in_a_rolling_restart",
        takes: |seed| seed % 8 == 0,
        run: |seed| run(seed, Plan::rolling()),
    },
    Storm {
        name: "two_nodes_never_both_go_on",
        takes: |_| true,
        run: two::run,
    },
    Storm {
        name: "a_false_name_never_becomes_a_member",
        takes: |_| true,
        run: names::run,
    },
    Storm {
        name: "damage_is_never_acted_on",
        takes: |seed| seed % 2 == 0,
        run: damage::run,
    },
    Storm {
        name: "a_handler_ends_with_its_lease",
        takes: |_| true,
        run: handlers::run,
    },
    Storm {
        name: "nobody_is_left_without_a_way_on",
        takes: |seed| seed % 2 == 0,
        run: operators::run,
    },
    Storm {
        name: "what_is_acknowledged_is_durable",
        takes: |seed| seed % 2 == 0,
        run: durable::run,
    },
    Storm {
        name: "what_is_acknowledged_is_in_the_copies",
        takes: |seed| seed % 2 == 1,
        run: copies::run,
    },
];

/// What a check sees.
pub(crate) struct Moment<'a> {
    /// True time.
    pub(crate) now: Duration,
    /// The nodes that run.
    pub(crate) views: &'a [View],
    /// The internal events of this millisecond.
    pub(crate) sightings: &'a [(Duration, Sighting)],
    /// Nodes that a fault cuts off from a majority, and the time of the cut.
    pub(crate) cut_off: &'a [(String, Duration)],
}

/// One invariant.
pub(crate) trait Check {
    /// Its number and name.
    fn name(&self) -> &'static str;

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String>;

    /// Checks at rest: all faults are healed, and the cluster had time to settle.
    fn at_rest(&mut self, views: &[View], record: &Record) -> Result<(), String> {
        let _ = (views, record);
        Ok(())
    }
}

/// The invariants of a cluster of `nodes` nodes.
pub(crate) fn checks(nodes: usize) -> Vec<Box<dyn Check>> {
    vec![
        Box::<one_leader_a_term::OneLeaderATerm>::default(),
        Box::<one_owner_at_a_time::OneOwnerAtATime>::default(),
        Box::<epochs_only_grow::EpochsOnlyGrow>::default(),
        Box::<no_shard_before_its_deadline::NoShardBeforeItsDeadline>::default(),
        Box::<the_dead_stay_dead::TheDeadStayDead>::default(),
        Box::<numbers_are_unique::NumbersAreUnique>::default(),
        Box::<minorities_are_silent::MinoritiesAreSilent>::default(),
        Box::<one_cluster::OneCluster>::default(),
        Box::new(it_comes_to_rest::ItComesToRest { nodes }),
        Box::<it_goes_on::ItGoesOn>::default(),
        Box::<no_message_is_lost_in_silence::NoMessageIsLostInSilence>::default(),
        Box::<first_in_first_out::FirstInFirstOut>::default(),
        Box::<buffers_are_bounded::BuffersAreBounded>::default(),
    ]
}

/// The invariants that also hold for two nodes, across generations.
pub(crate) fn checks_of_two() -> Vec<Box<dyn Check>> {
    vec![
        Box::<one_generation_serves::OneGenerationServes>::default(),
        Box::<one_owner_at_a_time::OneOwnerAtATime>::default(),
        Box::<no_shard_before_its_deadline::NoShardBeforeItsDeadline>::default(),
        Box::<buffers_are_bounded::BuffersAreBounded>::default(),
    ]
}

/// Steps by a millisecond and runs the checks. The error is the broken invariant and how it was
/// broken.
fn step(
    sim: &mut Sim,
    checks: &mut [Box<dyn Check>],
    cut_off: &[(String, Duration)],
) -> Result<(), (&'static str, String)> {
    sim.run_for(Duration::from_millis(1));
    let moment = Moment {
        now: sim.elapsed(),
        views: &sim.views(),
        sightings: &sim.sightings(),
        cut_off,
    };
    for check in checks {
        check.at(&moment).map_err(|what| (check.name(), what))?;
    }
    Ok(())
}

/// A broken invariant, and how to reproduce it.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) seed: u64,
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
    pub(crate) trace: String,
    /// The test that runs this storm.
    pub(crate) storm: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            invariant,
            what,
            trace,
            storm,
        } = self;
        write!(
            f,
            "{trace}\ninvariant {invariant} is broken: {what}\nto see it again: \
             CASTY_STORM_SEEDS={seed} cargo test --release -p casty-tests --test invariants {storm}"
        )
    }
}
