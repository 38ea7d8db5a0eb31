//! Entities and actors that do not stop when they should.

use std::sync::atomic::{AtomicU32, Ordering};

use casty::{Settings, error::ShutdownError, prelude::*, testkit};

use crate::support::{cluster, eventually, node, soon};

/// Long enough that nothing ends by it.
const LONG: Duration = Duration::from_mins(10);

/// How many handlers that never return have begun, in each test.
static BEGUN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// An actor whose only handler never returns.
pub(crate) struct Sleeper;

#[actor]
impl Sleeper {
    #[message]
    async fn sleep(&mut self, test: usize) {
        BEGUN[test].fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }

    #[message]
    fn turn_over(&mut self) {}
}

/// May wait for ever: in a handler, in its stop hook, or in that of a child.
#[message]
#[derive(Default)]
pub(crate) struct Clinger {
    value: u64,
    clings: bool,
}

#[entity(shards = 2, migrate)]
impl Clinger {
    #[message]
    async fn wait(&mut self, test: usize) {
        BEGUN[test].fetch_add(1, Ordering::Relaxed);
        self.value = 0;
        std::future::pending::<()>().await;
    }

    #[message]
    fn cling(&mut self) {
        self.clings = true;
    }

    #[message]
    async fn raise(&mut self, ctx: &mut Context<Self>) {
        let child = ctx.spawn(Sleeper);
        child.sleep(0).tell().await.unwrap();
    }

    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[on_stop]
    async fn stopped(&mut self) {
        if std::mem::take(&mut self.clings) {
            std::future::pending::<()>().await;
        }
    }
}

/// Two shards, of which one moves to the node that joins. In each of them live entities that never
/// stop by themselves: in a handler, in a hook, because of a child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_never_stops_costs_only_itself_when_its_shard_moves() {
    let mut nodes = cluster(1).await;
    let clinger = |n: u64| nodes[0].entity::<Clinger>(format!("p{n}"));
    for n in 0..64 {
        assert_eq!(clinger(n).add(n).await, Ok(n));
    }
    let waiting: Vec<_> = (0..16)
        .map(|n| tokio::spawn(clinger(n).wait(0).timeout(LONG).into_future()))
        .collect();
    let begun = async || BEGUN[0].load(Ordering::Relaxed);
    eventually("they wait", begun, |begun| *begun == 16).await;
    let mut queued = Vec::new();
    for n in 0..16 {
        let mut second = clinger(n).add(1).timeout(LONG).into_future();
        assert!(futures_util::poll!(&mut second).is_pending());
        queued.push(tokio::spawn(second));
    }
    for n in 16..32 {
        clinger(n).cling().await.unwrap();
    }
    for n in 32..48 {
        clinger(n).raise().await.unwrap();
    }
    eventually("the children wait", begun, |begun| *begun == 32).await;
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    // Each of the others goes on with its state, and answers all the time.
    let homes = async || {
        let mut moved = Vec::new();
        for n in 16..64 {
            assert_eq!(clinger(n).add(0).await, Ok(n), "p{n}");
            if clinger(n).node().await.as_deref() == Ok("newcomer") {
                moved.push(n);
            }
        }
        moved
    };
    eventually("a shard has moved", homes, |moved| !moved.is_empty()).await;
    let moved = homes().await;
    assert!((16..32).any(|n| moved.contains(&n)), "{moved:?}");
    assert!((32..48).any(|n| moved.contains(&n)), "{moved:?}");
    let mut told = 0;
    for (n, (waiting, queued)) in (0..).zip(waiting.into_iter().zip(queued)) {
        if !waiting.is_finished() {
            waiting.abort();
            queued.abort();
            continue;
        }
        told += 1;
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.maybe_handled(), "p{n}: {error}");
        let error = soon("its neighbour in the mailbox", queued).await.unwrap();
        assert!(!error.unwrap_err().maybe_handled(), "p{n}");
        // The state in which its handler left it is not to be trusted.
        assert_eq!(clinger(n).add(1).await, Ok(1), "p{n} begins afresh");
    }
    assert!(told > 0, "none of those that waited lived in that shard");
    nodes.push(newcomer);
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_told_when_a_shutdown_runs_out_of_time() {
    let settings = Settings {
        shutdown_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let alone = ActorSystem::builder("test").settings(settings.clone());
    let alone = alone.start_local().unwrap();
    let member = node("member").settings(settings).start().await.unwrap();
    soon("it founds", member.wait_for(1)).await.unwrap();
    for system in [alone, member] {
        let before = BEGUN[1].load(Ordering::Relaxed);
        let (clinger, sleeper) = (system.entity::<Clinger>("p"), system.spawn(Sleeper));
        let asking = [
            tokio::spawn(clinger.wait(1).timeout(LONG).into_future()),
            tokio::spawn(sleeper.sleep(1).timeout(LONG).into_future()),
        ];
        let begun = async || BEGUN[1].load(Ordering::Relaxed);
        eventually("they wait", begun, |begun| *begun >= before + 2).await;
        let mut second = clinger.cling().timeout(LONG).into_future();
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut third = sleeper.turn_over().timeout(LONG).into_future();
        assert!(futures_util::poll!(&mut third).is_pending());
        let error = soon("shutdown", system.shutdown()).await.unwrap_err();
        assert!(matches!(error, ShutdownError::Timeout { .. }), "{error}");
        for asking in asking {
            let error = soon("it is told", asking).await.unwrap().unwrap_err();
            assert!(error.maybe_handled(), "{error}");
        }
        let not_handled = [
            soon("it is told", second).await,
            soon("it is told", third).await,
        ];
        for error in not_handled.map(Result::unwrap_err) {
            assert!(!error.maybe_handled(), "{error}");
        }
    }
}

/// Stops, or lets its children stop it.
pub(crate) struct Boss;

#[actor]
impl Boss {
    #[message]
    async fn resign(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.myself().stop().await;
        7
    }

    #[message]
    async fn ask_to_resign(&mut self, ctx: &mut Context<Self>) -> u32 {
        let rebel = ctx.spawn(Rebel);
        rebel.overthrow(ctx.myself()).await.unwrap()
    }

    #[message]
    fn hire(&mut self, ctx: &mut Context<Self>) -> RebelRef {
        ctx.spawn(Rebel)
    }
}

pub(crate) struct Rebel;

#[actor]
impl Rebel {
    #[message]
    async fn overthrow(&mut self, boss: BossRef) -> u32 {
        boss.stop().await;
        8
    }
}

/// Otherwise each of them would wait for ever, for its own end.
#[tokio::test]
async fn stopping_oneself_or_a_parent_in_a_handler_does_not_wait_for_the_end() {
    resign_and_overthrow(ActorSystem::local("app")).await;
}

#[test]
fn nor_does_it_where_messages_go_through_the_codec() {
    testkit::paused(resign_and_overthrow);
}

async fn resign_and_overthrow(system: ActorSystem) {
    let boss = system.spawn(Boss);
    assert_eq!(soon("it resigns", boss.resign()).await, Ok(7));
    soon("it ends", boss.stop()).await;
    let boss = system.spawn(Boss);
    let rebel = boss.hire().await.unwrap();
    let overthrown = rebel.overthrow(boss.clone());
    assert_eq!(soon("the child returns", overthrown).await, Ok(8));
    soon("the parent ends", boss.stop()).await;
    let boss = system.spawn(Boss);
    let asked = boss.ask_to_resign();
    assert_eq!(soon("the parent that asks returns", asked).await, Ok(8));
    soon("it ends", boss.stop()).await;
    soon("shutdown", system.shutdown()).await.unwrap();
}
