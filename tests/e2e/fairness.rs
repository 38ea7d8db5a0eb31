//! How long actors wait for each other, in turns and in simulated time. `benches/fairness.rs`
//! measures the same in real time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::{prelude::*, testkit::Sim};

use crate::support::soon;

/// Messages that one run handles before other runs have their turn.
const BATCH: u64 = 64;

/// Counts the messages that all instances handle.
#[derive(Default)]
struct Hot;

static HANDLED: AtomicU64 = AtomicU64::new(0);

#[entity(shards = 4)]
impl Hot {
    #[message]
    fn handle(&mut self) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Is asked now and then.
#[derive(Default)]
struct Quiet;

#[entity(shards = 4)]
impl Quiet {
    #[message]
    fn handled(&self) -> u64 {
        HANDLED.load(Ordering::Relaxed)
    }
}

/// On one thread, so that each turn is at the cost of all other actors.
#[tokio::test(flavor = "current_thread")]
async fn a_quiet_entity_waits_for_a_few_batches_of_a_hot_one_and_no_more() {
    let system = ActorSystem::local("fairness");
    let (hot, quiet) = (system.entity::<Hot>("hot"), system.entity::<Quiet>("quiet"));
    quiet.handled().await.unwrap();
    // Four senders keep its mailbox full.
    let feeding: Vec<_> = (0..4)
        .map(|_| {
            let hot = hot.clone();
            tokio::spawn(async move {
                loop {
                    hot.handle().tell().await.unwrap();
                }
            })
        })
        .collect();
    let full = || HANDLED.load(Ordering::Relaxed) >= 10 * BATCH;
    soon("it is hot", async {
        while !full() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for n in 0..200 {
        let before = HANDLED.load(Ordering::Relaxed);
        let seen = soon("the quiet one answers", quiet.handled())
            .await
            .unwrap();
        let after = HANDLED.load(Ordering::Relaxed);
        // One batch before the quiet actor's run, and one before the asker's next turn.
        assert!(seen - before <= 2 * BATCH, "ask {n}: {}", seen - before);
        assert!(after - before <= 4 * BATCH, "ask {n}: {}", after - before);
    }
    // The actor was hot until the end.
    let before = HANDLED.load(Ordering::Relaxed);
    tokio::task::yield_now().await;
    assert!(HANDLED.load(Ordering::Relaxed) > before);
    for feeding in feeding {
        feeding.abort();
    }
    system.shutdown().await.unwrap();
}

/// Takes heavy messages, and counts them.
#[derive(Default)]
struct Porter {
    taken: u64,
}

#[entity(shards = 16)]
impl Porter {
    #[message]
    fn take(&mut self, load: String) {
        self.taken += u64::from(load.len() == LOAD_BYTES);
    }

    #[message]
    fn taken(&self) -> u64 {
        self.taken
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

const LOAD_BYTES: usize = 16 * 1024;
/// Some 16 MiB, four times of what may be under way.
const LOADS: u64 = 1024;
/// The window, what waits for the writer, and some for the frames around the loads.
const UNDER_WAY_MAX: u64 = 6 * 1024 * 1024 / LOAD_BYTES as u64;

/// A porter that lives on a node.
fn porter(sim: &mut Sim, node: &'static str) -> String {
    sim.on("a", move |system| async move {
        for n in 0.. {
            let id = format!("p{n}");
            if system.entity::<Porter>(&id).node().await.as_deref() == Ok(node) {
                return id;
            }
        }
        unreachable!("one of them lives there")
    })
}

/// How long a hundred asks take, one after the other, in simulated time.
fn a_hundred_asks(sim: &mut Sim, porter: &str) -> Duration {
    let (porter, begun) = (porter.to_owned(), sim.elapsed());
    sim.on("a", move |system| async move {
        for _ in 0..100 {
            system.entity::<Porter>(&porter).taken().await.unwrap();
        }
    });
    sim.elapsed().saturating_sub(begun)
}

/// `stop` makes a node stand still, and `go_on` ends it.
fn one_stands_still(stop: impl Fn(&mut Sim), go_on: impl Fn(&mut Sim)) {
    casty_tests::log();
    let mut sim = Sim::new(11);
    for name in ["a", "b", "c"] {
        sim.start_with(name, |builder| builder.strict_wire(false));
    }
    sim.until_up(3);
    let (still, lively) = (porter(&mut sim, "b"), porter(&mut sim, "c"));
    let in_peace = a_hundred_asks(&mut sim, &lively);

    stop(&mut sim);
    let told = Arc::<AtomicU64>::default();
    let telling = {
        let (told, still) = (told.clone(), still.clone());
        sim.spawn_on("a", move |system| async move {
            let still = system.entity::<Porter>(&still);
            for _ in 0..LOADS {
                still.take("x".repeat(LOAD_BYTES)).tell().await.unwrap();
                told.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let beside = a_hundred_asks(&mut sim, &lively);
    let waiting = told.load(Ordering::Relaxed);
    assert!(waiting > 0 && !telling.is_done(), "{waiting} were told");
    assert!(waiting <= UNDER_WAY_MAX, "{waiting} are under way");
    assert!(
        beside <= in_peace * 3 / 2,
        "{beside:?} beside it, {in_peace:?} in peace"
    );

    go_on(&mut sim);
    sim.until("all is told", |_| telling.is_done());
    let taken = sim.on("a", move |system| async move {
        system.entity::<Porter>(&still).taken().await
    });
    assert_eq!(taken, Ok(LOADS));
}

#[test]
fn a_stalled_link_delays_no_other_and_loses_nothing() {
    one_stands_still(|sim| sim.stall("a", "b"), Sim::heal);
}

#[test]
fn a_process_that_stands_still_delays_no_other_and_loses_nothing() {
    one_stands_still(|sim| sim.pause("b"), |sim| sim.resume("b"));
}
