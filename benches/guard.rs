//! Counts the instructions of the hot path, and fails where they differ from the committed
//! baseline.
//!
//! Instructions, unlike times, do not depend on the other programs of the machine. Each case runs
//! `N` and `2 N` times under callgrind, and the difference is divided by `N`. So the work that a
//! process does once cancels out.

use std::process::{Command, Stdio};

use super::{AnyError, baseline::Baseline};

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

const BASELINE: Baseline = Baseline {
    file: "instructions.toml",
    header: "\
# Instructions of the hot path: CASE-SIDE = instructions for each message, round trip or activation.
# Written by `cargo bench --no-default-features -p casty-benches --bench hot -- guard --write`; compared, with a tolerance of 5 %, without `--write`.
",
    accept: "cargo bench --no-default-features -p casty-benches --bench hot -- guard --write",
};

/// The same, where messages are counted.
const COUNTED: Baseline = Baseline {
    file: "instructions-metrics.toml",
    header: "\
# As instructions.toml, with the feature `metrics`.
# Written by `cargo bench --no-default-features --features metrics -p casty-benches --bench hot -- guard --write`.
",
    accept: "cargo bench --no-default-features --features metrics -p casty-benches --bench hot -- guard --write",
};

/// Compares, or writes the baseline anew.
pub(crate) fn main(options: &[String]) -> Result<(), AnyError> {
    let writes = match options {
        [] => false,
        [option] if option == "--write" => true,
        _ => return Err("hot guard [--write]".into()),
    };
    let program = std::env::current_exe()?;
    let mut measured = Vec::new();
    for (case, side, count) in CASES {
        measured.push((format!("{case}-{side}"), measure(case, side, count)?));
    }
    let baseline = if cfg!(feature = "metrics") {
        compare_counted(&measured)?;
        &COUNTED
    } else {
        &BASELINE
    };
    baseline.guard(writes, &measured, |at, _| {
        let (case, side, count) = CASES[at];
        format!(
            "See where they are executed, here and in a checkout that still was right:\n  \
             valgrind --tool=callgrind --callgrind-out-file=/tmp/callgrind.out {} {case} {side} \
             {count}\n  callgrind_annotate /tmp/callgrind.out | head -60",
            program.display()
        )
    })
}

/// Compares a local tell with the feature `metrics` with the same without.
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn compare_counted(measured: &[(String, u64)]) -> Result<(), AnyError> {
    let plain = BASELINE.read()?;
    for (case, count) in measured {
        let Some(plain) = plain.get(case).filter(|_| case.starts_with("tell-")) else {
            continue;
        };
        let ratio = *count as f64 / *plain as f64;
        println!("{case}: {ratio:.3} of what it takes where nothing is counted");
    }
    Ok(())
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
