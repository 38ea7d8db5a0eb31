//! casty beside its peers: `cargo run --release --manifest-path benches/compare/Cargo.toml`.
//!
//! Every side is driven by the same loops (`local`, `remote`), each run in a process of its own, in
//! turns: the first round of all sides, then the second of all sides. The output is one Markdown
//! table of medians: the floor in absolute figures, every other side as a multiple of it. The floor
//! is that of `cargo bench` (`benches/raw`): code written by hand with tokio and nothing else.
//!
//! A run counts what has arrived, and says "lost N" instead of a rate if anything is missing.

mod arguments;
mod cases;
mod heap;
mod local;
mod others;
mod parent;
#[path = "../../raw/mod.rs"]
mod raw;
mod remote;
mod sides;
mod table;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Operation};

/// Any error of a step. It is printed, and ends the program.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.operation {
        None => parent::compare(&arguments),
        Some(Operation::Run { case, side }) => {
            sides::run(*side, *case, arguments.quick).map(|outcome| println!("{outcome}"))
        }
        Some(Operation::Serve { side }) => sides::serve(*side),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
