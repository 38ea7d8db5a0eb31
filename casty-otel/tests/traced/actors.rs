//! What is sent around.

use casty::{
    id::EntityId,
    prelude::*,
    projection::{MemoryTransaction, MemoryView},
    remind::Remind,
};

/// Counts, and knows the ways in which a message can be caused.
#[derive(Default)]
pub(crate) struct Counter {
    value: u64,
}

#[entity(shards = 8)]
impl Counter {
    #[message]
    pub(crate) fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }

    /// The node that it lives on.
    #[message]
    pub(crate) fn home(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    /// Asks another counter, and tells a third.
    #[message]
    pub(crate) async fn pass(&mut self, to: String, tell: String, ctx: &mut Context<Self>) -> u64 {
        let told = ctx.entity::<Counter>(&*tell).add(1).tell().await;
        assert!(told.is_ok());
        ctx.entity::<Counter>(&*to).add(1).await.unwrap_or_default()
    }

    #[message]
    pub(crate) fn later(&mut self, ctx: &mut Context<Self>) {
        let after = Duration::from_millis(1);
        ctx.schedule_once(after, CounterMsg::Once {}).detach();
        ctx.schedule_every(after, || CounterMsg::Again {}).detach();
        ctx.pipe(async { 5 }, |amount| CounterMsg::Piped { amount });
    }

    /// Begins itself anew, each time by a timer that comes once.
    #[message]
    pub(crate) fn chain(&mut self, ctx: &mut Context<Self>) {
        self.value += 1;
        if self.value < 40 {
            let after = Duration::from_millis(1);
            ctx.schedule_once(after, CounterMsg::Chain {}).detach();
        }
    }

    /// So many bytes.
    #[message]
    pub(crate) fn long(&self, bytes: u64) -> Vec<u8> {
        vec![7; usize::try_from(bytes).unwrap_or_default()]
    }

    #[message(internal)]
    fn once(&mut self) {
        self.value += 1;
    }

    #[message(internal)]
    fn again(&mut self) {
        self.value += 1;
    }

    #[message(internal)]
    fn piped(&mut self, amount: u64) {
        self.value += amount;
    }

    #[message]
    pub(crate) fn fail(&mut self) {
        panic!("meant");
    }

    /// The trace in which the handler runs, as its own spans would have it.
    #[message]
    pub(crate) async fn inner(&mut self) -> bool {
        tokio::task::yield_now().await;
        let span = tracing::info_span!(target: "test", "inner");
        let _inside = span.enter();
        !span.is_disabled()
    }
}

/// Pays into accounts.
#[message]
#[derive(Default)]
pub(crate) struct Till {
    sold: u64,
}

#[entity(durable, shards = 8)]
impl Till {
    #[message]
    pub(crate) fn sell(&mut self, account: String, cents: u64, ctx: &mut Context<Self>) {
        self.sold += cents;
        let account = ctx.entity::<Account>(&*account);
        ctx.send(account.deposit(cents));
        let soon = Remind::after(Duration::from_millis(1));
        ctx.remind("close", soon, TillMsg::Close {});
    }

    #[message(internal)]
    fn close(&mut self) {
        self.sold = 0;
    }
}

#[message]
#[derive(Default)]
pub(crate) struct Account {
    cents: u64,
}

#[entity(event_sourced, shards = 8)]
impl Account {
    #[message]
    pub(crate) fn deposit(&self, cents: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::Deposited { cents })
    }

    #[event]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }
}

/// All that was ever deposited.
#[derive(Clone, Default)]
pub(crate) struct Deposits {
    view: MemoryView<u64>,
}

#[casty::projection::projection(of = Account, name = "deposits")]
impl Deposits {
    #[store]
    fn view(&self) -> &MemoryView<u64> {
        &self.view
    }

    #[on]
    fn deposited(&mut self, of: &EntityId, cents: u64, all: &mut MemoryTransaction<u64>) {
        assert!(!of.as_str().is_empty());
        **all += cents;
    }
}
