//! Nodes in processes of their own, controlled by a test.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A node in a process of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its name in the cluster.
    pub name: String,
    /// The address it listens at.
    pub address: SocketAddr,
}

/// How a node's process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program `casty-test-node`.
    pub program: PathBuf,
    /// A command prefix, such as `ip netns exec NAME`.
    pub wrapper: Vec<String>,
    /// Environment variables to set.
    pub environment: Vec<(String, String)>,
    /// A folder for what the processes print to their standard error, a file for each. `None`: it
    /// is passed on.
    pub logs: Option<PathBuf>,
    /// Panics that processes printed to their standard error.
    pub panics: Arc<AtomicU64>,
}

impl Launch {
    /// The program that was built beside the running program.
    ///
    /// # Errors
    /// If the path of the running program is unknown.
    pub fn beside_me() -> io::Result<Self> {
        let me = std::env::current_exe()?;
        let folder = me.parent().unwrap_or(Path::new("."));
        Ok(Self {
            program: folder.join("casty-test-node"),
            wrapper: Vec::new(),
            environment: Vec::new(),
            logs: None,
            panics: Arc::default(),
        })
    }

    /// Starts a node, and waits until it listens.
    ///
    /// # Errors
    /// If it cannot be started, or ends before it listens.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever reads on ends with the process"
    )]
    pub async fn start(&self, name: &str, listen: &str, seeds: &[String]) -> io::Result<Process> {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        let mut child = command
            .args(["storm", name, listen])
            .args(seeds)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(stdout).lines();
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let panics = self.panics.clone();
        let log = self.logs.as_ref().map(|logs| logs.join(name));
        let mut log = log.map(std::fs::File::create).transpose()?;
        tokio::spawn(async move {
            let mut words = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = words.next_line().await {
                if line.starts_with("thread '") && line.contains("panicked at") {
                    panics.fetch_add(1, Ordering::Relaxed);
                }
                match &mut log {
                    None => eprintln!("{line}"),
                    // A full disk shows in the tests themselves.
                    Some(log) => drop(writeln!(log, "{line}")),
                }
            }
        });
        let ended = || io::Error::other(format!("`{name}` ended before it listened"));
        loop {
            let line = lines.next_line().await?.ok_or_else(ended)?;
            if let Some(address) = line.strip_prefix("address ") {
                let address = address.parse().map_err(io::Error::other)?;
                // Keep reading, so that the process never waits for room in the pipe.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(Process {
                    child,
                    name: name.to_owned(),
                    address,
                });
            }
        }
    }
}

impl Process {
    /// Ends the process at once, as `kill -9` does.
    ///
    /// # Errors
    /// If it has ended already.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Lets the node leave in order, and waits for its end.
    ///
    /// # Errors
    /// If it does not end in time, or reports that it could not leave.
    pub async fn leave(&mut self, limit: Duration) -> io::Result<()> {
        drop(self.child.stdin.take());
        let status = tokio::time::timeout(limit, self.child.wait()).await??;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("`{}`: {status}", self.name)))
        }
    }

    /// The number of the process, as long as it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How the process has ended, if it has.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// The process's resident memory, in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }
}
