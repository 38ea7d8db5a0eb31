//! Starts a process for each run, in turns, and collects their results.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::ValueEnum;
use serde_json::json;

use crate::{
    AnyError,
    arguments::Arguments,
    cases::{Case, Outcome, Side},
    others::Ticks,
    table,
};

const ROUNDS: u32 = 7;
/// A run that takes longer has failed.
const RUN_TIME_MAX: Duration = Duration::from_mins(1);

/// A run is made again if other programs used more of all CPUs than this, ...
const OTHERS_MAX: f64 = 0.1;
/// ... up to so many times all in all.
const TRIES: u32 = 3;

/// One run.
pub(crate) struct Measurement {
    pub(crate) round: u32,
    pub(crate) case: Case,
    pub(crate) side: Side,
    pub(crate) outcome: Outcome,
    /// The share of all CPU time that other programs took meanwhile.
    pub(crate) others: f64,
}

impl Measurement {
    /// Whether other programs disturbed the run.
    pub(crate) fn was_disturbed(&self) -> bool {
        self.others > OTHERS_MAX
    }
}

/// Measures the chosen cases, and prints the table.
pub(crate) fn compare(arguments: &Arguments) -> Result<(), AnyError> {
    let rounds = arguments
        .rounds
        .unwrap_or(if arguments.quick { 1 } else { ROUNDS });
    let chosen = |case: &Case| arguments.cases.is_empty() || arguments.cases.contains(case);
    let cases: Vec<Case> = Case::value_variants()
        .iter()
        .copied()
        .filter(chosen)
        .collect();
    let chosen = |side: &Side| {
        *side == Side::Floor || arguments.sides.is_empty() || arguments.sides.contains(side)
    };
    let sides: Vec<Side> = Side::value_variants()
        .iter()
        .copied()
        .filter(chosen)
        .collect();

    let mut measurements = Vec::new();
    for round in 1..=rounds {
        for &case in &cases {
            for &side in &sides {
                if side.cannot(case).is_some() {
                    continue;
                }
                let one = undisturbed(round, case, side, arguments.quick)?;
                eprintln!(
                    "{round}/{rounds} {} {}: {}{}",
                    case.name(),
                    side.name(),
                    one.outcome,
                    if one.was_disturbed() {
                        ", disturbed"
                    } else {
                        ""
                    },
                );
                measurements.push(one);
            }
        }
    }

    let table = table::render(&cases, &sides, rounds, &measurements)?;
    print!("{table}");
    if let Some(path) = &arguments.json {
        let all: Vec<_> = measurements.iter().map(to_json).collect();
        let all = json!({ "versions": table::versions(&sides)?, "measurements": all });
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    if let Some(path) = &arguments.write {
        fs::write(path, table::insert(&fs::read_to_string(path)?, &table)?)?;
    }
    Ok(())
}

fn to_json(measurement: &Measurement) -> serde_json::Value {
    let Measurement {
        round,
        case,
        side,
        outcome,
        others,
    } = measurement;
    let (what, value) = match outcome {
        Outcome::Value(value) if *case == Case::Bytes => ("bytes", json!(value)),
        Outcome::Value(value) => ("per_second", json!(value)),
        Outcome::Lost(count) => ("lost", json!(count)),
        Outcome::Failed(reason) => ("failed", json!(reason)),
    };
    json!({ "round": round, "case": case.name(), "side": side.name(), "others": others, what: value })
}

/// One run, repeated while other programs disturb it.
fn undisturbed(round: u32, case: Case, side: Side, quick: bool) -> Result<Measurement, AnyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let before = Ticks::now();
        let outcome = run(case, side, quick)?;
        let others = match (before, Ticks::now()) {
            (Some(before), Some(after)) => after.others_since(&before),
            _ => 0.0,
        };
        let one = Measurement {
            round,
            case,
            side,
            outcome,
            others,
        };
        if tries == TRIES || !one.was_disturbed() {
            return Ok(one);
        }
    }
}

/// One run, in a process of its own, so that no run inherits the heap or threads of another.
fn run(case: Case, side: Side, quick: bool) -> Result<Outcome, AnyError> {
    let this = std::env::current_exe()?;
    let mut command = if case.is_pinned() {
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", "0"]).arg(this);
        taskset
    } else {
        Command::new(this)
    };
    command.args(["run", &case.name(), &side.name()]);
    if quick {
        command.arg("--quick");
    }
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = read(process.stdout.take().ok_or("no output")?);
    let errors = read(process.stderr.take().ok_or("no output")?);
    let Ok(said) = output.recv_timeout(RUN_TIME_MAX) else {
        process.kill()?;
        process.wait()?;
        let reason = format!("no end within {} s", RUN_TIME_MAX.as_secs());
        return Ok(Outcome::Failed(reason));
    };
    let status = process.wait()?;
    let said = said.trim();
    if let Some(count) = said.strip_prefix("lost ") {
        return Ok(Outcome::Lost(count.parse()?));
    }
    Ok(match said.parse() {
        Ok(value) if status.success() => Outcome::Value(value),
        _ => {
            let errors = errors.recv()?;
            let reason = errors.lines().find(|line| !line.is_empty());
            Outcome::Failed(reason.unwrap_or("nothing was said").to_owned())
        }
    })
}

/// The whole text of a stream, once it has ended.
fn read(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
