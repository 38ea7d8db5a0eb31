//! A disk that is full, read-only, or fails. Each in a child, under a small disk or limit.

use std::{fs, io::Write as _, path::Path, process::Command};

use casty::{
    id::Epoch,
    persistence::{AppendError, Appended, Journal},
    testkit::eventually,
};
use casty_sql::{OpenError, Sqlite};

use crate::support::{all, append, child, kinds, log};

/// Mounts a disk of 4 MiB that only the child sees.
const SMALL_DISK: &str = r#"mount -t tmpfs -o size=4m casty "$0" || exit 77; exec "$@""#;

/// Writes beyond 2 MiB of a file fail. The limit can be lifted.
const SMALL_FILES: &str = r#"trap "" XFSZ; ulimit -S -f 4096; exec "$@""#;

/// Runs a child. False if the system does not allow what the launcher needs.
fn run(launcher: &[&str], name: &str, folder: &Path) -> bool {
    let folder = folder.to_str().expect("text");
    let output = child::command(launcher, name, &[folder])
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || errors.contains("unshare failed") {
        return false;
    }
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
    true
}

fn run_on_a_small_disk(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let shell = ["sh", "-c", SMALL_DISK, path];
    // As root, or as root of a namespace of one's own.
    for unshare in [
        &["unshare", "--mount"][..],
        &["unshare", "--mount", "--map-root-user"],
    ] {
        if run(&[unshare, &shell].concat(), name, folder.path()) {
            return;
        }
    }
    let needed = std::env::var_os("CASTY_REQUIRE_DISK").is_some_and(|value| value == "1");
    assert!(
        !needed,
        "this user may not mount a disk, and CASTY_REQUIRE_DISK is 1"
    );
    let left_out = format!("LEFT OUT: {name}, since this user may not mount a disk\n");
    let _ = std::io::stderr().write_all(left_out.as_bytes());
}

/// Appends of 10 kB until one fails. The head before it, and the error.
async fn fill(store: &Sqlite, mut head: u64) -> (u64, AppendError) {
    loop {
        let mut batch = vec![append(0, head + 1, Epoch(1), "a", head + 1)];
        batch[0].records[0].body = vec![7; 10_000].into();
        match store.append(batch).await {
            Ok(appended) => assert_eq!(appended, [Appended::Written]),
            Err(error) => return (head, error),
        }
        head += 1;
    }
}

/// All that was acknowledged is there. The head, which tells what became of the last append.
async fn check(store: &Sqlite, acknowledged: u64, error: &AppendError) -> u64 {
    let head = store
        .claim(&log(0), Epoch(1), "node")
        .await
        .expect("claimed again");
    let most = acknowledged + u64::from(matches!(error, AppendError::Unknown { .. }));
    assert!(
        (acknowledged..=most).contains(&head),
        "{acknowledged}, then {error:?}: {head}"
    );
    let records = all(store, &log(0)).await;
    assert_eq!(records.len() as u64, head);
    assert!(records.iter().all(|record| record.seq == record.position));
    head
}

async fn start(folder: &Path) -> Sqlite {
    let store = Sqlite::open(folder.join("casty.db")).await.expect("opened");
    store.open(&kinds()).await.expect("opened");
    store
        .claim(&log(0), Epoch(1), "node")
        .await
        .expect("claimed");
    store
}

#[tokio::test]
async fn child_on_a_full_disk() {
    let Some(work) = child::work() else { return };
    let folder = Path::new(&work[0]);
    let reserve = folder.join("reserve");
    fs::write(&reserve, vec![1; 1 << 20]).expect("room");
    let store = start(folder).await;
    let (acknowledged, error) = fill(&store, 0).await;
    assert!(acknowledged > 0);
    assert!(
        error.to_string().contains("the disk is full: make room"),
        "{error}"
    );
    let mut head = check(&store, acknowledged, &error).await;
    // A full disk stays full, and everything that was stored stays readable.
    let (again, error) = fill(&store, head).await;
    head = check(&store, again, &error).await;
    fs::remove_file(&reserve).expect("removed");
    let written = store
        .append(vec![append(0, head + 1, Epoch(1), "a", head + 1)])
        .await;
    assert_eq!(written, Ok(vec![Appended::Written]), "after room was made");
}

#[tokio::test]
async fn child_on_a_read_only_disk() {
    let Some(work) = child::work() else { return };
    let folder = Path::new(&work[0]);
    drop(start(folder).await);
    let remount = || async {
        let remount = Command::new("mount")
            .args(["-o", "remount,bind,ro", &work[0]])
            .status();
        remount.expect("the program mount").success()
    };
    // Connections are closed by their own threads: until then the disk is busy.
    eventually("the disk is read-only", remount, |done| *done).await;
    let error = Sqlite::open(folder.join("casty.db"))
        .await
        .expect_err("refused");
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    let error = Sqlite::open(folder.join("another.db"))
        .await
        .expect_err("refused");
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
}

#[tokio::test]
async fn child_on_a_disk_that_fails() {
    let Some(work) = child::work() else { return };
    let store = start(Path::new(&work[0])).await;
    // The log is copied into the file before anything in it counts. In the end the file reaches the
    // limit too.
    let mut head = 0;
    let (acknowledged, error) = loop {
        let (acknowledged, error) = fill(&store, head).await;
        assert!(error.to_string().contains("the disk failed"), "{error}");
        if store.claim(&log(0), Epoch(1), "node").await.is_err() {
            break (acknowledged, error);
        }
        head = check(&store, acknowledged, &error).await;
    };
    assert!(acknowledged > 0);
    let process = std::process::id().to_string();
    let lifted = Command::new("prlimit")
        .args(["--pid", &process, "--fsize=unlimited"])
        .status();
    assert!(lifted.expect("the program prlimit").success());
    let log = log(0);
    let claim = || store.claim(&log, Epoch(1), "node");
    eventually("it works again", claim, Result::is_ok)
        .await
        .expect("claimed");
    let head = check(&store, acknowledged, &error).await;
    let written = store
        .append(vec![append(0, head + 1, Epoch(1), "a", head + 1)])
        .await;
    assert_eq!(written, Ok(vec![Appended::Written]));
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_works_again_when_there_is_room() {
    run_on_a_small_disk("disk::child_on_a_full_disk");
}

#[test]
fn a_read_only_disk_is_refused() {
    run_on_a_small_disk("disk::child_on_a_read_only_disk");
}

#[test]
fn a_disk_that_fails_loses_nothing_and_the_store_works_again_when_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let launcher = ["sh", "-c", SMALL_FILES, "sh"];
    assert!(run(
        &launcher,
        "disk::child_on_a_disk_that_fails",
        folder.path()
    ));
}
