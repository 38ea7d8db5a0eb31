//! The table, and its place in a document.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    AnyError,
    cases::{Case, Outcome, Side},
    parent::Measurement,
};

/// The versions that cargo resolved for this build.
const LOCK: &str = include_str!("../Cargo.lock");

const BEGIN: &str = "<!-- compare -->";
const END: &str = "<!-- /compare -->";

/// The notes below the table, each once, numbered in the order of their use.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The marks of these notes.
    fn mark(&mut self, notes: impl IntoIterator<Item = impl Into<String>>) -> String {
        let mut numbers = Vec::new();
        for note in notes {
            let note = note.into();
            let at = self.0.iter().position(|known| *known == note);
            let at = at.unwrap_or_else(|| {
                self.0.push(note);
                self.0.len() - 1
            });
            numbers.push((at + 1).to_string());
        }
        if numbers.is_empty() {
            String::new()
        } else {
            format!(" <sup>{}</sup>", numbers.join(","))
        }
    }
}

/// The whole table, with its notes.
pub(crate) fn render(
    cases: &[Case],
    sides: &[Side],
    rounds: u32,
    measurements: &[Measurement],
) -> Result<String, AnyError> {
    let mut notes = Notes::default();
    let mut text = String::new();
    text.push_str("| |");
    for side in sides {
        write!(text, " {}{} |", side.title(), notes.mark(side.remark()))?;
    }
    text.push_str("\n|---|");
    for _ in sides {
        text.push_str("--:|");
    }
    text.push('\n');
    for &case in cases {
        write!(text, "| {}{} |", case.title(), notes.mark(case.remark()))?;
        let of = |side: Side| -> Vec<&Outcome> {
            measurements
                .iter()
                .filter(|one| one.case == case && one.side == side)
                .map(|one| &one.outcome)
                .collect()
        };
        let floor = match summary(&of(Side::Floor)) {
            Outcome::Value(floor) => Some(floor),
            Outcome::Lost(_) | Outcome::Failed(_) => None,
        };
        for &side in sides {
            let cell = if let Some(reason) = side.cannot(case) {
                format!("-{}", notes.mark([reason]))
            } else {
                match (summary(&of(side)), floor) {
                    (Outcome::Value(bytes), _) if case == Case::Bytes => grouped(bytes),
                    (Outcome::Value(rate), Some(floor)) if side != Side::Floor => {
                        ratio(rate / floor)
                    }
                    (Outcome::Value(rate), _) => format!("{}/s", grouped(three_digits(rate))),
                    (Outcome::Lost(count), _) => format!("lost {count}"),
                    (Outcome::Failed(reason), _) => format!("failed{}", notes.mark([reason])),
                }
            };
            write!(text, " {cell}{} |", notes.mark(side.remark_on(case)))?;
        }
        text.push('\n');
    }

    let versions: Vec<String> = versions(sides)?
        .iter()
        .map(|(name, version)| format!("`{name}` {version}"))
        .collect();
    let cpus = std::thread::available_parallelism()?;
    let medians = match rounds {
        1 => "One run each".to_owned(),
        rounds => format!("Medians of {rounds} runs"),
    };
    let disturbed = measurements.iter().filter(|one| one.was_disturbed());
    let disturbed = match disturbed.count() {
        0 => String::new(),
        count => format!(
            " Beside {count} of {} runs the machine had something else to do.",
            measurements.len()
        ),
    };
    writeln!(
        text,
        "\nThe floor in messages (or starts) a second, the others as multiples of it: more is better. Bytes are bytes: \
         less is better. {medians}, two worker threads, {cpus} CPUs.{disturbed} {}.\n",
        versions.join(", ")
    )?;
    for (number, note) in (1..).zip(&notes.0) {
        writeln!(text, "{number}. {note}")?;
    }
    Ok(text)
}

/// The document with the table between its markers.
pub(crate) fn insert(document: &str, table: &str) -> Result<String, AnyError> {
    let missing = || format!("no {BEGIN} ... {END}");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The versions of the crates that are compared.
pub(crate) fn versions(sides: &[Side]) -> Result<BTreeMap<&'static str, &'static str>, AnyError> {
    sides
        .iter()
        .flat_map(|side| side.crates())
        .map(|&name| {
            let package = format!("name = \"{name}\"\nversion = \"");
            let version = LOCK
                .split_once(&package)
                .and_then(|(_, rest)| rest.split_once('"'))
                .ok_or_else(|| format!("{name} is not in Cargo.lock"))?;
            Ok((name, version.0))
        })
        .collect()
}

/// The median; or the worst failure, if there was any: one bad run is not outvoted.
fn summary(outcomes: &[&Outcome]) -> Outcome {
    let mut values = Vec::new();
    let mut worst: Option<Outcome> = None;
    for &outcome in outcomes {
        match (outcome, &worst) {
            (Outcome::Value(value), _) => values.push(*value),
            (Outcome::Lost(_), Some(Outcome::Failed(_))) => {}
            (Outcome::Lost(count), Some(Outcome::Lost(most))) if count <= most => {}
            _ => worst = Some(outcome.clone()),
        }
    }
    worst.unwrap_or_else(|| {
        values.sort_by(f64::total_cmp);
        match values.get(values.len() / 2) {
            Some(median) => Outcome::Value(*median),
            None => Outcome::Failed("was not measured".to_owned()),
        }
    })
}

fn three_digits(value: f64) -> f64 {
    let unit = 10_f64.powf((value.abs().log10().floor() - 2.0).max(0.0));
    (value / unit).round() * unit
}

/// A ratio with at least two significant digits.
fn ratio(value: f64) -> String {
    match value {
        0.1.. => format!("{value:.2}"),
        0.01.. => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A whole number, with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(side: Side, outcome: Outcome) -> Measurement {
        Measurement {
            round: 1,
            case: Case::TellOne,
            side,
            outcome,
            others: 0.0,
        }
    }

    fn row(outcomes: Vec<Measurement>) -> String {
        let table = render(&[Case::TellOne], &[Side::Floor, Side::Casty], 3, &outcomes).unwrap();
        table.lines().nth(2).unwrap().to_owned()
    }

    #[test]
    fn the_floor_is_absolute_and_others_are_ratios_of_medians() {
        let floor =
            [1_234_567.0, 900.0, 9e9].map(|rate| measured(Side::Floor, Outcome::Value(rate)));
        let casty = [617_283.5, 1.0, 9e9].map(|rate| measured(Side::Casty, Outcome::Value(rate)));
        assert_eq!(
            row(floor.into_iter().chain(casty).collect()),
            "| tell: 1 sender, 1 actor | 1,230,000/s | 0.50 |"
        );
    }

    #[test]
    fn a_small_ratio_is_not_rounded_to_nothing() {
        assert_eq!(
            [0.5, 0.0517, 0.003_17].map(ratio),
            ["0.50", "0.052", "0.0032"]
        );
    }

    #[test]
    fn no_rate_is_printed_when_one_run_has_lost_something() {
        let floor = measured(Side::Floor, Outcome::Value(100.0));
        let casty = [
            Outcome::Value(50.0),
            Outcome::Lost(3),
            Outcome::Lost(7),
            Outcome::Lost(2),
        ]
        .map(|outcome| measured(Side::Casty, outcome));
        assert_eq!(
            row(std::iter::once(floor).chain(casty).collect()),
            "| tell: 1 sender, 1 actor | 100/s | lost 7 |"
        );
    }

    #[test]
    fn why_a_run_failed_is_a_note() {
        let outcomes = vec![
            measured(Side::Floor, Outcome::Value(100.0)),
            measured(Side::Casty, Outcome::Failed("it fell".to_owned())),
        ];
        let table = render(&[Case::TellOne], &[Side::Floor, Side::Casty], 1, &outcomes).unwrap();
        assert!(table.contains("| failed <sup>1</sup> |"), "{table}");
        assert!(table.ends_with("\n1. it fell\n"), "{table}");
    }

    #[test]
    fn what_was_between_the_markers_is_replaced() {
        let document = "a\n<!-- compare -->\nold\n<!-- /compare -->\nb";
        assert_eq!(
            insert(document, "new\n").unwrap(),
            "a\n<!-- compare -->\nnew\n<!-- /compare -->\nb"
        );
        assert!(insert("a", "new\n").is_err());
    }

    #[test]
    fn every_side_has_its_versions_in_the_lock_file() {
        use clap::ValueEnum;
        assert_eq!(versions(Side::value_variants()).unwrap().len(), 9);
    }
}
