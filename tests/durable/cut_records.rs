//! Records that are cut after something has seen what they say, and what must not have been said
//! of them by then.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use casty::{
    Entity,
    id::EntityId,
    persistence::{
        Journal, Log, Memory, Page as Records,
        faults::{Faults, Faulty, FaultyStore},
    },
    prelude::*,
    testkit::{STEP_LIMIT, eventually},
};

/// How many times handlers have run that count.
#[derive(Clone, Default)]
struct Runs {
    count: Arc<AtomicU32>,
    /// It is silent from the first run on: the record of that is under way, and not durable.
    falls_silent: Option<Faulty>,
}

impl Runs {
    fn begin(&self) {
        let before = self.count.fetch_add(1, Ordering::SeqCst);
        if let Some(store) = self.falls_silent.as_ref().filter(|_| before == 0) {
            store.set(Faults {
                is_silent: true,
                ..Faults::default()
            });
        }
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until the store is silent, and asks of the entity have timed out and come again.
    async fn are_repeated(&self) {
        let count = || std::future::ready(self.count());
        eventually("it is handled", count, |count| *count == 1).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(self.count(), 1, "repeats are not handled");
    }
}

#[message]
#[derive(Default)]
pub(crate) struct Vessel {
    drops: Vec<u64>,
}

#[entity(durable, shards = 4, snapshot_every = 2, retain = "snapshot")]
impl Vessel {
    #[message]
    fn pour(&mut self, drop: u64, to: VesselRef, ctx: &mut Context<Self>) {
        ctx.send(to.catch(drop));
    }

    #[message]
    fn catch(&mut self, drop: u64, ctx: &mut Context<Self>) -> usize {
        ctx.resource::<Runs>().begin();
        self.drops.push(drop);
        self.drops.len()
    }

    #[message]
    fn touch(&mut self, other: VesselRef, ctx: &mut Context<Self>) {
        ctx.send(other.be_touched());
    }

    /// It changes nothing.
    #[message]
    fn be_touched(&mut self, ctx: &mut Context<Self>) {
        ctx.resource::<Runs>().begin();
    }

    #[message]
    fn drops(&self) -> Vec<u64> {
        self.drops.clone()
    }
}

fn start(journal: impl Journal, runs: &Runs) -> ActorSystem {
    casty_tests::log();
    let builder = ActorSystem::builder("vessels").journal(journal);
    builder.resource(runs.clone()).start_local().unwrap()
}

async fn drops(vessel: &VesselRef) -> Vec<u64> {
    vessel.drops().retry_for(STEP_LIMIT).await.unwrap()
}

const SEEDS: u64 = 8;

/// Runs a scenario on stores that fall silent, and are back when the second half of it begins. What
/// was on its way then is written or cut: each comes about under some of the seeds.
async fn on_silent_stores(scenario: impl AsyncFn(ActorSystem, Runs, Faulty)) {
    let mut are_cut = 0;
    for seed in 0..SEEDS {
        let store = FaultyStore::new(Arc::new(Memory::new())).connection(seed);
        let runs = Runs {
            falls_silent: Some(store.clone()),
            ..Runs::default()
        };
        let system = start(store.clone(), &runs);
        scenario(system.clone(), runs.clone(), store).await;
        // A record that was cut is written by a second run.
        assert!((1..=2).contains(&runs.count()), "{} runs", runs.count());
        are_cut += u64::from(runs.count() == 2);
        system.shutdown().await.unwrap();
    }
    assert!(
        (1..SEEDS).contains(&are_cut),
        "{are_cut} of {SEEDS} are cut"
    );
}

/// The trace X23, by rule S4: a source that hears of a repeat that it is taken forgets the send,
/// and the record of it is cut.
#[tokio::test(start_paused = true)]
async fn a_repeated_send_is_not_said_to_be_taken_before_that_is_durable() {
    on_silent_stores(async |system, runs, store| {
        let (from, to) = (
            system.entity::<Vessel>("from"),
            system.entity::<Vessel>("to"),
        );
        from.pour(7, to.clone()).await.unwrap();
        runs.are_repeated().await;
        store.set(Faults::default());
        let look = || drops(&to);
        eventually("it is taken", look, |drops| *drops == [7]).await;
    })
    .await;
}

/// The trace X23, by rule S3: a source that begins anew sends again what it does not know to be
/// taken. A mark that was in memory alone would be gone, and the handler would run twice. That it
/// changes nothing makes no difference.
#[tokio::test]
async fn a_send_that_comes_again_after_a_restart_is_not_handled_twice() {
    let (store, runs) = (Memory::new(), Runs::default());
    // With snapshots in place of records in between.
    for round in 1..=4 {
        let system = start(store.clone(), &runs);
        let (from, to) = (
            system.entity::<Vessel>("from"),
            system.entity::<Vessel>("to"),
        );
        from.touch(to.clone()).await.unwrap();
        from.pour(u64::from(round), to.clone()).await.unwrap();
        // What was sent before it is taken, or was: sends to one receiver go in order.
        let look = || drops(&to);
        let is_taken = |drops: &Vec<u64>| drops.last() == Some(&u64::from(round));
        let found = eventually("the last one is taken", look, is_taken).await;
        assert_eq!(found, (1..=u64::from(round)).collect::<Vec<_>>());
        assert_eq!(runs.count(), 2 * round);
        system.shutdown().await.unwrap();
    }
}

/// The trace X25, by rule S6: the answer of a key is looked up in what is applied, and leaves once
/// that is durable.
#[tokio::test(start_paused = true)]
async fn a_repeated_ask_with_a_key_is_not_answered_before_its_record_is_durable() {
    on_silent_stores(async |system, runs, store| {
        let vessel = system.entity::<Vessel>("v");
        let catch = vessel.catch(7).timeout(Duration::from_secs(1)).key("a");
        let asking = tokio::spawn(catch.retry_for(STEP_LIMIT * 10).into_future());
        runs.are_repeated().await;
        assert!(!asking.is_finished(), "nothing is durable");
        store.set(Faults::default());
        assert_eq!(asking.await.unwrap(), Ok(1));
        assert_eq!(drops(&vessel).await, [7]);
    })
    .await;
}

/// The trace X25, by rule S7: a snapshot of what is applied would hold a record that is cut.
#[tokio::test(start_paused = true)]
async fn a_snapshot_does_not_hold_what_is_cut() {
    let (memory, runs) = (Memory::new(), Runs::default());
    let store = FaultyStore::new(Arc::new(memory.clone())).connection(1);
    let system = start(store.clone(), &runs);
    let vessel = system.entity::<Vessel>("v");
    assert_eq!(vessel.catch(1).await, Ok(1));
    store.set(Faults {
        delay_max: Duration::from_millis(50),
        not_written: 1.0,
        ..Faults::default()
    });
    // Both are applied, and the second one makes a snapshot due.
    let asks = [vessel.catch(2), vessel.catch(3)].map(IntoFuture::into_future);
    for answer in futures_util::future::join_all(asks).await {
        assert!(
            matches!(
                answer,
                Err(AskError::NotStored {
                    possibly: false,
                    ..
                })
            ),
            "{answer:?}"
        );
    }
    assert_eq!(runs.count(), 3);
    store.set(Faults::default());
    assert_eq!(drops(&vessel).await, [1]);
    system.shutdown().await.unwrap();
    let id = EntityId::from("v");
    let log = Log {
        kind: Vessel::NAME.into(),
        shard: id.shard(Vessel::SHARDS).0,
    };
    assert_eq!(memory.load(&log, &id).await.unwrap(), None);
    let records = memory.read_entity(&log, &id, 0, Records::default()).await;
    assert_eq!(records.unwrap().len(), 1);
}
