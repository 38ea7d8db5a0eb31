//! Breaks casty's rules on purpose, one after the other, and shows which seed of the invariants
//! detects it: `cargo run --release -p casty-tests --features mutants --bin casty-mutants [--
//! SEEDS]`. With `--write` it notes which seeds those are; they are tried first from then on.
//!
//! A rule that can be broken unnoticed is an error: a check that has not been seen to fail proves
//! nothing.

#[path = "../invariants/mod.rs"]
mod invariants;

use std::{
    collections::BTreeMap,
    io::Read,
    process::{Child, Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use invariants::{
    Plan, STORMS, Storm, copies, damage, durable, handlers, names, operators, run, two,
};

/// The rules, and the invariant that each rule is there for.
const MUTANTS: &[(&str, &str)] = &[
    ("votes_for_everybody", "1"),
    ("serves_without_a_lease", "2"),
    ("lease_is_longer_than_granted", "2"),
    ("epochs_are_given_twice", "3"),
    ("guard_shorter_than_lease", SUCCESSION),
    ("takes_over_without_waiting", "4"),
    ("new_leader_does_not_wait", SUCCESSION),
    ("the_dead_may_renew", "5"),
    ("numbers_are_given_twice", "6"),
    ("grants_without_a_quorum", "7"),
    ("founds_beside_the_silent", "8"),
    ("an_even_number_votes", "9"),
    ("a_majority_of_voters_may_be_down", "9"),
    ("whoever_waits_for_a_lease_waits_on", "10"),
    ("returned_messages_are_forgotten", "11"),
    ("nothing_is_fenced", ROLLING),
    ("questions_are_never_forgotten", "14"),
    ("grants_without_a_claim", OF_TWO),
    ("heard_when_it_arrives", OF_TWO),
    ("claims_without_waiting", OF_TWO),
    ("others_vote_too_soon", OF_TWO),
    ("votes_are_not_kept", KEPT),
    ("a_removed_seat_sits_again", KEPT),
    ("names_are_not_verified", NAMES),
    ("damage_is_not_noticed", DAMAGE),
    ("a_handler_outlives_its_lease", HANDLERS),
    ("generations_have_no_founder", OPERATORS),
    ("a_sole_voter_asks_nobody", OPERATORS),
    ("a_live_name_is_taken", OPERATORS),
    ("claims_are_believed", OPERATORS),
    ("entities_are_read_before_the_claim", DURABLE),
    ("unknown_is_written", DURABLE),
    ("unknown_is_not_written", DURABLE),
    ("records_follow_a_failed_one", DURABLE),
    ("an_output_leaves_before_its_record_is_durable", DURABLE),
    ("a_handler_sends_before_what_it_saw_is_durable", DURABLE),
    ("repeated_sends_are_handled", DURABLE),
    ("sends_say_nothing_of_earlier_ones", DURABLE),
    ("taken_sends_are_not_recorded", DURABLE),
    ("sends_are_forgotten_early", DURABLE),
    ("ledgers_leave_nothing", DURABLE),
    ("handled_reminders_are_not_recorded", DURABLE),
    ("void_reminders_are_handled", DURABLE),
    ("parts_of_reminders_are_empty", DURABLE),
    ("reminders_are_forgotten_early", DURABLE),
    ("any_epoch_may_write", DURABLE),
    ("what_is_on_its_way_is_not_stored", DURABLE),
    ("one_confirmation_is_enough", COPIES),
    ("confirmed_before_sync", COPIES),
    ("a_seat_that_is_left_gets_a_vote", COPIES),
];

/// The invariant of two nodes with a tie-breaker, which has a storm of its own.
const OF_TWO: &str = "15";

/// The invariant of takeovers, in the storm where a leader is succeeded.
const SUCCESSION: &str = "4 (succession)";

/// The invariant of the order of messages, in the storm where nodes leave one after the other:
/// shards move there all the time, and seldom in other storms.
const ROLLING: &str = "12 (rolling)";

/// The storm in which the map is kept on disk and all nodes may be killed at once.
const KEPT: &str = "6 (kept)";

/// The invariant of names that the network verifies, which has a storm of its own.
const NAMES: &str = "16";

/// The invariant of damage on the way, which has a storm of its own.
const DAMAGE: &str = "22";

/// The invariant of handlers that await, which has a storm of its own.
const HANDLERS: &str = "17";

/// The invariants of operators' actions, which have a storm of their own.
const OPERATORS: &str = "18 to 20";

/// The invariant of what is stored, which has a storm of its own.
const DURABLE: &str = "13";

/// The invariant of what nodes keep of each other's entities, which has a storm of its own.
const COPIES: &str = "21";

/// The environment variable that selects the broken rule.
const CHOSEN: &str = "CASTY_MUTANT";

/// The environment variable with the seed that is tried first.
const FIRST: &str = "CASTY_MUTANT_FIRST";

/// How long a process may take. A broken rule can also make a run go round in a circle.
const PATIENCE: Duration = Duration::from_mins(5);

const USAGE: &str = "usage: casty-mutants [SEEDS | --write | --unbroken SEEDS]";

/// The seeds that have detected each rule when `--write` was last run. They are tried first.
const DETECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/mutants.txt");

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--unbroken") {
        return unbroken(std::env::args().nth(2));
    }
    let writes = argument.as_deref() == Some("--write");
    let seeds: u64 = match argument.filter(|_| !writes).map(|seeds| seeds.parse()) {
        None => 200,
        Some(Ok(seeds)) => seeds,
        Some(Err(_)) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os(CHOSEN).is_some() {
        return find(seeds);
    }
    let detected = if writes {
        BTreeMap::new()
    } else {
        read_detected()
    };
    let found = Mutex::new(BTreeMap::new());
    println!("| rule that is broken | of invariant | seed | found by |");
    println!("|---|---|---|---|");
    let (next, survivors) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Two processes at a time. A process reads once which rule it breaks.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, of)) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match detect(name, of, seeds, detected.get(*name).copied()) {
                        Some(seed) => {
                            let mut found = found.lock().expect("no thread panics");
                            found.insert((*name).to_owned(), seed);
                        }
                        None => {
                            survivors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if writes {
        let found = found.into_inner().expect("no thread panics");
        let lines = found.iter().map(|(name, seed)| format!("{name} {seed}\n"));
        std::fs::write(DETECTED, lines.collect::<String>()).expect("the list can be written");
    }
    let survivors = survivors.into_inner();
    if survivors > 0 {
        eprintln!("{survivors} rules can be broken, and no seed notices");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs all storms under the first seeds, with no rule broken, two at a time: what the tests of the
/// invariants do, without another build.
fn unbroken(seeds: Option<String>) -> ExitCode {
    let Some(seeds) = seeds.and_then(|seeds| seeds.parse::<u64>().ok()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // The long storms first.
    let runs = STORMS.iter().rev().flat_map(|storm| {
        let seeds = (0..seeds).filter(|seed| (storm.takes)(*seed));
        seeds.map(move |seed| (storm, seed))
    });
    let runs: Vec<_> = runs.collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((storm, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Storm { name, run, .. } = storm;
                    let outcome = std::panic::catch_unwind(|| run(*seed));
                    let why = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(broken)) => broken.to_string(),
                        Err(_) => "it panicked".to_owned(),
                    };
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!("{name}, seed {seed}: {why}");
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} runs, {failed} have failed", runs.len());
    if failed > 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The list, as far as it is there: without it a run only takes longer.
fn read_detected() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(DETECTED).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter_map(|(name, seed)| Some((name.to_owned(), seed.parse().ok()?)))
        .collect()
}

/// Breaks a rule in a process of its own, and says which seed notices. `first` is tried before the
/// others.
fn detect(name: &str, of: &str, seeds: u64, first: Option<u64>) -> Option<u64> {
    let me = std::env::current_exe().expect("a program knows where it is");
    let mut command = Command::new(me);
    command.arg(seeds.to_string()).env(CHOSEN, name);
    if let Some(first) = first {
        command.env(FIRST, first.to_string());
    }
    command.stderr(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped());
    let child = command.spawn().expect("it can start itself");
    let Some(output) = output(child) else {
        println!("| `{name}` | {of} | a run does not end | no check |");
        return None;
    };
    let found = output.lines().last().and_then(|line| line.split_once(' '));
    match found {
        Some((seed, by)) => println!("| `{name}` | {of} | {seed} | {by} |"),
        None => println!("| `{name}` | {of} | none of {seeds} | no check |"),
    }
    found.and_then(|(seed, _)| seed.parse().ok())
}

/// What a process prints until it ends; `None` if it does not end in time.
fn output(mut child: Child) -> Option<String> {
    let mut stdout = child.stdout.take().expect("it is piped");
    let (sender, printed) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // The other end waits no more if the process took too long.
        let _ = sender.send(read);
    });
    let printed = printed.recv_timeout(PATIENCE).ok();
    if printed.is_none() {
        child.kill().expect("it was started here");
    }
    child.wait().expect("it was started here");
    printed.map(|text| text.expect("it prints text"))
}

/// Looks for a seed under which an invariant detects the broken rule.
fn find(seeds: u64) -> ExitCode {
    let chosen = std::env::var(CHOSEN).unwrap_or_default();
    let storm = MUTANTS.iter().find(|(name, _)| *name == chosen);
    let storm = storm.map_or("", |(_, storm)| *storm);
    let first = std::env::var(FIRST).ok();
    let first = first.and_then(|first| first.parse().ok());
    for seed in first.into_iter().chain(0..seeds) {
        let found = std::panic::catch_unwind(|| match storm {
            OF_TWO => two::run(seed),
            NAMES => names::run(seed),
            DAMAGE => damage::run(seed),
            HANDLERS => handlers::run(seed),
            OPERATORS => operators::run(seed),
            DURABLE => durable::run(seed),
            COPIES => copies::run(seed),
            SUCCESSION => run(seed, Plan::succession()),
            KEPT => run(seed, Plan::kept(seed)),
            ROLLING => run(seed, Plan::rolling()),
            _ => run(seed, Plan::of(seed)),
        });
        match found {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => {
                println!("{seed} {}", broken.invariant);
                return ExitCode::SUCCESS;
            }
            // One of casty's own checks, or the simulation's time limit.
            Err(_) => {
                println!("{seed} a panic");
                return ExitCode::SUCCESS;
            }
        }
    }
    ExitCode::SUCCESS
}
