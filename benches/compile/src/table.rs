//! The table of what was measured.

use std::{fmt::Write as _, fs, path::Path};

use crate::{AnyError, cost::Cost, program::SIDES};

const BEGIN: &str = "<!-- compile -->";
const END: &str = "<!-- /compile -->";

/// A row of the table: its name, and what it says of a program.
type Row = (&'static str, fn(&Cost) -> String);

const ROWS: [Row; 5] = [
    ("check", |cost| seconds(cost.check)),
    ("build, development", |cost| seconds(cost.build)),
    (
        "incremental build, one type changed (first / second time)",
        |cost| {
            format!(
                "{} / {}",
                seconds(cost.changed[0]),
                seconds(cost.changed[1])
            )
        },
    ),
    ("release build", |cost| seconds(cost.release)),
    ("stripped release binary, MB", |cost| megabytes(cost.size)),
];

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1}")
}

#[expect(clippy::cast_precision_loss, reason = "a size to be read")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// `costs`: for each number of types, of each side.
pub(crate) fn text(types: &[usize], costs: &[[Cost; 2]]) -> String {
    let mut text = "|".to_owned();
    for side in SIDES {
        for types in types {
            let _ = write!(text, " | {} {types}", side.name());
        }
    }
    text.push_str(" |\n|---");
    text.push_str(&"|--:".repeat(SIDES.len() * types.len()));
    text.push_str("|\n");
    for (name, of) in ROWS {
        let _ = write!(text, "| {name}");
        for side in 0..SIDES.len() {
            for both in costs {
                let _ = write!(text, " | {}", of(&both[side]));
            }
        }
        text.push_str(" |\n");
    }
    text
}

/// Puts the table between the marks of a file.
pub(crate) fn write(file: &Path, table: &str) -> Result<(), AnyError> {
    let text = fs::read_to_string(file)?;
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        marks.ok_or_else(|| format!("{} lacks {BEGIN} and {END}", file.display()))?;
    fs::write(file, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))?;
    Ok(())
}
