//! Entities that are stored, on a local system.

mod account;
mod gated;
mod races;

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    __private::Actor,
    ActorSystem, AskError, Event,
    error::StartError,
    id::EntityId,
    infra::sync::lock,
    persistence::{Journal, Memory, Snapshot, record_body::RecordBody},
    system::stored_entities::{account::*, gated::*},
    testkit::eventually,
};

#[tokio::test]
async fn an_entity_is_read_back_by_the_next_system() {
    let store = Memory::new();
    let system = start(store.clone());
    for (amount, balance) in [(5, 5), (10, 15), (-3, 12)] {
        assert_eq!(alice(&system).deposit(amount).await, Ok(balance));
    }
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
    system.shutdown().await.unwrap();
    let system = start(store);
    assert_eq!(alice(&system).balance().await, Ok(12));
    assert_eq!(alice(&system).deposit(1).await, Ok(13));
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
}

#[tokio::test]
async fn nothing_leaves_before_the_record_that_it_shows_is_durable() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    let balance = handled(&system, alice(&system).balance()).await;
    take(&store.0.begun, 1).await;
    // Another entity, which the commit does not concern, answers.
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
    assert!(!deposit.is_finished() && !balance.is_finished());
    store.commit(None);
    assert_eq!(deposit.await.unwrap(), Ok(5));
    assert_eq!(balance.await.unwrap(), Ok(5));
    // Nothing is in flight: a read takes no commit.
    assert_eq!(alice(&system).balance().await, Ok(5));
}

#[tokio::test]
async fn many_that_are_in_flight_are_committed_together() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let mut deposits = Vec::new();
    for _ in 0..100 {
        deposits.push(handled(&system, alice(&system).deposit(1)).await);
    }
    store.0.commits.add_permits(100);
    for (deposit, balance) in deposits.into_iter().zip(1..) {
        assert_eq!(deposit.await.unwrap(), Ok(balance));
    }
    let sizes = lock(&store.0.sizes).clone();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.len() < 5, "{sizes:?}");
}

#[tokio::test]
async fn a_record_that_is_not_stored_fails_what_was_held_and_the_entity_goes_on_from_the_store() {
    let store = Gated::new(1);
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    take(&resource::<Seen>(&system).0, 1).await;
    let mut held = Vec::new();
    for message in [
        AccountMsg::Deposit { amount: 7 },
        AccountMsg::Balance,
        note(9),
    ] {
        held.push(handled(&system, alice(&system).send(message)).await);
    }
    store.commit(Some(Fault::NotWritten));
    for held in held {
        let got = held.await.unwrap();
        assert!(not_stored(false)(&got), "{got:?}");
    }
    assert_eq!(alice(&system).balance().await, Ok(5));
    assert!(lock(&resource::<Notes>(&system).0).is_empty());
    store.0.commits.add_permits(1);
    assert_eq!(alice(&system).deposit(1).await, Ok(6));
    assert_eq!(records_of(&store, "alice").await.len(), 2);
}

#[tokio::test]
async fn what_is_stored_although_the_answer_was_lost_is_read_back() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    store.commit(Some(Fault::Written));
    let got = deposit.await.unwrap();
    assert!(got == Ok(5) || not_stored(true)(&got), "{got:?}");
    assert_eq!(alice(&system).balance().await, Ok(5));
}

#[tokio::test]
async fn a_tell_that_is_not_stored_is_a_dead_letter() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let mut events = system.events();
    let dead_letter = async {
        loop {
            if let Some(Event::DeadLetter(letter)) = events.next().await {
                return letter.reason.to_string();
            }
        }
    };
    alice(&system).deposit(5).tell().await.unwrap();
    take(&store.0.begun, 1).await;
    store.commit(Some(Fault::NotWritten));
    let reason = tokio::time::timeout(Duration::from_mins(1), dead_letter);
    let reason = reason.await.expect("in time");
    assert!(reason.contains("is not stored"), "{reason}");
}

#[tokio::test]
async fn a_handler_that_fails_changes_nothing() {
    let store = Memory::new();
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    let failed = alice(&system).send(AccountMsg::Fail).await;
    assert!(
        matches!(failed, Err(AskError::Panicked { .. })),
        "{failed:?}"
    );
    assert_eq!(alice(&system).balance().await, Ok(5));
    assert_eq!(records_of(&store, "alice").await.len(), 1);
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_handler_of_the_next_message() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    let slow = AccountMsg::Slow {
        amount: 1,
        permits: 1,
    };
    let slow = handled(&system, alice(&system).send(slow)).await;
    store.0.commits.add_permits(2);
    assert_eq!(deposit.await.unwrap(), Ok(5));
    assert!(!slow.is_finished());
    resource::<Semaphore>(&system).add_permits(1);
    assert_eq!(slow.await.unwrap(), Ok(6));
}

#[tokio::test]
async fn what_is_to_be_done_after_is_done_once_the_events_are_durable() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let notes = || lock(&resource::<Notes>(&system).0).clone();
    let first = handled(&system, alice(&system).send(note(5))).await;
    assert_eq!(notes(), [0; 0]);
    store.commit(None);
    assert_eq!(first.await.unwrap(), Ok(5));
    eventually("it is noted", async || notes(), |notes| *notes == [5]).await;
}

#[tokio::test]
async fn an_entity_that_stops_is_read_back_and_one_that_is_erased_begins_anew() {
    let store = Memory::new();
    let system = start(store.clone());
    let send = |message| alice(&system).send(message);
    assert_eq!(send(AccountMsg::Stop { amount: 5 }).await, Ok(5));
    assert_eq!(alice(&system).deposit(1).await, Ok(6));
    assert_eq!(send(AccountMsg::Erase).await, Ok(7));
    assert_eq!(alice(&system).balance().await, Ok(0));
    let records = async || records_of(&store, "alice").await;
    eventually("its records are forgotten", records, |records| {
        records.iter().all(|record| record.body.is_empty())
    })
    .await;
    assert_eq!(alice(&system).deposit(2).await, Ok(2));
    assert_eq!(send(AccountMsg::Stop { amount: 1 }).await, Ok(3));
    assert_eq!(alice(&system).balance().await, Ok(3));
    let seqs: Vec<_> = records_of(&store, "alice")
        .await
        .iter()
        .map(|it| it.seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_snapshot_is_saved_of_what_is_durable_and_read_before_the_records_after_it() {
    let store = Memory::new();
    let system = start(store.clone());
    for balance in 1..=7 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    let seq = async || snapshot_of(&store, "alice").await.map(|it| it.seq);
    eventually("there is a snapshot", seq, |seq| *seq == Some(5)).await;
    // What the snapshot contains is not read: it could not be.
    let (log, id) = (log_of("alice"), EntityId::from("alice"));
    let epoch = records_of(&store, "alice").await[0].epoch;
    store.forget(&log, epoch, &id, 5, false).await.unwrap();
    system.shutdown().await.unwrap();
    let system = start(store.clone());
    assert_eq!(alice(&system).balance().await, Ok(7));
    for balance in 8..=10 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    eventually("there is another", seq, |seq| *seq == Some(10)).await;
}

/// So that the upkeep of each activation does not read all records of the entity again.
#[tokio::test]
async fn a_snapshot_says_what_was_forgotten_before() {
    let store = Memory::new();
    let system = start(store.clone());
    for amount in [1, 1, 1, 1, 1, 0] {
        alice(&system).deposit(amount).await.unwrap();
    }
    let snapshot = async || snapshot_of(&store, "alice").await;
    eventually("there is a snapshot", snapshot, Option::is_some).await;
    system.shutdown().await.unwrap();
    let body = async || {
        let snapshot = snapshot_of(&store, "alice").await.unwrap();
        RecordBody::decode(&snapshot.body).unwrap()
    };
    let mut body_now = body().await;
    assert_eq!(body_now.forgotten, 0);
    body_now.forgotten = 4;
    let snapshot = Snapshot {
        seq: 6,
        at: 1,
        body: body_now.encode().unwrap(),
    };
    let (log, id) = (log_of("alice"), EntityId::from("alice"));
    let epoch = records_of(&store, "alice").await[0].epoch;
    store.save(&log, epoch, &id, snapshot).await.unwrap();
    let system = start(store.clone());
    for balance in 6..=10 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    let seq = async || snapshot_of(&store, "alice").await.unwrap().seq;
    eventually("there is another", seq, |seq| *seq == 11).await;
    assert_eq!(body().await.forgotten, 4);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_its_entity_alone() {
    let store = Memory::new();
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    assert_eq!(alice(&system).send(AccountMsg::Odd).await, Ok(0));
    system.shutdown().await.unwrap();
    let system = start(store);
    for _ in 0..3 {
        let Err(AskError::Unreadable { reason }) = alice(&system).balance().await else {
            panic!("it was read");
        };
        for part in ["Account/alice", "record 2", "event `odd` of version 7"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
    assert_eq!(system.entity::<Account>("bob").deposit(1).await, Ok(1));
}

#[tokio::test]
async fn while_the_store_is_down_messages_fail_and_afterwards_they_are_handled() {
    let store = Gated::new(100);
    let system = start(store.clone());
    assert_eq!(
        alice(&system).send(AccountMsg::Stop { amount: 5 }).await,
        Ok(5)
    );
    store.0.is_down.store(true, Ordering::Relaxed);
    // More often than it may fail by itself.
    for _ in 0..3 * Account::POLICY.max_restarts {
        let got = alice(&system).balance().await;
        assert!(
            matches!(got, Err(AskError::StoreUnavailable { .. })),
            "{got:?}"
        );
    }
    store.0.is_down.store(false, Ordering::Relaxed);
    let balance = alice(&system)
        .balance()
        .retry_for(Duration::from_mins(1))
        .await;
    assert_eq!(balance, Ok(5));
}

#[tokio::test]
async fn a_store_that_does_not_answer_holds_up_no_move() {
    let store = Gated::new(0);
    let mut nodes = crate::testkit::cluster_of(2, |i| {
        let builder = ActorSystem::builder("stored").node_id(format!("node-{i}"));
        let builder = builder.entity::<Account>().journal(store.of(i));
        builder.resource(Seen(Semaphore::new(0)))
    })
    .await;
    let mut ids = (0..).map(|n| format!("account-{n}"));
    let account = loop {
        let account = nodes[0].entity::<Account>(ids.next().unwrap());
        let node = account.send(AccountMsg::Node);
        if node.retry_for(Duration::from_mins(1)).await == Ok(i64::from(b'1')) {
            break account;
        }
    };
    let deposit = account.deposit(5).timeout(Duration::from_mins(1));
    let deposit = deposit.into_future();
    let leaver = nodes.remove(1);
    let leave = async {
        take(&store.0.begun, 1).await;
        leaver.shutdown().await
    };
    let (got, left) = tokio::join!(deposit, leave);
    left.unwrap();
    assert!(not_stored(true)(&got), "{got:?}");
    // Nothing was written.
    let balance = account.balance().retry_for(Duration::from_mins(1));
    assert_eq!(balance.await, Ok(0));
}

#[tokio::test]
async fn a_later_system_on_the_same_store_fences_the_earlier_one() {
    let store = Memory::new();
    let first = start(store.clone());
    assert_eq!(alice(&first).deposit(5).await, Ok(5));
    let second = start(store);
    assert_eq!(alice(&second).deposit(1).await, Ok(6));
    let got = alice(&first).deposit(100).await;
    assert!(not_stored(false)(&got), "{got:?}");
    assert_eq!(alice(&second).deposit(1).await, Ok(7));
}

/// A store that a second host cannot reach.
#[tokio::test]
async fn nodes_on_several_hosts_need_a_store_that_they_share() {
    let store = Gated::new(0);
    let start = |seeds: &[&str]| {
        let builder = ActorSystem::builder("stored").entity::<Account>();
        builder.journal(store.clone()).seeds(seeds).start()
    };
    let refused = start(&["127.0.0.1:1", "10.1.2.3:4"]).await.unwrap_err();
    let text = refused.to_string();
    for part in ["a gated store", "10.1.2.3:4", "use another one"] {
        assert!(text.contains(part), "{text}");
    }
    let alone = start(&["127.0.0.2:1"]).await.unwrap();
    alone.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_system_without_a_journal_hosts_no_stored_type() {
    let third = start_without_a_journal();
    assert!(matches!(third, Err(StartError::NoJournal { kinds }) if kinds == [Account::NAME]));
}

fn start_without_a_journal() -> Result<ActorSystem, StartError> {
    ActorSystem::builder("stored")
        .entity::<Account>()
        .start_local()
}
