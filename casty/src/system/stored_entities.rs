//! Entities that are stored, on a local system: an account that is written by hand against the
//! traits that the macros implement.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    __private::{
        self as private, Actor, DecodeError, EncodeError, Entity, EntityRef, EventSourced, Events,
        FirstState, Handled, Init, Message, Policy, Reply, ReplyVisitor, Storage,
    },
    ActorSystem, AskError, Context, Effect,
    call::Call,
    id::{EntityId, Epoch},
    infra::sync::lock,
    message::codec,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Memory, Page,
        Record, Snapshot, StoredEntity,
    },
    shards::Hosted,
};

#[derive(Default)]
struct Account {
    balance: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum AccountMsg {
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
    /// Deposits, and notes the balance in the resource `Notes` once it is durable.
    Note {
        amount: i64,
    },
    Erase,
    Stop {
        amount: i64,
    },
}

impl Message for AccountMsg {
    fn name(&self) -> &'static str {
        "message"
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<i64>>);

struct Answer(i64);

impl Reply for Answer {
    fn visit<V: ReplyVisitor>(self, visitor: V) -> V::Output {
        visitor.reply(self.0, private::reply::<i64>())
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum AccountEvent {
    Deposited { amount: i64 },
}

impl Events for AccountEvent {
    fn write(&self, out: &mut Vec<u8>) -> Result<(&'static str, u32), EncodeError> {
        codec::encode(self, out)?;
        Ok(("deposited", 1))
    }

    fn read(name: &str, version: u32, bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        match (name, version) {
            ("deposited", 1) => Ok(vec![codec::decode(bytes)?]),
            _ => Err(DecodeError("this code does not know it".to_owned())),
        }
    }
}

impl Account {
    fn deposit(amount: i64) -> Effect<Self, i64> {
        Effect::persist(AccountEvent::Deposited { amount }).reply(|account: &Self| account.balance)
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
        let effect = match message {
            AccountMsg::Deposit { amount } => Self::deposit(amount),
            AccountMsg::Balance => Effect::none().reply(|account: &Self| account.balance),
            AccountMsg::Slow { amount, permits } => {
                let permits = ctx.resource::<Semaphore>().acquire_many(permits).await;
                drop(permits);
                Self::deposit(amount)
            }
            AccountMsg::Fail => {
                private::carry_out(self, ctx, Self::deposit(1000));
                panic!("on purpose");
            }
            AccountMsg::Note { amount } => Self::deposit(amount).then(|account, ctx| {
                lock(&ctx.resource::<Notes>().0).push(account.balance);
            }),
            AccountMsg::Erase => Self::deposit(1).erase(),
            AccountMsg::Stop { amount } => Self::deposit(amount).stop(),
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

    fn apply(&mut self, event: AccountEvent) -> Result<(), DecodeError> {
        let AccountEvent::Deposited { amount } = event;
        self.balance += amount;
        Ok(())
    }
}

#[derive(Clone)]
struct AccountRef(EntityRef<Account>);

impl AccountRef {
    fn send(&self, message: AccountMsg) -> Call<Account, i64> {
        private::call(&self.0, message, private::reply::<i64>())
    }

    fn deposit(&self, amount: i64) -> Call<Account, i64> {
        self.send(AccountMsg::Deposit { amount })
    }

    fn balance(&self) -> Call<Account, i64> {
        self.send(AccountMsg::Balance)
    }
}

fn start(journal: impl Journal) -> ActorSystem {
    let builder = ActorSystem::builder("stored").entity::<Account>();
    let builder = builder.journal(journal).resource(Notes::default());
    builder.resource(Semaphore::new(0)).start_local().unwrap()
}

fn alice(system: &ActorSystem) -> AccountRef {
    system.entity::<Account>("alice")
}

#[tokio::test]
async fn an_entity_is_read_back_by_the_next_system() {
    let store = Memory::new();
    let system = start(store.clone());
    for (amount, balance) in [(5, 5), (10, 15), (-3, 12)] {
        assert_eq!(alice(&system).deposit(amount).await, Ok(balance));
    }
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
    system.shutdown().await.unwrap();
    let system = start(store);
    assert_eq!(alice(&system).balance().await, Ok(12));
    assert_eq!(alice(&system).deposit(1).await, Ok(13));
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
}
