//! State machines, as their callers see them.

mod machines;
mod model;

use casty::{behavior::Otherwise, event::DeadLetterReason, prelude::*, testkit};
use futures_util::FutureExt;

use self::machines::{
    Cart, CartRef, Desk, DeskMsg, Diary, Lamp, NotInCart, Turnstile, TurnstileRef, Valve, ValveRef,
    lamp::Off, turnstile::Locked,
};
use crate::support::{cluster, shutdown};

fn unhandled(state: &str, message: &str) -> AskError {
    AskError::Unhandled {
        state: state.to_owned(),
        message: message.to_owned(),
    }
}

fn a_cart(system: &ActorSystem) -> CartRef {
    system.entity::<Cart>("c-1")
}

fn a_turnstile(system: &ActorSystem) -> (TurnstileRef, Diary) {
    let diary = Diary::default();
    let kept = diary.clone();
    let made = move || {
        Turnstile::from(Locked {
            diary: kept.clone(),
            coins: 0,
        })
    };
    (system.spawn_with(made), diary)
}

fn lines(diary: &Diary) -> Vec<&'static str> {
    diary.lock().unwrap().clone()
}

#[test]
fn a_cart_is_filled_and_checked_out() {
    testkit::paused(|system| async move {
        let cart = a_cart(&system);
        assert_eq!(cart.total().await, Ok(0));
        cart.add(30).await.unwrap();
        cart.add(12).await.unwrap();
        assert_eq!(cart.total().await, Ok(42));
        assert_eq!(cart.checkout().await, Ok(42));
        assert_eq!(cart.total().await, Ok(42));
    });
}

#[test]
fn reject_tells_askers_and_makes_dead_letters_of_what_was_told() {
    testkit::paused(|system| async move {
        let (cart, mut letters) = (a_cart(&system), testkit::DeadLetters::of(&system));
        assert_eq!(cart.checkout().await, Err(unhandled("Empty", "checkout")));
        cart.checkout().tell().await.unwrap();
        let letter = letters.expect(|letter| letter.message == "checkout").await;
        let unhandled = DeadLetterReason::Unhandled {
            state: "Empty".to_owned(),
            message: "checkout".to_owned(),
        };
        assert_eq!(letter.reason, unhandled);
    });
}

#[test]
fn an_argument_that_one_state_does_not_use_is_the_same_field_with_an_underscore() {
    testkit::paused(|system| async move {
        let desk = system.entity::<Desk>("d");
        let rate = |why: &str| DeskMsg::Rate {
            stars: 3,
            why: why.to_owned(),
        };
        let DeskMsg::Rate { stars: 3, why } = rate("it is closed") else {
            panic!("another message");
        };
        assert_eq!(desk.rate(3, why.clone()).await, Ok(why));
        desk.begin().await.unwrap();
        assert_eq!(desk.rate(3, String::new()).await, Ok("3".to_owned()));
    });
}

#[test]
fn what_a_state_says_of_internal_messages_leaves_those_of_others_as_they_are() {
    testkit::paused(|system| async move {
        let (desk, mut letters) = (
            system.entity::<Desk>("d"),
            testkit::DeadLetters::of(&system),
        );
        desk.begin().await.unwrap();
        assert_eq!(desk.cancel().await, Ok(()));
        // The result of the work that `begin` began comes, and nobody hears of it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(desk.results().await, Err(unhandled("Idle", "results")));
        desk.results().tell().await.unwrap();
        let letter = letters.expect(|_| true).await;
        assert_eq!(letter.message, "results");
        desk.begin().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(desk.results().await, Ok(1));
        assert_eq!(system.dead_letters(), 1);
        let idle = Desk::behavior().states[0];
        assert_eq!(idle.otherwise, Some(Otherwise::Reject));
        assert_eq!(idle.internal, Some(Otherwise::Ignore));
    });
}

#[test]
fn ignore_tells_askers_only() {
    testkit::paused(|system| async move {
        let (cart, mut letters) = (a_cart(&system), testkit::DeadLetters::of(&system));
        cart.add(1).await.unwrap();
        cart.checkout().await.unwrap();
        cart.add(2).tell().await.unwrap();
        assert_eq!(cart.add(2).await, Err(unhandled("CheckedOut", "add")));
        assert_eq!(letters.drain(), []);
        assert_eq!(system.dead_letters(), 0);
    });
}

#[test]
fn a_failed_transition_stays_with_the_state_it_had() {
    testkit::paused(|system| async move {
        let cart = a_cart(&system);
        cart.add(5).await.unwrap();
        assert_eq!(cart.remove(6).await, Err(AskError::Entity(NotInCart(6))));
        assert_eq!(cart.total().await, Ok(5));
    });
}

#[test]
fn one_of_several_states_is_next() {
    testkit::paused(|system| async move {
        let cart = a_cart(&system);
        cart.add(5).await.unwrap();
        cart.add(7).await.unwrap();
        assert_eq!(cart.remove(5).await, Ok(1));
        assert_eq!(cart.total().await, Ok(7), "still active");
        assert_eq!(cart.remove(7).await, Ok(0));
        assert_eq!(cart.checkout().await, Err(unhandled("Empty", "checkout")));
    });
}

#[test]
fn stop_ends_an_entity_and_the_next_message_starts_afresh() {
    testkit::paused(|system| async move {
        let cart = a_cart(&system);
        cart.add(5).await.unwrap();
        cart.checkout().await.unwrap();
        let (closed, added, total) = tokio::join!(
            cart.close().into_future(),
            cart.add(1).into_future(),
            cart.total().into_future()
        );
        assert_eq!((closed, added, total), (Ok(()), Ok(()), Ok(1)));
    });
}

#[test]
fn a_panic_with_the_state_in_hand_is_told_and_the_state_is_lost() {
    testkit::paused(|system| async move {
        let cart = a_cart(&system);
        cart.add(5).await.unwrap();
        let told = cart.drop_it("slippery".to_owned()).await;
        assert_eq!(
            told,
            Err(AskError::Panicked {
                message: "slippery".to_owned()
            })
        );
        assert_eq!(cart.total().await, Ok(0));
    });
}

async fn passes(
    valve: &ValveRef,
    numbers: std::ops::Range<u32>,
) -> Vec<casty::call::Ask<Valve, u32>> {
    let mut asks = Vec::new();
    for number in numbers {
        let mut ask = valve.pass(number).into_future();
        assert_eq!((&mut ask).now_or_never(), None);
        asks.push(ask);
    }
    // The answer shows that all earlier messages have been handled.
    valve.passed().await.unwrap();
    asks
}

#[test]
fn stashed_messages_keep_their_order_until_the_next_transition() {
    testkit::paused(|system| async move {
        let valve = system.entity::<Valve>("v-1");
        let asks = passes(&valve, 1..4).await;
        assert_eq!(valve.passed().await, Ok(vec![]));
        valve.open().await.unwrap();
        assert_eq!(valve.pass(9).await, Ok(4));
        for (ask, position) in asks.into_iter().zip(1..) {
            assert_eq!(ask.await, Ok(position));
        }
        assert_eq!(valve.passed().await, Ok(vec![1, 2, 3, 9]));
    });
}

#[test]
fn one_more_than_the_stash_holds_fails_as_full() {
    testkit::paused(|system| async move {
        let valve = system.entity::<Valve>("v-1");
        let asks = passes(&valve, 1..4).await;
        assert_eq!(valve.pass(4).await, Err(AskError::Full));
        valve.open().await.unwrap();
        for ask in asks {
            ask.await.unwrap();
        }
        assert_eq!(valve.passed().await, Ok(vec![1, 2, 3]));
    });
}

#[test]
fn what_a_stashed_transition_leaves_is_stashed_again() {
    testkit::paused(|system| async move {
        let valve = system.entity::<Valve>("v-1");
        let mut asks = passes(&valve, 1..2).await;
        let shut = valve.shut().into_future();
        let mut shut = std::pin::pin!(shut);
        assert_eq!((&mut shut).now_or_never(), None);
        asks.extend(passes(&valve, 2..3).await);
        valve.open().await.unwrap();
        shut.await.unwrap();
        assert_eq!(valve.passed().await, Ok(vec![1]));
        valve.open().await.unwrap();
        assert_eq!(valve.passed().await, Ok(vec![1, 2]));
        for ask in asks {
            ask.await.unwrap();
        }
    });
}

#[test]
fn an_actor_goes_from_state_to_state() {
    testkit::paused(|system| async move {
        let (turnstile, diary) = a_turnstile(&system);
        assert_eq!(turnstile.pass().await, Err(unhandled("Locked", "pass")));
        turnstile.insert().await.unwrap();
        assert_eq!(
            turnstile.insert().await,
            Err(unhandled("Unlocked", "insert"))
        );
        assert_eq!(turnstile.pass().await, Ok(1));
        turnstile.insert().await.unwrap();
        assert_eq!(turnstile.coins().await, Ok(2));
        turnstile.retire().await.unwrap();
        turnstile.stop().await;
        assert_eq!(lines(&diary), ["started locked", "stopped unlocked"]);
    });
}

#[test]
fn a_later_reply_comes_when_the_promise_is_kept_or_dropped() {
    testkit::paused(|system| async move {
        let (turnstile, _) = a_turnstile(&system);
        turnstile.insert().await.unwrap();
        let (kept, passed) = tokio::join!(
            turnstile.await_passage().into_future(),
            turnstile.pass().into_future()
        );
        assert_eq!((kept, passed), (Ok(1), Ok(1)));

        turnstile.insert().await.unwrap();
        let (dropped, stopped) = tokio::join!(
            turnstile.await_passage().into_future(),
            turnstile.retire().into_future()
        );
        assert_eq!((dropped, stopped), (Err(AskError::Stopped), Ok(())));
    });
}

#[test]
fn stop_leaves_no_state_to_stop_in() {
    testkit::paused(|system| async move {
        let (turnstile, diary) = a_turnstile(&system);
        turnstile.insert().await.unwrap();
        let stays = turnstile.dismantle().await;
        assert_eq!(stays, Err(AskError::Entity("not worth it".to_owned())));
        turnstile.pass().await.unwrap();
        turnstile.insert().await.unwrap();
        turnstile.dismantle().await.unwrap();
        turnstile.stop().await;
        assert_eq!(turnstile.coins().await, Err(AskError::Stopped));
        assert_eq!(lines(&diary), ["started locked"]);
    });
}

#[test]
fn resume_keeps_a_borrowed_state_and_makes_a_new_one_for_a_taken_state() {
    testkit::paused(|system| async move {
        let (turnstile, diary) = a_turnstile(&system);
        turnstile.insert().await.unwrap();
        assert!(matches!(
            turnstile.jam().await,
            Err(AskError::Panicked { .. })
        ));
        assert_eq!(turnstile.coins().await, Ok(2));
        assert!(matches!(
            turnstile.break_off().await,
            Err(AskError::Panicked { .. })
        ));
        assert_eq!(turnstile.coins().await, Ok(0));
        assert_eq!(
            lines(&diary),
            [
                "started locked",
                "restarted unlocked",
                "started locked",
                "restarted locked"
            ]
        );
    });
}

#[test]
fn an_internal_message_leads_from_state_to_state() {
    testkit::paused(|system| async move {
        let lamp = system.spawn(Lamp::from(Off));
        assert_eq!(lamp.is_on().await, Ok(false));
        lamp.switch_on(2).await.unwrap();
        for (seconds, is_on) in [(9, true), (10, true), (2, false)] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            assert_eq!(lamp.is_on().await, Ok(is_on), "after {seconds} more");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_the_same_from_every_node() {
    let nodes = cluster(2).await;
    // Of ten carts, some live on each node.
    for number in 0..10 {
        let id = format!("c-{number}");
        let carts = [&nodes[0], &nodes[1]].map(|node| node.entity::<Cart>(&id));
        carts[0].add(number + 1).await.unwrap();
        for cart in &carts {
            assert_eq!(cart.remove(99).await, Err(AskError::Entity(NotInCart(99))));
            assert_eq!(cart.close().await, Err(unhandled("Active", "close")));
        }
        assert_eq!(carts[1].checkout().await, Ok(number + 1));
        assert_eq!(carts[0].total().await, Ok(number + 1));
        carts[0].close().await.unwrap();
        assert_eq!(carts[1].total().await, Ok(0));
    }
    shutdown(nodes).await;
}

#[test]
fn the_table_says_where_handlers_lead() {
    let table = Cart::behavior();
    let names: Vec<_> = table.states.iter().map(|state| state.name).collect();
    assert_eq!(names, ["Empty", "Active", "CheckedOut"]);
    let remove = table.handlers.iter().find(|row| row.message == "remove");
    let remove = remove.expect("it is handled");
    assert_eq!(remove.targets, ["Active", "Empty"]);
    assert_eq!(remove.reply, "Result<u32, NotInCart>");
}
