//! Timers, and work beside the mailbox.

use casty::{
    prelude::*,
    schedule::{Cancellable, Every},
    testkit,
};
use tokio::time::Instant;

/// Ticks in every way there is.
#[derive(Default)]
struct Clock {
    ticks: Vec<Duration>,
    since: Option<Instant>,
    slow: Duration,
    timer: Option<Cancellable>,
}

#[entity(shards = 4)]
impl Clock {
    #[message]
    fn once(&mut self, after: Duration, ctx: &mut Context<Self>) {
        self.since = Some(Instant::now());
        self.timer = Some(ctx.schedule_once(after, ClockMsg::Tick {}));
    }

    /// Each tick takes `slow`.
    #[message]
    fn every(&mut self, period: Duration, rate: bool, slow: Duration, ctx: &mut Context<Self>) {
        self.since = Some(Instant::now());
        self.slow = slow;
        let every = if rate {
            Every::fixed_rate(period)
        } else {
            Every::fixed_delay(period)
        };
        self.timer = Some(ctx.schedule_every(every, || ClockMsg::Tick {}));
    }

    #[message(internal)]
    async fn tick(&mut self) {
        self.ticks.extend(self.since.map(|since| since.elapsed()));
        if !self.slow.is_zero() {
            tokio::time::sleep(self.slow).await;
        }
    }

    #[message]
    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }

    #[message]
    fn seconds(&self) -> Vec<f64> {
        self.ticks.iter().map(Duration::as_secs_f64).collect()
    }

    #[message]
    fn retire(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }

    #[message]
    fn fail(&mut self) {
        panic!("now");
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Whole tenths of a second: the paused clock moves in milliseconds.
fn tenths(seconds: Vec<f64>) -> Vec<u64> {
    seconds
        .into_iter()
        .map(|seconds| Duration::from_secs_f64(seconds + 0.05).as_millis() as u64 / 100)
        .collect()
}

#[test]
fn once_is_once() {
    testkit::paused(|system| async move {
        let clock = system.entity::<Clock>("c");
        clock.once(SECOND * 5).await.unwrap();
        tokio::time::sleep(SECOND * 4).await;
        assert!(clock.seconds().await.unwrap().is_empty());
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(tenths(clock.seconds().await.unwrap()), [50]);
    });
}

#[test]
fn a_fixed_delay_waits_for_the_handler_and_a_fixed_rate_keeps_its_beat() {
    testkit::paused(|system| async move {
        let delay = system.entity::<Clock>("delay");
        let rate = system.entity::<Clock>("rate");
        let late = system.entity::<Clock>("late");
        let slow = Duration::from_millis(500);
        delay.every(SECOND, false, slow).await.unwrap();
        rate.every(SECOND, true, slow).await.unwrap();
        // Slower than its period: missed ticks are not made up for.
        late.every(SECOND, true, SECOND * 5 / 2).await.unwrap();
        tokio::time::sleep(Duration::from_millis(6_200)).await;
        let patient = |clock: &ClockRef| clock.seconds().timeout(SECOND * 9).into_future();
        assert_eq!(tenths(patient(&delay).await.unwrap()), [10, 25, 40, 55]);
        assert_eq!(
            tenths(patient(&rate).await.unwrap()),
            [10, 20, 30, 40, 50, 60]
        );
        assert_eq!(tenths(patient(&late).await.unwrap()), [10, 40]);
    });
}

#[test]
fn a_cancelled_timer_is_silent() {
    testkit::paused(|system| async move {
        let clock = system.entity::<Clock>("c");
        clock.every(SECOND, false, Duration::ZERO).await.unwrap();
        tokio::time::sleep(SECOND * 5 / 2).await;
        clock.cancel().await.unwrap();
        tokio::time::sleep(SECOND * 10).await;
        assert_eq!(clock.seconds().await.unwrap().len(), 2);
    });
}

#[test]
fn timers_die_with_their_activation() {
    testkit::paused(|system| async move {
        for end in ["stop", "fail"] {
            let clock = system.entity::<Clock>(end);
            clock.every(SECOND, true, Duration::ZERO).await.unwrap();
            tokio::time::sleep(SECOND * 3 / 2).await;
            match end {
                "stop" => clock.retire().await.unwrap(),
                _ => assert!(clock.fail().await.is_err()),
            }
            tokio::time::sleep(SECOND * 10).await;
            assert!(clock.seconds().await.unwrap().is_empty(), "{end}");
        }
    });
}

/// Fetches slowly.
#[derive(Default)]
struct Fetcher {
    fetched: Vec<Result<u32, String>>,
    work: Option<Cancellable>,
}

#[entity(shards = 4)]
impl Fetcher {
    #[message]
    fn fetch(&mut self, number: u32, millis: u64, ctx: &mut Context<Self>) {
        let work = async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            match number {
                0 => Err("nothing there".to_owned()),
                number => Ok(number),
            }
        };
        self.work = Some(ctx.pipe(work, |result| FetcherMsg::Fetched { result }));
    }

    #[message(internal)]
    fn fetched(&mut self, result: Result<u32, String>) {
        self.fetched.push(result);
    }

    #[message]
    fn cancel(&mut self) {
        if let Some(work) = self.work.take() {
            work.cancel();
        }
    }

    #[message]
    fn all(&self) -> Vec<Result<u32, String>> {
        self.fetched.clone()
    }

    #[message]
    fn retire(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[test]
fn work_does_not_block_the_mailbox_and_its_result_arrives_failure_too() {
    testkit::paused(|system| async move {
        let fetcher = system.entity::<Fetcher>("f");
        let begun = Instant::now();
        fetcher.fetch(1, 1_000).await.unwrap();
        fetcher.fetch(0, 500).await.unwrap();
        assert_eq!(fetcher.all().await, Ok(vec![]));
        assert!(begun.elapsed() < Duration::from_millis(100));
        tokio::time::sleep(SECOND * 2).await;
        let failure = "nothing there".to_owned();
        assert_eq!(fetcher.all().await, Ok(vec![Err(failure), Ok(1)]));
    });
}

#[test]
fn work_is_cancelled_by_hand_and_with_its_activation() {
    testkit::paused(|system| async move {
        let fetcher = system.entity::<Fetcher>("f");
        fetcher.fetch(1, 1_000).await.unwrap();
        fetcher.cancel().await.unwrap();
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!(fetcher.all().await, Ok(vec![]));
        fetcher.fetch(1, 1_000).await.unwrap();
        fetcher.retire().await.unwrap();
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!(fetcher.all().await, Ok(vec![]));
    });
}

/// A fact of the application's own.
#[derive(Debug, PartialEq)]
struct Sold(u32);

#[derive(Default)]
struct Shop;

#[actor]
impl Shop {
    #[message]
    fn sell(&mut self, count: u32, ctx: &mut Context<Self>) {
        ctx.emit(Sold(count));
    }
}

#[test]
fn an_application_emits_events_of_its_own() {
    testkit::paused(|system| async move {
        let shop = system.spawn(Shop);
        let mut events = system.events();
        shop.sell(3).await.unwrap();
        let emitted = loop {
            if let Event::Emitted(emitted) = events.next().await.unwrap() {
                break emitted;
            }
        };
        assert_eq!(emitted.get(), Some(&Sold(3)));
        assert_eq!(emitted.get::<String>(), None);
        assert_eq!(emitted.by.kind, "Shop");
    });
}

/// Handles one thing at a time, and slowly.
#[derive(Default)]
struct Auction {
    timer: Option<Cancellable>,
    ended: bool,
}

#[actor]
impl Auction {
    #[message]
    fn open(&mut self, ctx: &mut Context<Self>) {
        self.timer = Some(ctx.schedule_once(Duration::from_secs(30), AuctionMsg::Hammer {}));
    }

    /// Extends the auction, after it has looked at the bid for ten seconds.
    #[message]
    async fn bid(&mut self, ctx: &mut Context<Self>) -> bool {
        tokio::time::sleep(Duration::from_secs(10)).await;
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
        self.open(ctx);
        !self.ended
    }

    #[message(internal)]
    fn hammer(&mut self) {
        self.ended = true;
    }

    #[message]
    fn ended(&self) -> bool {
        self.ended
    }
}

#[test]
fn the_message_of_a_cancelled_timer_is_not_handled_even_if_it_is_in_the_mailbox() {
    testkit::paused(|system| async move {
        let auction = system.spawn(Auction::default());
        auction.open().await.unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        // It is looked at until the thirty seconds are over.
        let bid = auction.bid().timeout(Duration::from_mins(1));
        assert_eq!(bid.await, Ok(true));
        assert_eq!(auction.ended().await, Ok(false));
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(auction.ended().await, Ok(false));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(auction.ended().await, Ok(true));
    });
}
