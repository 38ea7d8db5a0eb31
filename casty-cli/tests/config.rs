//! What `casty config` prints.

#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "other tests use the rest of what is common")]

mod common;

use crate::common::casty;

#[tokio::test]
async fn the_defaults_are_a_file_that_can_be_checked() {
    let text = casty(&["config", "defaults"]).await.succeeded();
    for line in [
        "# node_id =",
        "[settings]",
        "# lease = \"1s 200ms\"",
        "# clock_drift = 0.05",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("casty.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, &text).unwrap();
    let checked = casty(&["config", "check", path]).await.succeeded();
    assert_eq!(checked, format!("`{path}` can be used\n"));
}

#[tokio::test]
async fn all_that_is_wrong_with_a_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("casty.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, "lisen = \"a\"\n[settings]\nlease = 5\n").unwrap();
    let error = casty(&["config", "check", path]).await.failed(1);
    assert!(
        error.contains("there is no key `lisen`; did you mean `listen`?"),
        "{error}"
    );
    assert!(error.contains(":3: `lease` has to be a time"), "{error}");
    std::fs::write(path, "[settings]\nlease = \"100ms\"\n").unwrap();
    let error = casty(&["config", "check", path]).await.failed(1);
    assert!(
        error.contains("election_timeout"),
        "what does not fit together: {error}"
    );
    casty(&["config", "check", "/nowhere/casty.toml"])
        .await
        .failed(1);
}
