//! Projections: views of events, which move with their shards and skip nothing.

mod astray;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use casty::{
    id::EntityId,
    persistence::{Memory, Position},
    prelude::*,
    projection::{
        MemoryTransaction, MemoryView, Occurrence, ProjectError, ProjectionWaitError,
        RunningProjection, Since, projection,
    },
    testkit::{eventually, shutdown, soon},
};

use crate::{
    accounts::{Account, Euros, alone, append, bank, event_body},
    types::Chest,
};

/// What the view has of each account: how often, and how much.
type Table = BTreeMap<EntityId, (u64, u64)>;

#[derive(Clone)]
struct Sums {
    view: MemoryView<Table>,
    /// Events of this account fail while it is set.
    refuses: Arc<AtomicBool>,
}

impl Sums {
    fn new(view: &MemoryView<Table>) -> Self {
        Self {
            view: view.clone(),
            refuses: Arc::default(),
        }
    }
}

fn add(table: &mut Table, of: &EntityId, cents: u64) {
    let entry = table.entry(of.clone()).or_default();
    entry.0 += 1;
    entry.1 += cents;
}

#[projection(of = Account, name = "sums", ignore_others)]
impl Sums {
    #[store]
    fn view(&self) -> &MemoryView<Table> {
        &self.view
    }

    #[on]
    fn deposited(
        &mut self,
        of: &EntityId,
        cents: u64,
        tx: &mut MemoryTransaction<Table>,
    ) -> Result<(), String> {
        // What was written before the failure must not stay.
        add(tx, of, cents);
        if of.as_str() == "bad" && self.refuses.load(Ordering::SeqCst) {
            return Err("it is bad".to_owned());
        }
        Ok(())
    }

    #[on_erased]
    async fn erased(&mut self, of: &EntityId, tx: &mut MemoryTransaction<Table>) {
        tx.remove(of);
    }
}

/// It parks what it cannot handle, and takes all that a handler may take.
#[derive(Clone)]
struct Parking {
    view: MemoryView<Table>,
}

#[projection(of = Account, version = 2, poisoned = "park")]
impl Parking {
    #[store]
    fn view(&self) -> &MemoryView<Table> {
        &self.view
    }

    #[on]
    async fn deposited(
        &mut self,
        of: &EntityId,
        at: &Occurrence,
        cents: u64,
        tx: &mut MemoryTransaction<Table>,
    ) -> Result<(), std::fmt::Error> {
        assert_eq!(at.of, *of);
        if of.as_str() == "bad" {
            return Err(std::fmt::Error);
        }
        assert_ne!(of.as_str(), "worse", "it panics");
        add(tx, of, cents);
        Ok(())
    }

    #[on]
    fn noted(&self, _note: String) {}
}

/// The next version of [`Sums`], which counts twice.
#[derive(Clone)]
struct Doubled {
    view: MemoryView<Table>,
}

#[projection(of = Account, name = "sums", version = 2, ignore_others)]
impl Doubled {
    #[store]
    fn view(&self) -> &MemoryView<Table> {
        &self.view
    }

    #[on]
    async fn deposited(&self, of: &EntityId, cents: u64, tx: &mut MemoryTransaction<Table>) {
        add(tx, of, cents * 2);
    }
}

async fn deposit(node: &ActorSystem, id: &str, cents: u64) -> Position {
    let account = node.entity::<Account>(id);
    let call = account.deposit(cents).with_position();
    let (_, position) = soon("a deposit", call).await.unwrap();
    position
}

async fn table(view: &MemoryView<Table>) -> Table {
    view.look(Table::clone).await
}

fn id(n: usize) -> String {
    format!("account-{n}")
}

const ACCOUNTS: usize = 40;

/// Each account was deposited to `rounds` times: 1, then 2, and so on.
fn expected(rounds: u64) -> Table {
    let sum = rounds * (rounds + 1) / 2;
    (0..ACCOUNTS)
        .map(|n| (EntityId::new(id(n)), (rounds, sum)))
        .collect()
}

async fn deposit_all(node: &ActorSystem, round: u64) -> Vec<Position> {
    let mut positions = Vec::new();
    for n in 0..ACCOUNTS {
        positions.push(deposit(node, &id(n), round).await);
    }
    positions
}

async fn wait_for_all(projection: &RunningProjection, positions: Vec<Position>) {
    for position in positions {
        projection.wait_for(position).await.unwrap();
    }
}

#[tokio::test]
async fn a_program_reads_what_it_has_written() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    deposit_all(&system, 1).await;
    let sums = system.project(Sums::new(&view)).await.unwrap();
    let positions = deposit_all(&system, 2).await;
    wait_for_all(&sums, positions).await;
    soon("it has caught up", sums.caught_up()).await.unwrap();
    assert_eq!(table(&view).await, expected(2));
    let lag = sums.lag().await.unwrap();
    assert_eq!((lag.records(), lag.shards.len()), (0, 16));
    assert_eq!(lag.troubles().count(), 0);
    let position = deposit(&system, &id(0), 3).await;
    // Less than the period in which the store is looked at anyway.
    let within = Duration::from_secs(4);
    let woken = sums.wait_for_within(position, within).await;
    woken.expect("the commit wakes it");
    let twice = system.project(Sums::new(&view)).await;
    assert!(
        matches!(twice, Err(ProjectError::Twice { .. })),
        "{twice:?}"
    );
    let other = Position {
        kind: "other".to_owned(),
        shard: 0,
        position: 1,
    };
    let other = sums.wait_for(other).await;
    assert!(
        matches!(other, Err(ProjectionWaitError::OtherType { .. })),
        "{other:?}"
    );
    soon("it stops", sums.stop()).await;
    let position = deposit(&system, &id(0), 4).await;
    let stopped = sums.wait_for(position).await;
    assert_eq!(stopped, Err(ProjectionWaitError::Stopped));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_version_is_built_beside_the_one_before() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    wait_for_all(&sums, deposit_all(&system, 1).await).await;
    // In the same store, where the offsets of both are.
    let anew = Doubled { view: view.clone() };
    let doubled = system.project(anew).await.unwrap();
    soon("it has caught up", doubled.caught_up()).await.unwrap();
    let both = |(id, (times, sum)): (EntityId, (u64, u64))| (id, (times * 2, sum * 3));
    let expected: Table = expected(1).into_iter().map(both).collect();
    assert_eq!(table(&view).await, expected);
    let position = deposit(&system, &id(0), 9).await;
    wait_for_all(&doubled, vec![position.clone()]).await;
    wait_for_all(&sums, vec![position]).await;
    assert_eq!(table(&view).await[&EntityId::new(id(0))], (4, 3 + 27));
    soon("the old one stops", sums.stop()).await;
    let position = deposit(&system, &id(0), 1).await;
    wait_for_all(&doubled, vec![position]).await;
    assert_eq!(table(&view).await[&EntityId::new(id(0))], (5, 32));
    system.shutdown().await.unwrap();
}

#[derive(Clone)]
struct Fills {
    view: MemoryView<Table>,
}

#[projection(of = Chest)]
impl Fills {
    #[store]
    fn view(&self) -> &MemoryView<Table> {
        &self.view
    }

    #[on]
    fn filled(&self) {}
}

#[tokio::test]
async fn a_type_that_does_not_keep_its_records_is_refused() {
    let system = alone(Memory::new());
    let view = MemoryView::default();
    let refused = system.project(Fills { view }).await;
    assert!(
        matches!(refused, Err(ProjectError::NotRetained { .. })),
        "{refused:?}"
    );
    let refused = system.events_of::<Chest>(Since::Start).await;
    let refused = refused.expect_err("refused").to_string();
    assert!(
        refused.contains("does not keep all its records"),
        "{refused}"
    );
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_goes_on_after_a_restart_where_it_was() {
    let (store, view) = (Memory::new(), MemoryView::default());
    for round in 1..=3 {
        let system = alone(store.clone());
        let sums = system.project(Sums::new(&view)).await.unwrap();
        wait_for_all(&sums, deposit_all(&system, round).await).await;
        assert_eq!(table(&view).await, expected(round));
        system.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_event_that_fails_holds_up_its_shard_alone_and_nothing_of_it_stays() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    let projection = Sums::new(&view);
    let refuses = projection.refuses.clone();
    refuses.store(true, Ordering::SeqCst);
    let sums = system.project(projection).await.unwrap();
    let bad = deposit(&system, "bad", 5).await;
    let after = deposit(&system, "bad", 6).await;
    let positions = deposit_all(&system, 1).await;
    let others = positions.into_iter().filter(|it| it.shard != bad.shard);
    wait_for_all(&sums, others.collect()).await;
    let within = Duration::from_millis(1);
    let late = sums.wait_for_within(after.clone(), within).await;
    assert!(
        matches!(late, Err(ProjectionWaitError::Timeout { .. })),
        "{late:?}"
    );
    let lag = eventually(
        "the lag says why",
        || async { sums.lag().await.unwrap() },
        |lag| lag.troubles().count() == 1,
    )
    .await;
    let (shard, trouble) = lag.troubles().next().unwrap();
    assert_eq!(shard, bad.shard);
    assert!(
        trouble.contains("`bad`") && trouble.ends_with("it is bad"),
        "{trouble}"
    );
    assert!(lag.records() >= 2 && lag.age() > Duration::ZERO, "{lag:?}");
    assert!(!table(&view).await.contains_key(&EntityId::new("bad")));
    refuses.store(false, Ordering::SeqCst);
    let goes_on = sums.wait_for_within(after, Duration::from_secs(30));
    soon("it goes on", goes_on).await.unwrap();
    assert_eq!(table(&view).await[&EntityId::new("bad")], (2, 11));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_poisoned_event_is_parked_with_its_error_and_the_next_one_follows() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    let parking = system
        .project(Parking { view: view.clone() })
        .await
        .unwrap();
    let bad = deposit(&system, "bad", 5).await;
    let worse = deposit(&system, "worse", 5).await;
    wait_for_all(&parking, deposit_all(&system, 1).await).await;
    wait_for_all(&parking, vec![bad.clone(), worse.clone()]).await;
    assert_eq!(table(&view).await, expected(1));
    let mut parked = view.parked().await;
    parked.sort_by(|(_, a), (_, b)| a.entity.cmp(&b.entity));
    let [(shard, first), (_, second)] = &parked[..] else {
        panic!("{parked:?}");
    };
    assert_eq!(
        (&*shard.projection, shard.version, shard.shard),
        ("Parking", 2, bad.shard)
    );
    assert_eq!(
        (first.entity.as_str(), first.position),
        ("bad", bad.position)
    );
    assert!(!first.body.is_empty() && !first.reason.is_empty());
    assert!(second.reason.contains("it panics"), "{}", second.reason);
    let lag = parking.lag().await.unwrap();
    let parked: u64 = lag.shards.values().map(|shard| shard.parked).sum();
    assert_eq!(parked, 2);
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn events_of_old_versions_are_handled_as_today_and_unreadable_ones_are_poisoned() {
    let (store, view) = (Memory::new(), MemoryView::default());
    append(
        &store,
        "alice",
        1,
        1,
        event_body("deposited", 1, Euros { euros: 3 }),
    )
    .await;
    append(
        &store,
        "bob",
        1,
        1,
        event_body("unknown", 1, Euros { euros: 3 }),
    )
    .await;
    let system = alone(store);
    let parking = system
        .project(Parking { view: view.clone() })
        .await
        .unwrap();
    soon("it has caught up", parking.caught_up()).await.unwrap();
    assert_eq!(table(&view).await[&EntityId::new("alice")], (1, 300));
    let parked = view.parked().await;
    assert!(
        parked[0].1.reason.contains("event `unknown` of version 1"),
        "{parked:?}"
    );
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_of_an_erased_entity_stays_in_the_view() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    wait_for_all(&sums, deposit_all(&system, 1).await).await;
    assert_eq!(system.erase::<Account>(id(3)).await, Ok(true));
    let gone = || async { table(&view).await };
    let is_gone = |it: &Table| !it.contains_key(&EntityId::new(id(3)));
    eventually("it is gone", gone, is_gone).await;
    let position = deposit(&system, &id(3), 9).await;
    sums.wait_for(position).await.unwrap();
    assert_eq!(table(&view).await[&EntityId::new(id(3))], (1, 9));
    soon("it stops", sums.stop()).await;
    // A view that is made anew sees the second life alone.
    let anew = MemoryView::default();
    let rebuilt = system.project(Sums::new(&anew)).await.unwrap();
    soon("it has caught up", rebuilt.caught_up()).await.unwrap();
    assert_eq!(table(&anew).await, table(&view).await);
    system.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_owner_dies_each_event_is_still_handled_exactly_once() {
    let (store, view) = (Memory::new(), MemoryView::default());
    let mut nodes = bank("projections", 3, &store).await;
    let mut handles = Vec::new();
    for node in &nodes {
        handles.push(node.project(Sums::new(&view)).await.unwrap());
    }
    // From any node, for shards of all of them.
    wait_for_all(&handles[1], deposit_all(&nodes[0], 1).await).await;
    assert_eq!(table(&view).await, expected(1));
    let lag = handles[2].lag().await.unwrap();
    assert_eq!((lag.records(), lag.troubles().count()), (0, 0), "{lag:?}");
    drop(nodes.remove(2));
    handles.pop();
    let mut positions = Vec::new();
    for n in 0..ACCOUNTS {
        let account = nodes[0].entity::<Account>(id(n));
        let order = format!("order-{n}");
        let again = || async {
            let call = account.deposit(2).key(order.clone());
            call.with_position().await
        };
        let done = eventually("its next owner answers", again, Result::is_ok).await;
        positions.push(done.unwrap().1);
    }
    wait_for_all(&handles[1], positions).await;
    assert_eq!(table(&view).await, expected(2));
    let last = nodes.pop().unwrap();
    soon("it leaves", last.shutdown()).await.unwrap();
    wait_for_all(&handles[0], deposit_all(&nodes[0], 3).await).await;
    assert_eq!(table(&view).await, expected(3));
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_owner_was_not_given_the_projection_waits_and_says_so() {
    let (store, view) = (Memory::new(), MemoryView::default());
    let nodes = bank("half", 2, &store).await;
    deposit_all(&nodes[0], 1).await;
    let sums = nodes[0].project(Sums::new(&view)).await.unwrap();
    let look = || async { sums.lag().await.unwrap() };
    let waits = |lag: &casty::projection::Lag| {
        let mut troubles = lag.troubles();
        troubles.any(|(_, trouble)| trouble.contains("was not given the projection"))
    };
    eventually("some wait", look, waits).await;
    let others = nodes[1].project(Sums::new(&view)).await.unwrap();
    soon("both have caught up", others.caught_up())
        .await
        .unwrap();
    assert_eq!(table(&view).await, expected(1));
    shutdown(nodes).await;
}
