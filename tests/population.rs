//! A population of entities that fail, stop, passivate and dawdle at random, and the books that
//! must balance.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::{call::Call, id::EntityId, prelude::*, shards::Hosted};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What a message does to the entity that handles it.
#[message]
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// The handler only counts the message.
    Fine,
    /// The handler panics.
    Panic,
    /// The activation stops.
    Stop,
    /// The entity passivates.
    Sleep,
    /// The handler takes a while.
    Dawdle,
}

/// How often each fate comes, out of a thousand messages. The rest is fine.
#[derive(Clone, Copy, Debug)]
pub struct Odds {
    /// [`Fate::Panic`].
    pub panic: u32,
    /// [`Fate::Stop`].
    pub stop: u32,
    /// [`Fate::Sleep`].
    pub sleep: u32,
    /// [`Fate::Dawdle`].
    pub dawdle: u32,
}

impl Odds {
    fn draw(self, rng: &mut StdRng) -> Fate {
        let mut draw = rng.random_range(0..1000);
        for (odds, fate) in [
            (self.panic, Fate::Panic),
            (self.stop, Fate::Stop),
            (self.sleep, Fate::Sleep),
            (self.dawdle, Fate::Dawdle),
        ] {
            if draw < odds {
                return fate;
            }
            draw -= odds;
        }
        Fate::Fine
    }
}

/// Where each message is accounted for.
#[derive(Default)]
pub struct Books {
    /// Messages that a sender tried to send.
    pub sent: AtomicU64,
    /// Handlers that ran to their end.
    pub handled: AtomicU64,
    /// Sends and asks that failed with a typed error.
    pub refused: AtomicU64,
    /// Handlers that received a message of a sender after a later message of it.
    pub out_of_order: AtomicU64,
    /// The last message of each sender that an entity received. Kept if order is checked.
    last: Option<Mutex<HashMap<(String, u32), u64>>>,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books")
            .field("sent", &self.sent)
            .field("handled", &self.handled)
            .field("refused", &self.refused)
            .field("out_of_order", &self.out_of_order)
            .finish_non_exhaustive()
    }
}

static ALL_BOOKS: Mutex<Option<HashMap<u64, Arc<Books>>>> = Mutex::new(None);

impl Books {
    /// The books of a run, made on first use. `ordered`: whether order is checked.
    pub fn of(run: u64, ordered: bool) -> Arc<Self> {
        let mut all = ALL_BOOKS.lock().unwrap_or_else(PoisonError::into_inner);
        let books = all.get_or_insert_default().entry(run);
        let fresh = || {
            Arc::new(Self {
                last: ordered.then(Mutex::default),
                ..Self::default()
            })
        };
        books.or_insert_with(fresh).clone()
    }

    /// What is missing or too much, given the system's dead letters. 0 if the books balance.
    pub fn balance(&self, dead_letters: u64) -> i128 {
        let count = |counter: &AtomicU64| i128::from(counter.load(Ordering::SeqCst));
        count(&self.sent) - count(&self.handled) - count(&self.refused) - i128::from(dead_letters)
    }

    fn look_at_order(&self, entity: &str, sender: u32, number: u64) {
        if let Some(last) = &self.last {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let before = last.insert((entity.to_owned(), sender), number);
            if before.is_some_and(|before| before >= number) {
                self.out_of_order.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// An entity type that can be part of a population.
pub trait Citizen: Hosted<Key = EntityId> {
    /// A message to one of the entities.
    fn live(who: &Self::Ref, run: u64, sender: u32, number: u64, fate: Fate) -> Call<Self, ()>;
}

macro_rules! citizen {
    ($(#[$doc:meta])* $name:ident, $($options:tt)*) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            books: Option<Arc<Books>>,
        }

        #[entity($($options)*)]
        impl $name {
            /// Acts out the message's fate, and enters the message into the books of its run.
            #[message]
            pub async fn live(
                &mut self,
                run: u64,
                sender: u32,
                number: u64,
                fate: Fate,
                ctx: &mut Context<Self>,
            ) {
                let books = self.books.get_or_insert_with(|| Books::of(run, false)).clone();
                books.look_at_order(ctx.entity_id().as_str(), sender, number);
                match fate {
                    Fate::Fine => {}
                    Fate::Panic => panic!("as told"),
                    Fate::Stop => ctx.stop(),
                    Fate::Sleep => ctx.passivate(),
                    Fate::Dawdle => tokio::time::sleep(Duration::from_millis(5)).await,
                }
                books.handled.fetch_add(1, Ordering::SeqCst);
            }
        }

        impl Citizen for $name {
            fn live(
                who: &Self::Ref,
                run: u64,
                sender: u32,
                number: u64,
                fate: Fate,
            ) -> Call<Self, ()> {
                who.live(run, sender, number, fate)
            }
        }
    };
}

citizen!(
    /// Waits for room, restarts, passivates soon.
    Patient,
    shards = 64,
    mailbox = 8,
    max_restarts = 5,
    within = "10s",
    backoff = "10ms",
    backoff_max = "1s",
    passivate_after = "2s"
);
citizen!(
    /// Drops its oldest messages, and few of its kind may be active.
    Hasty,
    shards = 64,
    mailbox = 2,
    overflow = drop_oldest,
    max_restarts = 5,
    within = "10s",
    backoff = "10ms",
    backoff_max = "1s",
    max_active = 16
);
citizen!(
    /// Rejects messages when it is full, and resumes with its state.
    Steady,
    shards = 64,
    mailbox = 2,
    overflow = reject,
    on_failure = resume,
    max_restarts = 5,
    within = "10s",
    backoff = "10ms",
    backoff_max = "1s",
    passivate_after = "100ms"
);

/// A sender of random messages.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The run whose books it keeps.
    pub run: u64,
    /// The number of the sender in the run.
    pub sender: u32,
    /// The seed of its randomness.
    pub seed: u64,
    /// How many entities it sends to.
    pub entities: u32,
    /// The fates of its messages.
    pub odds: Odds,
}

impl Sender {
    /// Sends messages, half of them tells and half asks, while `more` holds. Returns how many.
    ///
    /// # Panics
    /// If an ask times out: no fate is a reason for it.
    pub async fn send<E: Citizen>(
        self,
        system: ActorSystem,
        mut more: impl FnMut(u64) -> bool,
    ) -> u64 {
        let mut rng = StdRng::seed_from_u64(self.seed ^ u64::from(self.sender));
        let books = Books::of(self.run, false);
        let mut number = 0;
        while more(number) {
            let who = system.entity::<E>(rng.random_range(0..self.entities).to_string());
            let fate = self.odds.draw(&mut rng);
            let call = E::live(&who, self.run, self.sender, number, fate);
            books.sent.fetch_add(1, Ordering::SeqCst);
            let failed = if rng.random() {
                call.tell().await.is_err()
            } else {
                match call.timeout(Duration::from_mins(5)).await {
                    Err(AskError::Timeout { .. }) => panic!("an ask was never answered"),
                    answer => answer.is_err(),
                }
            };
            if failed {
                books.refused.fetch_add(1, Ordering::SeqCst);
            }
            number += 1;
        }
        number
    }
}
