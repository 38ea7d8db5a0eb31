//! Stored entities of a local system.

use std::{num::NonZeroU32, time::SystemTime};

use casty::{
    Entity,
    id::{EntityId, Epoch},
    persistence::{Append, Appended, Journal, Log, Memory, Page as Records, Record},
    prelude::*,
    testkit::eventually,
};

use crate::types::{Chest, Order, Page, Short, Vault};

fn start(store: &Memory) -> ActorSystem {
    casty_tests::log();
    let builder = ActorSystem::builder("stored").journal(store.clone());
    builder.start_local().unwrap()
}

async fn restarted(system: ActorSystem, store: &Memory) -> ActorSystem {
    system.shutdown().await.unwrap();
    start(store)
}

async fn records(store: &Memory, kind: &str, shards: NonZeroU32, id: &str) -> Vec<Record> {
    let entity = EntityId::from(id);
    let log = Log {
        kind: kind.into(),
        shard: entity.shard(shards).0,
    };
    let page = Records::default();
    store.read_entity(&log, &entity, 0, page).await.unwrap()
}

#[tokio::test]
async fn a_vault_is_what_its_events_have_made_of_it() {
    let store = Memory::new();
    let system = start(&store);
    let alice = |system: &ActorSystem| system.entity::<Vault>("alice");
    assert_eq!(alice(&system).deposit(10).await, Ok(10));
    assert_eq!(alice(&system).withdraw(3).await, Ok(7));
    let refused = alice(&system).withdraw(8).await;
    assert_eq!(refused, Err(AskError::Entity(Short { by: 1 })));
    let system = restarted(system, &store).await;
    assert_eq!(alice(&system).balance().await, Ok(7));
    for balance in 8..40 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    let system = restarted(system, &store).await;
    assert_eq!(alice(&system).balance().await, Ok(39));
    let records = records(&store, "Vault", Vault::SHARDS, "alice").await;
    let numbers: Vec<_> = records.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (1..=34).collect::<Vec<_>>());
}

/// A store with these records, the first two of which are 91 days old.
async fn aged(log: &Log, records: Vec<Record>) -> Memory {
    let store = Memory::new();
    let epoch = Epoch(1);
    store.claim(log, epoch, "a test").await.unwrap();
    let day = Duration::from_hours(24);
    let old = SystemTime::now().checked_sub(91 * day).unwrap();
    let old = old.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let old = u64::try_from(old.as_millis()).unwrap();
    let aged = records.into_iter().map(|record| Record {
        at: if record.seq > 2 { record.at } else { old },
        epoch,
        ..record
    });
    let part = Append {
        log: log.clone(),
        epoch,
        records: aged.collect(),
    };
    assert_eq!(store.append(vec![part]).await, Ok(vec![Appended::Written]));
    store
}

#[tokio::test]
async fn old_records_that_a_snapshot_contains_are_forgotten() {
    let first = Memory::new();
    let system = start(&first);
    let fill = |system: &ActorSystem| system.entity::<Chest>("a").fill().into_future();
    for coins in 1..=4 {
        assert_eq!(fill(&system).await, Ok(coins));
    }
    let of = |store: Memory| async move { records(&store, "Chest", Chest::SHARDS, "a").await };
    let log = Log {
        kind: "Chest".into(),
        shard: EntityId::from("a").shard(Chest::SHARDS).0,
    };
    let store = aged(&log, of(first).await).await;
    let system = start(&store);
    assert_eq!(fill(&system).await, Ok(5));
    let forgotten = |records: &Vec<Record>| {
        let empty = records.iter().filter(|record| record.body.is_empty());
        empty.map(|record| record.seq).collect::<Vec<_>>()
    };
    let left = eventually(
        "some are forgotten",
        || of(store.clone()),
        |records| !forgotten(records).is_empty(),
    );
    assert_eq!(forgotten(&left.await), [1, 2]);
    for coins in 6..=12 {
        assert_eq!(fill(&system).await, Ok(coins));
    }
    let system = restarted(system, &store).await;
    assert_eq!(fill(&system).await, Ok(13));
    assert_eq!(forgotten(&of(store).await), [1, 2]);
}

#[tokio::test]
async fn a_page_is_stored_when_it_changes_and_only_then() {
    let store = Memory::new();
    let system = start(&store);
    let home = |system: &ActorSystem| system.entity::<Page>("home");
    let stored = async || records(&store, "Page", Page::SHARDS, "home").await;
    home(&system).write(String::new()).await.unwrap();
    assert_eq!(stored().await, []);
    home(&system).write("hello".to_owned()).await.unwrap();
    home(&system).write("hello".to_owned()).await.unwrap();
    assert_eq!(stored().await.len(), 1);
    assert!(home(&system).spoil().await.is_err());
    assert_eq!(home(&system).text().await.unwrap(), "hello");
    home(&system).sleep().await.unwrap();
    assert_eq!(home(&system).text().await.unwrap(), "hello");
    assert_eq!(stored().await.len(), 1);
    for n in 2..=4 {
        home(&system).write(n.to_string()).await.unwrap();
    }
    // The type retains nothing that a snapshot contains.
    let kept = || async { stored().await.iter().map(|it| it.body.is_empty()).collect() };
    let is_kept = |kept: &Vec<bool>| kept == &[true, true, true, false];
    eventually("the first ones are forgotten", kept, is_kept).await;
    let system = restarted(system, &store).await;
    assert_eq!(home(&system).text().await.unwrap(), "4");
}

#[tokio::test]
async fn a_machine_goes_on_in_the_state_it_was_in() {
    let store = Memory::new();
    let system = start(&store);
    let order = |system: &ActorSystem| system.entity::<Order>("17");
    order(&system).add().await.unwrap();
    order(&system).add().await.unwrap();
    order(&system).pay().await.unwrap();
    let system = restarted(system, &store).await;
    assert_eq!(order(&system).items().await, Ok(2));
    let again = order(&system).pay().await;
    assert!(
        matches!(again, Err(AskError::Unhandled { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_system_with_stored_types_needs_a_journal() {
    let refused = ActorSystem::builder("stored").start_local().unwrap_err();
    let text = refused.to_string();
    for part in [
        "Order, ",
        "Page, ",
        "Vault",
        ".journal(",
        "casty-sql",
        "Memory::new()",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Types of nodes with a role among them, which a local system hosts all.
    let node = ActorSystem::builder("stored").role("keeper");
    assert_eq!(node.start().await.unwrap_err().to_string(), text);
}
