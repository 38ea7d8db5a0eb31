//! Measures what types of actors cost to compile, with casty and with kameo.
//!
//! Both sides get the same generated programs: 1, 10 and 40 types of 8 messages each, every message
//! sent once. Dependencies are built before anything is measured. The sides take turns at each
//! step, so that what else the machine does meets both.
//!
//! Measured is the CPU time of cargo and of all processes that it starts, as Linux counts it.

mod cost;
mod program;
mod table;

use std::{path::PathBuf, process::ExitCode};

use cost::Bench;

type AnyError = Box<dyn std::error::Error>;

const USAGE: &str = "usage: casty-compile [--quick] [--write FILE]
  --quick       1 and 10 types only
  --write FILE  puts the table between `<!-- compile -->` and `<!-- /compile -->` of this file as well";

/// How many types the programs have.
const TYPES: [usize; 3] = [1, 10, 40];

fn main() -> ExitCode {
    let mut types = &TYPES[..];
    let mut file = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (&*argument, arguments.len()) {
            ("--quick", _) => types = &TYPES[..2],
            ("--write", 1..) => file = arguments.next().map(PathBuf::from),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match measure(types, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("casty-compile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(types: &[usize], file: Option<PathBuf>) -> Result<(), AnyError> {
    let bench = Bench::prepare(types)?;
    let costs = bench.measure(types)?;
    let text = table::text(types, &costs);
    println!("{text}");
    if let Some(file) = file {
        table::write(&file, &text)?;
    }
    Ok(())
}
