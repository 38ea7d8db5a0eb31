//! What must hold whatever happens, under many seeds. See [`invariants`].
//!
//! `CASTY_SEEDS=1000..2000` runs other seeds, or one: `CASTY_SEEDS=1234`.

#[path = "mod.rs"]
mod invariants;

use invariants::{Plan, run, seeds};

/// A quarter of the seeds, so that they run beside each other.
fn quarter(which: u64) {
    for seed in seeds(0..200).filter(|seed| seed % 4 == which) {
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
