//! One node, no network.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use casty::{event::DeadLetterReason, prelude::*};
use casty_tests::{Account, AccountRef, Counter, InsufficientFunds};
use tokio::sync::Semaphore;

use crate::support::{event, eventually, soon};

/// Handles a message when the test lets it.
struct Gate {
    open: Arc<Semaphore>,
    handled: u64,
    stops: Arc<AtomicU64>,
}

#[actor(mailbox = 2)]
impl Gate {
    #[message]
    async fn pass(&mut self, _number: u64) -> u64 {
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
        self.handled += 1;
        self.handled
    }

    #[message]
    fn handled(&self) -> u64 {
        self.handled
    }

    #[message]
    fn quit(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }

    #[message]
    fn break_down(&mut self) {
        panic!("broken");
    }

    #[on_stop]
    fn stopping(&mut self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }
}

struct Gated {
    system: ActorSystem,
    gate: GateRef,
    open: Arc<Semaphore>,
    stops: Arc<AtomicU64>,
}

fn gated() -> Gated {
    casty_tests::log();
    let (open, stops) = (Arc::new(Semaphore::new(0)), Arc::<AtomicU64>::default());
    let system = ActorSystem::local("local");
    let gate = system.spawn(Gate {
        open: open.clone(),
        handled: 0,
        stops: stops.clone(),
    });
    Gated {
        system,
        gate,
        open,
        stops,
    }
}

/// Fills a gate: one message in the handler, two in the mailbox.
async fn fill(gated: &Gated) {
    let Gated { gate, .. } = gated;
    eventually(
        "full",
        || std::future::ready(gate.pass(0).try_tell()),
        |sent| matches!(sent, Err(TellError::Full(GateMsg::Pass { .. }))),
    )
    .await;
}

#[tokio::test]
async fn a_counter_counts() {
    let system = ActorSystem::local("local");
    let alice = system.entity::<Counter>("alice");
    alice.increment(10).tell().await.unwrap();
    alice.increment(5).try_tell().unwrap();
    assert_eq!(alice.value().await, Ok(15));
    assert_eq!(system.entity::<Counter>("bob").value().await, Ok(0));
    let envelope = ShardEnvelope::new("bob", casty_tests::CounterMsg::Increment { amount: 1 });
    system.shards::<Counter>().tell(envelope).await.unwrap();
    assert_eq!(system.entity::<Counter>("bob").value().await, Ok(1));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_handlers_error_is_one_flat_error() {
    let system = ActorSystem::local("local");
    let account = system.entity::<Account>("a");
    account.deposit(5).await.unwrap();
    let refused = account.withdraw(7).await;
    assert_eq!(
        refused,
        Err(AskError::Entity(InsufficientFunds { balance: 5 }))
    );
    assert_eq!(account.withdraw(2).await, Ok(3));
}

#[tokio::test]
async fn entities_ask_each_other() {
    let system = ActorSystem::local("local");
    let (a, b): (AccountRef, AccountRef) =
        (system.entity::<Account>("a"), system.entity::<Account>("b"));
    a.deposit(10).await.unwrap();
    assert_eq!(a.transfer(4, b.clone()).await, Ok(6));
    assert_eq!(b.deposit(0).await, Ok(4));
}

#[tokio::test]
async fn a_full_mailbox_gives_the_message_back_or_lets_the_teller_wait() {
    let gated = gated();
    fill(&gated).await;
    let refused = gated.gate.pass(7).try_tell().unwrap_err();
    assert!(matches!(
        refused.into_message(),
        GateMsg::Pass { number: 7 }
    ));
    let gate = gated.gate.clone();
    let waiting = tokio::spawn(async move { gate.pass(8).tell().await });
    // The sender waits for room, and gets it when the handler takes the next message.
    gated.open.add_permits(4);
    soon("room", waiting).await.unwrap().unwrap();
    let handled = || gated.gate.handled().into_future();
    eventually("all are handled", handled, |handled| *handled == Ok(4)).await;
}

#[tokio::test]
async fn a_teller_that_gives_up_has_not_sent() {
    let gated = gated();
    fill(&gated).await;
    let waiting = tokio::time::timeout(Duration::from_millis(20), gated.gate.pass(8).tell());
    assert!(waiting.await.is_err());
    gated.open.add_permits(100);
    eventually(
        "all are handled",
        || gated.gate.handled().into_future(),
        |h| *h == Ok(3),
    )
    .await;
    assert_eq!(gated.open.available_permits(), 97);
}

#[tokio::test]
async fn an_ask_times_out_and_says_that_it_may_have_been_handled() {
    let gated = gated();
    let after = Duration::from_millis(20);
    let error = gated.gate.pass(1).timeout(after).await.unwrap_err();
    assert!(matches!(error, AskError::Timeout { after: after_it, .. } if after_it == after));
    assert!(error.maybe_handled());
    fill(&gated).await;
    // This message never got into the mailbox.
    let error = gated.gate.pass(2).timeout(after).await.unwrap_err();
    assert_eq!(error, AskError::Full);
    assert!(!error.maybe_handled());
}

#[tokio::test]
async fn a_stopped_actor_has_handled_what_it_had() {
    let gated = gated();
    fill(&gated).await;
    gated.open.add_permits(3);
    soon("stop", gated.gate.stop()).await;
    assert_eq!(gated.open.available_permits(), 0);
    assert_eq!(gated.stops.load(Ordering::SeqCst), 1);
    assert_eq!(gated.gate.handled().await, Err(AskError::Stopped));
    assert!(matches!(
        gated.gate.pass(1).tell().await,
        Err(TellError::Stopped(_))
    ));
}

#[tokio::test]
async fn what_is_left_when_an_actor_stops_itself_is_a_dead_letter_or_an_error() {
    let gated = gated();
    let mut events = gated.system.events();
    let mut first = gated.gate.pass(1).into_future();
    assert!(futures_util::poll!(&mut first).is_pending());
    // In the mailbox, behind the message in the handler.
    eventually(
        "queued",
        || std::future::ready(gated.gate.quit().try_tell()),
        Result::is_ok,
    )
    .await;
    eventually(
        "queued",
        || std::future::ready(gated.gate.pass(2).try_tell()),
        Result::is_ok,
    )
    .await;
    gated.open.add_permits(10);
    assert_eq!(soon("the first", first).await, Ok(1));
    let dead = event(&mut events, "a dead letter", |event| match event {
        Event::DeadLetter(dead) => Some(dead.clone()),
        _ => None,
    })
    .await;
    assert_eq!(
        (dead.message.as_str(), dead.reason),
        ("pass", DeadLetterReason::Stopped)
    );
    assert_eq!(gated.system.dead_letters(), 1);
    assert_eq!(gated.gate.handled().await, Err(AskError::Stopped));
}

#[tokio::test]
async fn a_panic_is_told_to_the_asker_and_ends_the_actor() {
    let gated = gated();
    let error = gated.gate.break_down().await.unwrap_err();
    assert_eq!(
        error,
        AskError::Panicked {
            message: "broken".to_owned()
        }
    );
    assert_eq!(gated.gate.handled().await, Err(AskError::Stopped));
    // After a panic the state may be inconsistent, so its stop hook does not run.
    assert_eq!(gated.stops.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_entity_starts_afresh_after_a_panic_and_keeps_its_mailbox() {
    let system = ActorSystem::local("local");
    let mut events = system.events();
    let counter = system.entity::<Counter>("c");
    counter.increment(3).tell().await.unwrap();
    let mut nap = counter.nap(50).into_future();
    assert!(futures_util::poll!(&mut nap).is_pending());
    counter.explode("told".to_owned()).tell().await.unwrap();
    counter.increment(4).tell().await.unwrap();
    assert_eq!(counter.value().await, Ok(4));
    assert_eq!(nap.await, Ok(3));
    let reason = event(&mut events, "a dead letter", |event| match event {
        Event::DeadLetter(dead) => Some(dead.reason.clone()),
        _ => None,
    })
    .await;
    assert_eq!(reason, DeadLetterReason::Panicked("told".to_owned()));
    let asked = counter.explode("asked".to_owned()).await;
    assert_eq!(
        asked,
        Err(AskError::Panicked {
            message: "asked".to_owned()
        })
    );
}

#[tokio::test]
async fn an_entity_that_stops_itself_starts_afresh_with_the_next_message() {
    let system = ActorSystem::local("local");
    let counter = system.entity::<Counter>("c");
    assert_eq!(counter.add(3).await, Ok(3));
    counter.retire().await.unwrap();
    assert_eq!(counter.add(4).await, Ok(4));
}

#[tokio::test]
async fn actors_and_entities_tell_of_their_start_and_stop() {
    let gated = gated();
    let mut events = gated.system.events();
    let counter = gated.system.entity::<Counter>("c");
    counter.add(1).await.unwrap();
    counter.retire().await.unwrap();
    let of_counter = |event: &Event| match event {
        Event::ActorStarted(path) if path.kind == "Counter" => Some(("started", path.id.clone())),
        Event::ActorStopped(path) if path.kind == "Counter" => Some(("stopped", path.id.clone())),
        _ => None,
    };
    let first = event(&mut events, "start", of_counter).await;
    let second = event(&mut events, "stop", of_counter).await;
    assert_eq!(
        (first, second),
        (("started", "c".into()), ("stopped", "c".into()))
    );
}

/// Fails to start while the test says so.
struct Fragile {
    started: u64,
}

/// How often `Fragile` was started. A resource of the system under test.
#[derive(Clone, Default)]
struct Starts(Arc<AtomicU64>);

#[entity(shards = 4)]
impl Fragile {
    #[init]
    async fn open(ctx: &mut Context<Self>) -> Result<Self, String> {
        tokio::task::yield_now().await;
        let started = ctx.resource::<Starts>().0.fetch_add(1, Ordering::SeqCst);
        match ctx.entity_id().as_str() {
            "never" => Err("no disk".to_owned()),
            _ => Ok(Self { started }),
        }
    }

    #[message]
    fn started(&self) -> u64 {
        self.started
    }
}

#[tokio::test]
async fn a_failed_init_is_told_to_the_asker_and_is_left_alone_for_a_while() {
    let Starts(starts) = Starts::default();
    let system = ActorSystem::builder("local")
        .resource(Starts(starts.clone()))
        .start_local()
        .unwrap();
    let fragile = system.entity::<Fragile>("never");
    let error = Err(AskError::Init {
        reason: "no disk".to_owned(),
    });
    assert_eq!(fragile.started().await, error);
    let before = starts.load(Ordering::SeqCst);
    // Refused at once, without another try.
    assert_eq!(fragile.started().await, error);
    assert!(matches!(
        fragile.started().try_tell(),
        Err(TellError::Init { .. })
    ));
    assert_eq!(starts.load(Ordering::SeqCst), before);
    // Tried again when the pause is over.
    let tried = || {
        let (fragile, starts) = (fragile.clone(), starts.clone());
        async move {
            let _ = fragile.started().await;
            starts.load(Ordering::SeqCst)
        }
    };
    eventually("another try", tried, |now| *now > before).await;
    assert!(system.entity::<Fragile>("fine").started().await.is_ok());
}

#[tokio::test]
async fn a_bad_id_is_a_typed_error_at_the_send() {
    let system = ActorSystem::local("local");
    let empty = system.entity::<Counter>("");
    assert!(matches!(empty.value().await, Err(AskError::InvalidId(_))));
    assert!(matches!(
        empty.increment(1).tell().await,
        Err(TellError::InvalidId { .. })
    ));
    let long = system.entity::<Counter>("x".repeat(1025));
    assert!(matches!(
        long.increment(1).try_tell(),
        Err(TellError::InvalidId { .. })
    ));
    assert!(
        system
            .entity::<Counter>("x".repeat(1024))
            .value()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn ids_are_any_string_type() {
    let system = ActorSystem::local("local");
    let id = String::from("a");
    system
        .entity::<Counter>(&id)
        .increment(1)
        .tell()
        .await
        .unwrap();
    system
        .entity::<Counter>(id.as_str())
        .increment(1)
        .tell()
        .await
        .unwrap();
    assert_eq!(system.entity::<Counter>(id).value().await, Ok(2));
}

#[tokio::test]
async fn after_shutdown_everything_says_so() {
    let gated = gated();
    let counter = gated.system.entity::<Counter>("c");
    counter.add(1).await.unwrap();
    gated.system.shutdown().await.unwrap();
    assert_eq!(gated.stops.load(Ordering::SeqCst), 1);
    assert!(counter.value().await.is_err());
    assert_eq!(gated.gate.handled().await, Err(AskError::Stopped));
    let error = gated
        .system
        .entity::<Counter>("d")
        .value()
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::UnknownEntity { .. }), "{error}");
    gated.system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_that_has_to_wait_too_long_says_for_what() {
    let settings = casty::Settings {
        shutdown_timeout: Duration::from_millis(50),
        ..casty::Settings::default()
    };
    let system = ActorSystem::builder("local")
        .settings(settings)
        .start_local()
        .unwrap();
    let counter = system.entity::<Counter>("c");
    let mut nap = counter.nap(60_000).into_future();
    assert!(futures_util::poll!(&mut nap).is_pending());
    let error = system.shutdown().await.unwrap_err();
    assert!(error.to_string().contains("handlers"), "{error}");
}
