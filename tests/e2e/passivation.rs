//! Entities that passivate.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use casty::{SystemBuilder, prelude::*, testkit};

use crate::support::eventually;

/// Sleepers that have stopped after they handled a message. A resource of the system under test.
#[derive(Clone, Default)]
struct Stopped(Arc<AtomicU32>);

/// Passivates after a minute.
#[derive(Default)]
struct Sleeper {
    handled: u32,
}

#[entity(shards = 4, passivate_after = "60s")]
impl Sleeper {
    #[message]
    fn poke(&mut self) -> u32 {
        self.handled += 1;
        self.handled
    }

    #[message]
    fn sleep(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.passivate();
        self.handled
    }

    #[message]
    fn work(&mut self, seconds: u64, ctx: &mut Context<Self>) {
        let work = tokio::time::sleep(Duration::from_secs(seconds));
        ctx.pipe(work, |()| SleeperMsg::Worked {});
    }

    #[message(internal)]
    fn worked(&mut self) {
        self.handled += 100;
    }

    #[message]
    fn tick(&mut self, ctx: &mut Context<Self>) {
        ctx.schedule_every(Duration::from_secs(1), || SleeperMsg::Ticked {})
            .detach();
    }

    #[message(internal)]
    fn ticked(&mut self) {}

    #[on_stop]
    fn stopping(&mut self, ctx: &mut Context<Self>) {
        if let Some(Stopped(stopped)) = ctx.try_resource() {
            stopped.fetch_add(self.handled.min(1), Ordering::SeqCst);
        }
    }
}

#[test]
fn an_idle_entity_passivates_and_wakes_afresh() {
    let Stopped(stops) = Stopped::default();
    let stopped = Stopped(stops.clone());
    let configure = |builder: SystemBuilder| builder.resource(stopped);
    testkit::paused_with(configure, |system| async move {
        let (quiet, lively) = (
            system.entity::<Sleeper>("quiet"),
            system.entity::<Sleeper>("lively"),
        );
        assert_eq!((quiet.poke().await, lively.poke().await), (Ok(1), Ok(1)));
        let stopped = stops.load(Ordering::SeqCst);
        for round in 2..=6 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(lively.poke().await, Ok(round));
        }
        assert_eq!(
            stops.load(Ordering::SeqCst),
            stopped + 1,
            "with its stop hook"
        );
        assert_eq!(quiet.poke().await, Ok(1));
        // Its own timer does not keep it active.
        quiet.tick().await.unwrap();
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(quiet.poke().await, Ok(1));
    });
}

#[test]
fn an_entity_that_awaits_work_is_not_idle() {
    testkit::paused(|system| async move {
        let sleeper = system.entity::<Sleeper>("s");
        sleeper.work(300).await.unwrap();
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(sleeper.poke().await, Ok(101));
    });
}

#[test]
fn it_may_ask_for_sleep_and_what_is_queued_comes_first() {
    testkit::paused(|system| async move {
        let sleeper = system.entity::<Sleeper>("s");
        let (one, slept, two) = tokio::join!(
            sleeper.poke().into_future(),
            sleeper.sleep().into_future(),
            sleeper.poke().into_future(),
        );
        assert_eq!((one, slept, two), (Ok(1), Ok(1), Ok(2)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(sleeper.poke().await, Ok(1));
    });
}

/// At most 32 at a time.
#[derive(Default)]
struct Crowded {
    handled: u32,
}

#[entity(shards = 4, max_active = 32)]
impl Crowded {
    #[message]
    fn poke(&mut self) -> u32 {
        self.handled += 1;
        self.handled
    }
}

#[test]
fn of_too_many_the_least_recently_used_sleep() {
    testkit::paused(|system| async move {
        let entity = |n: u32| system.entity::<Crowded>(n.to_string());
        for n in 0..32 {
            assert_eq!(entity(n).poke().await, Ok(1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for n in 0..5 {
            assert_eq!(entity(n).poke().await, Ok(2), "used again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut events = system.events();
        assert_eq!(entity(32).poke().await, Ok(1));
        let mut slept = Vec::new();
        eventually(
            "three of 33 sleep",
            || {
                while let Some(event) = events.try_next() {
                    if let Event::ActorStopped(who) = event {
                        slept.push(who.id);
                    }
                }
                std::future::ready(slept.clone())
            },
            |slept| slept.len() == 3,
        )
        .await;
        slept.sort();
        assert_eq!(slept, ["5", "6", "7"]);
        assert_eq!(entity(5).poke().await, Ok(1));
        assert_eq!(entity(0).poke().await, Ok(3));
    });
}
