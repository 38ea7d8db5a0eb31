//! Calls that are repeated while their message was certainly not handled.

use std::sync::atomic::{AtomicU32, Ordering};

use casty::{
    prelude::*,
    testkit::{self, Sim},
};
use casty_tests::Counter;

const LONG: Duration = Duration::from_mins(1);

/// An entity that lives on another node than `c`, which is then cut off and has noticed it.
fn cut_off(seed: u64) -> (Sim, String) {
    casty_tests::log();
    let mut sim = Sim::new(seed);
    for name in ["a", "b", "c"] {
        sim.start(name);
    }
    sim.until_up(3);
    let elsewhere = sim.on("c", |system| async move {
        for n in 0.. {
            let id = format!("r{n}");
            let home = system.entity::<Counter>(&id).node().await;
            if home.is_ok_and(|home| home != "c") {
                return id;
            }
        }
        unreachable!("one of them lives elsewhere")
    });
    sim.isolate("c");
    sim.run_for(Duration::from_secs(10));
    (sim, elsewhere)
}

#[test]
fn a_call_is_repeated_until_the_entity_can_be_reached_and_handled_once() {
    let (mut sim, id) = cut_off(71);
    let there = id.clone();
    let once = sim.on("c", move |system| async move {
        system.entity::<Counter>(there).add(1).await
    });
    let error = once.unwrap_err();
    assert!(!error.maybe_handled(), "{error}");
    let there = id.clone();
    let asked = sim.spawn_on("c", move |system| async move {
        let counter = system.entity::<Counter>(there);
        counter.increment(2).retry_for(LONG).tell().await.unwrap();
        counter.add(1).retry_for(LONG).await
    });
    sim.run_for(Duration::from_secs(5));
    assert!(!asked.is_done());
    sim.heal();
    sim.until("it is answered", |_| asked.is_done());
    assert!(asked.take().unwrap().is_ok());
    let value = sim.on("a", move |system| async move {
        system.entity::<Counter>(id).value().await
    });
    // A tell that was queued may have become a dead letter of the node that was cut off.
    assert!(matches!(value, Ok(1 | 3)), "{value:?}");
}

#[test]
fn a_call_is_not_repeated_for_longer_than_was_said() {
    let (mut sim, id) = cut_off(72);
    let limit = Duration::from_secs(7);
    let (error, took) = sim.on("c", move |system| async move {
        let begun = tokio::time::Instant::now();
        let asked = system.entity::<Counter>(id).add(1).retry_for(limit).await;
        (asked.unwrap_err(), begun.elapsed())
    });
    assert!(!error.maybe_handled(), "{error}");
    // The last try begins when the time is up, and may wait for a home as each does.
    assert!(
        took >= limit && took < limit + Duration::from_secs(6),
        "{took:?}"
    );
}

/// How often the handlers below ran.
static HANDLED: AtomicU32 = AtomicU32::new(0);

#[derive(Default)]
struct Clumsy;

#[entity]
impl Clumsy {
    #[message]
    async fn dawdle(&self) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    #[message]
    fn refuse(&self) -> Result<(), String> {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Err("no".to_owned())
    }
}

#[actor]
impl Hearer {
    #[message]
    fn hear(&self, _who: HearerRef) {}
}

struct Hearer;

#[test]
fn what_may_have_been_handled_or_fails_for_good_is_not_repeated() {
    testkit::paused(|system| async move {
        let begun = tokio::time::Instant::now();
        let clumsy = system.entity::<Clumsy>("a");
        let refused = clumsy.refuse().retry_for(LONG).await;
        assert_eq!(refused, Err(AskError::Entity("no".to_owned())));
        let second = Duration::from_millis(900);
        let late = clumsy.dawdle().timeout(second).retry_for(LONG).await;
        assert!(matches!(late, Err(AskError::Timeout { after, .. }) if after == second));
        assert_eq!(HANDLED.load(Ordering::Relaxed), 2);
        let nobody = system.entity::<Clumsy>("").refuse().retry_for(LONG).await;
        assert!(matches!(nobody, Err(AskError::InvalidId(_))), "{nobody:?}");
        let actor = system.spawn(Hearer);
        // A reference cannot be encoded here, and is asked all the same.
        assert_eq!(actor.hear(actor.clone()).retry_for(LONG).await, Ok(()));
        actor.as_ref().stop().await;
        let gone = actor.hear(actor.clone()).retry_for(LONG).await;
        assert_eq!(gone, Err(AskError::Stopped));
        let gone = actor.hear(actor.clone()).retry_for(LONG).tell().await;
        assert!(matches!(gone, Err(TellError::Stopped(_))), "{gone:?}");
        assert!(begun.elapsed() < second * 2, "{:?}", begun.elapsed());
    });
}

/// An entity whose start fails for a while.
struct Late;

static LATE: AtomicU32 = AtomicU32::new(0);

#[entity(backoff = "100ms")]
impl Late {
    #[init]
    fn load() -> Result<Self, String> {
        match LATE.fetch_add(1, Ordering::Relaxed) {
            0..4 => Err("not yet".to_owned()),
            _ => Ok(Self),
        }
    }

    #[message]
    fn greet(&self, name: String) -> String {
        name
    }
}

#[test]
fn a_call_is_repeated_until_the_entity_starts() {
    testkit::paused(|system| async move {
        let late = system.entity::<Late>("a");
        let refused = late.greet("you".to_owned()).await;
        assert!(matches!(refused, Err(AskError::Init { .. })), "{refused:?}");
        let answer = late.greet("you".to_owned()).retry_for(LONG).await;
        assert_eq!(answer.as_deref(), Ok("you"));
        assert_eq!(LATE.load(Ordering::Relaxed), 5);
    });
}
