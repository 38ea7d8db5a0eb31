//! Figures that are committed, and fail a check where they are no longer true.

use std::{fmt::Write as _, fs, path::Path};

pub(crate) type AnyError = Box<dyn std::error::Error>;

/// By how many percent a figure may differ from the baseline, either way.
const TOLERANCE: f64 = 5.0;

/// A file of figures: comments, and lines of `name = number`.
pub(crate) struct Baseline {
    /// Its name, in `benches`.
    pub(crate) file: &'static str,
    /// Its first lines.
    pub(crate) header: &'static str,
    /// The command that writes it.
    pub(crate) accept: &'static str,
}

impl Baseline {
    /// Compares figures with those of the file, or writes them there. `advice`: how to find out why
    /// a figure, by its index and name, has grown.
    ///
    /// Exits the process where a figure differs by more than the tolerance.
    pub(crate) fn guard(
        &self,
        writes: bool,
        measured: &[(String, u64)],
        advice: impl Fn(usize, &str) -> String,
    ) -> Result<(), AnyError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.file);
        let known = if writes {
            Vec::new()
        } else {
            parse(&fs::read_to_string(&path)?)?
        };
        let (mut written, mut wrong) = (self.header.to_owned(), Vec::new());
        println!("| case | baseline | measured | difference |\n|---|---|---|---|");
        for (at, (name, measured)) in measured.iter().enumerate() {
            writeln!(written, "{name} = {measured}")?;
            if writes {
                println!("| {name} | | {measured} | |");
                continue;
            }
            let Some((_, expected)) = known.iter().find(|(known, _)| known == name) else {
                let accept = self.accept;
                wrong.push(format!(
                    "{name}: the baseline lacks it. Write it anew: `{accept}`."
                ));
                continue;
            };
            let percent = percent(*expected, *measured);
            println!("| {name} | {expected} | {measured} | {percent:+.1} % |");
            if percent.abs() > TOLERANCE {
                let advice = advice(at, name);
                wrong.push(self.complaint(name, *expected, *measured, &advice));
            }
        }
        if writes {
            fs::write(&path, written)?;
            println!("\nwritten: {}", path.display());
            return Ok(());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        // Not as an error of `main`, which would print it as one line.
        eprintln!("\n{}", wrong.join("\n\n"));
        std::process::exit(1);
    }

    /// The figures of the file.
    #[allow(dead_code, reason = "one of the two guards uses it")]
    pub(crate) fn read(&self) -> Result<std::collections::BTreeMap<String, u64>, AnyError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.file);
        Ok(parse(&fs::read_to_string(path)?)?.into_iter().collect())
    }

    /// What is wrong with a figure, and what to do about it.
    fn complaint(&self, name: &str, expected: u64, measured: u64, advice: &str) -> String {
        let percent = percent(expected, measured);
        let accept = self.accept;
        let todo = if percent < 0.0 {
            format!("That is better. Commit the new baseline, written by `{accept}`.")
        } else {
            format!(
                "{advice}\nIf it has to cost that much, say so in the commit that writes the \
                 baseline anew, with `{accept}`."
            )
        };
        format!(
            "{name}: {measured}, {expected} in the baseline: {percent:+.1} %, {TOLERANCE} % are \
             allowed.\n{todo}"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn percent(expected: u64, measured: u64) -> f64 {
    (measured as f64 / expected as f64 - 1.0) * 100.0
}

/// Lines of `name = number`, and comments.
fn parse(baseline: &str) -> Result<Vec<(String, u64)>, AnyError> {
    let lines = baseline.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, number) = line
                .split_once('=')
                .ok_or_else(|| format!("not `name = number`: {line}"))?;
            Ok((name.trim().to_owned(), number.trim().parse()?))
        })
        .collect()
}
