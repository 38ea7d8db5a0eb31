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
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    __private::{
        self as private, Actor, DecodeError, EncodeError, Entity, EntityRef, EventSourced, Events,
        FirstState, Handled, Init, Message, Policy, Reply, ReplyVisitor, Storage,
    },
    ActorSystem, AskError, Context, Effect, Event,
    call::Call,
    error::StartError,
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
    /// Persists an event that no code can read.
    Odd,
    /// The last byte of the name of the node.
    Node,
}

impl Message for AccountMsg {
    fn name(&self) -> &'static str {
        "message"
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<i64>>);

/// A permit for each message whose handler has begun.
struct Seen(Semaphore);

struct Answer(i64);

impl Reply for Answer {
    fn visit<V: ReplyVisitor>(self, visitor: V) -> V::Output {
        visitor.reply(self.0, private::reply::<i64>())
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum AccountEvent {
    Deposited { amount: i64 },
    Odd,
}

impl Events for AccountEvent {
    fn write(&self, out: &mut Vec<u8>) -> Result<(&'static str, u32), EncodeError> {
        codec::encode(self, out)?;
        Ok(match self {
            Self::Deposited { .. } => ("deposited", 1),
            Self::Odd => ("odd", 7),
        })
    }

    fn read(name: &str, version: u32, bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        match (name, version) {
            ("deposited", 1) => Ok(vec![codec::decode(bytes)?]),
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
        ctx.resource::<Seen>().0.add_permits(1);
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
            AccountMsg::Node => {
                let name = ctx.node_id().to_string();
                let last = name.bytes().last().map_or(0, i64::from);
                Effect::none().reply(move |_: &Self| last)
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

/// A store whose commits, and failures, a test decides about.
#[derive(Clone)]
struct Faulty(Arc<Faults>);

struct Faults {
    memory: Memory,
    /// A commit takes one.
    commits: Semaphore,
    /// A permit for each commit that has begun.
    begun: Semaphore,
    /// How many records each commit had.
    sizes: Mutex<Vec<usize>>,
    /// How the next commit fails.
    fault: Mutex<Option<Fault>>,
    is_down: AtomicBool,
}

#[derive(Clone, Copy)]
enum Fault {
    NotWritten,
    /// It is written, and the answer is lost.
    Written,
}

impl Faulty {
    fn new(commits: usize) -> Self {
        Self(Arc::new(Faults {
            memory: Memory::new(),
            commits: Semaphore::new(commits),
            begun: Semaphore::new(0),
            sizes: Mutex::default(),
            fault: Mutex::default(),
            is_down: AtomicBool::new(false),
        }))
    }

    /// Lets a commit that waits end, with this fault.
    fn commit(&self, fault: Option<Fault>) {
        *lock(&self.0.fault) = fault;
        self.0.commits.add_permits(1);
    }

    fn up(&self) -> Result<&Memory, JournalError> {
        if self.0.is_down.load(Ordering::Relaxed) {
            let reason = "it is down".to_owned();
            return Err(JournalError::Unavailable { reason });
        }
        Ok(&self.0.memory)
    }
}

async fn take(from: &Semaphore, permits: u32) {
    let taken = tokio::time::timeout(Duration::from_mins(1), from.acquire_many(permits));
    taken.await.expect("in time").unwrap().forget();
}

impl Journal for Faulty {
    fn describe(&self) -> String {
        "a faulty store".to_owned()
    }

    fn only_one_host(&self) -> Option<&'static str> {
        Some("use another one")
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.memory.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(async move { self.up()?.latest_epoch().await })
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move { self.up()?.claim(log, epoch, owner).await })
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(async move {
            let size = batch.iter().map(|append| append.records.len()).sum();
            lock(&self.0.sizes).push(size);
            self.0.begun.add_permits(1);
            self.0.commits.acquire().await.unwrap().forget();
            let reason = "as the test wants".to_owned();
            let fault = lock(&self.0.fault).take();
            match fault {
                Some(Fault::NotWritten) => return Err(AppendError::NotWritten { reason }),
                Some(Fault::Written) => {}
                None => return self.0.memory.append(batch).await,
            }
            self.0.memory.append(batch).await?;
            Err(AppendError::Unknown { reason })
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move { self.up()?.read_entity(log, entity, after, page).await })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move { self.up()?.read_log(log, after, page).await })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move { self.up()?.load(log, entity).await })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.memory.save(log, epoch, entity, snapshot)
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.memory.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move { self.up()?.entities(log, after, limit).await })
    }
}

fn start(journal: impl Journal) -> ActorSystem {
    let builder = ActorSystem::builder("stored").entity::<Account>();
    let builder = builder.journal(journal).resource(Notes::default());
    let builder = builder.resource(Seen(Semaphore::new(0)));
    builder.resource(Semaphore::new(0)).start_local().unwrap()
}

fn resource<T: Send + Sync + 'static>(system: &ActorSystem) -> &T {
    system.0.runtime.resources().get().unwrap()
}

fn alice(system: &ActorSystem) -> AccountRef {
    system.entity::<Account>("alice")
}

/// Asks, and waits until the handler of the message has begun.
#[expect(clippy::disallowed_methods, reason = "tests: tasks of their own")]
async fn handled(
    system: &ActorSystem,
    call: Call<Account, i64>,
) -> JoinHandle<Result<i64, AskError>> {
    let call = call.timeout(Duration::from_mins(1));
    let asked = tokio::spawn(call.into_future());
    take(&resource::<Seen>(system).0, 1).await;
    asked
}

/// Waits until this holds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let holds = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_mins(1), holds).await;
    held.unwrap_or_else(|_| panic!("never: {what}"));
}

fn not_stored(possibly: bool) -> impl Fn(&Result<i64, AskError>) -> bool {
    move |got| matches!(got, Err(AskError::NotStored { possibly: is, .. }) if *is == possibly)
}

fn log_of(id: &str) -> Log {
    Log {
        kind: Account::NAME.into(),
        shard: EntityId::from(id).shard(Account::SHARDS).0,
    }
}

async fn records_of(store: &impl Journal, id: &str) -> Vec<Record> {
    let (log, id) = (log_of(id), EntityId::from(id));
    let page = Page::default();
    store.read_entity(&log, &id, 0, page).await.unwrap()
}

async fn snapshot_of(store: &impl Journal, id: &str) -> Option<Snapshot> {
    store.load(&log_of(id), &EntityId::from(id)).await.unwrap()
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

#[tokio::test]
async fn nothing_leaves_before_the_record_that_it_shows_is_durable() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    let balance = handled(&system, alice(&system).balance()).await;
    take(&store.0.begun, 1).await;
    // Another entity, which the commit does not concern, answers.
    assert_eq!(system.entity::<Account>("bob").balance().await, Ok(0));
    assert!(!deposit.is_finished() && !balance.is_finished());
    store.commit(None);
    assert_eq!(deposit.await.unwrap(), Ok(5));
    assert_eq!(balance.await.unwrap(), Ok(5));
    // Nothing is in flight: a read takes no commit.
    assert_eq!(alice(&system).balance().await, Ok(5));
}

#[tokio::test]
async fn many_that_are_in_flight_are_committed_together() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let mut deposits = Vec::new();
    for _ in 0..100 {
        deposits.push(handled(&system, alice(&system).deposit(1)).await);
    }
    store.0.commits.add_permits(100);
    for (deposit, balance) in deposits.into_iter().zip(1..) {
        assert_eq!(deposit.await.unwrap(), Ok(balance));
    }
    let sizes = lock(&store.0.sizes).clone();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.len() < 5, "{sizes:?}");
}

#[tokio::test]
async fn a_record_that_is_not_stored_fails_what_was_held_and_the_entity_goes_on_from_the_store() {
    let store = Faulty::new(1);
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    take(&resource::<Seen>(&system).0, 1).await;
    let mut held = Vec::new();
    for message in [
        AccountMsg::Deposit { amount: 7 },
        AccountMsg::Balance,
        AccountMsg::Note { amount: 9 },
    ] {
        held.push(handled(&system, alice(&system).send(message)).await);
    }
    store.commit(Some(Fault::NotWritten));
    for held in held {
        let got = held.await.unwrap();
        assert!(not_stored(false)(&got), "{got:?}");
    }
    assert_eq!(alice(&system).balance().await, Ok(5));
    assert!(lock(&resource::<Notes>(&system).0).is_empty());
    store.0.commits.add_permits(1);
    assert_eq!(alice(&system).deposit(1).await, Ok(6));
    assert_eq!(records_of(&store, "alice").await.len(), 2);
}

#[tokio::test]
async fn what_is_stored_although_the_answer_was_lost_is_read_back() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    store.commit(Some(Fault::Written));
    let got = deposit.await.unwrap();
    assert!(got == Ok(5) || not_stored(true)(&got), "{got:?}");
    assert_eq!(alice(&system).balance().await, Ok(5));
}

#[tokio::test]
async fn a_tell_that_is_not_stored_is_a_dead_letter() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let mut events = system.events();
    let dead_letter = async {
        loop {
            if let Some(Event::DeadLetter(letter)) = events.next().await {
                return letter.reason.to_string();
            }
        }
    };
    alice(&system).deposit(5).tell().await.unwrap();
    take(&store.0.begun, 1).await;
    store.commit(Some(Fault::NotWritten));
    let reason = tokio::time::timeout(Duration::from_mins(1), dead_letter);
    let reason = reason.await.expect("in time");
    assert!(reason.contains("is not stored"), "{reason}");
}

#[tokio::test]
async fn a_handler_that_fails_changes_nothing() {
    let store = Memory::new();
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    let failed = alice(&system).send(AccountMsg::Fail).await;
    assert!(
        matches!(failed, Err(AskError::Panicked { .. })),
        "{failed:?}"
    );
    assert_eq!(alice(&system).balance().await, Ok(5));
    assert_eq!(records_of(&store, "alice").await.len(), 1);
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_handler_of_the_next_message() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let deposit = handled(&system, alice(&system).deposit(5)).await;
    let slow = AccountMsg::Slow {
        amount: 1,
        permits: 1,
    };
    let slow = handled(&system, alice(&system).send(slow)).await;
    store.0.commits.add_permits(2);
    assert_eq!(deposit.await.unwrap(), Ok(5));
    assert!(!slow.is_finished());
    resource::<Semaphore>(&system).add_permits(1);
    assert_eq!(slow.await.unwrap(), Ok(6));
}

#[tokio::test]
async fn what_is_to_be_done_after_is_done_once_the_events_are_durable() {
    let store = Faulty::new(0);
    let system = start(store.clone());
    let notes = || lock(&resource::<Notes>(&system).0).clone();
    let note = |amount| alice(&system).send(AccountMsg::Note { amount });
    let first = handled(&system, note(5)).await;
    assert_eq!(notes(), [0; 0]);
    store.commit(None);
    assert_eq!(first.await.unwrap(), Ok(5));
    until("it is noted", async || notes() == [5]).await;
}

#[tokio::test]
async fn an_entity_that_stops_is_read_back_and_one_that_is_erased_begins_anew() {
    let store = Memory::new();
    let system = start(store.clone());
    let send = |message| alice(&system).send(message);
    assert_eq!(send(AccountMsg::Stop { amount: 5 }).await, Ok(5));
    assert_eq!(alice(&system).deposit(1).await, Ok(6));
    assert_eq!(send(AccountMsg::Erase).await, Ok(7));
    assert_eq!(alice(&system).balance().await, Ok(0));
    let is_forgotten = async || {
        let records = records_of(&store, "alice").await;
        records.iter().all(|record| record.body.is_empty())
    };
    until("its records are forgotten", is_forgotten).await;
    assert_eq!(alice(&system).deposit(2).await, Ok(2));
    assert_eq!(send(AccountMsg::Stop { amount: 1 }).await, Ok(3));
    assert_eq!(alice(&system).balance().await, Ok(3));
    let seqs: Vec<_> = records_of(&store, "alice")
        .await
        .iter()
        .map(|it| it.seq)
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_snapshot_is_saved_of_what_is_durable_and_read_before_the_records_after_it() {
    let store = Memory::new();
    let system = start(store.clone());
    for balance in 1..=7 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    let seq = async || {
        snapshot_of(&store, "alice")
            .await
            .map(|snapshot| snapshot.seq)
    };
    until("there is a snapshot", async || seq().await == Some(5)).await;
    // What the snapshot contains is not read: it could not be.
    let (log, id) = (log_of("alice"), EntityId::from("alice"));
    let epoch = records_of(&store, "alice").await[0].epoch;
    store.forget(&log, epoch, &id, 5, false).await.unwrap();
    system.shutdown().await.unwrap();
    let system = start(store.clone());
    assert_eq!(alice(&system).balance().await, Ok(7));
    for balance in 8..=10 {
        assert_eq!(alice(&system).deposit(1).await, Ok(balance));
    }
    until("there is another", async || seq().await == Some(10)).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_its_entity_alone() {
    let store = Memory::new();
    let system = start(store.clone());
    assert_eq!(alice(&system).deposit(5).await, Ok(5));
    assert_eq!(alice(&system).send(AccountMsg::Odd).await, Ok(0));
    system.shutdown().await.unwrap();
    let system = start(store);
    for _ in 0..3 {
        let Err(AskError::Unreadable { reason }) = alice(&system).balance().await else {
            panic!("it was read");
        };
        for part in ["Account/alice", "record 2", "event `odd` of version 7"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
    assert_eq!(system.entity::<Account>("bob").deposit(1).await, Ok(1));
}

#[tokio::test]
async fn while_the_store_is_down_messages_fail_and_afterwards_they_are_handled() {
    let store = Faulty::new(100);
    let system = start(store.clone());
    assert_eq!(
        alice(&system).send(AccountMsg::Stop { amount: 5 }).await,
        Ok(5)
    );
    store.0.is_down.store(true, Ordering::Relaxed);
    // More often than it may fail by itself.
    for _ in 0..3 * Account::POLICY.max_restarts {
        let got = alice(&system).balance().await;
        assert!(
            matches!(got, Err(AskError::StoreUnavailable { .. })),
            "{got:?}"
        );
    }
    store.0.is_down.store(false, Ordering::Relaxed);
    let balance = alice(&system)
        .balance()
        .retry_for(Duration::from_mins(1))
        .await;
    assert_eq!(balance, Ok(5));
}

#[cfg(feature = "testkit")]
#[tokio::test]
async fn a_store_that_does_not_answer_holds_up_no_move() {
    let store = Faulty::new(0);
    let mut nodes = crate::testkit::cluster_of(2, |i| {
        let builder = ActorSystem::builder("stored").node_id(format!("node-{i}"));
        let builder = builder.entity::<Account>().journal(store.clone());
        builder.resource(Seen(Semaphore::new(0)))
    })
    .await;
    let mut ids = (0..).map(|n| format!("account-{n}"));
    let account = loop {
        let account = nodes[0].entity::<Account>(ids.next().unwrap());
        let node = account.send(AccountMsg::Node);
        if node.retry_for(Duration::from_mins(1)).await == Ok(i64::from(b'1')) {
            break account;
        }
    };
    let deposit = account.deposit(5).timeout(Duration::from_mins(1));
    let deposit = deposit.into_future();
    let leaver = nodes.remove(1);
    let leave = async {
        take(&store.0.begun, 1).await;
        leaver.shutdown().await
    };
    let (got, left) = tokio::join!(deposit, leave);
    left.unwrap();
    assert!(not_stored(true)(&got), "{got:?}");
    // Nothing was written.
    let balance = account.balance().retry_for(Duration::from_mins(1));
    assert_eq!(balance.await, Ok(0));
}

#[tokio::test]
async fn a_later_system_on_the_same_store_fences_the_earlier_one() {
    let store = Memory::new();
    let first = start(store.clone());
    assert_eq!(alice(&first).deposit(5).await, Ok(5));
    let second = start(store);
    assert_eq!(alice(&second).deposit(1).await, Ok(6));
    let got = alice(&first).deposit(100).await;
    assert!(not_stored(false)(&got), "{got:?}");
    assert_eq!(alice(&second).deposit(1).await, Ok(7));
}

/// A store that a second host cannot reach.
#[tokio::test]
async fn nodes_on_several_hosts_need_a_store_that_they_share() {
    let store = Faulty::new(0);
    let start = |seeds: &[&str]| {
        let builder = ActorSystem::builder("stored").entity::<Account>();
        builder.journal(store.clone()).seeds(seeds).start()
    };
    let refused = start(&["127.0.0.1:1", "10.1.2.3:4"]).await.unwrap_err();
    let text = refused.to_string();
    for part in ["a faulty store", "10.1.2.3:4", "use another one"] {
        assert!(text.contains(part), "{text}");
    }
    let alone = start(&["127.0.0.2:1"]).await.unwrap();
    alone.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_system_without_a_journal_hosts_no_stored_type() {
    let third = start_without_a_journal();
    assert!(matches!(third, Err(StartError::NoJournal { kinds }) if kinds == [Account::NAME]));
}

fn start_without_a_journal() -> Result<ActorSystem, StartError> {
    ActorSystem::builder("stored")
        .entity::<Account>()
        .start_local()
}
