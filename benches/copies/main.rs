//! Entities that three nodes keep copies of, without a database:
//! `cargo bench -p casty-benches --bench copies`.
//!
//! **Commands.** Three processes on this machine are nodes of a cluster, each with a directory of
//! its own. Asks keep 1, 64 and 1,024 commands in flight, over many entities and over one, all of
//! which live on one node: it writes each command, as do the two others, before the answer. The
//! *floor* is a bare program of the same three processes: clients as many as the asks give what
//! casty stores of a command, in bytes, to a thread. It sends all that waits to two followers by
//! TCP, and appends it to a file that is filled with zeros, with one `fdatasync`. The followers do
//! the same with their files, and confirm. The two take turns, and the medians are printed, also of
//! the ratio of each turn.
//!
//! **Recovery.** A node is killed. How fast the others read its entities, how long it needs to
//! start again with what it has stored, and until it has all that it missed.
//!
//! **Repair.** The node starts with an empty directory instead, so that all its copies are made
//! anew.
//!
//! **Failover.** A node is killed, and again. How long a stored entity of it does not answer to a
//! command, beside an entity that is not stored.
//!
//! Arguments after `--` choose what is measured: `commands`, `recovery`, `repair`, `failover`.
//! `many` and `hot` choose the entities of the commands, and `--in-flight` how many commands. Sizes
//! are `--rounds` and `--milliseconds` of commands a round, `--records` that are recovered and
//! repaired, and `--kills`, each with a number after it. The directories are in `TMPDIR`, which
//! must be on a disk.
//!
//! No figure is printed if other processes used more than a tenth of the machine, unless `--force`
//! is given.

#[path = "../../casty-sql/benches/journal/others.rs"]
mod others;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../casty-sql/benches/journal/table.rs"]
mod table;

mod cluster;
mod commands;
mod entities;
mod failover;
mod floor;
mod recovery;

use std::time::Duration;

use support::{AnyError, runtime};

use self::commands::Loads;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(cluster::NODE) => return cluster::node(&arguments[1..]),
        Some(floor::FOLLOWER) => return floor::follow(&arguments[1..]),
        _ => {}
    }
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let number = |flag: &str, default: u64| {
        let mut after = arguments.iter().skip_while(|argument| *argument != flag);
        let number = after.nth(1).map(|number| number.parse::<u64>());
        number.unwrap_or(Ok(default))
    };
    let parts = ["commands", "recovery", "repair", "failover"];
    let all = !parts.iter().any(|part| has(part));
    let chosen = |part: &str| all || has(part);
    let in_flight = number("--in-flight", 0)?;
    let loads = Loads {
        rounds: number("--rounds", 5)?,
        round: Duration::from_millis(number("--milliseconds", 1_200)?),
        many: has("many") || !has("hot"),
        hot: has("hot") || !has("many"),
        in_flight: (in_flight > 0).then_some(in_flight),
    };
    let records = number("--records", 300_000)?;
    let kills = number("--kills", 10)?;
    let is_forced = has("--force");
    let runtime = runtime()?;
    if chosen("commands") {
        runtime.block_on(commands::measure(&loads, is_forced))?;
    }
    if chosen("recovery") {
        runtime.block_on(recovery::recovery(records, is_forced))?;
    }
    if chosen("repair") {
        runtime.block_on(recovery::repair(records, is_forced))?;
    }
    if chosen("failover") {
        runtime.block_on(failover::measure(kills, is_forced))?;
    }
    Ok(())
}

fn median<T: Copy>(mut values: Vec<T>, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> Option<T> {
    values.sort_by(order);
    values.get(values.len() / 2).copied()
}

fn median_of(values: Vec<f64>) -> f64 {
    median(values, f64::total_cmp).unwrap_or_default()
}
