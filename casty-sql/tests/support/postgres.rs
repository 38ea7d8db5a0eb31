//! A server of PostgreSQL for a test: in a temporary folder, on a socket there, and without TCP.
//!
//! The benchmark includes this file with `#[path]`.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// How long a server may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

/// Ends the server when the input ends: when the test drops it, and when the process of the test
/// dies however it dies.
const KEEPER: &str = r#"
"$0" "$@" &
server=$!
cat > /dev/null
kill -QUIT "$server" 2> /dev/null
wait "$server"
"#;

pub(crate) struct Server {
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    keeper: Mutex<Option<Child>>,
    // Removed last.
    folder: tempfile::TempDir,
}

/// The server that the tests of this program share while they run. `None` if PostgreSQL is not
/// installed, which is said on stderr, and fails the test if `CASTY_REQUIRE_POSTGRES` is 1.
pub(crate) async fn shared() -> Option<Arc<Server>> {
    static SHARED: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Server::start().await?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// The folder with `initdb` and `postgres`.
fn find() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut versions: Vec<_> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).collect::<Vec<_>>();
    let has_both =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("postgres").exists();
    versions.into_iter().rev().chain(others).find(has_both)
}

/// The server does not run as root: the user `postgres` does, or the one without rights.
fn user() -> Option<(u32, u32)> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .expect("the program id");
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next()? == "postgres";
        let ids = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_it.then_some(ids)
    });
    Some(ids.unwrap_or((65_534, 65_534)))
}

impl Server {
    /// Starts a server of its own. `None` as for [`shared`].
    pub(crate) async fn start() -> Option<Self> {
        let Some(binaries) = find() else {
            let needed =
                std::env::var_os("CASTY_REQUIRE_POSTGRES").is_some_and(|value| value == "1");
            assert!(
                !needed,
                "PostgreSQL is not installed, and CASTY_REQUIRE_POSTGRES is 1"
            );
            // Not by a macro, whose output the test runner keeps to itself.
            let _ = std::io::stderr().write_all(
                b"LEFT OUT: a test of PostgreSQL, since initdb and postgres are not installed\n",
            );
            return None;
        };
        let user = user();
        let folder = tempfile::Builder::new()
            .prefix("casty-pg-")
            .tempdir()
            .expect("a folder");
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("chown");
        }
        let server = Self {
            binaries,
            user,
            keeper: Mutex::new(None),
            folder,
        };
        let made = server
            .command(Path::new("initdb"))
            .args([
                "--username=casty",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .args(["--no-sync", "--pgdata"])
            .arg(server.data())
            .output()
            .expect("initdb");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.launch().await;
        Some(server)
    }

    /// Starts the server again, in its folder. The log of the server is in the folder too.
    pub(crate) async fn launch(&self) {
        let deadline = tokio::time::Instant::now() + START_MAX;
        loop {
            let log = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.log());
            let log = log.expect("a log");
            let mut command = self.command(Path::new("/bin/sh"));
            command
                .arg("-c")
                .arg(KEEPER)
                .arg(self.binaries.join("postgres"));
            command
                .arg("-D")
                .arg(self.data())
                .arg("-k")
                .arg(self.folder.path());
            for setting in [
                "listen_addresses=",
                "max_connections=60",
                "shared_buffers=64MB",
            ] {
                command.arg("-c").arg(setting);
            }
            let errors = log.try_clone().expect("a second handle");
            command.stdin(Stdio::piped()).stdout(log).stderr(errors);
            let mut keeper = command.spawn().expect("sh");
            while !self.answers() {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "PostgreSQL does not start: {}",
                    fs::read_to_string(self.log()).unwrap_or_default()
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
                // After a kill the parts of the old server still end.
                if !self.data().join("postmaster.pid").exists() && has_failed(&keeper) {
                    break;
                }
            }
            if self.answers() {
                *self.keeper() = Some(keeper);
                return;
            }
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    fn answers(&self) -> bool {
        let ready = self
            .command(Path::new("psql"))
            .args(["-X", "-q", "-U", "casty", "-d", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-c", "SELECT 1"])
            .output();
        ready.is_ok_and(|ready| ready.status.success())
    }

    /// Changes settings, in the form of `postgresql.conf`, also while the server recovers.
    pub(crate) fn configure(&self, settings: &str) {
        fs::write(self.data().join("postgresql.auto.conf"), settings).expect("written");
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).expect("a pid");
        signal("HUP", pid.lines().next().expect("a pid"));
    }

    /// The address of the database `postgres`.
    pub(crate) fn url(&self) -> String {
        url_by(self.folder.path())
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// Kills the server at once, as a crash of its machine would, and waits for its end.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).expect("a pid");
        signal("KILL", pid.lines().next().expect("a pid"));
        let keeper = self.keeper().take();
        if let Some(mut keeper) = keeper {
            drop(keeper.stdin.take());
            keeper.wait().expect("the keeper");
        }
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).env_clear();
        command
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper().take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// The address through another socket, which lies in `folder` under the usual name.
pub(crate) fn url_by(folder: &Path) -> String {
    format!(
        "postgres://casty@localhost/postgres?host={}",
        folder.display()
    )
}

/// Whether the server has ended: the keeper's shell has no child any more.
fn has_failed(keeper: &Child) -> bool {
    let children = format!("/proc/{0}/task/{0}/children", keeper.id());
    let Ok(children) = fs::read_to_string(children) else {
        // Other systems than Linux have no such file, and the deadline decides.
        return Path::new("/proc/self").exists();
    };
    !children.split_whitespace().any(|child| {
        fs::read_to_string(format!("/proc/{child}/comm"))
            .is_ok_and(|name| name.starts_with("postgres"))
    })
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid)
        .status();
    assert!(
        sent.expect("the program kill").success(),
        "no process {pid}"
    );
}
