//! What states have in common, and what belongs to each: shared blocks, common data, timers,
//! guards, entry and exit.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "tests send what a closure names"
)]

use casty::{prelude::*, testkit};

/// What a bid was refused for.
#[message]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BidError {
    TooLow { least: u64 },
    Closed,
}

impl std::fmt::Display for BidError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

const OPEN: Duration = Duration::from_secs(30);

#[entity(
    name = "states/auction",
    shards = 4,
    backoff = "0s",
    max_restarts = 100
)]
#[states(Live = Open, Extended)]
#[states(Over = Sold, Unsold)]
pub(crate) mod auction {
    use super::*;

    /// What is sold, and for how much.
    #[state(common, survives)]
    #[derive(Default)]
    pub(crate) struct Lot {
        bids: Vec<u64>,
        log: Vec<String>,
    }

    impl Lot {
        fn best(&self) -> u64 {
            self.bids.last().copied().unwrap_or_default()
        }
    }

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Draft;

    #[state]
    pub(crate) struct Open;

    #[state]
    pub(crate) struct Extended {
        times: u32,
    }

    #[state]
    pub(crate) struct Sold;

    #[state]
    pub(crate) struct Unsold;

    type End = OneOf<Sold, Unsold>;

    fn end(lot: &Lot) -> End {
        if lot.bids.is_empty() {
            Unsold.into()
        } else {
            Sold.into()
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        #[message]
        fn best(&self, lot: &Lot) -> u64 {
            lot.best()
        }

        #[message]
        fn log(&self, lot: &Lot) -> Vec<String> {
            lot.log.clone()
        }

        #[message]
        fn fail(&self) {
            panic!("as asked");
        }
    }

    #[behavior]
    impl Draft {
        #[message]
        fn open(self) -> Open {
            Open
        }
    }

    #[behavior(of(Live))]
    impl _ {
        fn may_bid(&self, cents: &u64, lot: &Lot) -> Result<(), BidError> {
            if *cents > lot.best() {
                return Ok(());
            }
            Err(BidError::TooLow {
                least: lot.best() + 1,
            })
        }

        #[on_exit]
        fn left(lot: &mut Lot) {
            lot.log.push(format!("{} left", Self::NAME));
        }

        #[message]
        fn withdraw(self) -> OneOf<Unsold, Draft, Stop> {
            Draft.into()
        }
    }

    #[behavior]
    impl Open {
        #[on_enter]
        async fn entered(&mut self, lot: &mut Lot, ctx: &mut Context<Auction>) {
            tokio::task::yield_now().await;
            lot.log.push(format!("{} opens", ctx.entity_id()));
        }

        #[message(guard = may_bid)]
        fn bid(self, cents: u64, lot: &mut Lot) -> (Extended, u64) {
            lot.bids.push(cents);
            (Extended { times: 1 }, cents)
        }

        #[message(internal, after = "30s")]
        fn hammer(self, lot: &mut Lot) -> End {
            end(lot)
        }
    }

    #[behavior]
    impl Extended {
        fn left_to_bid(&self, lot: &Lot) -> Duration {
            assert!(!lot.bids.is_empty());
            OPEN / self.times
        }

        #[message(guard = may_bid)]
        fn bid(&mut self, cents: u64, lot: &mut Lot) -> u64 {
            lot.bids.push(cents);
            cents
        }

        #[message]
        fn again(self) -> Result<(Extended, u32), Stay<Self, BidError>> {
            let closed = |times: u32| {
                if times < 3 {
                    Ok(times + 1)
                } else {
                    Err(BidError::Closed)
                }
            };
            let (_, times) = self.or_stay(|me| closed(me.times))?;
            Ok((Extended { times }, times))
        }

        #[message(internal, after = Self::left_to_bid)]
        fn hammer(self, lot: &mut Lot) -> OneOf<Unsold, Sold, Draft> {
            end(lot).widen()
        }

        #[message(internal, every = "4s")]
        fn call(&mut self, lot: &mut Lot) {
            lot.log.push("going".to_owned());
        }
    }

    #[behavior(of(Over))]
    impl _ {}

    #[behavior(otherwise = reject, stash(open), ignore(withdraw))]
    impl Sold {
        #[message]
        fn again(self) -> Result<(Extended, u32), Stay<Self, BidError>> {
            Err(Stay(self, BidError::Closed))
        }
    }
}

#[test]
fn common_data_is_lent_to_the_handlers_of_every_state() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("common");
        assert_eq!(auction.best().await, Ok(0));
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        assert_eq!(auction.best().await, Ok(5));
        assert_eq!(auction.bid(7).await, Ok(7));
        assert_eq!(auction.best().await, Ok(7));
    });
}

#[test]
fn a_guard_answers_in_place_of_the_handler() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("guard");
        let refused = |least| Err(AskError::Entity(BidError::TooLow { least }));
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(0).await, refused(1));
        assert_eq!(auction.bid(5).await, Ok(5));
        assert_eq!(auction.bid(5).await, refused(6));
    });
}

#[test]
fn a_transition_that_may_fail_stays_by_or_stay() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("or_stay");
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        assert_eq!(auction.again().await, Ok(2));
        assert_eq!(auction.again().await, Ok(3));
        let closed = Err(AskError::Entity(BidError::Closed));
        assert_eq!(auction.again().await, closed);
        assert_eq!(auction.bid(6).await, Ok(6));
    });
}

#[test]
fn the_timer_of_a_state_comes_unless_the_state_is_left_before() {
    testkit::paused(|system| async move {
        let second = Duration::from_secs(1);
        let auction = system.entity::<Auction>("after");
        assert_eq!(auction.open().await, Ok(()));
        tokio::time::sleep(second * 29).await;
        // A second before its end, the state is left, and entered anew.
        assert_eq!(auction.withdraw().await, Ok(()));
        assert_eq!(auction.open().await, Ok(()));
        tokio::time::sleep(second * 2).await;
        assert_eq!(auction.bid(5).await, Ok(5));
        // It is sold half a minute after the first bid, and not after the one that follows.
        tokio::time::sleep(second * 29).await;
        assert_eq!(auction.bid(6).await, Ok(6));
        tokio::time::sleep(second * 2).await;
        let over = auction.bid(7).await;
        assert!(
            matches!(over, Err(AskError::Unhandled { ref state, .. }) if state == "Sold"),
            "{over:?}"
        );
    });
}

#[test]
fn a_transition_to_the_same_state_begins_its_timers_anew() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("anew");
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        tokio::time::sleep(OPEN * 2 / 3).await;
        // The second time it is half as long.
        assert_eq!(auction.again().await, Ok(2));
        tokio::time::sleep(OPEN / 3).await;
        assert_eq!(auction.bid(6).await, Ok(6));
        tokio::time::sleep(OPEN / 3).await;
        assert!(auction.bid(7).await.is_err());
    });
}

#[test]
fn a_timer_that_repeats_ends_with_its_state() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("every");
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        tokio::time::sleep(OPEN * 10).await;
        let log = auction.log().await.unwrap();
        let going = log.iter().filter(|line| *line == "going").count();
        assert_eq!(going, 7, "{log:?}");
    });
}

#[test]
fn entry_and_exit_run_at_transitions_and_not_where_the_state_stays() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("entry");
        assert_eq!(auction.open().await, Ok(()));
        assert!(auction.bid(0).await.is_err());
        assert_eq!(auction.bid(5).await, Ok(5));
        assert_eq!(auction.withdraw().await, Ok(()));
        assert_eq!(auction.open().await, Ok(()));
        let log = auction.log().await.unwrap();
        assert_eq!(
            log,
            ["entry opens", "Open left", "Extended left", "entry opens"]
        );
    });
}

#[test]
fn common_data_survives_a_handler_that_panics_where_the_type_says_so() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("survives");
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        assert!(auction.fail().await.is_err());
        assert_eq!(auction.best().await, Ok(5));
        // The state is the first one again.
        assert_eq!(auction.open().await, Ok(()));
    });
}

#[entity(
    name = "states/candle",
    shards = 4,
    backoff = "10s",
    max_restarts = 100
)]
mod candle {
    /// How often it has burnt down.
    #[state(common, survives)]
    #[derive(Default)]
    pub(crate) struct Ashes {
        times: u32,
    }

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Lit;

    #[state]
    pub(crate) struct Burnt;

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn times(&self, ashes: &Ashes) -> u32 {
            ashes.times
        }

        #[message]
        fn fail(&self) {
            panic!("as asked");
        }
    }

    #[behavior]
    impl Lit {
        #[message(internal, after = "30s")]
        fn burn(self, ashes: &mut Ashes) -> Burnt {
            ashes.times += 1;
            Burnt
        }
    }

    #[behavior]
    impl Burnt {}
}

#[test]
fn a_timer_of_the_first_state_is_armed_again_when_the_entity_starts_again() {
    testkit::paused(|system| async move {
        let second = Duration::from_secs(1);
        let candle = system.entity::<Candle>("again");
        assert_eq!(candle.times().await, Ok(0));
        tokio::time::sleep(second * 20).await;
        assert!(candle.fail().await.is_err());
        // It starts again at once, and so does its timer.
        tokio::time::sleep(second * 29).await;
        assert_eq!(candle.times().await, Ok(0));
        tokio::time::sleep(second * 2).await;
        assert_eq!(candle.times().await, Ok(1));
        // Burnt, it begins anew with the first state, and so does the timer.
        assert!(candle.fail().await.is_err());
        tokio::time::sleep(second * 29).await;
        assert_eq!(candle.times().await, Ok(1));
        // The second restart came after up to ten seconds.
        tokio::time::sleep(second * 12).await;
        assert_eq!(candle.times().await, Ok(2));
    });
}

#[test]
fn a_message_may_have_a_policy_of_its_own() {
    testkit::paused(|system| async move {
        let auction = system.entity::<Auction>("policy");
        let mut letters = testkit::DeadLetters::of(&system);
        assert_eq!(auction.open().await, Ok(()));
        assert_eq!(auction.bid(5).await, Ok(5));
        tokio::time::sleep(OPEN * 2).await;
        // It is sold.
        auction.withdraw().tell().await.unwrap();
        auction.bid(7).tell().await.unwrap();
        letters.expect(|letter| letter.message == "bid").await;
        assert_eq!(letters.drain(), []);
        let opened = auction.open().timeout(Duration::from_secs(1)).await;
        assert!(
            matches!(opened, Err(AskError::Timeout { .. })),
            "{opened:?}"
        );
    });
}

#[test]
fn groups_timers_and_guards_are_in_the_table() {
    let table = Auction::behavior();
    let groups: Vec<_> = table
        .groups
        .iter()
        .map(|group| (group.name, group.states))
        .collect();
    assert_eq!(
        groups,
        [
            ("Live", &["Open", "Extended"][..]),
            ("Over", &["Sold", "Unsold"][..])
        ]
    );
    let row = |state: &str, message: &str| {
        let mut rows = table.handlers.iter();
        *rows
            .find(|row| row.state == state && row.message == message)
            .unwrap()
    };
    assert_eq!(row("Open", "hammer").timer, Some("after 30s"));
    assert_eq!(row("Extended", "hammer").timer, Some("after left_to_bid"));
    assert_eq!(row("Extended", "call").timer, Some("every 4s"));
    assert!(row("Open", "hammer").internal);
    assert_eq!(row("Open", "bid").guard, Some("may_bid"));
    assert_eq!(row("Unsold", "best").targets, [""; 0]);
}

#[test]
fn a_machine_is_tested_as_a_plain_value() {
    let second = Duration::from_secs(1);
    let mut auction = testkit::Machine::<Auction>::new();
    assert_eq!(auction.state(), "Draft");
    assert_eq!(auction.timers(), []);
    assert_eq!(auction.send(|auction| auction.open()), Ok(()));
    assert_eq!(auction.timers(), [("hammer", OPEN)]);
    auction.advance(second * 25);
    assert_eq!(auction.timers(), [("hammer", second * 5)]);
    assert_eq!(auction.send(|auction| auction.bid(3)), Ok(3));
    assert_eq!(auction.state(), "Extended");
    assert_eq!(auction.timers(), [("hammer", OPEN), ("call", second * 4)]);
    auction.tell(AuctionMsg::Hammer {});
    assert_eq!(auction.state(), "Sold");
    assert_eq!(auction.timers(), []);
    // Where the type can make its first state, a failure does not end it.
    assert!(auction.send(|auction| auction.fail()).is_err());
    assert_eq!(auction.state(), "Draft");
    assert_eq!(auction.send(|auction| auction.best()), Ok(3));
}

#[test]
fn a_machine_that_stops_has_ended() {
    let mut turnstile = testkit::Machine::of(Turnstile::from(turnstile::Locked));
    assert_eq!(turnstile.send(|it| it.coin()), Ok(()));
    assert_eq!(turnstile.state(), "Unlocked");
    assert!(!turnstile.has_ended());
    assert_eq!(turnstile.send(|it| it.remove()), Ok(()));
    assert!(turnstile.has_ended());
}

#[actor]
mod turnstile {
    use super::*;

    #[state(initial)]
    pub(crate) struct Locked;

    #[state]
    pub(crate) struct Unlocked;

    #[behavior]
    impl Locked {
        #[message]
        fn coin(self) -> Unlocked {
            Unlocked
        }
    }

    #[behavior]
    impl Unlocked {
        #[message]
        fn coin(&self) {}
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn remove(self) -> Stop {
            Stop
        }
    }
}

#[test]
fn transitions_are_events_and_the_states_name_can_be_asked() {
    testkit::paused(|system| async move {
        let mut events = system.events();
        let turnstile = system.spawn(Turnstile::from(turnstile::Locked));
        assert_eq!(turnstile.state_name().await.as_deref(), Ok("Locked"));
        assert_eq!(turnstile.coin().await, Ok(()));
        assert_eq!(turnstile.state_name().await.as_deref(), Ok("Unlocked"));
        let (from, to, message) = loop {
            if let Some(Event::Transition {
                from, to, message, ..
            }) = events.next().await
            {
                break (from, to, message);
            }
        };
        assert_eq!((from, to, message), ("Locked", "Unlocked", "coin"));
    });
}

/// Something that may fail.
pub(crate) trait Backend: Send + 'static {
    const NAME: &str;

    fn call() -> Result<u32, String>;
}

#[entity(name = "states/breaker", generic(B: Backend), id = u32)]
pub(crate) mod breaker {
    use std::marker::PhantomData;

    use super::*;

    #[state(common)]
    #[derive(Default)]
    pub(crate) struct Calls(u32);

    #[state(initial)]
    pub(crate) struct Closed<B> {
        failures: u32,
        backend: PhantomData<fn() -> B>,
    }

    #[state]
    pub(crate) struct Tripped<B>(PhantomData<fn() -> B>);

    type Next<B> = OneOf<Closed<B>, Tripped<B>>;

    impl<B> Default for Closed<B> {
        fn default() -> Self {
            Self {
                failures: 0,
                backend: PhantomData,
            }
        }
    }

    #[behavior]
    impl<B: Backend> Closed<B> {
        #[message]
        fn call(self, calls: &mut Calls) -> (Next<B>, Result<u32, String>) {
            calls.0 += 1;
            let called = B::call();
            let failures = self.failures + u32::from(called.is_err());
            if failures == 2 {
                return (Tripped(PhantomData).into(), called);
            }
            (Closed { failures, ..self }.into(), called)
        }
    }

    #[behavior]
    impl<B: Backend> Tripped<B> {
        #[message]
        fn call(&self) -> Result<u32, String> {
            Err("tripped".to_owned())
        }

        #[message(internal, after = "10s")]
        fn reset(self) -> Closed<B> {
            Closed::default()
        }
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn calls(&self, calls: &Calls, ctx: &mut Context<Breaker<B>>) -> (u32, u32) {
            (ctx.entity_id(), calls.0)
        }
    }
}

pub(crate) struct Down;

impl Backend for Down {
    const NAME: &str = "down";

    fn call() -> Result<u32, String> {
        Err(Self::NAME.to_owned())
    }
}

casty::host!(Breaker<Down> as "states/breaker/down");

#[test]
fn a_machine_may_be_generic_and_its_instances_are_hosted_by_name() {
    testkit::paused(|system| async move {
        let breaker = system.entity::<Breaker<Down>>(7);
        assert_eq!(breaker.entity_id(), 7);
        let entity = |reason: &str| Err(AskError::Entity(reason.to_owned()));
        assert_eq!(breaker.call().await, entity("down"));
        assert_eq!(breaker.call().await, entity("down"));
        assert_eq!(breaker.call().await, entity("tripped"));
        assert_eq!(breaker.state_name().await.as_deref(), Ok("Tripped"));
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(breaker.state_name().await.as_deref(), Ok("Closed"));
        assert_eq!(breaker.calls().await, Ok((7, 2)));
    });
}

/// What a raised message overtakes.
#[actor]
mod queue {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Filling {
        seen: Vec<String>,
    }

    #[state]
    pub(crate) struct Full {
        seen: Vec<String>,
    }

    #[behavior(otherwise = stash)]
    impl Filling {
        #[message]
        fn fill(mut self, ctx: &mut Context<Queue>) -> Full {
            ctx.raise(QueueMsg::Filled { number: 1 });
            ctx.raise(QueueMsg::Filled { number: 2 });
            self.seen.push("fill".to_owned());
            Full { seen: self.seen }
        }
    }

    #[behavior(otherwise = reject)]
    impl Full {
        #[message(internal)]
        fn filled(&mut self, number: u32) {
            self.seen.push(format!("filled {number}"));
        }

        #[message]
        fn take(&mut self) {
            self.seen.push("take".to_owned());
        }

        #[message]
        fn seen(&self) -> Vec<String> {
            self.seen.clone()
        }
    }
}

#[test]
fn a_raised_message_is_handled_before_what_was_stashed_and_what_waits() {
    testkit::paused(|system| async move {
        let queue = system.spawn(Queue::from(queue::Filling::default()));
        queue.take().tell().await.unwrap();
        queue.fill().tell().await.unwrap();
        queue.take().tell().await.unwrap();
        let seen = queue.seen().await.unwrap();
        assert_eq!(seen, ["fill", "filled 1", "filled 2", "take", "take"]);
    });
}

/// Ends with a message to itself on its way.
#[entity(name = "states/fuse")]
mod fuse {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Whole;

    #[behavior]
    impl Whole {
        #[message]
        fn blow(self, ctx: &mut Context<Fuse>) -> Stop {
            ctx.raise(FuseMsg::Smoke {});
            Stop
        }

        #[message(internal)]
        fn smoke(&mut self) {}
    }
}

#[test]
fn a_raised_message_ends_with_the_activation_and_begins_no_other() {
    testkit::paused(|system| async move {
        let mut events = system.events();
        assert_eq!(system.entity::<Fuse>("f").blow().await, Ok(()));
        // The clock moves once all tasks wait.
        let second = Duration::from_secs(1);
        let (mut started, mut stopped) = (0, 0);
        while let Ok(Some(event)) = tokio::time::timeout(second, events.next()).await {
            started += u32::from(matches!(event, Event::ActorStarted(_)));
            stopped += u32::from(matches!(event, Event::ActorStopped(_)));
        }
        assert_eq!((started, stopped), (1, 1));
    });
}
