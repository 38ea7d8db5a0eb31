//! Stored entities in the directory of a node.

use casty::{error::StartError, prelude::*, testkit::eventually};

use crate::types::Vault;

fn builder(path: &std::path::Path) -> casty::SystemBuilder {
    casty_tests::log();
    ActorSystem::builder("stored").data_dir(path)
}

fn directory_is_free(path: &std::path::Path) -> bool {
    let lock = std::fs::File::open(path.join("log/lock")).unwrap();
    lock.try_lock().is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_system_finds_its_entities_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    for round in 1..=3 {
        let system = builder(&path).start_local().unwrap();
        let vault = system.entity::<Vault>("alice");
        assert_eq!(vault.deposit(10).await, Ok(10 * round));
        if round == 1 {
            // The directory belongs to the system that runs.
            let second = builder(&path).start_local().unwrap_err();
            assert!(matches!(second, StartError::Journal { .. }), "{second:?}");
            let text = second.to_string();
            assert!(text.contains("is in use by another process"), "{text}");
        }
        system.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_keeps_its_entities_and_its_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    for round in 1..=3 {
        let node = builder(&path).node_id("one").start().await.unwrap();
        node.wait_for(1).await.unwrap();
        assert_eq!(node.entity::<Vault>("bob").deposit(5).await, Ok(5 * round));
        node.shutdown().await.unwrap();
    }
    let parts: Vec<_> = std::fs::read_dir(&path).unwrap().collect();
    assert_eq!(parts.len(), 2, "{parts:?}");
}

#[tokio::test]
async fn a_system_that_is_dropped_gives_the_directory_back() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let system = builder(folder.path()).start_local().unwrap();
        let vault = system.entity::<Vault>("carol");
        assert_eq!(vault.deposit(1).await, Ok(round));
        drop((system, vault));
        // A thread closes the log some time later.
        let is_free = || async { directory_is_free(folder.path()) };
        eventually("the log is closed by its thread", is_free, |free| *free).await;
    }
}

#[tokio::test]
async fn the_directory_of_the_map_is_a_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let both = builder(folder.path()).state_dir(folder.path()).start();
    let both = both.await.unwrap_err();
    assert!(
        both.to_string().contains("is a part of `data_dir`"),
        "{both}"
    );
}

#[tokio::test]
async fn nodes_with_a_journal_use_the_directory_for_the_map_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = casty::persistence::Memory::new();
    let node = builder(folder.path())
        .seeds(["127.0.0.1:1"])
        .journal(store)
        .start();
    let node = node.await.unwrap();
    assert!(folder.path().join("map").exists());
    assert!(!folder.path().join("log").exists());
    drop(node);
}

#[tokio::test]
async fn a_directory_that_is_damaged_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let system = builder(folder.path()).start_local().unwrap();
    for id in ["a", "b", "c"] {
        system.entity::<Vault>(id).deposit(1).await.unwrap();
    }
    system.shutdown().await.unwrap();
    let file = folder.path().join("log/0000000001.segment");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[4096 + 30] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = builder(folder.path()).start_local().unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("is damaged, in 0000000001.segment at byte 4096"),
        "{text}"
    );
}

/// Moves the directory of a node to another file system, or restores it from a backup: casty cannot
/// tell one from the other.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restored_directory_is_refused_until_it_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let node = builder(&first).node_id("one").start().await.unwrap();
    node.wait_for(1).await.unwrap();
    assert_eq!(node.entity::<Vault>("bob").deposit(5).await, Ok(5));
    node.shutdown().await.unwrap();
    drop(node);
    eventually(
        "the directory is free",
        || async { directory_is_free(&first) },
        |free| *free,
    )
    .await;
    copy(&first, &second);
    std::fs::remove_dir_all(&first).unwrap();

    let refused = builder(&second).node_id("one").start().await.unwrap_err();
    assert!(
        matches!(refused, StartError::DirectoryCopied { .. }),
        "{refused:?}"
    );
    let text = refused.to_string();
    assert!(text.contains("casty adopt"), "{text}");

    // The operator knows that it was moved.
    casty::admin::adopt_directory(&second).unwrap();
    let node = builder(&second).node_id("one").start().await.unwrap();
    node.wait_for(1).await.unwrap();
    assert_eq!(node.entity::<Vault>("bob").deposit(5).await, Ok(10));
    node.shutdown().await.unwrap();
}

#[test]
fn only_the_directory_of_a_node_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let refused = casty::admin::adopt_directory(folder.path()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("is not the directory of a node"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn two_nodes_that_both_go_on_cannot_keep_copies() {
    let folder = tempfile::tempdir().unwrap();
    let start = builder(folder.path())
        .availability(casty::member::Availability::Prefer)
        .start();
    let refused = start.await.unwrap_err().to_string();
    assert!(refused.contains("would lose what they did"), "{refused}");
}
