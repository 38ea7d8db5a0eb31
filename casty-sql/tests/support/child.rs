//! The program of the tests, started again as a process that a test kills.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};

/// How long a child may be silent, on a busy machine.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// What a child says before it begins something, with what that is.
pub(crate) const ATTEMPTED: u64 = 0;
/// What it says once that is confirmed.
pub(crate) const STORED: u64 = 1;

/// The environment variable with the arguments of a child. A process without it runs the tests.
const WORK: &str = "CASTY_SQL_CHILD";

/// The arguments of a child. `None` in the process that runs the tests.
pub(crate) fn work() -> Option<Vec<String>> {
    let work = std::env::var(WORK).ok()?;
    Some(work.split('\n').map(str::to_owned).collect())
}

/// The command that runs the test `name` as a child. `launcher` is put before it.
pub(crate) fn command(launcher: &[&str], name: &str, work: &[&str]) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut words = launcher
        .iter()
        .map(std::ffi::OsString::from)
        .collect::<Vec<_>>();
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(WORK, work.join("\n")).stdin(Stdio::null());
    command
}

pub(crate) struct Child {
    process: tokio::process::Child,
    lines: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Child {
    pub(crate) fn start(name: &str, work: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(command(&[], name, work));
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("a child");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self { process, lines }
    }

    /// The words of the next line that the child says by [`say`]. `None` at its end.
    pub(crate) async fn hear(&mut self) -> Option<Vec<u64>> {
        loop {
            let line = tokio::time::timeout(SILENCE_MAX, self.lines.next_line()).await;
            let line = line
                .expect("a child that says something")
                .expect("its output")?;
            // The runner of the tests writes in front of it.
            if let Some((_, said)) = line.split_once('@') {
                let words = said.split(' ').map(|word| word.parse().expect("a number"));
                return Some(words.collect());
            }
        }
    }

    /// Kills it at once, and returns what it had said before.
    pub(crate) async fn kill(mut self) -> Vec<Vec<u64>> {
        self.process.start_kill().expect("killed");
        self.process.wait().await.expect("its end");
        let mut said = Vec::new();
        while let Some(words) = self.hear().await {
            said.push(words);
        }
        said
    }
}

/// Says numbers to the parent.
pub(crate) fn say(words: &[u64]) {
    use std::io::Write as _;
    let words: Vec<_> = words.iter().map(u64::to_string).collect();
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "@{}", words.join(" ")).and_then(|()| out.flush());
    // The parent has ended.
    if written.is_err() {
        std::process::exit(1);
    }
}
