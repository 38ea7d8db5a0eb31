//! The state machines of these tests.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use casty::{
    prelude::*,
    reply::{Later, Promise},
};

/// The cart has nothing of that price.
#[message]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotInCart(pub(crate) u32);

impl fmt::Display for NotInCart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing at {} is in the cart", self.0)
    }
}

impl std::error::Error for NotInCart {}

#[entity(
    name = "behaviors/cart",
    shards = 8,
    backoff = "0s",
    max_restarts = 1000
)]
pub(crate) mod cart {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Empty;

    #[state]
    pub(crate) struct Active {
        prices: Vec<u32>,
    }

    #[state]
    pub(crate) struct CheckedOut {
        paid: u32,
    }

    #[behavior(otherwise = reject)]
    impl Empty {
        #[message]
        fn add(self, price: u32) -> Active {
            Active {
                prices: vec![price],
            }
        }

        #[message]
        fn total(&self) -> u32 {
            0
        }
    }

    #[behavior(otherwise = reject)]
    impl Active {
        #[message]
        fn add(&mut self, price: u32) {
            self.prices.push(price);
        }

        /// How many items are left.
        #[message]
        async fn remove(
            mut self,
            price: u32,
        ) -> Result<(OneOf<Active, Empty>, u32), Stay<Self, NotInCart>> {
            let Some(index) = self.prices.iter().position(|other| *other == price) else {
                return Err(Stay(self, NotInCart(price)));
            };
            self.prices.remove(index);
            match self.prices.len() {
                0 => Ok((Empty.into(), 0)),
                left => Ok((self.into(), left as u32)),
            }
        }

        #[message]
        fn checkout(self) -> (CheckedOut, u32) {
            let paid = self.total();
            (CheckedOut { paid }, paid)
        }

        #[message]
        fn total(&self) -> u32 {
            self.prices.iter().sum()
        }

        /// Panics while it owns the state.
        #[message]
        fn drop_it(self, why: String) -> Empty {
            panic!("{why}");
        }
    }

    #[behavior(otherwise = ignore)]
    impl CheckedOut {
        #[message]
        fn total(&self) -> u32 {
            self.paid
        }

        #[message]
        fn close(self) -> Stop {
            Stop
        }
    }
}

#[entity(name = "behaviors/valve", shards = 8, stash = 3)]
pub(crate) mod valve {
    /// Keeps what comes.
    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Shut {
        passed: Vec<u32>,
    }

    #[state]
    pub(crate) struct Open {
        passed: Vec<u32>,
    }

    #[behavior(otherwise = stash)]
    impl Shut {
        #[message]
        fn open(self) -> Open {
            Open {
                passed: self.passed,
            }
        }

        #[message]
        fn passed(&self) -> Vec<u32> {
            self.passed.clone()
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        /// How many have passed, this message included.
        #[message]
        fn pass(&mut self, number: u32) -> u32 {
            self.passed.push(number);
            self.passed.len() as u32
        }

        #[message]
        fn shut(self) -> Shut {
            Shut {
                passed: self.passed,
            }
        }

        /// A return to the same state is a transition as well.
        #[message]
        fn flush(self) -> Self {
            self
        }

        #[message]
        fn passed(&self) -> Vec<u32> {
            self.passed.clone()
        }
    }
}

/// The hooks that have run.
pub(crate) type Diary = Arc<Mutex<Vec<&'static str>>>;

fn write(diary: &Diary, line: &'static str) {
    diary.lock().unwrap().push(line);
}

#[actor(on_failure = resume, backoff = "0s")]
pub(crate) mod turnstile {
    use super::*;

    #[state(initial)]
    pub(crate) struct Locked {
        pub(crate) diary: Diary,
        pub(crate) coins: u32,
    }

    #[state]
    pub(crate) struct Unlocked {
        diary: Diary,
        coins: u32,
        waiting: Option<Promise<u32>>,
    }

    #[behavior(otherwise = reject)]
    impl Locked {
        #[on_start]
        async fn started(&mut self, ctx: &mut Context<Turnstile>) -> Result<(), String> {
            let _ = ctx.node_id();
            tokio::task::yield_now().await;
            write(&self.diary, "started locked");
            Ok(())
        }

        #[on_restart]
        fn restarted(&self) {
            write(&self.diary, "restarted locked");
        }

        #[on_stop]
        fn stopped(&self) {
            write(&self.diary, "stopped locked");
        }

        #[message]
        fn insert(self) -> Unlocked {
            Unlocked {
                diary: self.diary,
                coins: self.coins + 1,
                waiting: None,
            }
        }

        #[message]
        fn coins(&self) -> u32 {
            self.coins
        }
    }

    #[behavior(otherwise = reject)]
    impl Unlocked {
        #[on_restart]
        fn restarted(&self) {
            write(&self.diary, "restarted unlocked");
        }

        #[on_stop]
        async fn stopped(&mut self) {
            tokio::task::yield_now().await;
            write(&self.diary, "stopped unlocked");
        }

        /// Answered when another message has passed.
        #[message]
        fn await_passage(&mut self) -> Later<u32> {
            let (promise, later) = Promise::new();
            self.waiting = Some(promise);
            later
        }

        /// Answers the waiting asks. Its own answer comes later, too.
        #[message]
        fn pass(self) -> (Locked, Later<u32>) {
            if let Some(promise) = self.waiting {
                promise.reply(self.coins);
            }
            let (promise, later) = Promise::new();
            promise.reply(self.coins);
            let locked = Locked {
                diary: self.diary,
                coins: self.coins,
            };
            (locked, later)
        }

        #[message]
        fn coins(&self) -> u32 {
            self.coins
        }

        /// Panics while it borrows the state.
        #[message]
        fn jam(&mut self) {
            self.coins += 1;
            panic!("jammed");
        }

        /// Panics while it owns the state.
        #[message]
        fn break_off(self) -> Locked {
            panic!("broken off");
        }

        #[message]
        fn dismantle(self) -> Result<Stop, Stay<Self, String>> {
            if self.coins > 1 {
                Ok(Stop)
            } else {
                Err(Stay(self, "not worth it".to_owned()))
            }
        }

        #[message]
        fn retire(&self, ctx: &mut Context<Turnstile>) {
            ctx.stop();
        }
    }
}

/// Goes off by itself after a while, once for each time that it was asked to stay.
#[actor]
pub(crate) mod lamp {
    use super::*;

    #[state(initial)]
    pub(crate) struct Off;

    #[state]
    pub(crate) struct On {
        times: u32,
    }

    #[behavior(otherwise = ignore)]
    impl Off {
        #[message]
        fn switch_on(self, ctx: &mut Context<Lamp>, times: u32) -> On {
            ctx.schedule_once(Duration::from_secs(10), LampMsg::Fade {})
                .detach();
            On { times }
        }

        #[message]
        fn is_on(&self) -> bool {
            false
        }
    }

    #[behavior(otherwise = ignore)]
    impl On {
        #[message(internal)]
        async fn fade(self, ctx: &mut Context<Lamp>) -> OneOf<Self, Off> {
            if self.times == 1 {
                return Off.into();
            }
            ctx.schedule_once(Duration::from_secs(10), LampMsg::Fade {})
                .detach();
            let times = self.times - 1;
            On { times }.into()
        }

        #[message]
        fn is_on(&self) -> bool {
            true
        }
    }
}

/// Begins work, and may be left before its result comes.
#[entity(name = "behaviors/desk", shards = 2)]
pub(crate) mod desk {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Idle;

    #[state]
    pub(crate) struct Busy {
        results: u32,
    }

    #[behavior(otherwise = reject, internal = ignore)]
    impl Idle {
        #[message]
        fn begin(self, ctx: &mut Context<Desk>) -> Busy {
            let work = tokio::time::sleep(Duration::from_secs(1));
            ctx.pipe(work, |()| DeskMsg::Done {});
            Busy { results: 0 }
        }

        #[message]
        fn rate(&self, _stars: u8, why: String) -> String {
            why
        }
    }

    #[behavior(otherwise = ignore)]
    impl Busy {
        #[message]
        fn cancel(self) -> Idle {
            Idle
        }

        #[message]
        fn results(&self) -> u32 {
            self.results
        }

        #[message]
        fn rate(&self, stars: u8, _why: String) -> String {
            stars.to_string()
        }

        #[message(internal)]
        fn done(&mut self) {
            self.results += 1;
        }
    }
}
