//! The flight recorder, and replays of what it has recorded.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use casty::{
    prelude::*,
    recorder::Recording,
    testkit::{self, Replayed, replay_with},
};

use crate::support::{node, soon};

/// Counts what reaches the outside world.
#[derive(Default)]
struct World(AtomicUsize);

impl World {
    fn notice(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Prices;

#[entity(name = "recorder/prices")]
impl Prices {
    #[message]
    fn of(&self, item: String, ctx: &mut Context<Self>) -> Result<u64, String> {
        ctx.resource::<Arc<World>>().notice();
        match item.as_str() {
            "tea" => Ok(300),
            other => Err(format!("there is no {other}")),
        }
    }

    #[message]
    async fn never(&self) {
        tokio::time::sleep(Duration::from_secs(4)).await;
    }

    #[message]
    fn sold(&mut self, item: String, ctx: &mut Context<Self>) {
        let _ = item;
        ctx.resource::<Arc<World>>().notice();
    }
}

struct Porter;

#[actor]
impl Porter {
    #[on_start]
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.resource::<Arc<World>>().notice();
    }

    #[message]
    fn rest(&self) {}
}

#[message]
#[derive(Default)]
struct Basket {
    cents: u64,
    items: HashMap<String, u32>,
    seen: HashSet<String>,
    fetched: u32,
    ticks: u32,
}

#[entity(name = "recorder/basket", record = 8)]
impl Basket {
    /// Asks, tells, spawns, pipes and begins a timer.
    #[message]
    async fn put(&mut self, item: String, ctx: &mut Context<Self>) -> Result<u64, String> {
        let prices = ctx.entity::<Prices>("today");
        let price = prices.of(item.clone()).await.map_err(|error| match error {
            AskError::Entity(reason) => reason,
            error => error.to_string(),
        })?;
        prices
            .sold(item.clone())
            .tell()
            .await
            .map_err(|error| error.to_string())?;
        let _ = prices.sold(item.clone()).try_tell();
        ctx.spawn(Porter);
        let world = ctx.resource::<Arc<World>>().clone();
        let fetch = async move { world.notice() };
        ctx.pipe(fetch, |()| BasketMsg::Fetched { pages: vec![1] });
        ctx.schedule_once(Duration::from_secs(1), BasketMsg::Tick {})
            .detach();
        self.cents += price;
        *self.items.entry(item.clone()).or_default() += 1;
        self.seen.insert(item);
        Ok(self.cents)
    }

    /// Gives an answer up that does not come.
    #[message]
    async fn hurry(&mut self, ctx: &mut Context<Self>) -> u32 {
        let prices = ctx.entity::<Prices>("slow");
        let waited = tokio::time::timeout(Duration::from_secs(3), prices.never().into_future());
        if waited.await.is_err() {
            self.ticks += 10;
        }
        let late = prices.never().timeout(Duration::from_millis(100)).await;
        if matches!(late, Err(AskError::Timeout { .. })) {
            self.ticks += 1;
        }
        self.ticks
    }

    #[message(internal)]
    fn fetched(&mut self, pages: Vec<u32>) {
        self.fetched += pages.len() as u32;
    }

    #[message(internal)]
    fn tick(&mut self) {
        self.ticks += 1;
    }

    #[message]
    fn note(&mut self, name: String) -> usize {
        self.seen.insert(name);
        self.seen.len()
    }

    #[message]
    fn cents(&self) -> u64 {
        self.cents
    }

    #[message]
    fn fail(&mut self, why: String) {
        self.cents += 1;
        panic!("{why}");
    }
}

fn world() -> Arc<World> {
    Arc::default()
}

async fn recorded(system: &ActorSystem, kind: &str) -> Recording {
    let recording = system.recording(kind, "b").await.unwrap();
    recording.expect("it is recorded")
}

fn replayed<E: Entity>(recording: &Recording) -> Replayed {
    let bytes = recording.to_bytes();
    let recording = Recording::from_bytes(&bytes).unwrap();
    replay_with::<E>(&recording, |builder| builder.resource(world()))
}

/// Runs a test, and returns what it has recorded.
fn record(test: impl AsyncFnOnce(&ActorSystem) -> Recording) -> Recording {
    testkit::paused_with(
        |builder| builder.resource(world()),
        async |system| test(&system).await,
    )
}

#[test]
fn a_replay_answers_from_the_recording_and_lets_nothing_out() {
    let recording = record(async |system| {
        let basket = system.entity::<Basket>("b");
        assert_eq!(basket.put("tea".to_owned()).await, Ok(300));
        let refused = basket.put("gold".to_owned()).await;
        assert_eq!(
            refused,
            Err(AskError::Entity("there is no gold".to_owned()))
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(basket.cents().await, Ok(300));
        recorded(system, "recorder/basket").await
    });
    let outside = world();
    let again = replay_with::<Basket>(&recording, |builder| builder.resource(outside.clone()));
    again.expect_same();
    // What the pipe has fetched has no wire form: from there on there is another section.
    assert_eq!(again.messages(), 4, "{again}\n{recording}");
    assert_eq!(again.skipped().len(), 1, "{again}");
    assert!(
        again.skipped()[0].contains("`fetched` has no wire form"),
        "{again}"
    );
    assert_eq!(outside.0.load(Ordering::SeqCst), 0, "something got out");
    let shown = recording.to_string();
    for part in [
        "put {item: \"tea\"}: replies {Ok: 300}",
        "asks recorder/prices/today `of {item: \"tea\"}`: {Ok: 300}",
        "asks recorder/prices/today `of {item: \"gold\"}`: {Err: \"there is no gold\"}",
        "tick from itself, by a timer: replies none",
        "fetched (with arguments that are not recorded) from itself, by work",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn an_answer_that_did_not_come_does_not_come_again() {
    let recording = record(async |system| {
        let basket = system.entity::<Basket>("b");
        assert_eq!(basket.hurry().await, Ok(11));
        recorded(system, "recorder/basket").await
    });
    let shown = recording.to_string();
    assert!(
        shown.contains("`never`: no answer yet") && shown.contains("`never`: no answer in time"),
        "{shown}"
    );
    let again = replayed::<Basket>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), 1);
}

#[test]
fn the_last_messages_are_kept_with_the_state_before_them() {
    let recording = record(async |system| {
        let basket = system.entity::<Basket>("b");
        for n in 0..100 {
            assert_eq!(basket.note(format!("item {n}")).await, Ok(n + 1));
        }
        recorded(system, "recorder/basket").await
    });
    assert!((8..=16).contains(&recording.turns()), "{recording}");
    let last = recording.sections.last().unwrap().turns.last().unwrap();
    assert_eq!(last.shown(), "note {name: \"item 99\"}");
    // The set is written in another order.
    let again = replayed::<Basket>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), recording.turns());
}

/// The basket of a later version, in which something has changed.
#[message]
#[derive(Default)]
struct Changed {
    cents: u64,
    items: HashMap<String, u32>,
    seen: HashSet<String>,
    fetched: u32,
    ticks: u32,
}

#[entity(name = "recorder/changed", record = 8)]
impl Changed {
    #[message]
    async fn put(&mut self, item: String, ctx: &mut Context<Self>) -> Result<u64, String> {
        let prices = ctx.entity::<Prices>("today");
        let price = prices.of(item.to_uppercase()).await;
        self.cents += price.unwrap_or_default();
        Ok(self.cents)
    }

    #[message]
    fn note(&mut self, name: String) -> usize {
        self.fetched += u32::from(name == "item 3");
        self.seen.insert(name);
        self.seen.len()
    }

    #[message]
    fn cents(&self) -> u64 {
        self.cents + 1
    }

    #[message]
    fn fail(&mut self, why: String) {
        self.cents += 1;
        drop(why);
    }
}

#[test]
fn the_first_difference_is_named() {
    let difference = |test: &'static str| {
        let recording = record(async |system| {
            let basket = system.entity::<Basket>("b");
            match test {
                "state" => {
                    for n in 0..5 {
                        basket.note(format!("item {n}")).await.unwrap();
                    }
                }
                "reply" => drop(basket.cents().await),
                "ask" => drop(basket.put("tea".to_owned()).await),
                _ => drop(basket.fail("on purpose".to_owned()).await),
            }
            match test {
                "panic" => {
                    let failed = system.failed_recording("recorder/basket", "b").await;
                    failed.unwrap().expect("it has failed")
                }
                _ => recorded(system, "recorder/basket").await,
            }
        });
        let replayed = replayed::<Changed>(&recording);
        replayed
            .difference()
            .expect("the code has changed")
            .to_string()
    };
    assert_eq!(
        difference("state"),
        "message 4, `note {name: \"item 3\"}`: the state after it is another: `fetched` is 1, it was 0"
    );
    assert_eq!(
        difference("reply"),
        "message 1, `cents`: it replies 1; in the recording it replies 0"
    );
    assert_eq!(
        difference("ask"),
        "message 1, `put {item: \"tea\"}`: it asks recorder/prices/today `of {item: \"TEA\"}`; in the \
         recording it asks recorder/prices/today `of {item: \"tea\"}`"
    );
    assert_eq!(
        difference("panic"),
        "message 1, `fail {why: \"on purpose\"}`: it replies none; in the recording it panics: on purpose"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_writes_a_file_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("recordings");
    let node = node("n1").resource(world()).recordings(&files);
    let node = node.start().await.unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    let basket = node.entity::<Basket>("../b");
    basket.note("x".to_owned()).await.unwrap();
    assert!(basket.fail("on purpose".to_owned()).await.is_err());
    let written = async {
        loop {
            let file = std::fs::read_dir(&files)
                .ok()
                .and_then(|mut all| all.next());
            if let Some(Ok(file)) = file
                && let Ok(recording) = Recording::read(file.path())
            {
                return (file.file_name().into_string().unwrap(), recording);
            }
            tokio::task::yield_now().await;
        }
    };
    let (name, recording) = soon("it is written", written).await;
    assert!(name.ends_with("-recorder_basket-.._b.casty"), "{name}");
    assert_eq!(
        (recording.why.as_str(), recording.turns()),
        ("it failed: on purpose", 2)
    );
    assert_eq!(recording.node, "n1");
    // The next activation begins anew, and so does what is recorded of it.
    basket.note("y".to_owned()).await.unwrap();
    let now = node
        .recording("recorder/basket", "../b")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(now.sections.len(), 2, "{now}");
    node.shutdown().await.unwrap();
}

/// Neither recorded nor with a wire form.
#[derive(Default)]
struct Plain {
    level: i64,
}

#[entity(name = "recorder/plain")]
impl Plain {
    #[message]
    fn add(&mut self, amount: i64) -> i64 {
        self.level += amount;
        self.level
    }
}

#[test]
fn one_entity_is_recorded_while_it_is_asked_for() {
    let recording = record(async |system| {
        let (plain, other) = (system.entity::<Plain>("b"), system.entity::<Plain>("c"));
        plain.add(1).await.unwrap();
        let of = async |id: &str| system.recording("recorder/plain", id).await.unwrap();
        assert!(of("b").await.is_none());
        let report = system.record("recorder/plain", "b", Some(5)).await.unwrap();
        assert_eq!((report.messages, report.messages_kept), (0, 5));
        plain.add(2).await.unwrap();
        other.add(3).await.unwrap();
        assert!(of("c").await.is_none());
        let recording = of("b").await.unwrap();
        let left = system.stop_recording("recorder/plain", "b").await.unwrap();
        assert!(left.is_none());
        plain.add(3).await.unwrap();
        assert!(of("b").await.is_none());
        recording
    });
    assert_eq!(recording.turns(), 1);
    let why = recording.sections[0].why_not_replayed().unwrap();
    assert!(why.contains("nor `record`"), "{why}");
    let again = replayed::<Plain>(&recording);
    assert_eq!(again.messages(), 0);
    assert!(again.difference().is_none());
    assert_eq!(again.skipped().len(), 1, "{again}");
}

#[entity(name = "recorder/lift", record = 8)]
mod lift {
    use casty::prelude::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Waits {
        pub floor: u32,
    }

    #[state]
    #[message]
    pub(crate) struct Moves {
        pub from: u32,
        pub to: u32,
    }

    #[behavior(otherwise = stash)]
    impl Waits {
        #[message]
        fn call(self, floor: u32) -> Moves {
            Moves {
                from: self.floor,
                to: floor,
            }
        }
    }

    #[behavior(otherwise = stash)]
    impl Moves {
        #[message]
        fn arrive(self) -> Waits {
            Waits { floor: self.to }
        }
    }
}

#[test]
fn a_state_machine_is_replayed() {
    let lift = record(async |system| {
        let lift = system.entity::<lift::Lift>("b");
        // It is kept until the lift moves.
        let arriving = tokio::spawn(lift.arrive().into_future());
        tokio::task::yield_now().await;
        lift.call(3).await.unwrap();
        arriving.await.unwrap().unwrap();
        recorded(system, "recorder/lift").await
    });
    let again = replayed::<lift::Lift>(&lift);
    again.expect_same();
    assert_eq!(again.messages(), 3, "{lift}");
    let shown = lift.to_string();
    assert!(
        shown.contains("arrive: is kept for a later state"),
        "{shown}"
    );
    assert!(shown.contains("then Waits {floor: 3}"), "{shown}");
}

/// Ends, fails and goes on, and asks what does not answer.
#[message]
#[derive(Default)]
struct Steps {
    count: i64,
    told: String,
}

#[entity(name = "recorder/steps", record = 64, on_failure = resume, backoff = "0s")]
impl Steps {
    #[message]
    fn step(&mut self, steps: i64) -> i64 {
        self.count += steps;
        self.count
    }

    #[message]
    fn end(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }

    #[message]
    fn fail(&mut self) {
        panic!("on purpose");
    }

    /// Asks an actor that has ended, and one that has not.
    #[message]
    async fn hire(&mut self, ctx: &mut Context<Self>) -> (bool, bool) {
        let porter = ctx.spawn(Porter);
        let rested = porter.rest().await.is_ok();
        porter.stop().await;
        (rested, porter.rest().await.is_err())
    }

    /// Gets more than the recorder keeps.
    #[message]
    async fn read(&mut self, ctx: &mut Context<Self>) -> usize {
        let page = ctx.entity::<Library>("all").page(300 * 1024).await;
        page.map_or(0, |page| page.len())
    }
}

#[derive(Default)]
struct Library;

#[entity(name = "recorder/library")]
impl Library {
    #[message]
    fn page(&self, bytes: usize) -> String {
        "x".repeat(bytes)
    }
}

#[test]
fn each_beginning_of_a_state_begins_a_section() {
    let recording = record(async |system| {
        let steps = system.entity::<Steps>("b");
        assert_eq!(steps.step(1).await, Ok(1));
        steps.end().await.unwrap();
        assert_eq!(steps.step(1).await, Ok(1), "it has begun anew");
        assert!(steps.fail().await.is_err());
        assert_eq!(steps.step(1).await, Ok(2), "it goes on");
        recorded(system, "recorder/steps").await
    });
    let again = replayed::<Steps>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), 5, "{again}\n{recording}");
    assert_eq!(recording.sections.len(), 3, "{recording}");
    assert!(again.skipped().is_empty(), "{again}");
}

#[test]
fn asks_that_were_refused_are_refused_again_and_actors_have_other_numbers() {
    let recording = record(async |system| {
        let steps = system.entity::<Steps>("b");
        assert_eq!(steps.hire().await, Ok((true, true)));
        recorded(system, "recorder/steps").await
    });
    let again = replayed::<Steps>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), 1, "{again}\n{recording}");
}

#[test]
fn what_is_too_large_to_be_recorded_is_not_replayed() {
    let recording = record(async |system| {
        let steps = system.entity::<Steps>("b");
        assert_eq!(steps.step(1).await, Ok(1));
        assert_eq!(steps.read().await, Ok(300 * 1024));
        recorded(system, "recorder/steps").await
    });
    let again = replayed::<Steps>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), 1, "{again}");
    assert_eq!(again.skipped().len(), 1, "{again}");
}

/// Of a later version, with one more field, and one asked differently.
#[message]
#[derive(Default)]
struct Grown {
    count: i64,
    told: String,
    #[serde(default)]
    limit: u32,
}

#[entity(name = "recorder/grown", record = 8)]
impl Grown {
    #[message]
    fn step(&mut self, steps: i64) -> i64 {
        self.count += steps;
        self.count
    }
}

#[test]
fn a_later_version_with_another_field_does_the_same() {
    let recording = record(async |system| {
        let steps = system.entity::<Steps>("b");
        assert_eq!(steps.step(1).await, Ok(1));
        assert_eq!(steps.step(2).await, Ok(3));
        recorded(system, "recorder/steps").await
    });
    let again = replayed::<Grown>(&recording);
    again.expect_same();
    assert_eq!(again.messages(), 2);
}
