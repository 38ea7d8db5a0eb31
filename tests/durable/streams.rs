//! Streams of events: all of them, in order within a shard, from whichever nodes have them.

use std::collections::BTreeMap;

use casty::{
    error::StoredError,
    persistence::Memory,
    prelude::*,
    projection::{Cursor, EventStream, EventStreamError, Since, StreamedEvent},
    testkit::{eventually, shutdown, soon},
};
use futures_util::StreamExt;

use crate::accounts::{Account, AccountEvent, Euros, alone, append, bank, event_body};

/// What a program remembers of an event: its entity, its place, and what it says.
fn told(event: &StreamedEvent<Account>) -> (String, u32, u64, String) {
    let said = match &event.event {
        AccountEvent::Deposited { cents } => format!("+{cents}"),
        AccountEvent::Noted { note } => note.clone(),
    };
    let (shard, position) = (event.position.shard, event.position.position);
    (event.of.to_string(), shard, position, said)
}

async fn next(events: &mut EventStream<Account>) -> StreamedEvent<Account> {
    let next = soon("an event", EventStream::next(events)).await;
    next.expect("a stream without an end").expect("an event")
}

async fn deposit(node: &ActorSystem, n: usize, cents: u64) {
    let account = node.entity::<Account>(format!("account-{n}"));
    let order = format!("{n}, {cents}");
    let again = || async { account.deposit(cents).key(order.clone()).await };
    let done = eventually("its owner answers", again, Result::is_ok).await;
    done.unwrap();
}

const ACCOUNTS: usize = 30;

/// Reads until the events of so many deposits were there, and checks that those of each account
/// came once and in order. `last` is what each account was at.
async fn read(
    events: &mut EventStream<Account>,
    deposits: usize,
    last: &mut BTreeMap<String, u64>,
) {
    for _ in 0..deposits * 2 {
        let event = next(events).await;
        let AccountEvent::Deposited { cents } = event.event else {
            continue;
        };
        let last = last.entry(event.of.to_string()).or_default();
        assert_eq!(cents, *last + 1, "{}", event.of);
        *last = cents;
    }
}

#[tokio::test]
async fn past_events_come_first_and_then_those_that_happen() {
    let system = alone(Memory::new());
    for cents in 1..=3 {
        deposit(&system, 1, cents).await;
    }
    let mut events = system.events_of::<Account>(Since::Start).await.unwrap();
    let mut of_it = Vec::new();
    for _ in 0..6 {
        of_it.push(told(&next(&mut events).await));
    }
    let said: Vec<_> = of_it
        .iter()
        .map(|(of, _, at, said)| (&**of, *at, &**said))
        .collect();
    let of = "account-1";
    let deposited = [
        (of, 1, "+1"),
        (of, 1, "+1"),
        (of, 2, "+2"),
        (of, 2, "+2"),
        (of, 3, "+3"),
    ];
    assert_eq!(said[..5], deposited);
    let live = tokio::spawn(async move {
        let event = next(&mut events).await;
        (told(&event).3, event.at)
    });
    deposit(&system, 2, 7).await;
    let (said, at) = soon("it is woken", live).await.unwrap();
    assert_eq!(said, "+7");
    assert!(at > std::time::UNIX_EPOCH);
    let mut live = system.events_of::<Account>(Since::Now).await.unwrap();
    deposit(&system, 3, 9).await;
    assert_eq!(told(&next(&mut live).await).3, "+9");
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cursor_resumes_in_the_middle_of_a_record() {
    let system = alone(Memory::new());
    for n in 0..ACCOUNTS {
        deposit(&system, n, 1).await;
    }
    let mut first = system.events_of::<Account>(Since::Start).await.unwrap();
    let mut expected = Vec::new();
    for _ in 0..ACCOUNTS * 2 {
        expected.push(told(&next(&mut first).await));
    }
    let mut stream = system.events_of::<Account>(Since::Start).await.unwrap();
    let mut read = Vec::new();
    for _ in 0..ACCOUNTS * 2 {
        read.push(told(&next(&mut stream).await));
        let stored = rmp_serde::to_vec_named(&stream.cursor()).unwrap();
        let cursor: Cursor = rmp_serde::from_slice(&stored).unwrap();
        stream = system.events_of(Since::Cursor(cursor)).await.unwrap();
    }
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
    assert_eq!(stream.cursor(), first.cursor());
    system.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_an_owner_and_the_move_of_shards() {
    let store = Memory::new();
    let mut nodes = bank("streams", 3, &store).await;
    let mut events = nodes[0].events_of::<Account>(Since::Start).await.unwrap();
    let mut last = BTreeMap::new();
    for cents in 1..=3 {
        for n in 0..ACCOUNTS {
            deposit(&nodes[1], n, cents).await;
        }
    }
    read(&mut events, ACCOUNTS * 3, &mut last).await;
    drop(nodes.remove(2));
    for n in 0..ACCOUNTS {
        deposit(&nodes[0], n, 4).await;
    }
    read(&mut events, ACCOUNTS, &mut last).await;
    let left = nodes.pop().unwrap();
    let leaving = tokio::spawn(async move { left.shutdown().await });
    for cents in 5..=8 {
        for n in 0..ACCOUNTS {
            deposit(&nodes[0], n, cents).await;
        }
    }
    read(&mut events, ACCOUNTS * 4, &mut last).await;
    soon("it leaves", leaving).await.unwrap().unwrap();
    assert!(last.values().all(|last| *last == 8), "{last:?}");
    assert_eq!(last.len(), ACCOUNTS);
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_the_stream_goes_on() {
    let store = Memory::new();
    append(
        &store,
        "bob",
        1,
        1,
        event_body("unknown", 1, Euros { euros: 3 }),
    )
    .await;
    append(
        &store,
        "bob",
        1,
        2,
        event_body("deposited", 1, Euros { euros: 4 }),
    )
    .await;
    let system = alone(store);
    let mut events = system.events_of::<Account>(Since::Start).await.unwrap();
    // As a stream of the crate futures, too.
    let error = soon("an error", StreamExt::next(&mut events))
        .await
        .unwrap()
        .unwrap_err();
    let EventStreamError::Unreadable {
        of,
        position,
        reason,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((of.as_str(), position.position), ("bob", 1));
    assert!(reason.contains("event `unknown` of version 1"), "{reason}");
    assert_eq!(told(&next(&mut events).await).3, "+400");
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cursor_of_another_type_is_refused() {
    let system = alone(Memory::new());
    let events = system.events_of::<Account>(Since::Start).await.unwrap();
    let other = rmp_serde::to_vec_named(&events.cursor()).unwrap();
    // Of the same length.
    let text = String::from_utf8_lossy(&other).into_owned();
    assert!(text.contains("stored/account"));
    let at = other
        .windows(14)
        .position(|it| it == b"stored/account")
        .unwrap();
    let mut bytes = other;
    bytes[at..at + 14].copy_from_slice(b"stored/another");
    let cursor: Cursor = rmp_serde::from_slice(&bytes).unwrap();
    let refused = system.events_of::<Account>(Since::Cursor(cursor)).await;
    let refused = refused.expect_err("refused");
    assert!(matches!(refused, StoredError::Unusable { .. }), "{refused}");
    system.shutdown().await.unwrap();
}
