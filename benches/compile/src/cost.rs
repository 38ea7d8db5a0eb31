//! Runs cargo, and asks Linux what it cost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    AnyError,
    program::{self, SIDES, Side},
};

/// What a program cost to build.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// CPU seconds.
    pub(crate) check: f64,
    pub(crate) build: f64,
    /// A development build after a change in the body of one message of one type: the first, and
    /// the next one.
    pub(crate) changed: [f64; 2],
    pub(crate) release: f64,
    /// Bytes of the stripped release binary.
    pub(crate) size: u64,
}

/// What is measured of each program, in this order.
#[derive(Clone, Copy)]
enum Step {
    Check,
    Build,
    Changed(usize),
    Release,
}

const STEPS: [Step; 5] = [
    Step::Check,
    Step::Build,
    Step::Changed(0),
    Step::Changed(1),
    Step::Release,
];

/// The generated workspaces, with all dependencies built.
pub(crate) struct Bench {
    root: PathBuf,
}

impl Bench {
    /// Writes the programs, and builds what they depend on.
    pub(crate) fn prepare(types: &[usize]) -> Result<Self, AnyError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/programs");
        let bench = Self { root };
        for side in SIDES {
            let folder = bench.folder(side);
            program::write(&folder, side, types)?;
            let dependencies = program::package(side, 0);
            for arguments in [&["check"][..], &["build"], &["build", "--release"]] {
                eprintln!(
                    "{}: dependencies, cargo {}",
                    side.name(),
                    arguments.join(" ")
                );
                bench.cargo(side, &dependencies, arguments)?;
            }
        }
        Ok(bench)
    }

    fn folder(&self, side: Side) -> PathBuf {
        self.root.join(side.name())
    }

    /// The costs of each number of types, in the order of the sides.
    pub(crate) fn measure(&self, types: &[usize]) -> Result<Vec<[Cost; 2]>, AnyError> {
        let mut costs = Vec::new();
        for &types in types {
            let mut both = [Cost::default(); 2];
            for side in SIDES {
                self.cargo(side, &program::package(side, types), &["clean"])?;
            }
            for step in STEPS {
                for (side, cost) in SIDES.into_iter().zip(&mut both) {
                    self.step(side, types, step, cost)?;
                }
            }
            costs.push(both);
        }
        Ok(costs)
    }

    fn step(&self, side: Side, types: usize, step: Step, cost: &mut Cost) -> Result<(), AnyError> {
        let package = program::package(side, types);
        match step {
            Step::Check => cost.check = self.cargo(side, &package, &["check"])?,
            Step::Build => cost.build = self.cargo(side, &package, &["build"])?,
            Step::Changed(time) => {
                let bonus = u32::try_from(time + 1)?;
                program::write_type(&self.folder(side).join(&package), side, 0, bonus)?;
                cost.changed[time] = self.cargo(side, &package, &["build"])?;
            }
            Step::Release => {
                cost.release = self.cargo(side, &package, &["build", "--release"])?;
                let binary = self.folder(side).join("target/release").join(&package);
                cost.size = fs::metadata(binary)?.len();
            }
        }
        eprintln!("{package}: {cost:?}");
        Ok(())
    }

    /// Runs cargo for a package. Returns the CPU seconds of it and of its children.
    fn cargo(&self, side: Side, package: &str, arguments: &[&str]) -> Result<f64, AnyError> {
        let before = children()?;
        let mut command = Command::new("cargo");
        // What cargo has set for this program, or a gate for itself, is not for the programs.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_") && text != "CARGO_HOME" || text == "RUSTFLAGS" {
                command.env_remove(&name);
            }
        }
        let status = command
            .args(arguments)
            .args(["--quiet", "--package", package])
            .current_dir(self.folder(side))
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("cargo {} of {package}: {status}", arguments.join(" ")).into());
        }
        Ok(children()? - before)
    }
}

/// CPU seconds of all children that have ended and were waited for, and of theirs: `cutime` and
/// `cstime` of proc(5), in ticks of which Linux shows programs a hundred a second.
fn children() -> Result<f64, AnyError> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name before may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: Result<Vec<u32>, _> = ticks.map(str::parse).collect();
    Ok(ticks?.into_iter().map(f64::from).sum::<f64>() / 100.0)
}
