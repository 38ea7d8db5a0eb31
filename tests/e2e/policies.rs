//! Full mailboxes.

use std::sync::Arc;

use casty::{
    event::DeadLetterReason,
    prelude::*,
    testkit::{self, DeadLetters},
};
use tokio::sync::Semaphore;

use crate::support::{eventually, soon};

macro_rules! narrow {
    ($name:ident, $overflow:ident) => {
        /// Has room for two messages beside the one in its handler, which waits for the test.
        struct $name {
            open: Arc<Semaphore>,
            seen: Vec<u32>,
        }

        #[actor(mailbox = 2, overflow = $overflow)]
        impl $name {
            #[message]
            async fn pass(&mut self, number: u32) -> Vec<u32> {
                if let Ok(permit) = self.open.acquire().await {
                    permit.forget();
                }
                self.seen.push(number);
                self.seen.clone()
            }
        }
    };
}

narrow!(Waiting, wait);
narrow!(Rejecting, reject);
narrow!(DroppingNewest, drop_newest);
narrow!(DroppingOldest, drop_oldest);

macro_rules! full {
    ($name:ident, $system:expr) => {{
        let open = Arc::new(Semaphore::new(0));
        let actor = $system.spawn($name {
            open: open.clone(),
            seen: Vec::new(),
        });
        // The handler takes it before the next messages are queued.
        actor.pass(1).tell().await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        actor.pass(2).tell().await.unwrap();
        actor.pass(3).tell().await.unwrap();
        (actor, open)
    }};
}

#[test]
fn wait_waits() {
    testkit::paused(|system| async move {
        let (actor, open) = full!(Waiting, system);
        assert!(matches!(
            actor.pass(4).try_tell(),
            Err(TellError::Full(WaitingMsg::Pass { number: 4 }))
        ));
        let waiting = tokio::spawn(actor.pass(4).tell());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(!waiting.is_finished());
        open.add_permits(5);
        waiting.await.unwrap().unwrap();
        assert_eq!(actor.pass(5).await, Ok(vec![1, 2, 3, 4, 5]));
    });
}

#[test]
fn reject_gives_it_back_at_once() {
    testkit::paused(|system| async move {
        let (actor, open) = full!(Rejecting, system);
        let begun = tokio::time::Instant::now();
        assert!(matches!(
            actor.pass(4).tell().await,
            Err(TellError::Full(RejectingMsg::Pass { number: 4 }))
        ));
        assert_eq!(actor.pass(4).await, Err(AskError::Full));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        open.add_permits(4);
        eventually(
            "there is room again",
            || actor.pass(5).into_future(),
            |seen| *seen == Ok(vec![1, 2, 3, 5]),
        )
        .await;
    });
}

#[test]
fn drop_newest_makes_the_newcomer_a_dead_letter() {
    testkit::paused(|system| async move {
        let (actor, open) = full!(DroppingNewest, system);
        let mut letters = DeadLetters::of(&system);
        actor.pass(4).tell().await.unwrap();
        let letter = letters.expect(|_| true).await;
        assert_eq!(
            (letter.message.as_str(), letter.reason),
            ("pass", DeadLetterReason::Full)
        );
        // The asker gets an error, so the message is no dead letter.
        assert_eq!(actor.pass(4).await, Err(AskError::Full));
        letters.expect_no(Duration::from_secs(1)).await;
        open.add_permits(4);
        eventually(
            "there is room again",
            || actor.pass(5).into_future(),
            |seen| *seen == Ok(vec![1, 2, 3, 5]),
        )
        .await;
    });
}

#[test]
fn drop_oldest_makes_room_for_the_newcomer() {
    testkit::paused(|system| async move {
        let (actor, open) = full!(DroppingOldest, system);
        let mut letters = DeadLetters::of(&system);
        actor.pass(4).tell().await.unwrap();
        letters.expect(|letter| letter.message == "pass").await;
        open.add_permits(4);
        assert_eq!(actor.pass(5).await, Ok(vec![1, 4, 5]));
        assert_eq!(system.dead_letters(), 2);
    });
}

/// Takes its time with each message.
#[derive(Default)]
struct Busy {
    handled: u32,
    ended_after: Option<u32>,
}

#[actor]
impl Busy {
    #[message]
    fn hire(&mut self, ctx: &mut Context<Self>) -> IdleRef {
        let child = ctx.spawn(Idle);
        ctx.watch(&child);
        child
    }

    #[message]
    async fn work(&mut self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.handled += 1;
    }

    #[on_terminated]
    fn ended(&mut self, _who: Terminated) {
        self.ended_after = Some(self.handled);
    }

    #[message]
    fn ended_after(&self) -> Option<u32> {
        self.ended_after
    }
}

#[derive(Default)]
struct Idle;

#[actor]
impl Idle {
    #[message]
    fn quit(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[test]
fn system_messages_do_not_queue_behind_user_messages() {
    testkit::paused(|system| async move {
        let busy = system.spawn(Busy::default());
        let child = busy.hire().await.unwrap();
        for _ in 0..500 {
            busy.work().tell().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        child.quit().await.unwrap();
        let after = busy.ended_after().timeout(Duration::from_mins(1)).await;
        let after = after.unwrap().expect("it heard of the end");
        assert!(after <= 5, "only after {after} messages");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejecting_actor_rejects_from_another_node_too() {
    let nodes = crate::support::cluster(2).await;
    let open = Arc::new(Semaphore::new(0));
    let actor = nodes[0].spawn(Rejecting {
        open: open.clone(),
        seen: Vec::new(),
    });
    let relay = nodes[1].entity::<Knocker>("k");
    let full = soon("the asks", relay.knock(actor, 10)).await.unwrap();
    open.add_permits(10);
    // One message is handled and two wait; all others are rejected.
    assert!((7..=8).contains(&full), "{full}");
    crate::support::shutdown(nodes).await;
}

/// Sends many asks at once.
#[derive(Default)]
struct Knocker;

#[entity(shards = 1)]
impl Knocker {
    #[message]
    async fn knock(&self, at: RejectingRef, times: u32) -> u32 {
        let asks = (0..times).map(|n| at.pass(n).timeout(Duration::from_millis(500)).into_future());
        let answers = futures_util::future::join_all(asks).await;
        let full = answers
            .iter()
            .filter(|answer| **answer == Err(AskError::Full));
        full.count() as u32
    }
}
