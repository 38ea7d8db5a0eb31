//! A healthy cluster beside hostile peers, for a short while: see `casty-hostile`.

use std::process::Command;

/// Runs a few cases, and prints what the program says if one does not hold.
fn attack(way: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_casty-hostile"))
        .args(["--short", "--seconds", "9", way])
        .output()
        .expect("the program was built for this test");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("all held"), "{said}");
}

#[test]
fn a_cluster_without_tls_goes_on_beside_hostile_peers() {
    attack("--plain");
}

#[test]
fn a_cluster_with_tls_goes_on_beside_hostile_peers() {
    attack("--tls");
}
