//! An account that is written by hand against the traits that the macros implement, and what tests
//! do with it.

use std::{num::NonZeroU32, sync::Mutex, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    __private::{
        self as private, Actor, DecodeError, EncodeError, Entity, EntityRef, EventSourced, Events,
        FirstState, Handled, Init, Message, Policy, Reply, ReplyVisitor, Storage,
    },
    ActorSystem, AskError, Context, Effect,
    actor::hold,
    call::Call,
    id::EntityId,
    infra::sync::lock,
    message::codec,
    persistence::{Journal, Log, Page, Record, Snapshot},
    shards::Hosted,
    system::stored_entities::gated::take,
    testkit::STEP_LIMIT,
};

#[derive(Default)]
pub(super) struct Account {
    pub(super) balance: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AccountMsg {
    Deposit {
        amount: i64,
    },
    Balance,
    /// Deposits, and waits for this many permits of the resource `Semaphore`.
    Slow {
        amount: i64,
        permits: u32,
    },
    /// Deposits, and panics.
    Fail,
    /// Deposits, as `Slow`, and does this once it is durable.
    After {
        amount: i64,
        permits: u32,
        then: Then,
    },
    Erase,
    Stop {
        amount: i64,
    },
    /// Persists an event of so many bytes.
    Large {
        bytes: usize,
    },
    /// Persists an event that no code can read.
    Odd,
    /// The last byte of the name of the node.
    Node,
}

/// What is done once a deposit is durable.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Then {
    /// Notes the balance in the resource `Notes`.
    Note,
    /// Notes it once all that the account contains is durable.
    NoteWhenAllIs,
    /// Deposits again.
    Raise {
        amount: i64,
    },
    Stop,
    Panic,
}

impl Then {
    fn call(self, account: &Account, ctx: &mut Context<Account>) {
        match self {
            Self::NoteWhenAllIs => {
                let since = tokio::time::Instant::now();
                tokio::task::block_in_place(|| {
                    while !hold::may_send() && since.elapsed() < STEP_LIMIT {
                        std::thread::yield_now();
                    }
                });
                Self::Note.call(account, ctx);
            }
            Self::Note => lock(&ctx.resource::<Notes>().0).push(account.balance),
            Self::Raise { amount } => ctx.raise(AccountMsg::Deposit { amount }),
            Self::Stop => ctx.stop(),
            Self::Panic => panic!("on purpose"),
        }
    }
}

impl Message for AccountMsg {
    const NAMES: &'static [&'static str] = &["message"];

    fn index(&self) -> usize {
        0
    }
}

#[derive(Default)]
pub(super) struct Notes(pub(super) Mutex<Vec<i64>>);

/// A permit for each message whose handler has begun.
pub(super) struct Seen(pub(super) Semaphore);

pub(super) struct Answer(pub(super) i64);

impl Reply for Answer {
    fn visit<V: ReplyVisitor>(self, visitor: V) -> V::Output {
        visitor.reply(self.0, private::reply::<i64>())
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::encode(&self.0, out)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AccountEvent {
    Deposited { amount: i64 },
    Large(String),
    Odd,
}

impl Events for AccountEvent {
    fn write(&self, out: &mut Vec<u8>) -> Result<(&'static str, u32), EncodeError> {
        codec::encode(self, out)?;
        Ok(match self {
            Self::Deposited { .. } => ("deposited", 1),
            Self::Large(_) => ("large", 1),
            Self::Odd => ("odd", 7),
        })
    }

    fn read(name: &str, version: u32, bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        match (name, version) {
            ("deposited" | "large", 1) => Ok(vec![codec::decode(bytes)?]),
            _ => Err(DecodeError("this code does not know it".to_owned())),
        }
    }
}

impl private::EventOf<Account> for AccountEvent {
    fn own(self) -> Self {
        self
    }
}

impl Account {
    pub(super) fn deposit(amount: i64) -> Effect<Self, i64> {
        Effect::persist(AccountEvent::Deposited { amount }).reply(|account: &Self| account.balance)
    }

    async fn slow(amount: i64, permits: u32, ctx: &mut Context<Self>) -> Effect<Self, i64> {
        let permits = ctx.resource::<Semaphore>().acquire_many(permits).await;
        drop(permits);
        Self::deposit(amount)
    }
}

impl Actor for Account {
    type Message = AccountMsg;
    type Ref = AccountRef;
    type Address = EntityRef<Self>;
    type Reply = Answer;

    const NAME: &'static str = "stored entities/Account";
    const POLICY: Policy = Policy {
        backoff: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        ..Policy::DEFAULT
    };
    const SCHEMA: &'static str = "";
    const STORAGE: Storage = Storage::Events;
    const SNAPSHOT_EVERY: u64 = 5;

    fn proxy(address: Self::Address) -> Self::Ref {
        AccountRef(address)
    }

    async fn handle(&mut self, message: AccountMsg, ctx: &mut Context<Self>) -> Handled<Self> {
        ctx.resource::<Seen>().0.add_permits(1);
        let effect = match message {
            AccountMsg::Deposit { amount } => Self::deposit(amount),
            AccountMsg::Balance => Effect::none().reply(|account: &Self| account.balance),
            AccountMsg::Slow { amount, permits } => Self::slow(amount, permits, ctx).await,
            AccountMsg::After {
                amount,
                permits,
                then,
            } => Self::slow(amount, permits, ctx)
                .await
                .then(move |account, ctx| then.call(account, ctx)),
            AccountMsg::Fail => {
                private::carry_out(self, ctx, Self::deposit(1000));
                panic!("on purpose");
            }
            AccountMsg::Erase => Self::deposit(1).erase(),
            AccountMsg::Stop { amount } => Self::deposit(amount).stop(),
            AccountMsg::Node => {
                let name = ctx.node_id().to_string();
                let last = name.bytes().last().map_or(0, i64::from);
                Effect::none().reply(move |_: &Self| last)
            }
            AccountMsg::Large { bytes } => {
                Effect::persist(AccountEvent::Large("x".repeat(bytes))).reply(|_: &Self| 0)
            }
            AccountMsg::Odd => Effect::persist(AccountEvent::Odd).reply(|_: &Self| 0),
        };
        Handled::Reply(Answer(private::carry_out(self, ctx, effect)))
    }
}

impl Init for Account {
    fn init(_: &mut Context<Self>) -> FirstState<'_, Self> {
        FirstState::Now(Ok(Self::default()))
    }
}

impl Entity for Account {
    type Id = EntityId;
    const SHARDS: NonZeroU32 = private::shards(4);

    fn freeze(&self, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        codec::encode(&self.balance, out)?;
        Ok(Self::NAME)
    }

    fn thaw(_: &str, state: &[u8]) -> Result<Self, DecodeError> {
        let balance = codec::decode(state)?;
        Ok(Self { balance })
    }

    fn replay(&mut self, name: &str, version: u32, event: &[u8]) -> Result<(), DecodeError> {
        for event in AccountEvent::read(name, version, event)? {
            self.apply(event)?;
        }
        Ok(())
    }
}

impl Hosted for Account {
    type Key = EntityId;
    type Proxy = AccountRef;
}

impl EventSourced for Account {
    type Event = AccountEvent;

    fn apply(&mut self, event: AccountEvent) -> Result<bool, DecodeError> {
        if let AccountEvent::Deposited { amount } = event {
            self.balance += amount;
        }
        Ok(false)
    }
}

#[derive(Clone)]
pub(super) struct AccountRef(pub(super) EntityRef<Account>);

impl AccountRef {
    pub(super) fn send(&self, message: AccountMsg) -> Call<Account, i64> {
        private::call(&self.0, message, private::reply::<i64>())
    }

    pub(super) fn deposit(&self, amount: i64) -> Call<Account, i64> {
        self.send(AccountMsg::Deposit { amount })
    }

    pub(super) fn balance(&self) -> Call<Account, i64> {
        self.send(AccountMsg::Balance)
    }
}

pub(super) fn start(journal: impl Journal) -> ActorSystem {
    let builder = ActorSystem::builder("stored").entity::<Account>();
    let builder = builder.journal(journal).resource(Notes::default());
    let builder = builder.resource(Seen(Semaphore::new(0)));
    builder.resource(Semaphore::new(0)).start_local().unwrap()
}

pub(super) fn resource<T: Send + Sync + 'static>(system: &ActorSystem) -> &T {
    system.0.runtime.resources().get().unwrap()
}

/// Deposits, and notes the balance once it is durable.
pub(super) fn note(amount: i64) -> AccountMsg {
    AccountMsg::After {
        amount,
        permits: 0,
        then: Then::Note,
    }
}

pub(super) fn alice(system: &ActorSystem) -> AccountRef {
    system.entity::<Account>("alice")
}

/// Asks, and waits until the handler of the message has begun.
#[expect(clippy::disallowed_methods, reason = "tests: tasks of their own")]
pub(super) async fn handled(
    system: &ActorSystem,
    call: Call<Account, i64>,
) -> JoinHandle<Result<i64, AskError>> {
    let call = call.timeout(Duration::from_mins(1));
    let asked = tokio::spawn(call.into_future());
    take(&resource::<Seen>(system).0, 1).await;
    asked
}

pub(super) fn not_stored(possibly: bool) -> impl Fn(&Result<i64, AskError>) -> bool {
    move |got| matches!(got, Err(AskError::NotStored { possibly: is, .. }) if *is == possibly)
}

pub(super) fn log_of(id: &str) -> Log {
    Log {
        kind: Account::NAME.into(),
        shard: EntityId::from(id).shard(Account::SHARDS).0,
    }
}

pub(super) async fn records_of(store: &impl Journal, id: &str) -> Vec<Record> {
    let (log, id) = (log_of(id), EntityId::from(id));
    let page = Page {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    store.read_entity(&log, &id, 0, page).await.unwrap()
}

pub(super) async fn snapshot_of(store: &impl Journal, id: &str) -> Option<Snapshot> {
    store.load(&log_of(id), &EntityId::from(id)).await.unwrap()
}
