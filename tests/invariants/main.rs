//! What must hold under any faults, checked under many seeds. See [`invariants`].
//!
//! `CASTY_SEEDS=1000..2000` runs other seeds, and `CASTY_SEEDS=1234` a single one. A seed takes ten
//! times as long in a debug build, so few run by default; the gate runs 24 with `--release`.

#[path = "mod.rs"]
mod invariants;

use std::ops::Range;

use invariants::{Plan, copies, damage, durable, handlers, names, operators, run, two};

/// The seeds to run.
fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(wanted) = std::env::var("CASTY_SEEDS") else {
        return default;
    };
    let number = |text: &str| text.parse().expect("CASTY_SEEDS is a number, or FROM..TO");
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&wanted)..number(&wanted) + 1,
    }
}

/// A quarter of the seeds, so that the quarters run beside each other.
fn quarter(which: u64) {
    for seed in seeds(0..12).filter(|seed| seed % 4 == which) {
        if let Err(broken) = run(seed, Plan::of(seed)) {
            panic!("{broken}");
        }
    }
}

#[test]
fn they_hold_in_the_first_quarter_of_the_seeds() {
    quarter(0);
}

#[test]
fn they_hold_in_the_second_quarter_of_the_seeds() {
    quarter(1);
}

#[test]
fn they_hold_in_the_third_quarter_of_the_seeds() {
    quarter(2);
}

#[test]
fn they_hold_in_the_last_quarter_of_the_seeds() {
    quarter(3);
}

#[test]
fn they_hold_when_a_leader_is_succeeded() {
    for seed in seeds(0..4).filter(|seed| seed % 4 == 0) {
        if let Err(broken) = run(seed, Plan::succession()) {
            panic!("{broken}");
        }
    }
}

#[test]
fn they_hold_where_the_map_is_kept_on_disk() {
    for seed in seeds(0..4).filter(|seed| seed % 64 == 0) {
        if let Err(broken) = run(seed, Plan::kept(seed)) {
            panic!("{broken}");
        }
    }
}

#[test]
fn they_hold_where_a_member_does_not_vote() {
    for seed in seeds(0..16).filter(|seed| seed % 8 == 0) {
        if let Err(broken) = run(seed, Plan::of_four(seed)) {
            panic!("{broken}");
        }
    }
}

#[test]
fn they_hold_in_a_rolling_restart() {
    for seed in seeds(0..16).filter(|seed| seed % 8 == 0) {
        if let Err(broken) = run(seed, Plan::rolling()) {
            panic!("{broken}");
        }
    }
}

#[test]
fn two_nodes_never_both_go_on() {
    for seed in seeds(0..8) {
        if let Err(broken) = two::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_false_name_never_becomes_a_member() {
    for seed in seeds(0..8) {
        if let Err(broken) = names::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn damage_is_never_acted_on() {
    for seed in seeds(0..4).filter(|seed| seed % 2 == 0) {
        if let Err(broken) = damage::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn a_handler_ends_with_its_lease() {
    for seed in seeds(0..2) {
        if let Err(broken) = handlers::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn nobody_is_left_without_a_way_on() {
    for seed in seeds(0..4).filter(|seed| seed % 2 == 0) {
        if let Err(broken) = operators::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn what_is_acknowledged_is_durable() {
    for seed in seeds(0..8).filter(|seed| seed % 2 == 0) {
        if let Err(broken) = durable::run(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn what_is_acknowledged_is_in_the_copies() {
    for seed in seeds(0..8).filter(|seed| seed % 2 == 1) {
        if let Err(broken) = copies::run(seed) {
            panic!("{broken}");
        }
    }
}
