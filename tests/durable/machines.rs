//! Event-sourced and durable types, as the macros write them: as plain values in a
//! `testkit::Machine`, and in a system with a journal in memory.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "tests send what a closure names"
)]

use std::sync::{Arc, Mutex};

use casty::{
    persistence::Memory,
    prelude::*,
    testkit::{Machine, eventually},
};

/// What hooks and effects have done, in order.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn note(&self, what: impl Into<String>) {
        self.0
            .lock()
            .expect("no test panics while it notes")
            .push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .expect("no test panics while it notes")
            .clone()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no test panics while it notes"))
    }
}

#[message]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooMuch {
    balance: u64,
}

#[message]
#[derive(Default)]
pub(crate) struct Account {
    balance: u64,
    #[transient]
    asked: u64,
}

#[entity(
    name = "machines/account",
    shards = 4,
    event_sourced,
    snapshot_every = 3
)]
impl Account {
    #[on_start]
    fn started(&mut self) {
        self.asked += 1;
    }

    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { amount }).reply(|account| account.balance)
    }

    #[message]
    async fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, TooMuch> {
        let balance = self.balance;
        if balance < amount {
            return Err(TooMuch { balance });
        }
        let effect = Effect::persist(AccountEvent::Withdrawn { amount });
        Ok(effect
            .reply(|account| account.balance)
            .then(|account, ctx| {
                let balance = account.balance;
                ctx.resource::<Arc<Seen>>()
                    .note(format!("paid out of {balance}"));
            }))
    }

    #[message]
    fn balance(&self) -> (u64, u64) {
        (self.balance, self.asked)
    }

    #[message]
    fn rest(&self) -> Effect<Self> {
        Effect::none().stop()
    }

    #[event]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }

    #[event]
    fn withdrawn(&mut self, amount: u64) {
        self.balance -= amount;
    }
}

/// A lamp that goes off by itself.
#[entity(name = "machines/lamp", shards = 4, event_sourced)]
pub(crate) mod lamp {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Log {
        flips: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Off;

    #[state]
    #[message]
    pub(crate) struct On {
        watts: u32,
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn flips(&self, log: &Log) -> u32 {
            log.flips
        }

        #[message]
        fn rest(&self) -> Effect<Lamp> {
            Effect::none().stop()
        }
    }

    #[behavior]
    impl Off {
        #[on_enter]
        fn entered(&self, ctx: &mut Context<Lamp>) {
            ctx.resource::<Arc<Seen>>().note("off");
        }

        #[message]
        fn flip(&self, watts: u32) -> Effect<Lamp, u32> {
            Effect::persist(LampEvent::LitUp { watts }).reply(move |_| watts)
        }

        #[event]
        fn lit_up(self, watts: u32, log: &mut Log) -> On {
            log.flips += 1;
            On { watts }
        }
    }

    #[behavior]
    impl On {
        #[on_enter]
        #[expect(clippy::unused_async, reason = "a hook that could await something")]
        async fn entered(&self, log: &Log, ctx: &mut Context<Lamp>) {
            let what = format!("on with {}, the {}.", self.watts, log.flips);
            ctx.resource::<Arc<Seen>>().note(what);
        }

        #[on_exit]
        fn left(ctx: &mut Context<Lamp>) {
            ctx.resource::<Arc<Seen>>().note("leaves on");
        }

        /// A pulse: off and on again, as one record.
        #[message]
        fn flip(&self, watts: u32) -> Effect<Lamp, u32> {
            Effect::persist_all([LampEvent::WentOff {}, LampEvent::LitUp { watts }]).reply(|_| 0)
        }

        #[message(internal, after = "200ms")]
        fn time_is_up(&self) -> Effect<Lamp> {
            Effect::persist(LampEvent::WentOff {})
        }

        #[event]
        fn went_off(self) -> Off {
            Off
        }
    }
}

/// A counter that is stored as it is.
#[message]
#[derive(Default)]
pub(crate) struct Counter {
    value: u64,
}

#[entity(name = "machines/counter", shards = 4, durable)]
impl Counter {
    #[message]
    fn increment(&mut self, by: u64, ctx: &mut Context<Self>) -> u64 {
        self.value += by;
        if by == 0 {
            ctx.stop();
        }
        self.value
    }

    #[message]
    fn break_down(&mut self) {
        self.value = 0;
        panic!("on purpose");
    }
}

/// A door that is stored as it is, with its states.
#[entity(name = "machines/door", shards = 4, durable)]
pub(crate) mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Closed;

    #[state]
    #[message]
    pub(crate) struct Open {
        visitors: u32,
    }

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open { visitors: 0 }
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn enter(&mut self) -> u32 {
            self.visitors += 1;
            self.visitors
        }

        #[message]
        fn rest(&self, ctx: &mut Context<Door>) {
            ctx.stop();
        }
    }
}

#[test]
fn effects_are_applied_at_once_without_a_journal() {
    let seen = Arc::<Seen>::default();
    let mut account = Machine::<Account>::new_with(|builder| builder.resource(seen.clone()));
    assert_eq!(account.send(|account| account.deposit(5)), Ok(5));
    let refused = account.send(|account| account.withdraw(7));
    assert_eq!(refused, Err(AskError::Entity(TooMuch { balance: 5 })));
    assert_eq!(account.send(|account| account.withdraw(2)), Ok(3));
    assert_eq!(seen.take(), ["paid out of 3"]);
    assert_eq!(account.send(|account| account.balance()), Ok((3, 1)));

    let mut counter = Machine::<Counter>::new();
    assert_eq!(counter.send(|counter| counter.increment(2)), Ok(2));
    assert_eq!(counter.send(|counter| counter.increment(3)), Ok(5));
}

#[test]
fn events_lead_from_state_to_state_without_a_journal() {
    let seen = Arc::<Seen>::default();
    let mut lamp = Machine::<Lamp>::new_with(|builder| builder.resource(seen.clone()));
    assert_eq!(seen.take(), ["off"]);
    assert_eq!(lamp.send(|lamp| lamp.flip(40)), Ok(40));
    assert_eq!((lamp.state(), lamp.timers().len()), ("On", 1));
    assert_eq!(seen.take(), ["on with 40, the 1."]);

    lamp.advance(Duration::from_millis(150));
    assert_eq!(lamp.send(|lamp| lamp.flip(60)), Ok(0));
    assert_eq!(seen.take(), ["leaves on", "on with 60, the 2."]);
    // The state was entered anew.
    assert_eq!(lamp.timers(), [("time_is_up", Duration::from_millis(200))]);

    lamp.advance(Duration::from_millis(200));
    assert_eq!((lamp.state(), lamp.timers().len()), ("Off", 0));
    assert_eq!(seen.take(), ["leaves on", "off"]);
    assert_eq!(lamp.send(|lamp| lamp.flips()), Ok(2));
}

fn stored() -> (ActorSystem, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let system = ActorSystem::builder("stored-machines")
        .resource(seen.clone())
        .journal(Memory::new())
        .start_local()
        .expect("a local system with a journal in memory");
    (system, seen)
}

#[tokio::test]
async fn an_account_goes_on_where_it_was() {
    let (system, seen) = stored();
    let account = system.entity::<Account>("a");
    for amount in 1..=5 {
        account.deposit(amount).await.expect("a deposit");
    }
    assert_eq!(account.withdraw(4).await, Ok(11));
    account.rest().await.expect("the end of the activation");
    // The transient field is made anew; the balance is read from a snapshot and events.
    assert_eq!(account.balance().await, Ok((11, 1)));
    assert_eq!(seen.take(), ["paid out of 11"]);
}

#[tokio::test]
async fn a_recovered_state_is_not_entered_again_but_its_timers_begin() {
    let (system, seen) = stored();
    let lamp = system.entity::<Lamp>("l");
    assert_eq!(lamp.flip(40).await, Ok(40));
    assert_eq!(seen.take(), ["off", "on with 40, the 1."]);
    lamp.rest().await.expect("the end of the activation");
    assert_eq!(lamp.flips().await, Ok(1));
    // The lamp may have gone off before it rested, on a slow machine, but not twice.
    let is_off = |what: &Vec<String>| what.contains(&"off".to_owned());
    eventually("it goes off", || async { seen.all() }, is_off).await;
    assert_eq!(seen.take(), ["leaves on", "off"]);
    lamp.rest().await.expect("the end of the activation");
    assert_eq!(lamp.state_name().await.as_deref(), Ok("Off"));
    assert!(seen.take().is_empty());
}

#[tokio::test]
async fn a_durable_state_is_that_of_the_last_handler_that_returned() {
    let (system, _) = stored();
    let counter = system.entity::<Counter>("c");
    assert_eq!(counter.increment(2).await, Ok(2));
    counter.break_down().await.expect_err("it panics");
    assert_eq!(counter.increment(3).await, Ok(5));
    counter
        .increment(0)
        .await
        .expect("the end of the activation");
    assert_eq!(counter.increment(1).await, Ok(6));

    let door = system.entity::<Door>("d");
    door.push().await.expect("it opens");
    assert_eq!(door.enter().await, Ok(1));
    door.rest().await.expect("the end of the activation");
    assert_eq!(door.state_name().await.as_deref(), Ok("Open"));
    assert_eq!(door.enter().await, Ok(2));
}
