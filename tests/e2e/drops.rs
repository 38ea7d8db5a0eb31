//! Values of users that panic when they are dropped: an actor goes on, or ends, and whoever waits
//! hears of it.

use casty::{
    SystemBuilder,
    prelude::*,
    testkit::{self, Probe},
};

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
    fn take(&mut self, bomb: Bomb) {
        std::mem::forget(bomb);
    }
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
    testkit::paused_with(LOCAL, |system| async move {
        let sapper = system.entity::<Sapper>("s");
        assert_eq!(sapper.count().await, Ok(1));
        sapper.assemble().tell().await.unwrap();
        let (first, second) =
            tokio::join!(sapper.count().into_future(), sapper.count().into_future());
        assert_eq!((first, second), (Ok(1), Ok(2)));
    });
}

#[test]
fn an_actor_ends_with_a_panic_outside_of_its_handlers_and_its_watchers_are_told() {
    testkit::paused_with(LOCAL, |system| async move {
        let miner = system.spawn(Miner);
        let mut probe = Probe::<Miner>::new(&system);
        probe.watch(&miner);
        miner.assemble().tell().await.unwrap();
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
