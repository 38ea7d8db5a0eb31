//! What happens at the same time: records, snapshots, readings and the end of an activation.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::sync::Semaphore;

use crate::{
    __private::Actor,
    ActorSystem, AskError, Event,
    error::StoredError,
    id::EntityId,
    infra::sync::lock,
    message::codec,
    persistence::{Journal, Memory, Snapshot, record_body::RecordBody, writer::written_state},
    system::stored_entities::{account::*, gated::*},
    testkit::{cluster_of, eventually, soon},
};

/// A little longer than what is expected not to happen would take.
const MOMENT: Duration = Duration::from_millis(300);

async fn deposits(system: &ActorSystem, count: i64) {
    for balance in 1..=count {
        assert_eq!(alice(system).deposit(1).await, Ok(balance));
    }
}

async fn snapshot(store: &Gated, seq: u64) {
    let look = async || snapshot_of(&store.0.memory, "alice").await;
    eventually("a snapshot", look, |snapshot| {
        snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.seq == seq)
    })
    .await;
}

#[tokio::test]
async fn the_next_activation_waits_for_the_snapshot_of_the_last_one() {
    let store = Gated::new(100);
    let system = start(store.clone());
    deposits(&system, 4).await;
    store.0.saves.close();
    let stopped = alice(&system).send(AccountMsg::Stop { amount: 1 }).await;
    assert_eq!(stopped, Ok(5));
    take(&store.0.saves.begun, 1).await;
    let early = alice(&system).balance().timeout(MOMENT).await;
    assert!(matches!(early, Err(AskError::Timeout { .. })), "{early:?}");
    store.0.saves.open();
    assert_eq!(alice(&system).balance().await, Ok(5));
}

#[tokio::test]
async fn a_snapshot_that_is_saved_while_its_entity_is_read_is_read_too() {
    let store = Gated::new(100);
    let system = start(store.clone());
    deposits(&system, 7).await;
    snapshot(&store, 5).await;
    system.shutdown().await.unwrap();
    let system = start(store.clone());
    store.0.pages.close();
    let balance = alice(&system).balance().into_future();
    let save = async {
        // The snapshot of five records was read.
        take(&store.0.pages.begun, 1).await;
        let memory = &store.0.memory;
        let (log, id) = (log_of("alice"), EntityId::from("alice"));
        let epoch = memory.latest_epoch().await.unwrap();
        let state = codec::to_vec(&7i64).unwrap();
        let body = RecordBody {
            state: Some(written_state(Account::NAME, state)),
            ..RecordBody::default()
        };
        let snapshot = Snapshot {
            seq: 7,
            at: 0,
            body: body.encode().unwrap(),
        };
        memory.save(&log, epoch, &id, snapshot).await.unwrap();
        memory.forget(&log, epoch, &id, 7, false).await.unwrap();
        store.0.pages.open();
    };
    let (balance, ()) = tokio::join!(balance, save);
    assert_eq!(balance, Ok(7));
    assert_eq!(alice(&system).deposit(1).await, Ok(8));
}

#[tokio::test]
async fn a_snapshot_that_was_saved_after_its_records_were_erased_is_erased() {
    let store = Gated::new(100);
    let system = start(store.clone());
    deposits(&system, 6).await;
    snapshot(&store, 5).await;
    system.shutdown().await.unwrap();
    let memory = &store.0.memory;
    let (log, id) = (log_of("alice"), EntityId::from("alice"));
    let epoch = memory.latest_epoch().await.unwrap();
    // All records are erased, and the snapshot is there.
    memory.forget(&log, epoch, &id, 6, false).await.unwrap();
    let system = start(store.clone());
    assert_eq!(alice(&system).balance().await, Ok(0));
    let look = async || snapshot_of(memory, "alice").await;
    eventually("it is erased", look, Option::is_none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_durable_while_an_answer_is_held_is_followed_by_what_is_to_be_done() {
    let store = Gated::new(1);
    let system = start(store.clone());
    let after = |permits, then| AccountMsg::After {
        amount: 1,
        permits,
        then,
    };
    let first = alice(&system).send(after(0, Then::NoteWhenAllIs));
    // It is to be done after the handler of the second one.
    store.0.commits.forget_permits(1);
    let first = handled(&system, first).await;
    let second = alice(&system).send(after(1, Then::Note));
    let second = handled(&system, second).await;
    store.0.commits.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(1));
    resource::<Semaphore>(&system).add_permits(1);
    assert_eq!(second.await.unwrap(), Ok(2));
    let notes = async || lock(&resource::<Notes>(&system).0).clone();
    eventually("both are noted", notes, |notes| *notes == [2, 2]).await;
}

#[tokio::test]
async fn what_is_asked_for_once_a_record_is_durable_is_done_without_a_further_message() {
    let store = Gated::new(0);
    let system = start(store.clone());
    let mut events = system.events();
    let after = |then| AccountMsg::After {
        amount: 1,
        permits: 0,
        then,
    };
    let raise = after(Then::Raise { amount: 10 });
    let raised = handled(&system, alice(&system).send(raise)).await;
    store.0.commits.add_permits(2);
    assert_eq!(raised.await.unwrap(), Ok(1));
    let records = async || records_of(&store, "alice").await.len();
    eventually("it is handled", records, |records| *records == 2).await;
    take(&resource::<Seen>(&system).0, 1).await;
    let stop = handled(&system, alice(&system).send(after(Then::Stop))).await;
    store.commit(None);
    assert_eq!(stop.await.unwrap(), Ok(12));
    let stopped = async {
        loop {
            if let Some(Event::ActorStopped(who)) = events.next().await {
                return who;
            }
        }
    };
    assert_eq!(soon("it stops", stopped).await.id, "alice");
    assert_eq!(alice(&system).balance().await, Ok(12));
}

#[tokio::test]
async fn what_is_to_be_done_once_a_record_is_durable_may_panic() {
    let store = Memory::new();
    let system = start(store.clone());
    let mut events = system.events();
    let panics = AccountMsg::After {
        amount: 1,
        permits: 0,
        then: Then::Panic,
    };
    assert_eq!(alice(&system).send(panics).await, Ok(1));
    let failed = async {
        loop {
            if let Some(Event::ActorFailed { reason, .. }) = events.next().await {
                return reason;
            }
        }
    };
    let reason = soon("it fails", failed).await;
    assert!(reason.contains("durable panicked: on purpose"), "{reason}");
    // It goes on from what is stored.
    assert_eq!(alice(&system).deposit(1).await, Ok(2));
    assert_eq!(records_of(&store, "alice").await.len(), 2);
}

/// As many are as large as what may be in flight.
const FILL: usize = 8;

fn large() -> AccountMsg {
    AccountMsg::Large { bytes: 1 << 20 }
}

/// In paused time, a sleep ends when nothing else goes on.
#[tokio::test(start_paused = true)]
async fn at_the_bound_of_records_in_flight_messages_wait() {
    let store = Gated::new(0);
    let system = start(store.clone());
    for _ in 0..FILL + 5 {
        alice(&system).send(large()).tell().await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = &resource::<Seen>(&system).0;
    assert_eq!(seen.available_permits(), FILL);
    store.0.commits.add_permits(100);
    let all = async || seen.available_permits();
    eventually("the rest is handled", all, |all| *all == FILL + 5).await;
    assert_eq!(alice(&system).balance().await, Ok(0));
    assert_eq!(records_of(&store, "alice").await.len(), FILL + 5);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_does_not_wait_for_ever() {
    let system = start(Memory::new());
    let slow = AccountMsg::Slow {
        amount: 1,
        permits: 1,
    };
    let slow = alice(&system).send(slow).timeout(Duration::from_hours(1));
    let slow = handled(&system, slow).await;
    let erased = system.erase::<Account>("alice").await;
    assert!(
        matches!(erased, Err(StoredError::Unreachable { .. })),
        "{erased:?}"
    );
    resource::<Semaphore>(&system).add_permits(1);
    assert_eq!(slow.await.unwrap(), Ok(1));
}

/// The entity is on a node that leaves before the store has answered. It has handled all
/// messages by then, or as many as it can.
async fn leaves_in_time(messages: usize, is_to_be_gone: bool) {
    let store = Gated::new(0);
    let mut nodes = cluster_of(2, |i| {
        let builder = ActorSystem::builder("stored").node_id(format!("node-{i}"));
        let builder = builder.entity::<Account>().journal(store.of(i));
        builder.resource(Seen(Semaphore::new(0)))
    })
    .await;
    let mut ids = (0..).map(|n| format!("account-{n}"));
    let (id, account) = loop {
        let id = ids.next().unwrap();
        let account = nodes[0].entity::<Account>(id.as_str());
        let node = account.send(AccountMsg::Node);
        if node.retry_for(Duration::from_mins(1)).await == Ok(i64::from(b'1')) {
            break (EntityId::new(id), account);
        }
    };
    let loads = || {
        let loads = lock(&store.0.loads);
        let of_it = loads.iter().filter(|(node, of)| *node == 1 && *of == id);
        of_it.count()
    };
    let before = loads();
    let leaver = nodes.remove(1);
    let seen = &resource::<Seen>(&leaver).0;
    seen.forget_permits(Semaphore::MAX_PERMITS);
    for _ in 0..messages {
        account.send(large()).tell().await.unwrap();
    }
    take(seen, u32::try_from(messages.min(FILL)).unwrap()).await;
    let end = async {
        let call = is_to_be_gone.then(|| leaver.erase::<Account>(id.clone()));
        OptionFuture::from(call).await
    };
    let (outcome, left) = tokio::join!(end, leaver.shutdown());
    left.unwrap();
    assert!(outcome.as_ref().is_none_or(Result::is_err), "{outcome:?}");
    assert_eq!(loads(), before, "it is not read again");
}

#[tokio::test]
async fn an_entity_that_had_to_stop_is_not_read_again_while_its_records_are_in_flight() {
    leaves_in_time(FILL + 1, false).await;
}

#[tokio::test]
async fn an_entity_that_had_to_stop_is_not_erased_while_its_records_are_in_flight() {
    leaves_in_time(1, true).await;
}
