//! Sends and reminders that reach their entity in a state without a handler for them.

use std::time::Duration;

use casty::{
    DeadLetter,
    event::DeadLetterReason,
    persistence::Memory,
    prelude::*,
    remind::Remind,
    testkit::{self, DeadLetters},
};

/// A shop whose bell rings while it is open.
#[entity(name = "unhandled/shop", durable, shards = 4, passivate_after = "1m")]
pub(crate) mod shop {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Log {
        refused: Vec<String>,
        rung: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Closed;

    #[state]
    #[message]
    pub(crate) struct Open;

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn remember_to_ring(&mut self, ctx: &mut Context<Shop>) {
            let soon = Remind::after(Duration::from_secs(1));
            ctx.remind("bell", soon, ShopMsg::Ring {});
        }

        #[message]
        fn call_at(&mut self, other: ShopRef, ctx: &mut Context<Shop>) {
            ctx.send(other.ring());
        }

        #[message]
        fn call_at_and_wait(&mut self, other: ShopRef, ctx: &mut Context<Shop>) {
            ctx.send_for(other.ring(), |outcome| ShopMsg::Called { outcome });
        }

        #[message]
        fn called(&mut self, outcome: Outcome<u32>, log: &mut Log) {
            log.refused.push(format!("{:?}", outcome.result()));
        }

        #[message]
        fn log(&self, log: &Log) -> (u32, Vec<String>) {
            (log.rung, log.refused.clone())
        }
    }

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn open(self) -> Open {
            Open
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn ring(&mut self, log: &mut Log) -> u32 {
            log.rung += 1;
            log.rung
        }
    }
}

fn expected(letter: &DeadLetter) -> bool {
    let reason = DeadLetterReason::Unhandled {
        state: "Closed".to_owned(),
        message: "ring".to_owned(),
    };
    letter.message == "ring" && letter.reason == reason
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn in_test_time<F: Future<Output = ()>>(test: impl FnOnce(ActorSystem) -> F) {
    testkit::paused_with(|builder| builder.journal(Memory::new()), test);
}

#[test]
fn a_reminder_that_is_not_handled_is_a_dead_letter_once() {
    in_test_time(|system| async move {
        let mut letters = DeadLetters::of(&system);
        let shop = system.entity::<Shop>("a");
        shop.remember_to_ring().await.unwrap();
        let letter = letters.expect(expected).await;
        assert_eq!(&*letter.to.id, "a");
        seconds(600).await;
        shop.open().await.unwrap();
        seconds(600).await;
        assert_eq!(shop.log().await, Ok((0, vec![])));
        assert_eq!(letters.drain().into_iter().filter(expected).count(), 0);
    });
}

#[test]
fn a_send_that_is_not_handled_is_a_dead_letter_once() {
    in_test_time(|system| async move {
        let mut letters = DeadLetters::of(&system);
        let (here, there) = (
            system.entity::<Shop>("here"),
            system.entity::<Shop>("there"),
        );
        here.call_at(there.clone()).await.unwrap();
        let letter = letters.expect(expected).await;
        assert_eq!(&*letter.to.id, "there");
        there.open().await.unwrap();
        seconds(600).await;
        here.call_at(there.clone()).await.unwrap();
        seconds(600).await;
        assert_eq!(there.log().await, Ok((1, vec![])));
        assert_eq!(letters.drain().into_iter().filter(expected).count(), 0);
    });
}

#[test]
fn a_sender_that_wants_the_outcome_learns_that_it_was_not_handled() {
    in_test_time(|system| async move {
        let mut letters = DeadLetters::of(&system);
        let (here, there) = (
            system.entity::<Shop>("here"),
            system.entity::<Shop>("there"),
        );
        here.call_at_and_wait(there.clone()).await.unwrap();
        seconds(60).await;
        let (_, refused) = here.log().await.unwrap();
        assert!(
            refused[0].contains("state `Closed` has no handler"),
            "{refused:?}"
        );
        assert_eq!(refused.len(), 1);
        assert_eq!(letters.drain().into_iter().filter(expected).count(), 0);
    });
}
