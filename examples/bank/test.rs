//! The example `bank`: three processes that are killed while money moves between accounts.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, process::Command};

/// The program that cargo builds before it runs the tests of this crate.
fn program() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let folder = me.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(format!("bank{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is missing; `cargo build -p casty-examples --examples` makes it",
        program.display()
    );
    program
}

#[test]
fn no_money_is_lost_when_branches_are_killed_one_by_one_and_all_at_once() {
    let rounds = std::env::var("CASTY_CLUSTER_KILLS").unwrap_or_else(|_| "3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(program())
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--kills", &rounds])
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{out}\n{err}");
    // It has done what it is for.
    assert!(out.contains(&format!("round {rounds}: ")), "{out}");
    assert!(out.contains("all accounts have 12000"), "{out}");
    print!("{out}");
}
