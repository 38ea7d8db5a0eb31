//! A process that appends is killed.

use casty::{id::Epoch, persistence::Journal};
use casty_sql::Sqlite;

use crate::support::{
    Random,
    child::{Child, work},
    kills, kinds,
    load::{SHARDS, Said, append_until_killed},
};

#[tokio::test]
async fn child() {
    let Some(work) = work() else { return };
    let store = Sqlite::open(&work[0]).await.expect("opened");
    store.open(&kinds()).await.expect("opened");
    let round: u64 = work[1].parse().expect("a number");
    append_until_killed(&store, Epoch(round), round).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_stored_after_each_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let path = path.to_str().expect("text");
    let mut known = vec![0; SHARDS as usize];
    let mut random = Random::new(16);
    for round in 1..=kills(100) {
        let mut child = Child::start("crash::child", &[path, &round.to_string()]);
        let mut said = Said::default();
        for _ in 0..random.below(60) {
            let words = child.hear().await.expect("a child that works");
            said.note(&words);
        }
        // Also while it commits, which takes some hundred microseconds.
        let pause = std::time::Duration::from_micros(random.below(500));
        let until = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        for words in child.kill().await {
            said.note(&words);
        }
        let store = Sqlite::open(path).await.expect("opened again");
        said.check(&store, &mut known, &format!("round {round}"))
            .await;
    }
    assert!(
        known.iter().all(|head| *head > 0),
        "nothing was appended: {known:?}"
    );
}
