//! actix: two arbiters, a thread each.

use std::cell::Cell;

use actix::{
    Actor, Addr, Arbiter, ArbiterHandle, Context, Handler, Message, System, dev::SendError,
};

use super::{CAPACITY, THREADS};
use crate::{
    AnyError,
    cases::{Case, Outcome},
    local::{self, Ask, Local, Scale, Tell},
};

#[derive(Default)]
pub(crate) struct Counter {
    value: i64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Increment(i64);

#[derive(Message)]
#[rtype(result = "i64")]
struct Add(i64);

impl Handler<Increment> for Counter {
    type Result = ();

    fn handle(&mut self, Increment(amount): Increment, _: &mut Context<Self>) {
        self.value += amount;
    }
}

impl Handler<Add> for Counter {
    type Result = i64;

    fn handle(&mut self, Add(amount): Add, _: &mut Context<Self>) -> i64 {
        self.value += amount;
        self.value
    }
}

impl Ask for Addr<Counter> {
    async fn ask(&self, amount: i64) -> i64 {
        self.send(Add(amount)).await.expect("an answer")
    }
}

impl Tell for Addr<Counter> {
    async fn tell(&self, amount: i64) {
        let mut message = Increment(amount);
        loop {
            match self.try_send(message) {
                Ok(()) => return,
                Err(SendError::Full(back)) => message = back,
                Err(SendError::Closed(_)) => panic!("the actor is gone"),
            }
            tokio::task::yield_now().await;
        }
    }
}

thread_local! {
    /// The number of this thread's arbiter.
    static ARBITER: Cell<usize> = const { Cell::new(0) };
}

pub(crate) struct Process {
    arbiters: Vec<ArbiterHandle>,
}

impl Local for Process {
    type Counter = Addr<Counter>;

    async fn start() -> Result<Self, AnyError> {
        // The arbiters: the system's own on this thread, and one for each further thread.
        let mut arbiters = vec![System::current().arbiter().clone()];
        for number in 1..THREADS {
            let arbiter = Arbiter::new().handle();
            arbiter.spawn_fn(move || ARBITER.set(number));
            arbiters.push(arbiter);
        }
        Ok(Self { arbiters })
    }

    async fn counter(&self, number: usize) -> Addr<Counter> {
        let make = |context: &mut Context<Counter>| {
            context.set_mailbox_capacity(CAPACITY);
            Counter::default()
        };
        let arbiter = number % THREADS;
        if arbiter == ARBITER.get() {
            Counter::create(make)
        } else {
            Counter::start_in_arbiter(&self.arbiters[arbiter], make)
        }
    }

    fn spawn(&self, number: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.arbiters[number % THREADS].spawn(task);
    }
}

/// The loops run on the first of the arbiters.
pub(crate) fn run(case: Case, scale: Scale) -> Result<Outcome, AnyError> {
    System::new().block_on(local::measure::<Process>(case, scale))
}
