//! Counts the instructions of the hot path, and fails where they are not what was committed.
//!
//! Instructions, unlike times, do not depend on what else the machine does. Each case runs `N` and
//! `2 N` times under callgrind, and the difference is divided by `N`: what a process does once
//! cancels out.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::AnyError;

/// By how many percent a case may differ from the baseline, either way.
const TOLERANCE: f64 = 5.0;

/// A case and a side of `hot`, and `N`.
const CASES: [(&str, &str, u64); 7] = [
    ("tell", "entity", 20_000),
    ("tell", "actor", 20_000),
    ("ask", "entity", 10_000),
    ("ask", "actor", 10_000),
    ("spawn", "entity", 4_096),
    ("tell", "remote", 10_000),
    ("ask", "remote", 2_000),
];

const NO_VALGRIND: &str = "instructions are counted by valgrind, which is not installed: \
     `apt-get install valgrind` (or what your system calls it), then run this again";

const HEADER: &str = "\
# Instructions of the hot path: CASE-SIDE = instructions for each message, round trip or activation.
# Written by `cargo bench -p casty-benches --bench hot -- guard --write`; compared, with a tolerance of 5 %, without `--write`.
";

/// Compares, or writes the baseline anew.
pub(crate) fn main(options: &[String]) -> Result<(), AnyError> {
    let writes = match options {
        [] => false,
        [option] if option == "--write" => true,
        _ => return Err("hot guard [--write]".into()),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let baseline = if writes {
        Vec::new()
    } else {
        parse(&fs::read_to_string(&path)?)?
    };
    let (mut written, mut wrong) = (HEADER.to_owned(), Vec::new());
    println!("| case | baseline | measured | difference |\n|---|---|---|---|");
    for (case, side, count) in CASES {
        let name = format!("{case}-{side}");
        let measured = measure(case, side, count)?;
        writeln!(written, "{name} = {measured}")?;
        if writes {
            println!("| {name} | | {measured} | |");
            continue;
        }
        let Some((_, expected)) = baseline.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!(
                "{name}: the baseline does not have it; write it anew"
            ));
            continue;
        };
        let percent = percent(*expected, measured);
        println!("| {name} | {expected} | {measured} | {percent:+.1} % |");
        if percent.abs() > TOLERANCE {
            wrong.push(said(case, side, count, *expected, measured)?);
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

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn percent(expected: u64, measured: u64) -> f64 {
    (measured as f64 / expected as f64 - 1.0) * 100.0
}

/// What is wrong with a case, and what to do about it.
fn said(
    case: &str,
    side: &str,
    count: u64,
    expected: u64,
    measured: u64,
) -> Result<String, AnyError> {
    let percent = percent(expected, measured);
    let advice = if percent < 0.0 {
        "That is better. Have it stay so: commit the new baseline, written by \
         `cargo bench -p casty-benches --bench hot -- guard --write`."
            .to_owned()
    } else {
        format!(
            "See where they are executed, here and in a checkout that still was right:\n  \
             valgrind --tool=callgrind --callgrind-out-file=/tmp/callgrind.out {} {case} {side} {count}\n  \
             callgrind_annotate /tmp/callgrind.out | head -60\n\
             If it has to cost that much, say so in the commit that writes the baseline anew, with `guard --write`.",
            std::env::current_exe()?.display()
        )
    };
    Ok(format!(
        "{case} {side}: {measured} instructions each, {expected} in the baseline: {percent:+.1} %, \
         {TOLERANCE} % are allowed.\n{advice}"
    ))
}

/// Instructions for each of the case, rounded.
fn measure(case: &str, side: &str, count: u64) -> Result<u64, AnyError> {
    let (once, twice) = (
        instructions(case, side, count)?,
        instructions(case, side, 2 * count)?,
    );
    let more = twice.checked_sub(once);
    let more = more.ok_or_else(|| format!("{case} {side}: twice as much costs less"))?;
    Ok((more + count / 2) / count)
}

/// Instructions of a whole process.
fn instructions(case: &str, side: &str, count: u64) -> Result<u64, AnyError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([case, side, &count.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NO_VALGRIND.to_owned(),
            _ => format!("valgrind: {error}"),
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{case} {side} {count}: {}\n{said}", output.status).into());
    }
    // `==1234== Collected : 56789`
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.ok_or("callgrind does not say how many instructions it saw")?;
    Ok(number.trim().parse()?)
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
