//! Asks with a key are handled once; answers come with positions where they are asked for.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    Entity,
    error::InvalidKey,
    id::EntityId,
    persistence::{Journal, Log, Memory, Page as Records, Position},
    prelude::*,
    reply::{Later, Promise},
    testkit::{STEP_LIMIT, cluster_of, eventually, shutdown, soon},
};
use tokio::sync::Semaphore;

use crate::types::{Page, Short, Vault};

fn node(store: &Memory, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let builder = ActorSystem::builder("keys").node_id(format!("node-{number}"));
    builder.journal(store.clone())
}

fn start(store: &Memory) -> ActorSystem {
    node(store, 0).start_local().unwrap()
}

async fn restarted(system: ActorSystem, store: &Memory) -> ActorSystem {
    system.shutdown().await.unwrap();
    start(store)
}

fn log_of<E: Entity>(id: &str) -> Log {
    Log {
        kind: E::NAME.into(),
        shard: EntityId::from(id).shard(E::SHARDS).0,
    }
}

async fn positions_of<E: Entity>(store: &Memory, id: &str) -> Vec<u64> {
    let page = Records {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    let (log, id) = (log_of::<E>(id), EntityId::from(id));
    let records = store.read_entity(&log, &id, 0, page).await.unwrap();
    records.iter().map(|record| record.position).collect()
}

async fn snapshot_of<E: Entity>(store: &Memory, id: &str) -> Option<u64> {
    let (log, id) = (log_of::<E>(id), EntityId::from(id));
    let snapshot = store.load(&log, &id).await.unwrap();
    snapshot.map(|snapshot| snapshot.seq)
}

struct Permits(Arc<Semaphore>);

#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Vec<Promise<i64>>>>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A till that takes its time.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Till {
    cents: i64,
}

#[entity(event_sourced, shards = 20)]
impl Till {
    /// Waits for a permit.
    #[message]
    async fn take(&self, cents: i64, ctx: &mut Context<Self>) -> Effect<Self, i64> {
        let permit = ctx.resource::<Permits>().0.acquire().await;
        permit.unwrap().forget();
        Effect::persist(TillEvent::Taken { cents }).reply(|till| till.cents)
    }

    /// Answers later, and changes something now.
    #[message]
    fn promise(&self) -> Effect<Self, Later<i64>> {
        Effect::persist(TillEvent::Taken { cents: 1 }).reply(|till| {
            let (promise, later) = Promise::new();
            promise.reply(till.cents);
            later
        })
    }

    /// Is answered by `answer`.
    #[message]
    fn wait(&self, ctx: &mut Context<Self>) -> Later<i64> {
        let (promise, later) = Promise::new();
        lock(&ctx.resource::<Waiting>().0).push(promise);
        later
    }

    /// Changes something, and answers what waits.
    #[message]
    fn answer(&self, ctx: &mut Context<Self>) -> Effect<Self> {
        let waiting = std::mem::take(&mut *lock(&ctx.resource::<Waiting>().0));
        Effect::persist(TillEvent::Taken { cents: 1 }).reply(|till| {
            for promise in waiting {
                promise.reply(till.cents);
            }
        })
    }

    #[message]
    fn cents(&self) -> i64 {
        self.cents
    }

    #[event]
    fn taken(&mut self, cents: i64) {
        self.cents += cents;
    }
}

#[tokio::test]
async fn an_ask_with_a_key_is_handled_once() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    assert_eq!(alice.deposit(5).key("a").await, Ok(5));
    assert_eq!(alice.deposit(2).await, Ok(7));
    assert_eq!(alice.deposit(5).key("a").await, Ok(5), "as it was answered");
    assert_eq!(alice.deposit(1).key("b").await, Ok(8));
    assert_eq!(alice.balance().await, Ok(8));
    let bob = system.entity::<Vault>("bob");
    assert_eq!(bob.deposit(1).key("a").await, Ok(1), "of another entity");
    let page = system.entity::<Page>("a");
    assert_eq!(page.write("one".into()).key("a").await, Ok(()));
    assert_eq!(page.write("two".into()).key("a").await, Ok(()));
    assert_eq!(page.text().await, Ok("one".to_owned()));
}

#[tokio::test]
async fn asks_with_one_key_that_are_under_way_together_are_handled_once() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    let asks = (0..20).map(|_| alice.deposit(5).key("a").into_future());
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers, vec![Ok(5); 20]);
    assert_eq!(positions_of::<Vault>(&store, "alice").await, [1]);
}

/// The trace X25, by rule S6: a key that was in memory alone would be carried out twice.
#[tokio::test]
async fn a_key_is_remembered_after_a_restart_with_and_without_a_snapshot() {
    let store = Memory::new();
    let system = start(&store);
    let alice = |system: &ActorSystem| system.entity::<Vault>("alice");
    assert_eq!(alice(&system).deposit(5).key("a").await, Ok(5));
    let system = restarted(system, &store).await;
    assert_eq!(alice(&system).deposit(5).key("a").await, Ok(5));
    for balance in 6..26 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    let snapshot = || snapshot_of::<Vault>(&store, "alice");
    eventually("a snapshot", snapshot, |seq| *seq >= Some(10)).await;
    let system = restarted(system, &store).await;
    assert_eq!(alice(&system).deposit(5).key("a").await, Ok(5));
    assert_eq!(alice(&system).balance().await, Ok(25));
}

#[tokio::test]
async fn a_key_is_remembered_where_only_the_snapshot_is_kept() {
    let store = Memory::new();
    let system = start(&store);
    let page = |system: &ActorSystem| system.entity::<Page>("a");
    assert_eq!(page(&system).write("first".into()).key("a").await, Ok(()));
    for n in 0..10 {
        page(&system).write(n.to_string()).await.unwrap();
    }
    let snapshot = || snapshot_of::<Page>(&store, "a");
    eventually("a snapshot", snapshot, |seq| *seq >= Some(3)).await;
    let system = restarted(system, &store).await;
    assert_eq!(page(&system).write("again".into()).key("a").await, Ok(()));
    assert_eq!(page(&system).text().await, Ok("9".to_owned()));
}

#[tokio::test]
async fn the_last_64_keys_are_remembered() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    for n in 0..65 {
        let deposit = alice.deposit(1).key(format!("key-{n}"));
        assert_eq!(deposit.await, Ok(n + 1));
    }
    assert_eq!(alice.deposit(1).key("key-1").await, Ok(2), "remembered");
    assert_eq!(alice.deposit(1).key("key-0").await, Ok(66), "forgotten");
    assert_eq!(alice.deposit(1).key("key-1").await, Ok(67), "forgotten now");
}

#[tokio::test]
async fn what_has_changed_nothing_is_decided_again() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    let withdraw = || alice.withdraw(5).key("a");
    assert_eq!(withdraw().await, Err(AskError::Entity(Short { by: 5 })));
    assert_eq!(alice.deposit(7).await, Ok(7));
    assert_eq!(withdraw().await, Ok(2));
    assert_eq!(withdraw().await, Ok(2));
    assert_eq!(alice.balance().await, Ok(2));
}

#[tokio::test]
async fn a_key_that_is_none_or_is_another_messages_is_refused() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    let empty = alice.deposit(1).key("").await;
    assert_eq!(empty, Err(AskError::InvalidKey(InvalidKey::Empty)));
    let long = alice.deposit(1).key("k".repeat(256)).await;
    let too_long = InvalidKey::TooLong {
        bytes: 256,
        max: 255,
    };
    assert_eq!(long, Err(AskError::InvalidKey(too_long)));
    assert_eq!(alice.deposit(1).key("k".repeat(255)).await, Ok(1));
    let other = alice.withdraw(1).key("k".repeat(255)).await;
    let taken = InvalidKey::Taken {
        message: "deposit".to_owned(),
    };
    assert_eq!(other, Err(AskError::InvalidKey(taken)));
    assert_eq!(alice.balance().await, Ok(1));
}

#[tokio::test]
async fn an_answer_of_a_promise_is_not_remembered_and_its_message_is_not_handled_again() {
    let store = Memory::new();
    let system = start(&store);
    let till = system.entity::<Till>("a");
    assert_eq!(till.promise().key("a").await, Ok(1));
    let again = till.promise().key("a").await;
    assert!(matches!(again, Err(AskError::Reply { .. })), "{again:?}");
    assert_eq!(till.cents().await, Ok(1));
}

/// In paused time: the asks time out while the first one is still handled.
#[tokio::test(start_paused = true)]
async fn an_ask_with_a_key_is_repeated_after_a_timeout_and_handled_once() {
    let store = Memory::new();
    let permits = Arc::new(Semaphore::new(0));
    let builder = node(&store, 0).resource(Permits(permits.clone()));
    let system = builder.start_local().unwrap();
    let till = system.entity::<Till>("a");
    let second = Duration::from_secs(1);
    let plain = till.take(5).timeout(second).retry_for(second * 60).await;
    assert!(matches!(plain, Err(AskError::Timeout { after, .. }) if after == second));
    let keyed = till.take(7).timeout(second).key("a");
    let asking = tokio::spawn(keyed.retry_for(second * 60).into_future());
    tokio::time::sleep(second * 10).await;
    permits.add_permits(2);
    assert_eq!(asking.await.unwrap(), Ok(12));
    assert_eq!(till.cents().await, Ok(12));
    assert_eq!(positions_of::<Till>(&store, "a").await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_remembered_on_the_node_that_takes_over() {
    let store = Memory::new();
    let mut nodes = cluster_of(3, |i| node(&store, i)).await;
    let mut on_the_last = None;
    for n in 0..1000 {
        let vault = nodes[0].entity::<Vault>(n.to_string());
        if soon("its home", vault.node()).await.unwrap() == "node-2" {
            on_the_last = Some(vault);
            break;
        }
    }
    let vault = on_the_last.expect("one of them lives there");
    let deposit = || vault.deposit(5).key("a").retry_for(STEP_LIMIT);
    assert_eq!(soon("a deposit", deposit().into_future()).await, Ok(5));
    assert_eq!(soon("another", vault.deposit(1).into_future()).await, Ok(6));
    drop(nodes.remove(2));
    let again = deposit().with_position();
    let (answer, position) = soon("an answer", again.into_future()).await.unwrap();
    assert_eq!(answer, 5);
    let id = vault.entity_id().to_string();
    let positions = positions_of::<Vault>(&store, &id).await;
    assert_eq!(Some(&position.position), positions.last());
    assert_eq!(positions.len(), 2);
    assert_ne!(soon("its home", vault.node()).await.unwrap(), "node-2");
    shutdown(nodes).await;
}

#[tokio::test]
async fn an_answer_comes_with_the_position_of_what_it_has_seen() {
    let store = Memory::new();
    let system = start(&store);
    let shard = |id: &str| EntityId::from(id).shard(Vault::SHARDS);
    let other = (0..).map(|n| n.to_string());
    let other = other
        .into_iter()
        .find(|id| shard(id) == shard("alice"))
        .unwrap();
    let at = |position| Position {
        kind: "Vault".to_owned(),
        shard: shard("alice").0,
        position,
    };
    let vault = |system: &ActorSystem, id: &str| system.entity::<Vault>(id);
    let alice = vault(&system, "alice");
    assert_eq!(alice.balance().with_position().await, Ok((0, at(0))));
    assert_eq!(alice.deposit(5).with_position().await, Ok((5, at(1))));
    let other = vault(&system, &other);
    assert_eq!(other.deposit(1).with_position().await, Ok((1, at(2))));
    assert_eq!(alice.balance().with_position().await, Ok((5, at(1))));
    let keyed = alice.deposit(1).key("a").with_position();
    assert_eq!(keyed.await, Ok((6, at(3))));
    assert!(at(1) < at(3));
    let system = restarted(system, &store).await;
    let alice = vault(&system, "alice");
    assert_eq!(alice.balance().with_position().await, Ok((6, at(3))));
    for n in 0..10_i64 {
        let deposited = alice.deposit(1).with_position().await;
        assert_eq!(deposited, Ok((7 + n, at(4 + n.unsigned_abs()))));
    }
    let refused = alice.withdraw(100).with_position().await;
    assert_eq!(refused, Err(AskError::Entity(Short { by: 84 })));
}

#[tokio::test]
async fn an_answer_that_a_later_message_gives_has_the_position_of_that() {
    let store = Memory::new();
    let waiting = Waiting::default();
    let builder = node(&store, 0).resource(waiting.clone());
    let system = builder.start_local().unwrap();
    let till = system.entity::<Till>("a");
    assert_eq!(till.promise().await, Ok(1));
    let waits = till.wait().with_position().timeout(STEP_LIMIT);
    let waits = tokio::spawn(waits.into_future());
    let has_come = || async { lock(&waiting.0).len() };
    eventually("it waits", has_come, |waiting| *waiting == 1).await;
    till.answer().await.unwrap();
    let (cents, position) = waits.await.unwrap().unwrap();
    assert_eq!((cents, position.position), (2, 2));
}

#[tokio::test]
async fn a_position_is_known_from_a_snapshot_alone() {
    let store = Memory::new();
    let system = start(&store);
    let page = |system: &ActorSystem| system.entity::<Page>("a");
    for n in 0..3 {
        page(&system).write(n.to_string()).await.unwrap();
    }
    let snapshot = || snapshot_of::<Page>(&store, "a");
    eventually("a snapshot", snapshot, |seq| *seq == Some(3)).await;
    let system = restarted(system, &store).await;
    let (text, position) = page(&system).text().with_position().await.unwrap();
    assert_eq!((text.as_str(), position.position), ("2", 3));
}

#[tokio::test]
async fn each_answer_has_its_own_position_however_many_are_under_way() {
    let store = Memory::new();
    let system = start(&store);
    let alice = system.entity::<Vault>("alice");
    let asks = (0..50).map(|_| alice.deposit(1).with_position().into_future());
    let answers = futures_util::future::join_all(asks).await;
    let answers: BTreeSet<_> = answers
        .into_iter()
        .map(|answer| answer.map(|(balance, at)| (balance, at.position)).unwrap())
        .collect();
    let expected = (1..=50).map(|n: i64| (n, n.unsigned_abs()));
    assert_eq!(answers, expected.collect());
}
