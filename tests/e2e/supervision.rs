//! Failures, and what supervision makes of them.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use casty::{
    SystemBuilder,
    prelude::*,
    testkit::{self, DeadLetters, Probe},
};
use tokio::time::Instant;

use crate::support::eventually;

/// Counts its failures and restarts outside of the actor.
#[derive(Clone, Default)]
struct Tally {
    made: Arc<AtomicU32>,
    restarted: Arc<AtomicU32>,
}

impl Tally {
    fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }

    fn restarted(&self) -> u32 {
        self.restarted.load(Ordering::SeqCst)
    }
}

macro_rules! fragile {
    ($name:ident, $($options:tt)*) => {
        struct $name {
            tally: Tally,
            value: u32,
        }

        impl $name {
            fn new(tally: &Tally) -> Self {
                tally.made.fetch_add(1, Ordering::SeqCst);
                Self { tally: tally.clone(), value: 0 }
            }
        }

        #[actor($($options)*)]
        impl $name {
            #[message]
            fn add(&mut self, amount: u32) -> u32 {
                self.value += amount;
                self.value
            }

            #[message]
            fn fail(&mut self, why: String) {
                self.value += 1000;
                panic!("{why}");
            }

            #[on_restart]
            fn again(&mut self) {
                self.tally.restarted.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
}

fragile!(
    Restarting,
    max_restarts = 3,
    within = "60s",
    backoff = "100ms",
    backoff_max = "10s"
);
fragile!(
    Resuming,
    on_failure = resume,
    max_restarts = 3,
    within = "60s"
);
fragile!(Stopping, on_failure = stop);
fragile!(Escalating, on_failure = escalate);

#[test]
fn a_failure_is_answered_and_the_mailbox_survives() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let made = tally.clone();
        let actor = system.spawn_with(move || Restarting::new(&made));
        assert_eq!(actor.add(5).await, Ok(5));
        // Queued together: the fresh state handles the messages behind the failure.
        let (failed, first, second) = tokio::join!(
            actor.fail("oh".into()).into_future(),
            actor.add(1).into_future(),
            actor.add(1).into_future()
        );
        let reason = "oh".to_owned();
        assert_eq!(failed, Err(AskError::Panicked { message: reason }));
        assert_eq!((first, second), (Ok(1), Ok(2)));
        assert_eq!((tally.made(), tally.restarted()), (2, 1));
    });
}

#[test]
fn pauses_grow_until_it_is_given_up() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let made = tally.clone();
        let actor = system.spawn_with(move || Restarting::new(&made));
        let mut probe = Probe::<Restarting>::new(&system);
        probe.watch(&actor);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            assert!(actor.fail("no".into()).await.is_err());
            let begun = Instant::now();
            assert_eq!(actor.add(1).timeout(Duration::from_secs(30)).await, Ok(1));
            pauses.push(begun.elapsed().as_millis());
        }
        assert_eq!(pauses[0], 0, "the first restart is immediate");
        assert!((50..=101).contains(&pauses[1]), "{pauses:?}");
        assert!((100..=201).contains(&pauses[2]), "{pauses:?}");
        // The fourth failure within a minute ends it.
        assert!(actor.fail("enough".into()).await.is_err());
        let end = probe.expect_terminated().await;
        assert!(end.is(&actor));
        assert_eq!(
            end.reason,
            casty::event::TerminatedReason::Failed("enough".to_owned())
        );
        assert_eq!(actor.add(1).await, Err(AskError::Stopped));
        assert_eq!(tally.made(), 4);
    });
}

#[test]
fn old_failures_do_not_count() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let made = tally.clone();
        let actor = system.spawn_with(move || Restarting::new(&made));
        for _ in 0..20 {
            assert!(actor.fail("now and then".into()).await.is_err());
            tokio::time::advance(Duration::from_secs(21)).await;
        }
        assert_eq!(actor.add(1).await, Ok(1));
        assert_eq!(tally.made(), 21);
    });
}

#[test]
fn resuming_keeps_the_state() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let actor = system.spawn(Resuming::new(&tally));
        assert_eq!(actor.add(1).await, Ok(1));
        assert!(actor.fail("half way".into()).await.is_err());
        assert_eq!(actor.add(1).await, Ok(1002));
        assert_eq!((tally.made(), tally.restarted()), (1, 1));
    });
}

#[test]
fn stopping_ends_an_actor_and_its_askers_are_told() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let made = tally.clone();
        let actor = system.spawn_with(move || Stopping::new(&made));
        let mut letters = DeadLetters::of(&system);
        let (failed, next) = tokio::join!(
            actor.fail("once".into()).into_future(),
            actor.add(1).into_future()
        );
        assert!(matches!(failed, Err(AskError::Panicked { .. })));
        assert_eq!(next, Err(AskError::Stopped));
        letters.expect_no(Duration::from_secs(1)).await;
        assert_eq!(tally.made(), 1);
    });
}

#[test]
fn from_a_value_it_cannot_be_made_anew() {
    testkit::paused(|system| async move {
        let actor = system.spawn(Restarting::new(&Tally::default()));
        assert!(actor.fail("once".into()).await.is_err());
        assert_eq!(actor.add(1).await, Err(AskError::Stopped));
    });
}

#[derive(Clone, Copy)]
enum Hires {
    Restarting,
    Escalating,
    Stopping,
}

/// Has children of several kinds.
struct Parent {
    tally: Tally,
    children: Tally,
    hires: Hires,
}

#[actor(max_restarts = 5)]
impl Parent {
    #[on_start]
    fn started(&mut self) {
        self.tally.made.fetch_add(1, Ordering::SeqCst);
    }

    #[on_restart]
    fn again(&mut self) {
        self.tally.restarted.fetch_add(1, Ordering::SeqCst);
    }

    #[message]
    fn hire(&mut self, ctx: &mut Context<Self>) -> (RestartingRef, Option<EscalatingRef>) {
        let (a, b) = (self.children.clone(), self.children.clone());
        let escalating = match self.hires {
            Hires::Escalating => Some(ctx.spawn_with(move || Escalating::new(&b))),
            _ => None,
        };
        (ctx.spawn_with(move || Restarting::new(&a)), escalating)
    }

    #[message]
    fn alive(&self) {}

    #[message]
    fn fail(&mut self) {
        panic!("the parent");
    }
}

/// Supervises all its children together.
struct Siblings {
    children: Tally,
    hires: Hires,
}

#[actor(children = all_for_one)]
impl Siblings {
    #[message]
    fn hire(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> (RestartingRef, RestartingRef, Option<StoppingRef>) {
        let make = || {
            let tally = self.children.clone();
            move || Restarting::new(&tally)
        };
        let (a, b, c) = (make(), make(), self.children.clone());
        let stopping = match self.hires {
            Hires::Stopping => Some(ctx.spawn_with(move || Stopping::new(&c))),
            _ => None,
        };
        (ctx.spawn_with(a), ctx.spawn_with(b), stopping)
    }
}

fn parent(system: &ActorSystem, hires: Hires) -> (ParentRef, Tally, Tally) {
    let (tally, children) = (Tally::default(), Tally::default());
    let (a, b) = (tally.clone(), children.clone());
    let parent = system.spawn_with(move || Parent {
        tally: a.clone(),
        children: b.clone(),
        hires,
    });
    (parent, tally, children)
}

// A local system has no addresses, and a local ask needs none: references come back as they are.

#[test]
fn children_stop_with_their_parent_after_their_work() {
    testkit::paused(|system| async move {
        let (parent, ..) = parent(&system, Hires::Restarting);
        let (child, _) = parent.hire().await.unwrap();
        assert_eq!(child.add(1).await, Ok(1));
        let last = child.add(1).into_future();
        parent.as_ref().stop().await;
        assert_eq!(child.add(1).await, Err(AskError::Stopped));
        // The ask was never sent, since it was not polled before.
        assert_eq!(last.await, Err(AskError::Stopped));
    });
}

#[test]
fn children_stop_when_their_parent_restarts() {
    testkit::paused(|system| async move {
        let (parent, tally, _) = parent(&system, Hires::Restarting);
        let (child, _) = parent.hire().await.unwrap();
        assert!(parent.fail().await.is_err());
        assert_eq!(child.add(1).await, Err(AskError::Stopped));
        assert_eq!(parent.alive().await, Ok(()));
        assert_eq!((tally.made(), tally.restarted()), (2, 1));
    });
}

#[test]
fn an_escalated_failure_is_the_parents() {
    testkit::paused(|system| async move {
        let (parent, tally, children) = parent(&system, Hires::Escalating);
        let (child, escalating) = parent.hire().await.unwrap();
        let mut events = system.events();
        assert!(escalating.unwrap().fail("too much".into()).await.is_err());
        let reason = loop {
            match events.next().await.unwrap() {
                Event::ActorFailed { who, reason } if who.kind == "Parent" => break reason,
                _ => {}
            }
        };
        assert!(reason.contains("too much"), "{reason}");
        assert_eq!(parent.alive().await, Ok(()));
        assert_eq!((tally.made(), tally.restarted()), (2, 1));
        assert_eq!(child.add(1).await, Err(AskError::Stopped));
        assert_eq!(children.made(), 2);
    });
}

#[test]
fn one_for_one_leaves_siblings_alone_and_all_for_one_does_not() {
    testkit::paused(|system| async move {
        let tally = Tally::default();
        let children = tally.clone();
        let siblings = system.spawn(Siblings {
            children,
            hires: Hires::Restarting,
        });
        let (a, b, _) = siblings.hire().await.unwrap();
        assert_eq!((a.add(1).await, b.add(1).await), (Ok(1), Ok(1)));
        assert!(a.fail("one".into()).await.is_err());
        // A fresh `b` counts from zero. Its restart is a signal that may still be on its way.
        eventually(
            "the sibling restarts",
            || std::future::ready(tally.restarted()),
            |n| *n == 2,
        )
        .await;
        assert_eq!((a.add(1).await, b.add(1).await), (Ok(1), Ok(1)));

        let (parent, _, children) = parent(&system, Hires::Restarting);
        let (a, _) = parent.hire().await.unwrap();
        let (b, _) = parent.hire().await.unwrap();
        assert_eq!((a.add(1).await, b.add(1).await), (Ok(1), Ok(1)));
        assert!(a.fail("one".into()).await.is_err());
        assert_eq!((a.add(1).await, b.add(1).await), (Ok(1), Ok(2)));
        assert_eq!(children.restarted(), 1);
    });
}

#[test]
fn all_for_one_ends_all_when_one_ends_of_a_failure() {
    testkit::paused(|system| async move {
        let siblings = system.spawn(Siblings {
            children: Tally::default(),
            hires: Hires::Stopping,
        });
        let (a, b, stopping) = siblings.hire().await.unwrap();
        assert!(stopping.unwrap().fail("the end".into()).await.is_err());
        for child in [a, b] {
            eventually(
                "the siblings stop",
                || child.add(1).into_future(),
                |added| *added == Err(AskError::Stopped),
            )
            .await;
        }
    });
}

/// Fails at each message but one.
#[derive(Default)]
struct Crashing;

#[entity(
    shards = 4,
    max_restarts = 3,
    within = "60s",
    backoff = "100ms",
    backoff_max = "8s"
)]
impl Crashing {
    #[message]
    fn crash(&mut self) {
        panic!("again");
    }

    #[message]
    fn live(&self) {}
}

#[test]
fn a_crash_loop_is_quarantined_and_ends() {
    testkit::paused(|system| async move {
        let entity = system.entity::<Crashing>("x");
        let patience = Duration::from_mins(1);
        for _ in 0..4 {
            let crashed = entity.crash().timeout(patience).await;
            assert!(
                matches!(crashed, Err(AskError::Panicked { .. })),
                "{crashed:?}"
            );
        }
        let refused = entity.live().await.unwrap_err();
        let AskError::Quarantined {
            reason,
            retry_after,
        } = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(reason, "again");
        assert!(retry_after <= Duration::from_secs(8), "{retry_after:?}");
        assert!(matches!(
            entity.live().tell().await,
            Err(TellError::Quarantined { .. })
        ));
        // Other entities of the type are not affected.
        assert_eq!(system.entity::<Crashing>("y").live().await, Ok(()));
        tokio::time::sleep(retry_after).await;
        assert_eq!(entity.live().await, Ok(()));
    });
}

/// Fails to start while the test says so.
struct Stubborn;

/// How often `Stubborn` has yet to refuse. A resource of the system under test.
#[derive(Clone)]
struct Refusals(Arc<AtomicU32>);

#[entity(
    shards = 4,
    max_restarts = 3,
    within = "60s",
    backoff = "1s",
    backoff_max = "8s"
)]
impl Stubborn {
    #[init]
    fn open(ctx: &mut Context<Self>) -> Result<Self, String> {
        ctx.resource::<Refusals>()
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .map_or(Ok(Self), |left| Err(format!("{left} to go")))
    }

    #[message]
    fn ping(&self) {}
}

#[test]
fn an_actor_that_cannot_start_fails_at_once_and_pauses_for_longer_and_longer() {
    let refusals = Arc::new(AtomicU32::new(3));
    let resource = Refusals(refusals.clone());
    let configure = |builder: SystemBuilder| builder.resource(resource);
    testkit::paused_with(configure, |system| async move {
        let entity = system.entity::<Stubborn>("x");
        let begun = Instant::now();
        let mut waits = Vec::new();
        loop {
            let before = refusals.load(Ordering::SeqCst);
            match entity.ping().await {
                Ok(()) => break,
                Err(AskError::Init { reason }) => {
                    let after = refusals.load(Ordering::SeqCst);
                    if after < before {
                        assert_eq!(reason, format!("{before} to go"));
                        waits.push(begun.elapsed());
                    }
                }
                Err(other) => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(waits.len(), 3);
        let least = Duration::from_millis(500);
        assert!(waits[1] >= waits[0] + least, "{waits:?}");
        assert!(begun.elapsed() >= waits[2] + least, "{waits:?}");
    });
}

/// Starts work that fails.
#[derive(Default)]
struct Worker {
    done: u32,
}

#[actor]
impl Worker {
    #[message]
    fn work(&mut self, fails: bool, ctx: &mut Context<Self>) {
        ctx.pipe(
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!fails, "the work");
                7
            },
            |result| WorkerMsg::Done { result },
        );
    }

    /// The closure that makes the timer's message fails.
    #[message]
    fn tick(&mut self, ctx: &mut Context<Self>) {
        ctx.schedule_every(Duration::from_secs(1), || panic!("the timer"))
            .detach();
    }

    #[message(internal)]
    fn done(&mut self, result: u32) {
        self.done += result;
    }

    #[message]
    fn result(&self) -> u32 {
        self.done
    }
}

#[test]
fn work_that_panics_is_a_failure_of_its_actor() {
    testkit::paused(|system| async move {
        let worker = system.spawn_with(Worker::default);
        worker.work(false).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(worker.result().await, Ok(7));
        let mut events = system.events();
        worker.work(true).await.unwrap();
        loop {
            if let Event::ActorFailed { reason, .. } = events.next().await.unwrap() {
                assert!(reason.contains("the work"), "{reason}");
                break;
            }
        }
        assert_eq!(worker.result().await, Ok(0));
    });
}

#[test]
fn a_timer_that_panics_is_a_failure_of_its_actor() {
    testkit::paused(|system| async move {
        let worker = system.spawn_with(Worker::default);
        let mut events = system.events();
        worker.tick().await.unwrap();
        loop {
            if let Event::ActorFailed { reason, .. } = events.next().await.unwrap() {
                assert!(reason.contains("the timer"), "{reason}");
                break;
            }
        }
        assert_eq!(worker.result().await, Ok(0));
    });
}
