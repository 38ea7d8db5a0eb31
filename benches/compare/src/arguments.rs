//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cases::{Case, Side};

/// Compares casty with its peers, and prints one Markdown table.
#[derive(Parser)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) operation: Option<Operation>,

    /// Rounds: measurements of each side, whose median is printed. 7, or 1 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,

    /// Measures only these cases.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cases: Vec<Case>,

    /// Measures only these sides; the floor is always measured.
    #[arg(long, value_delimiter = ',')]
    pub(crate) sides: Vec<Side>,

    /// A tenth of the messages and actors, to see that the program works.
    #[arg(long, global = true)]
    pub(crate) quick: bool,

    /// Writes every single measurement to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Puts the table between `<!-- compare -->` and `<!-- /compare -->` of this file as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Operation {
    /// Measures one case of one side once, and prints one number, or "lost N".
    Run { case: Case, side: Side },
    /// Runs the other process of a remote case: prints its address, and ends with its input.
    Serve { side: Side },
}
