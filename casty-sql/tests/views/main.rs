//! Views of projections: each event is in them once, whatever dies.

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod postgres;
mod sqlite;

use std::collections::BTreeSet;

use casty::{persistence::Position, prelude::*, testkit::soon};

use support::ledger::Ledger;

/// The table of the views of these tests. Nothing in it keeps an event from being there twice.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS tally (number BIGINT NOT NULL)";
const ADD: &str = "INSERT INTO tally (number) VALUES ($1)";
const ALL: &str = "SELECT number FROM tally ORDER BY number";

/// Gives these numbers to ledgers, and returns the positions of the last ones.
async fn note(node: &ActorSystem, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let mut positions = std::collections::BTreeMap::new();
    for number in numbers {
        let ledger = node.entity::<Ledger>(format!("ledger {}", number % 12).as_str());
        let noted = ledger.note(number).key(format!("number {number}"));
        let ((), position) = noted.with_position().await.expect("noted");
        positions.insert(position.shard, position);
    }
    positions.into_values().collect()
}

/// All numbers below `below` are in the view, each once.
fn check(found: Vec<i64>, below: u64) {
    let found: Vec<_> = found.into_iter().map(i64::cast_unsigned).collect();
    let once: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(found.len(), once.len(), "some are there twice");
    let missing: Vec<_> = (0..below).filter(|it| !once.contains(it)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert_eq!(once.len() as u64, below);
}

async fn wait_for(projection: &casty::projection::RunningProjection, positions: Vec<Position>) {
    for position in positions {
        let within = Duration::from_secs(40);
        let waited = soon(
            "it gets there",
            projection.wait_for_within(position, within),
        );
        waited.await.expect("it gets there");
    }
}
