//! What must hold under any faults, checked under many seeds. See [`invariants`].
//!
//! `CASTY_STORM_SEEDS=1000..2000` runs other seeds, and `CASTY_STORM_SEEDS=1234` a single one. A
//! seed takes twenty times as long in a debug build, so one of each storm runs by default; the gate
//! runs 24, optimized, with `casty-mutants --unbroken`.

#[path = "mod.rs"]
mod invariants;

use std::ops::Range;

use invariants::STORMS;

/// The seeds that are asked for.
fn seeds() -> Option<Range<u64>> {
    let wanted = std::env::var("CASTY_STORM_SEEDS").ok()?;
    let number = |text: &str| {
        text.parse()
            .expect("CASTY_STORM_SEEDS is a number, or FROM..TO")
    };
    Some(match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&wanted)..number(&wanted) + 1,
    })
}

/// Runs a storm under the seeds that it takes.
fn check(name: &str, default: Range<u64>) {
    let storm = STORMS.iter().find(|storm| storm.name == name);
    let storm = storm.expect("each test is named after a storm");
    let asked = seeds();
    let is_short = cfg!(debug_assertions) && asked.is_none();
    let count = if is_short { 1 } else { usize::MAX };
    let taken = asked.unwrap_or(default).filter(|seed| (storm.takes)(*seed));
    for seed in taken.take(count) {
        if let Err(broken) = (storm.run)(seed) {
            panic!("{broken}");
        }
    }
}

#[test]
fn each_storm_has_a_test() {
    let mut names: Vec<_> = STORMS.iter().map(|storm| storm.name).collect();
    names.sort_unstable();
    let source = include_str!("main.rs");
    let tested = |name: &&str| source.contains(&format!("check(\"{name}\", "));
    assert!(names.iter().all(tested), "{names:?}");
}

#[test]
fn they_hold_in_the_first_quarter_of_the_seeds() {
    check("they_hold_in_the_first_quarter_of_the_seeds", 0..12);
}

#[test]
fn they_hold_in_the_second_quarter_of_the_seeds() {
    check("they_hold_in_the_second_quarter_of_the_seeds", 0..12);
}

#[test]
fn they_hold_in_the_third_quarter_of_the_seeds() {
    check("they_hold_in_the_third_quarter_of_the_seeds", 0..12);
}

#[test]
fn they_hold_in_the_last_quarter_of_the_seeds() {
    check("they_hold_in_the_last_quarter_of_the_seeds", 0..12);
}

#[test]
fn they_hold_when_a_leader_is_succeeded() {
    check("they_hold_when_a_leader_is_succeeded", 0..4);
}

#[test]
fn they_hold_where_the_map_is_kept_on_disk() {
    check("they_hold_where_the_map_is_kept_on_disk", 0..4);
}

#[test]
fn they_hold_where_a_member_does_not_vote() {
    check("they_hold_where_a_member_does_not_vote", 0..16);
}

#[test]
fn they_hold_in_a_rolling_restart() {
    check("they_hold_in_a_rolling_restart", 0..16);
}

#[test]
fn two_nodes_never_both_go_on() {
    check("two_nodes_never_both_go_on", 0..8);
}

#[test]
fn a_false_name_never_becomes_a_member() {
    check("a_false_name_never_becomes_a_member", 0..8);
}

#[test]
fn damage_is_never_acted_on() {
    check("damage_is_never_acted_on", 0..4);
}

#[test]
fn a_handler_ends_with_its_lease() {
    check("a_handler_ends_with_its_lease", 0..2);
}

#[test]
fn nobody_is_left_without_a_way_on() {
    check("nobody_is_left_without_a_way_on", 0..4);
}

#[test]
fn what_is_acknowledged_is_durable() {
    check("what_is_acknowledged_is_durable", 0..8);
}

#[test]
fn what_is_acknowledged_is_in_the_copies() {
    check("what_is_acknowledged_is_in_the_copies", 0..8);
}
