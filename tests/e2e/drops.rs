//! Values of users that panic when they are dropped: an actor goes on, or ends, and whoever waits
//! hears of it.

use casty::{
    SystemBuilder,
    prelude::*,
    testkit::{self, Probe},
};
use serde::{Deserialize, Serialize, Serializer};

use crate::support::{cluster, node, shutdown, soon};

/// What goes through the codec is dropped by it, and not by the actor or the asker.
const LOCAL: fn(SystemBuilder) -> SystemBuilder = |builder| builder.strict_wire(false);

/// Panics when it is dropped, once it is armed.
#[message]
struct Bomb {
    is_armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(
            !self.is_armed || std::thread::panicking(),
            "a value panics when it is dropped"
        );
    }
}

const ARMED: Bomb = Bomb { is_armed: true };

/// Panics when it is encoded, which happens outside of handlers.
#[derive(Deserialize)]
struct Mute;

impl Serialize for Mute {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a value panics when it is encoded")
    }
}

#[derive(Default)]
struct Sapper {
    handled: u32,
}

#[entity(backoff = "10ms")]
impl Sapper {
    #[message]
    async fn assemble(&mut self) -> Bomb {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ARMED
    }

    #[message]
    fn hush(&mut self) -> Mute {
        Mute
    }

    #[message]
    fn explode(&mut self) {
        std::panic::panic_any(ARMED);
    }

    #[message]
    fn count(&mut self) -> u32 {
        self.handled += 1;
        self.handled
    }
}

struct Miner;

#[actor]
impl Miner {
    #[message]
    async fn dig(&mut self, ctx: &mut Context<Self>) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ctx.stop();
    }

    #[message]
    async fn assemble(&mut self) -> Bomb {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ARMED
    }

    #[message]
    fn hush(&mut self) -> Mute {
        Mute
    }

    #[message]
    fn take(&mut self, bomb: Bomb) {
        std::mem::forget(bomb);
    }
}

/// A state that, once it is spoiled, cannot be encoded, and panics when it is dropped.
#[message]
#[derive(Default)]
struct Heirloom {
    value: u64,
    #[serde(serialize_with = "whole")]
    is_spoiled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn whole<S: Serializer>(is_spoiled: &bool, to: S) -> Result<S::Ok, S::Error> {
    if *is_spoiled {
        return Err(serde::ser::Error::custom("it is spoiled"));
    }
    to.serialize_bool(false)
}

impl Drop for Heirloom {
    fn drop(&mut self) {
        assert!(
            !self.is_spoiled || std::thread::panicking(),
            "a state panics when it is dropped"
        );
    }
}

#[entity(shards = 2, migrate)]
impl Heirloom {
    #[message]
    fn spoil(&mut self) {
        self.is_spoiled = true;
    }

    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }
}

#[tokio::test]
async fn a_node_leaves_although_a_state_that_it_gives_up_panics_when_it_is_dropped() {
    let nodes = cluster(1).await;
    let is_spoiled = |n: u64| n.is_multiple_of(4);
    let heirloom = |system: &ActorSystem, n: u64| system.entity::<Heirloom>(format!("h{n}"));
    for n in 0..32 {
        assert_eq!(heirloom(&nodes[0], n).add(n).await, Ok(n));
        if is_spoiled(n) {
            heirloom(&nodes[0], n).spoil().await.unwrap();
        }
    }
    let seeds = [nodes[0].address()];
    let newcomer = node("newcomer").seeds(seeds).start().await.unwrap();
    newcomer.wait_for(2).await.unwrap();
    assert_eq!(soon("it leaves", nodes[0].shutdown()).await, Ok(()));
    for n in 0..32 {
        let kept = if is_spoiled(n) { 0 } else { n };
        let value = soon("an answer", heirloom(&newcomer, n).add(0)).await;
        assert_eq!(value, Ok(kept), "h{n}");
    }
    shutdown(vec![newcomer]).await;
}

#[test]
fn an_entity_goes_on_after_an_answer_that_panics_when_nobody_waits_for_it_any_more() {
    testkit::paused_with(LOCAL, |system| async move {
        let sapper = system.entity::<Sapper>("s");
        assert_eq!(sapper.count().await, Ok(1));
        let late = sapper.assemble().timeout(Duration::from_millis(10)).await;
        assert!(matches!(late, Err(AskError::Timeout { .. })));
        // Its answer is a casualty, its state is none.
        assert_eq!(sapper.count().await, Ok(2));
    });
}

#[test]
fn an_entity_begins_afresh_after_a_panic_outside_of_its_handlers_and_keeps_its_mailbox() {
    testkit::paused(|system| async move {
        let sapper = system.entity::<Sapper>("s");
        assert_eq!(sapper.count().await, Ok(1));
        let (hushed, first, second) = tokio::join!(
            sapper.hush().into_future(),
            sapper.count().into_future(),
            sapper.count().into_future()
        );
        assert!(hushed.is_err());
        assert_eq!((first, second), (Ok(1), Ok(2)));
    });
}

#[test]
fn an_entity_goes_on_after_a_told_message_whose_reply_panics_when_it_is_dropped() {
    for configure in [LOCAL, |builder| builder] {
        testkit::paused_with(configure, |system| async move {
            let sapper = system.entity::<Sapper>("s");
            assert_eq!(sapper.count().await, Ok(1));
            sapper.assemble().tell().await.unwrap();
            assert_eq!(sapper.count().await, Ok(2), "its state is no casualty");
            let miner = system.spawn(Miner);
            miner.assemble().tell().await.unwrap();
            miner.take(Bomb { is_armed: false }).await.unwrap();
        });
    }
}

#[test]
fn an_entity_goes_on_after_a_reply_that_panics_when_it_was_encoded_and_is_dropped() {
    testkit::paused(|system| async move {
        let sapper = system.entity::<Sapper>("s");
        assert_eq!(sapper.count().await, Ok(1));
        let assembled = sapper.assemble().await.unwrap();
        assert!(assembled.is_armed);
        std::mem::forget(assembled);
        assert_eq!(sapper.count().await, Ok(2));
    });
}

#[test]
fn an_actor_ends_with_a_panic_outside_of_its_handlers_and_its_watchers_are_told() {
    testkit::paused(|system| async move {
        let miner = system.spawn(Miner);
        let mut probe = Probe::<Miner>::new(&system);
        probe.watch(&miner);
        assert!(miner.hush().await.is_err());
        assert!(probe.expect_terminated().await.is(&miner));
        assert_eq!(miner.dig().await, Err(AskError::Stopped));
    });
}

#[test]
fn an_entity_goes_on_after_a_panic_with_a_value_that_panics() {
    testkit::paused_with(LOCAL, |system| async move {
        let sapper = system.entity::<Sapper>("s");
        assert_eq!(sapper.count().await, Ok(1));
        let exploded = sapper.explode().await;
        assert!(matches!(exploded, Err(AskError::Panicked { .. })));
        assert_eq!(sapper.count().await, Ok(1));
        sapper.explode().tell().await.unwrap();
        assert_eq!(sapper.count().await, Ok(1));
    });
}

#[test]
fn a_message_that_panics_at_the_end_of_its_actor_keeps_nothing_from_watchers_and_askers() {
    testkit::paused_with(LOCAL, |system| async move {
        let miner = system.spawn(Miner);
        let mut probe = Probe::<Miner>::new(&system);
        probe.watch(&miner);
        miner.dig().tell().await.unwrap();
        tokio::task::yield_now().await;
        miner.take(ARMED).tell().await.unwrap();
        assert_eq!(miner.dig().await, Err(AskError::Stopped));
        assert!(probe.expect_terminated().await.is(&miner));
    });
}
