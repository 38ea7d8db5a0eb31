//! Checks the models of casty's own primitives, and that each fails where a rule is broken: `cargo
//! run --example casty-models --features casty-tests/model [-- --seconds SECONDS] [--seed SEED]
//! [NAME]`.
//!
//! SECONDS is for each model; a broken rule has as long to be found. With CASTY_MUTANT set, only
//! the models run, with that rule broken.

use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use casty::models::{MODELS, Model, check};

/// The variable that says which rule is broken.
const CHOSEN: &str = "CASTY_MUTANT";

const USAGE: &str = "usage: casty-models [--seconds SECONDS] [--seed SEED] [NAME]";

struct Options {
    seconds: u64,
    seed: u64,
    only: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            seconds: 60,
            seed: 1,
            only: None,
        };
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--seconds" => options.seconds = arguments.next()?.parse().ok()?,
                "--seed" => options.seed = arguments.next()?.parse().ok()?,
                name if MODELS.iter().any(|model| model.name == name) => {
                    options.only = Some(argument);
                }
                _ => return None,
            }
        }
        Some(options)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let broken = std::env::var_os(CHOSEN).is_some();
    let mut wrong = 0;
    println!("| model | rule that is broken | executions | seconds | what was found |");
    println!("|---|---|---|---|---|");
    for model in MODELS {
        if options.only.as_ref().is_some_and(|only| only != model.name) {
            continue;
        }
        let begun = Instant::now();
        let name = model.name;
        match check(model, options.seed, options.time()) {
            Ok(executions) => {
                let took = begun.elapsed().as_secs_f32();
                println!("| {name} | | {executions} | {took:.1} | nothing |");
            }
            Err(found) => {
                wrong += 1;
                println!("| {name} | | | | {found} |");
                eprintln!("{name}: {} does not hold: {found}", model.property);
            }
        }
        if !broken {
            wrong += model
                .mutants
                .iter()
                .filter(|rule| !is_found(model, rule, &options))
                .count();
        }
    }
    if wrong > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Whether the model fails with this rule broken. In a process of its own, which reads once what
/// is broken.
fn is_found(model: &Model, rule: &str, options: &Options) -> bool {
    let begun = Instant::now();
    let me = std::env::current_exe().expect("a program knows where it is");
    let status = Command::new(me)
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--seed", &options.seed.to_string(), model.name])
        .env(CHOSEN, rule)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it can start itself");
    let found = !status.success();
    let (took, said) = (
        begun.elapsed().as_secs_f32(),
        if found { "it fails" } else { "NOTHING" },
    );
    println!("| {} | `{rule}` | | {took:.1} | {said} |", model.name);
    found
}
