//! What handlers of stored entities let out leaves once their records are durable, in order.

use std::sync::Arc;

use casty::{
    persistence::{
        Memory,
        faults::{Faults, Faulty, FaultyStore},
    },
    prelude::*,
    testkit::{STEP_LIMIT, eventually, soon},
};
use tokio::sync::watch;

use crate::types::Order;

/// A system, and its connection to a store that never fails by itself.
struct Bench {
    system: ActorSystem,
    store: Faulty,
    sink: SinkRef,
    clerk: ClerkRef,
    /// How many handlers of the clerk have begun.
    begun: watch::Receiver<u32>,
}

fn start() -> Bench {
    casty_tests::log();
    let store = FaultyStore::new(Arc::new(Memory::new())).connection(1);
    let (begins, begun) = watch::channel(0);
    let builder = ActorSystem::builder("outputs").journal(store.clone());
    let system = builder.resource(Begun(begins)).start_local().unwrap();
    Bench {
        sink: system.spawn(Sink::default()),
        clerk: system.entity::<Clerk>("a"),
        begun,
        store,
        system,
    }
}

impl Bench {
    async fn told(&self) -> Vec<String> {
        soon("the sink", self.sink.all()).await.unwrap()
    }

    /// Waits until so many handlers have begun.
    async fn begun(&self, count: u32) {
        let mut begun = self.begun.clone();
        let begins = begun.wait_for(|begun| *begun >= count);
        soon("the handler begins", begins).await.unwrap();
    }
}

fn silent() -> Faults {
    Faults {
        is_silent: true,
        ..Faults::default()
    }
}

/// How many handlers have begun.
struct Begun(watch::Sender<u32>);

/// Remembers what it is told.
#[derive(Default)]
struct Sink(Vec<String>);

#[actor]
impl Sink {
    #[message]
    fn put(&mut self, text: String) {
        self.0.push(text);
    }

    #[message]
    fn all(&self) -> Vec<String> {
        self.0.clone()
    }

    /// Asks an entity that is about to ask this actor, and is asked by it.
    #[message]
    async fn ask(&mut self, number: u32, clerk: ClerkRef) -> Result<u32, String> {
        clerk.count(number).await.map_err(|error| error.to_string())
    }
}

struct Child(SinkRef);

#[actor]
impl Child {
    #[on_start]
    async fn started(&mut self) {
        self.0.put("child".into()).tell().await.unwrap();
    }

    #[message]
    fn greet(&self) {}
}

/// Lets things out.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Clerk {
    count: u32,
}

#[entity(event_sourced, shards = 20)]
impl Clerk {
    #[message]
    fn act(&self, sink: SinkRef, ctx: &mut Context<Self>) -> Effect<Self, u32> {
        sink.put("told".into()).try_tell().unwrap();
        ctx.emit("emitted");
        ctx.spawn(Child(sink.clone()));
        let work = sink.put("work".into()).into_future();
        ctx.pipe(work, |_| ClerkMsg::Worked {});
        ctx.resource::<Begun>().0.send_modify(|begun| *begun += 1);
        let then = move |_: &Self, _: &mut Context<Self>| {
            sink.put("then".into()).try_tell().unwrap();
        };
        Effect::persist(ClerkEvent::Counted { by: 1 })
            .reply(|clerk: &Self| clerk.count)
            .then(then)
    }

    #[message(internal)]
    fn worked(&self) {}

    /// Says the count, waiting or not.
    #[message]
    async fn say(&self, sink: SinkRef, waits: bool) -> Effect<Self> {
        let put = sink.put(self.count.to_string());
        if waits {
            put.tell().await.unwrap();
        } else {
            put.try_tell().unwrap();
        }
        Effect::persist(ClerkEvent::Counted { by: 1 })
    }

    #[message]
    fn count(&self, by: u32) -> Effect<Self, u32> {
        Effect::persist(ClerkEvent::Counted { by }).reply(|clerk: &Self| clerk.count)
    }

    /// Asks the sink, which may be waiting for an earlier answer of this entity.
    #[message]
    async fn look(&self, sink: SinkRef, ctx: &mut Context<Self>) -> usize {
        ctx.resource::<Begun>().0.send_modify(|begun| *begun += 1);
        sink.all().await.map_or(0, |all| all.len())
    }

    #[event]
    fn counted(&mut self, by: u32) {
        self.count += by;
    }
}

fn emitted(events: &mut casty::event::Events) -> usize {
    let events = std::iter::from_fn(|| events.try_next());
    events
        .filter(|event| matches!(event, Event::Emitted(it) if it.get() == Some(&"emitted")))
        .count()
}

#[tokio::test]
async fn nothing_leaves_before_its_record_is_durable() {
    let bench = start();
    let mut events = bench.system.events();
    assert_eq!(bench.clerk.count(1).await, Ok(1));
    bench.store.set(silent());
    let asking = tokio::spawn(bench.clerk.act(bench.sink.clone()).into_future());
    bench.begun(1).await;
    // Time enough for whatever would leave.
    for _ in 0..100 {
        assert_eq!(bench.told().await, [""; 0]);
    }
    assert_eq!(emitted(&mut events), 0);
    assert!(!asking.is_finished());
    bench.store.set(Faults::default());
    assert_eq!(soon("the answer", asking).await.unwrap(), Ok(2));
    let told = || bench.told();
    let told = eventually("all has left", told, |told| told.len() == 4).await;
    let sorted: std::collections::BTreeSet<_> = told.iter().map(String::as_str).collect();
    assert_eq!(
        sorted,
        ["child", "then", "told", "work"].into_iter().collect()
    );
    assert_eq!(emitted(&mut events), 1);
}

#[tokio::test]
async fn nothing_leaves_whose_record_is_not_stored() {
    let bench = start();
    let mut events = bench.system.events();
    assert_eq!(bench.clerk.count(1).await, Ok(1));
    bench.store.set(Faults {
        not_written: 1.0,
        ..Faults::default()
    });
    let act = || bench.clerk.act(bench.sink.clone());
    let failed = soon("an error", act().into_future()).await;
    assert!(
        matches!(
            failed,
            Err(AskError::NotStored {
                possibly: false,
                ..
            })
        ),
        "{failed:?}"
    );
    bench.store.set(Faults::default());
    let answer = act().retry_for(STEP_LIMIT).into_future();
    assert_eq!(soon("an answer", answer).await, Ok(2));
    let told = || bench.told();
    let told = eventually("what is stored", told, |told| told.len() >= 4).await;
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(emitted(&mut events), 1);
}

#[tokio::test]
async fn what_an_entity_sends_arrives_in_order_whether_it_waits_or_not() {
    let bench = start();
    bench.store.set(Faults {
        delay_max: Duration::from_millis(3),
        ..Faults::default()
    });
    for n in 0..60 {
        let say = bench.clerk.say(bench.sink.clone(), n % 3 == 0);
        say.tell().await.unwrap();
    }
    let told = || bench.told();
    let told = eventually("all is said", told, |told| told.len() == 60).await;
    let expected: Vec<_> = (0..60).map(|n: u32| n.to_string()).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_answer_leaves_while_a_later_handler_waits_for_its_asker() {
    let bench = start();
    assert_eq!(bench.clerk.count(1).await, Ok(1));
    bench.store.set(silent());
    // The sink waits for the clerk, and the clerk, in its next handler, for the sink.
    let ask = bench.sink.ask(1, bench.clerk.clone());
    let asking = tokio::spawn(ask.into_future());
    let mut act = tokio::spawn(bench.clerk.act(bench.sink.clone()).into_future());
    bench.begun(1).await;
    let look = tokio::spawn(bench.clerk.look(bench.sink.clone()).into_future());
    bench.begun(2).await;
    bench.store.set(Faults::default());
    assert!(soon("the first", asking).await.unwrap().is_ok());
    assert!(soon("the second", &mut act).await.unwrap().is_ok());
    assert!(soon("the third", look).await.unwrap().is_ok());
}

#[tokio::test]
async fn the_events_of_a_machine_are_published_once_they_are_durable() {
    let bench = start();
    let mut events = bench.system.events();
    let order = bench.system.entity::<Order>("a");
    order.add().await.unwrap();
    bench.store.set(silent());
    let paying = tokio::spawn(order.pay().into_future());
    // Handled after it.
    let looking = tokio::spawn(order.items().into_future());
    for _ in 0..100 {
        bench.told().await;
        let seen = std::iter::from_fn(|| events.try_next());
        let mut moved = seen.filter(|event| matches!(event, Event::Transition { .. }));
        assert!(moved.next().is_none());
    }
    bench.store.set(Faults::default());
    soon("it is paid", paying).await.unwrap().unwrap();
    assert_eq!(soon("its items", looking).await.unwrap(), Ok(1));
    let moved = async {
        loop {
            if let Some(Event::Transition { .. }) = events.next().await {
                return;
            }
        }
    };
    soon("it is published", moved).await;
}
