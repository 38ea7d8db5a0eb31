//! `erase`: an operator's erasure, by the entity's own run.

use casty::{
    error::StoredError,
    history::Recorded,
    persistence::{Memory, faults::Faults},
    prelude::*,
    testkit::{self, eventually, soon},
};

use crate::accounts::{
    Account, Euros, Ghost, Note, alone, append, away, bank, connected, event_body,
};

/// What a history tells of each record.
async fn told(system: &ActorSystem, id: &str) -> Vec<(u64, u64, &'static str)> {
    let mut history = system.history::<Account>(id);
    let mut told = Vec::new();
    while let Some(page) = history.next_page().await.unwrap() {
        told.extend(page.into_iter().map(|entry| {
            let what = match entry.recorded {
                Recorded::Events(_) => "events",
                Recorded::Forgotten => "forgotten",
                _ => "other",
            };
            (entry.seq, entry.position, what)
        }));
    }
    told
}

#[tokio::test]
async fn an_active_entity_ends_and_begins_anew() {
    let store = Memory::new();
    let system = alone(store.clone());
    let alice = system.entity::<Account>("alice");
    // More than a snapshot apart.
    for _ in 0..6 {
        alice.deposit(10).await.unwrap();
    }
    let mut events = system.events();
    assert_eq!(system.erase::<Account>("alice").await, Ok(true));
    let stopped = soon("it ends", async {
        loop {
            if let Some(Event::ActorStopped(who)) = events.next().await {
                return who;
            }
        }
    });
    assert_eq!(stopped.await.id, "alice");
    assert_eq!(alice.balance().await, Ok(0));
    assert_eq!(alice.deposit(3).await, Ok(3));
    let told = told(&system, "alice").await;
    // The record that erases is forgotten too, and positions stay dense.
    let what = |n| if n < 8 { "forgotten" } else { "events" };
    let expected: Vec<_> = (1..=8).map(|n| (n, n, what(n))).collect();
    assert_eq!(told, expected);
    drop(system);
    let again = alone(store);
    assert_eq!(again.entity::<Account>("alice").balance().await, Ok(3));
}

#[tokio::test]
async fn an_entity_that_is_not_active_is_erased_and_nothing_twice() {
    let store = Memory::new();
    let system = alone(store.clone());
    system
        .entity::<Note>("n")
        .add("milk".to_owned())
        .await
        .unwrap();
    drop(system);
    let system = alone(store);
    assert_eq!(system.erase::<Note>("n").await, Ok(true));
    assert_eq!(system.erase::<Note>("n").await, Ok(false));
    assert_eq!(system.erase::<Note>("never").await, Ok(false));
    assert_eq!(system.entity::<Note>("n").lines().await, Ok(0));
    let mut listed = system.entities::<Note>().stored();
    assert_eq!(listed.next_page().await.unwrap(), None);
    let ghost = system.erase::<Ghost>("g").await.unwrap_err();
    assert!(matches!(ghost, StoredError::NotStored { .. }), "{ghost}");
    let empty = system.erase::<Note>("").await.unwrap_err();
    assert!(matches!(empty, StoredError::InvalidId(_)), "{empty}");
}

/// What no code can read ends an entity; to erase it is the cure, at once.
#[tokio::test]
async fn an_entity_that_cannot_be_read_is_erased() {
    let store = Memory::new();
    append(&store, "alice", 1, 1, vec![0xc1]).await;
    let system = alone(store);
    let alice = system.entity::<Account>("alice");
    let error = alice.balance().await.unwrap_err();
    assert!(error.to_string().contains("alice"), "{error}");
    assert_eq!(system.erase::<Account>("alice").await, Ok(true));
    assert_eq!(soon("it answers", alice.balance()).await, Ok(0));
    assert_eq!(alice.deposit(2).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_erased_from_every_node_and_by_a_client() {
    let nodes = bank("erased", 3, &Memory::new()).await;
    let client = ClusterClient::connect("erased", [nodes[0].address()]);
    let client = soon("a client", client).await.unwrap();
    for id in ["a", "b", "c", "d", "e", "f"] {
        let account = client.entity::<Account>(id);
        for node in &nodes {
            soon("a deposit", account.deposit(1)).await.unwrap();
            let erased = soon("erased", node.erase::<Account>(id)).await;
            assert_eq!(erased, Ok(true), "{id}");
            assert_eq!(soon("a balance", account.balance()).await, Ok(0), "{id}");
        }
        soon("a deposit", account.deposit(1)).await.unwrap();
        let erased = soon("erased", client.erase::<Account>(id)).await;
        assert_eq!(erased, Ok(true), "{id}");
        assert_eq!(soon("a balance", account.balance()).await, Ok(0), "{id}");
        assert_eq!(told(&nodes[0], id).await.len(), 8, "{id}");
    }
    soon("the client closes", client.shutdown()).await;
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_whose_shard_has_no_owner_is_erased() {
    let store = Memory::new();
    let event = event_body("deposited", 1, Euros { euros: 9 });
    append(&store, "alice", 1, 1, event).await;
    let nodes = bank("ownerless", 2, &store).await;
    let client = ClusterClient::connect("ownerless", [nodes[1].address()]);
    let client = soon("a client", client).await.unwrap();
    let erased = soon("erased", client.erase::<Account>("alice")).await;
    assert_eq!(erased, Ok(true));
    let alice = nodes[0].entity::<Account>("alice");
    assert_eq!(soon("a balance", alice.balance()).await, Ok(0));
    soon("the client closes", client.shutdown()).await;
    testkit::shutdown(nodes).await;
}

#[tokio::test]
async fn nothing_is_erased_while_the_store_is_down() {
    let (_, store) = connected();
    let system = alone(store.clone());
    let alice = system.entity::<Account>("alice");
    alice.deposit(4).await.unwrap();
    store.set(away());
    let down = soon("an answer", system.erase::<Account>("alice")).await;
    let down = down.unwrap_err();
    assert!(matches!(down, StoredError::Unavailable { .. }), "{down}");
    store.set(Faults::default());
    let balance = || async { alice.balance().await };
    let balance = eventually("it is read", balance, Result::is_ok).await;
    assert_eq!(balance, Ok(4));
    assert_eq!(system.erase::<Account>("alice").await, Ok(true));
    assert_eq!(alice.balance().await, Ok(0));
}

/// Commands that come while an entity is erased are before or after it, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn commands_beside_an_erasure_are_handled() {
    let system = alone(Memory::new());
    let alice = system.entity::<Account>("alice");
    let deposits = || {
        let deposits = (0..100).map(|_| alice.deposit(1).into_future());
        futures_util::future::join_all(deposits)
    };
    // They are sent in this order.
    let (mut deposited, erased, later) =
        tokio::join!(deposits(), system.erase::<Account>("alice"), deposits());
    deposited.extend(later);
    assert!(deposited.iter().all(Result::is_ok), "{deposited:?}");
    let records = told(&system, "alice").await;
    let erasures = u64::from(erased.unwrap());
    assert_eq!(records.len() as u64, 200 + erasures);
    let left = records
        .iter()
        .filter(|(_, _, what)| *what == "events")
        .count();
    assert_eq!(alice.balance().await, Ok(left as u64));
}
