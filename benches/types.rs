//! What an entity type costs its program to compile: the lines and functions of LLVM IR that rustc
//! writes for it, before LLVM optimizes them.
//!
//! `types guard` compiles an example with one entity type and one with five, and compares both with
//! `benches/types.toml`. Unlike the time of a build, these numbers depend on no other program that
//! the machine runs; they grow with what rustc instantiates again for each type. The time itself is
//! measured by `benches/compile`.

mod baseline;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use baseline::{AnyError, Baseline};

/// The examples, which are in `benches/types`.
const EXAMPLES: [&str; 2] = ["one", "five"];

const BASELINE: Baseline = Baseline {
    file: "types.toml",
    header: "\
# LLVM IR of an example with one entity type and of one with five, before optimization: lines and functions.
# Written by `cargo bench --no-default-features -p casty-benches --bench types -- guard --write`; compared, with a tolerance of 5 %, without `--write`.
",
    accept: "cargo bench --no-default-features -p casty-benches --bench types -- guard --write",
};

fn main() -> Result<(), AnyError> {
    let arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let writes = match *arguments {
        ["guard"] => false,
        ["guard", "--write"] => true,
        // `cargo bench` runs everything without arguments.
        [] => {
            println!("types guard [--write]");
            return Ok(());
        }
        _ => return Err("types guard [--write]".into()),
    };
    let mut measured = Vec::new();
    for example in EXAMPLES {
        let file = compile(example)?;
        let (lines, functions) = count(&fs::read_to_string(&file)?);
        measured.push((format!("{example}-lines"), lines));
        measured.push((format!("{example}-functions"), functions));
    }
    BASELINE.guard(writes, &measured, |_, _| {
        "See which functions there are more of, here and in a checkout that still was right: \
         `grep '^define' target/types/five.ll`, or `cargo llvm-lines`."
            .to_owned()
    })
}

/// Has cargo compile an example to LLVM IR, with the dependencies of this program: they are built
/// already.
fn compile(example: &str) -> Result<PathBuf, AnyError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = workspace.join("target/types");
    fs::create_dir_all(&folder)?;
    let file = fs::canonicalize(&folder)?.join(format!("{example}.ll"));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&workspace)
        .args([
            "rustc",
            "--quiet",
            "-p",
            "casty-benches",
            "--no-default-features",
            "--profile",
            "bench",
        ])
        .args(["--example", &format!("types_{example}"), "--"])
        .arg(format!("--emit=llvm-ir={}", file.display()))
        // In one piece and alone, without what debuggers need, and before LLVM optimizes.
        .args([
            "-C",
            "codegen-units=1",
            "-C",
            "debuginfo=0",
            "-C",
            "lto=off",
        ])
        .args(["-C", "no-prepopulate-passes"])
        .status()?;
    if !status.success() {
        return Err(format!("cargo rustc of `types_{example}`: {status}").into());
    }
    Ok(file)
}

/// The lines of all functions, and their number.
fn count(ir: &str) -> (u64, u64) {
    let (mut lines, mut functions) = (0, 0);
    let mut within = false;
    for line in ir.lines() {
        if line.starts_with("define ") {
            functions += 1;
            within = true;
        }
        lines += u64::from(within);
        if line == "}" {
            within = false;
        }
    }
    (lines, functions)
}
