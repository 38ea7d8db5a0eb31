//! Tools of several benchmarks: processes of their own executable, runtimes, a clock, quantiles.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A node in a process of its own. Dropping it waits until the node has left in order.
pub(crate) struct Process {
    child: Child,
    /// The address on which it listens.
    pub(crate) address: String,
}

impl Process {
    /// Runs this program with other arguments, and waits until the process has printed its address.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, AnyError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().to_owned();
        if address.is_empty() {
            child.wait()?;
            return Err("a node ended before it listened".into());
        }
        Ok(Self { child, address })
    }

    /// Sends the process a signal, by its name without the `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), AnyError> {
        let mut kill = Command::new("kill");
        let status = kill
            .args(["-s", name, &self.child.id().to_string()])
            .status()?;
        status.success().then_some(()).ok_or("no signal")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends the process. A stopped process would not notice.
        drop(self.child.stdin.take());
        let _ = self.signal("CONT");
        let _ = self.child.wait();
    }
}

/// Serves until the end of this process's input.
pub(crate) async fn until_stdin_ends() {
    use tokio::io::AsyncReadExt;
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// Two workers, like the machines that this is measured on.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// On a worker thread, as an application's tasks are.
pub(crate) async fn go<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own task")]
    let task = tokio::spawn(task);
    task.await.expect("it ends")
}

pub(crate) fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    Instant::now()
}

/// The one of the sorted values below which so many hundredths of them lie.
pub(crate) fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    let at = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}
