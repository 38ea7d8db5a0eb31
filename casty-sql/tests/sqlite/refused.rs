//! Files that cannot be used, and what to do.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use casty_sql::{OpenError, Sqlite};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

async fn refusal(path: impl AsRef<Path>) -> (OpenError, String) {
    let error = Sqlite::open(path).await.expect_err("refused");
    let text = error.to_string();
    (error, text)
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (error, text) = refusal(folder.path()).await;
    assert!(matches!(error, OpenError::Directory { .. }));
    assert!(
        text.contains("is a directory; give the path of a file in it, such as"),
        "{text}"
    );
    let (error, text) = refusal(folder.path().join("missing/casty.db")).await;
    assert!(matches!(error, OpenError::MissingParent { .. }));
    assert!(
        text.ends_with("missing/casty.db does not exist; create it"),
        "{text}"
    );
    for path in [":memory:", "", "file:casty.db?mode=memory"] {
        let (error, text) = refusal(path).await;
        assert!(matches!(error, OpenError::NotAPath { .. }));
        assert!(text.contains("use `casty::persistence::Memory`"), "{text}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    let notes = "These are notes, and no database of SQLite.\n".repeat(100);
    fs::write(&path, &notes).expect("written");
    let (error, text) = refusal(&path).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{text}");
    assert!(
        text.contains("give another path, or restore the file from a backup"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(&path).expect("readable"), notes);
}

#[tokio::test]
async fn a_read_only_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    drop(Sqlite::open(&path).await.expect("opened"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("changed");
    let (error, text) = refusal(&path).await;
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{text}");
    assert!(text.contains("change it with chmod"), "{text}");
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused_by_its_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    drop(Sqlite::open(&path).await.expect("opened"));
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = options.connect().await.expect("connected");
    sqlx::raw_sql("INSERT INTO casty_schema VALUES (99, 0)")
        .execute(&mut connection)
        .await
        .expect("inserted");
    let (error, text) = refusal(&path).await;
    assert!(matches!(
        error,
        OpenError::NewerSchema {
            found: 99,
            known: 1,
            ..
        }
    ));
    assert!(
        text.contains("have version 99, and this version of casty-sql knows 1 at most"),
        "{text}"
    );
    sqlx::raw_sql("DELETE FROM casty_schema WHERE version = 99")
        .execute(&mut connection)
        .await
        .expect("deleted");
    Sqlite::open(&path).await.expect("opened");
}
