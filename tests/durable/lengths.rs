//! What is too long to be copied is refused where it is written, whatever the store is.

use casty::{
    persistence::{BODY_BYTES_MAX, Memory},
    prelude::*,
};

use crate::types::Page;

const MIB: usize = 1024 * 1024;

async fn check(system: &ActorSystem) {
    let page = system.entity::<Page>("long");
    let most = "x".repeat(BODY_BYTES_MAX - 1000);
    assert_eq!(page.write(most.clone()).await, Ok(()));
    let refused = page.write("y".repeat(BODY_BYTES_MAX)).await;
    let Err(AskError::RecordTooLarge { bytes, bytes_max }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(bytes_max, 7 * MIB);
    assert!(bytes > bytes_max, "{bytes}");
    // It goes on from what is stored, and the longest that is stored is read again.
    assert_eq!(page.text().await, Ok(most));
    for _ in 0..4 {
        assert_eq!(page.write("short".to_owned()).await, Ok(()));
    }
    assert_eq!(page.text().await.as_deref(), Ok("short"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_long_is_refused_in_a_directory() {
    casty_tests::log();
    let folder = tempfile::tempdir().unwrap();
    let builder = ActorSystem::builder("long").data_dir(folder.path());
    let system = builder.start_local().unwrap();
    check(&system).await;
    system.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_long_is_refused_in_memory() {
    casty_tests::log();
    let builder = ActorSystem::builder("long").journal(Memory::new());
    let system = builder.start_local().unwrap();
    check(&system).await;
    system.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_records_are_copied() {
    casty_tests::log();
    let folder = tempfile::tempdir().unwrap();
    let nodes = casty::testkit::cluster_of(2, |i| {
        let name = format!("node-{i}");
        let builder = ActorSystem::builder("long").node_id(&*name);
        builder.data_dir(folder.path().join(&name))
    })
    .await;
    check(&nodes[0]).await;
    casty::testkit::shutdown(nodes).await;
}
