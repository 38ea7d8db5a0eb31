//! Handlers are stood in for by futures under a [`Holding`]; the store, by a [`Progress`] that a
//! test confirms or fails by hand.

use casty::{
    Context,
    prelude::*,
    reply::{Later, Promise},
};
use futures_util::poll;

use crate::actor::{Address as _, cell::Cell, hold::*};

/// Remembers what it is told.
#[derive(Default)]
struct Sink {
    numbers: Vec<u32>,
    /// Its promises, for the test.
    promises: Arc<Mutex<Vec<Promise<u32>>>>,
    /// It works until it is notified.
    ends: Arc<Notify>,
}

#[actor(mailbox = 1)]
impl Sink {
    #[message]
    fn put(&mut self, number: u32) {
        self.numbers.push(number);
    }

    #[message]
    fn all(&self) -> Vec<u32> {
        self.numbers.clone()
    }

    #[message]
    async fn work(&mut self) {
        self.ends.notified().await;
    }

    #[message]
    fn promise(&mut self) -> Later<u32> {
        let (promise, later) = Promise::new();
        lock(&self.promises).push(promise);
        later
    }
}

struct Store {
    system: ActorSystem,
    progress: Arc<Progress>,
    outlet: Arc<Outlet>,
    sink: SinkRef,
    promises: Arc<Mutex<Vec<Promise<u32>>>>,
    ends: Arc<Notify>,
}

fn store() -> Store {
    let system = ActorSystem::local("app");
    let progress = Progress::new(0);
    let sink = Sink::default();
    Store {
        outlet: Outlet::new(progress.clone(), Handle::current()),
        progress,
        promises: sink.promises.clone(),
        ends: sink.ends.clone(),
        sink: system.spawn(sink),
        system,
    }
}

impl Store {
    /// Runs a handler that has seen the record `applied`. Returns what it lets out.
    async fn turn(&self, applied: u64, handler: impl Future<Output = ()>) -> Vec<Box<dyn Leave>> {
        let holding = Holding::new(&self.outlet, applied);
        holding.lets(handler).await;
        holding.take()
    }

    fn confirm(&self, seq: u64) {
        self.progress.confirm(seq, seq);
        self.progress.changed().notify_waiters();
    }

    fn fail(&self) {
        self.progress.fail(NotStored {
            reason: "the disk is full".to_owned(),
            missing: Vec::new(),
            possibly: false,
        });
        self.progress.changed().notify_waiters();
    }

    /// The promises of the sink, once there are so many.
    async fn promised(&self, count: usize) -> Vec<Promise<u32>> {
        while lock(&self.promises).len() < count {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *lock(&self.promises))
    }

    async fn told(&self) -> Vec<u32> {
        self.sink.all().await.unwrap()
    }

    /// A context as of a handler.
    fn context(&self) -> Context<Sink> {
        Context::new(cell(&self.sink))
    }
}

fn cell(sink: &SinkRef) -> Arc<Cell<Sink>> {
    let who: &ActorRef<Sink> = sink.as_ref();
    let found = who.runtime().actor(who.key().1).unwrap();
    found.into_any().downcast().unwrap()
}

fn leave(outputs: Vec<Box<dyn Leave>>) {
    outputs.into_iter().for_each(Leave::leave);
}

fn lose(outputs: Vec<Box<dyn Leave>>) {
    let why = Failure::Full;
    for output in outputs {
        output.lose(&why);
    }
}

#[tokio::test]
async fn what_is_told_without_waiting_leaves_with_its_turn() {
    let store = store();
    let turn = store.turn(0, async {
        store.sink.put(1).try_tell().unwrap();
    });
    let outputs = turn.await;
    assert_eq!(store.told().await, [0; 0]);
    leave(outputs);
    assert_eq!(store.told().await, [1]);
    assert!(!is_on(), "the flag outlives the handler");
}

#[tokio::test]
async fn an_awaited_tell_and_an_ask_wait_for_what_the_handler_has_seen() {
    let store = store();
    let mut handler = pin!(store.turn(1, async {
        store.sink.put(1).tell().await.unwrap();
        assert_eq!(store.sink.all().await, Ok(vec![1]));
    }));
    assert!(poll!(handler.as_mut()).is_pending());
    assert_eq!(store.told().await, [0; 0]);
    store.confirm(1);
    assert!(handler.await.is_empty());
    // A turn that has seen only what is durable.
    let turn = store.turn(1, async { store.sink.put(2).tell().await.unwrap() });
    turn.await;
    assert_eq!(store.told().await, [1, 2]);
}

#[tokio::test]
async fn what_waits_for_a_record_that_is_not_stored_is_not_sent() {
    let store = store();
    let mut handler = pin!(store.turn(1, async {
        let told = store.sink.put(1).tell().await;
        assert!(matches!(told, Err(TellError::NotStored { .. })), "{told:?}");
        let asked = store.sink.all().await;
        assert!(
            matches!(
                asked,
                Err(AskError::NotStored {
                    possibly: false,
                    ..
                })
            ),
            "{asked:?}"
        );
    }));
    assert!(poll!(handler.as_mut()).is_pending());
    store.fail();
    handler.await;
    assert_eq!(store.told().await, [0; 0]);
}

#[tokio::test]
async fn an_ask_that_the_store_keeps_waiting_ends_in_time_and_was_not_sent() {
    let store = store();
    let handler = store.turn(1, async {
        let ask = store.sink.put(1).timeout(Duration::from_millis(1));
        let asked = ask.await;
        assert!(
            matches!(asked, Err(AskError::NotStored { .. })),
            "{asked:?}"
        );
    });
    handler.await;
    store.confirm(1);
    assert_eq!(store.told().await, [0; 0]);
}

#[tokio::test]
async fn a_handler_sends_in_order_whether_it_waits_or_not() {
    let store = store();
    let mut handler = pin!(store.turn(1, async {
        store.sink.put(1).try_tell().unwrap();
        store.sink.put(2).tell().await.unwrap();
        store.sink.put(3).try_tell().unwrap();
        assert_eq!(store.sink.all().await, Ok(vec![1, 2, 3]));
        store.sink.put(4).try_tell().unwrap();
    }));
    assert!(poll!(handler.as_mut()).is_pending());
    assert_eq!(store.told().await, [0; 0]);
    store.confirm(1);
    let outputs = handler.await;
    assert_eq!(store.told().await, [1, 2, 3]);
    leave(outputs);
    assert_eq!(store.told().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_later_turn_does_not_overtake_an_earlier_one_that_is_still_held() {
    let store = store();
    let try_tell = |number| {
        let sink = store.sink.clone();
        async move { sink.put(number).try_tell().unwrap() }
    };
    let first = store.turn(0, try_tell(1)).await;
    let second = store.turn(1, try_tell(2)).await;
    let mut third = pin!(store.turn(2, async { store.sink.put(3).tell().await.unwrap() }));
    assert!(poll!(third.as_mut()).is_pending());
    store.confirm(1);
    assert!(poll!(third.as_mut()).is_pending());
    assert_eq!(store.told().await, [0; 0]);
    store.confirm(2);
    third.await;
    assert_eq!(store.told().await, [1, 2, 3]);
    leave(first);
    leave(second);
    assert_eq!(store.told().await, [1, 2, 3], "twice");
}

#[tokio::test]
async fn a_full_target_holds_up_what_comes_after_it() {
    let store = store();
    let other = store.system.spawn(Sink::default());
    store.sink.work().tell().await.unwrap();
    // It works, and one message more fills its mailbox.
    while store.sink.put(0).try_tell().is_ok() {
        tokio::task::yield_now().await;
    }
    let told = other.clone();
    let outputs = store.turn(0, async {
        store.sink.put(1).try_tell().unwrap();
        store.sink.put(2).try_tell().unwrap();
        told.put(3).try_tell().unwrap();
    });
    leave(outputs.await);
    let mut next = pin!(store.turn(0, async { store.sink.put(4).tell().await.unwrap() }));
    assert!(poll!(next.as_mut()).is_pending());
    assert_eq!(other.all().await, Ok(vec![]));
    store.ends.notify_one();
    next.await;
    let told = store.told().await;
    assert_eq!(told[told.len() - 3..], [1, 2, 4]);
    assert_eq!(other.all().await, Ok(vec![3]));
}

#[tokio::test]
async fn the_queue_has_a_bound() {
    let store = store();
    let outputs = store.turn(0, async {
        for number in 0..QUEUED_MAX {
            let number = u32::try_from(number).unwrap();
            store.sink.put(number).try_tell().unwrap();
        }
        let told = store.sink.put(0).try_tell();
        assert!(matches!(told, Err(TellError::Full(_))), "{told:?}");
    });
    leave(outputs.await);
    let outputs = store.turn(0, async {
        store.sink.put(1).tell().await.unwrap();
        store.sink.put(2).try_tell().unwrap();
    });
    leave(outputs.await);
    assert_eq!(store.told().await.len(), QUEUED_MAX + 2);
}

#[tokio::test]
async fn a_promise_that_a_handler_keeps_or_drops_is_held() {
    let store = store();
    let mut kept = pin!(store.sink.promise().into_future());
    let mut dropped = pin!(store.sink.promise().into_future());
    assert!(poll!(kept.as_mut()).is_pending());
    assert!(poll!(dropped.as_mut()).is_pending());
    let promises = store.promised(2).await;
    // Its handler has not ended: nothing would leave by itself.
    let (open, later) = Promise::new();
    let outputs = store.turn(0, async {
        open.reply(3);
        let mut promises = promises.into_iter();
        promises.next().unwrap().reply(7);
        drop(promises);
    });
    let outputs = outputs.await;
    let (settled, settles) = oneshot::channel();
    later.settle(move |kept| drop(settled.send(kept)));
    let mut settles = pin!(settles);
    for _ in 0..10 {
        tokio::task::yield_now().await;
        assert!(poll!(kept.as_mut()).is_pending());
        assert!(poll!(dropped.as_mut()).is_pending());
        assert!(poll!(settles.as_mut()).is_pending());
    }
    leave(outputs);
    assert_eq!(kept.await, Ok(7));
    assert_eq!(dropped.await, Err(AskError::Stopped));
    assert_eq!(settles.await.unwrap(), Ok(3));
}

#[derive(Default)]
struct Child;

#[actor]
impl Child {
    #[on_start]
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.emit("started");
    }

    #[message]
    fn greet(&self) {}
}

/// The texts that were emitted so far.
fn emitted(events: &mut crate::event::Events) -> Vec<&'static str> {
    let mut texts = Vec::new();
    while let Some(event) = events.try_next() {
        if let Event::Emitted(emitted) = event {
            texts.extend(emitted.get::<&'static str>());
        }
    }
    texts
}

#[tokio::test]
async fn children_work_and_events_begin_with_the_record_of_their_turn() {
    let store = store();
    let mut events = store.system.events();
    let mut ctx = store.context();
    let (begun, mut begins) = oneshot::channel();
    let outputs = store.turn(0, async {
        ctx.emit("emitted");
        ctx.spawn(Child).greet().try_tell().unwrap();
        ctx.pipe(async { begun.send(()).unwrap() }, |()| SinkMsg::All {});
    });
    let outputs = outputs.await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
        assert_eq!(emitted(&mut events), [""; 0]);
        assert!(poll!(&mut begins).is_pending());
    }
    leave(outputs);
    begins.await.unwrap();
    let mut texts = Vec::new();
    while texts.len() < 2 {
        tokio::task::yield_now().await;
        texts.extend(emitted(&mut events));
    }
    texts.sort_unstable();
    assert_eq!(texts, ["emitted", "started"]);
}

#[tokio::test]
async fn a_turn_that_is_not_stored_lets_nothing_out() {
    let store = store();
    let mut events = store.system.events();
    let mut ctx = store.context();
    let mut asking = pin!(store.sink.promise().into_future());
    assert!(poll!(asking.as_mut()).is_pending());
    let promise = store.promised(1).await.remove(0);
    let (begun, begins) = oneshot::channel::<()>();
    let mut child = None;
    let outputs = store.turn(0, async {
        ctx.emit("emitted");
        child = Some(ctx.spawn(Child));
        ctx.pipe(async { begun.send(()).unwrap() }, |()| SinkMsg::All {});
        store.sink.put(1).try_tell().unwrap();
        promise.reply(7);
    });
    lose(outputs.await);
    assert!(begins.await.is_err(), "the work has begun");
    assert_eq!(asking.await, Err(AskError::Full));
    let child = child.unwrap();
    assert_eq!(child.greet().await, Err(AskError::Stopped));
    assert_eq!(store.told().await, [0; 0]);
    assert_eq!(emitted(&mut events), [""; 0]);
    assert_eq!(store.system.dead_letters(), 1, "the message that was told");
}

#[tokio::test]
async fn a_turn_whose_run_is_dropped_takes_what_it_has_queued_along() {
    let store = store();
    {
        let mut dropped = pin!(store.turn(1, async {
            store.sink.put(1).try_tell().unwrap();
            store.sink.put(2).tell().await.unwrap();
        }));
        assert!(poll!(dropped.as_mut()).is_pending());
    }
    store.confirm(1);
    let next = store.turn(1, async { store.sink.put(3).tell().await.unwrap() });
    next.await;
    assert_eq!(store.told().await, [3]);
}

#[tokio::test]
async fn a_shard_envelope_of_a_handler_keeps_its_place() {
    let store = store();
    let shards = store.system.shards::<Target>();
    let put = |number| ShardEnvelope::new("a", TargetMsg::Put { number });
    let target = store.system.entity::<Target>("a");
    let mut handler = pin!(store.turn(1, async {
        shards.try_tell(put(1)).unwrap();
        target.put(2).tell().await.unwrap();
        shards.tell(put(3)).await.unwrap();
        shards.try_tell(put(4)).unwrap();
    }));
    assert!(poll!(handler.as_mut()).is_pending());
    assert_eq!(target.all().await, Ok(vec![]));
    store.confirm(1);
    leave(handler.await);
    assert_eq!(target.all().await, Ok(vec![1, 2, 3, 4]));
}

#[derive(Default)]
struct Target(Vec<u32>);

#[entity]
impl Target {
    #[message]
    fn put(&mut self, number: u32) {
        self.0.push(number);
    }

    #[message]
    fn all(&self) -> Vec<u32> {
        self.0.clone()
    }
}
