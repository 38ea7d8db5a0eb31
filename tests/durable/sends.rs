//! Messages between stored entities, effectively once.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use casty::{
    Entity,
    admin::Admin,
    id::EntityId,
    persistence::{
        Journal, Log, Memory, Page as Records,
        faults::{Faults, FaultyStore},
    },
    prelude::*,
    send::Unanswered,
    testkit::{STEP_LIMIT, cluster_of, eventually, shutdown, soon},
};

/// Money, and what is under way to other purses.
#[message]
#[derive(Default)]
pub(crate) struct Pocket {
    cents: u64,
    reserved: u64,
    is_closed: bool,
    /// What each credit had in it, in order.
    credits: Vec<u64>,
    refused: u32,
}

#[message]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Closed {
    at: u64,
}

#[entity(event_sourced, shards = 8, snapshot_every = 5, retain = "snapshot")]
impl Pocket {
    #[message]
    fn fill(&self, cents: u64) -> Effect<Self> {
        Effect::persist(PocketEvent::Filled { cents })
    }

    #[message]
    fn close(&self) -> Effect<Self> {
        Effect::persist(PocketEvent::Shut {})
    }

    #[message]
    fn transfer(&self, to: PocketRef, cents: u64) -> Result<Effect<Self>, String> {
        if self.cents < cents {
            return Err("too little".to_owned());
        }
        let effect = Effect::persist(PocketEvent::Reserved { cents });
        Ok(
            effect.send_for(to.credit(cents), move |outcome| PocketMsg::Settle {
                cents,
                outcome,
            }),
        )
    }

    #[message]
    fn credit(&self, cents: u64) -> Result<Effect<Self, u64>, Closed> {
        if self.is_closed {
            return Err(Closed { at: self.cents });
        }
        let effect = Effect::persist(PocketEvent::Credited { cents });
        Ok(effect.reply(|purse: &Self| purse.cents))
    }

    #[message]
    fn settle(&self, cents: u64, outcome: Outcome<Result<u64, Closed>>) -> Effect<Self> {
        Effect::persist(match outcome.result() {
            Ok(Ok(_)) => PocketEvent::Paid { cents },
            Ok(Err(Closed { .. })) | Err(Unanswered { .. }) => PocketEvent::GivenBack { cents },
        })
    }

    #[message]
    fn empty_into(&self, to: PocketRef) -> Effect<Self> {
        Effect::persist(PocketEvent::Reserved { cents: self.cents })
            .send(to.credit(self.cents))
            .erase()
    }

    /// What there is, what is under way, what has come in, what was refused.
    #[message]
    fn report(&self) -> (u64, u64, Vec<u64>, u32) {
        (
            self.cents,
            self.reserved,
            self.credits.clone(),
            self.refused,
        )
    }

    #[event]
    fn filled(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[event]
    fn shut(&mut self) {
        self.is_closed = true;
    }

    #[event]
    fn reserved(&mut self, cents: u64) {
        self.cents -= cents;
        self.reserved += cents;
    }

    #[event]
    fn credited(&mut self, cents: u64) {
        self.cents += cents;
        self.credits.push(cents);
    }

    #[event]
    fn paid(&mut self, cents: u64) {
        self.reserved -= cents;
    }

    #[event]
    fn given_back(&mut self, cents: u64) {
        self.reserved -= cents;
        self.cents += cents;
        self.refused += 1;
    }
}

/// Whether pipes take what is sent to them.
#[derive(Clone, Default)]
struct Open(Arc<AtomicBool>);

/// A durable entity that passes numbers on.
#[message]
#[derive(Default)]
pub(crate) struct Pipe {
    seen: Vec<u64>,
    answers: Vec<String>,
}

#[entity(durable, shards = 4)]
impl Pipe {
    #[message]
    fn pass(&mut self, number: u64, to: Vec<PipeRef>, ctx: &mut Context<Self>) {
        for to in to {
            ctx.send_for(to.take(number), move |outcome| PipeMsg::Answered {
                number,
                outcome,
            });
        }
    }

    #[message]
    fn take(&mut self, number: u64) -> usize {
        self.seen.push(number);
        self.seen.len()
    }

    /// It fails until the program says otherwise.
    #[message]
    fn take_if_open(&mut self, number: u64, ctx: &mut Context<Self>) {
        let open = ctx.resource::<Open>();
        assert!(open.0.load(Ordering::SeqCst), "on purpose");
        self.seen.push(number);
    }

    #[message]
    fn answered(&mut self, number: u64, outcome: Outcome<usize>) {
        let outcome = outcome.result();
        self.answers.push(format!("{number}: {outcome:?}"));
    }

    #[message]
    fn pass_if_open(&mut self, number: u64, to: PipeRef, ctx: &mut Context<Self>) {
        ctx.send(to.take_if_open(number));
    }

    #[message]
    fn forgets_the_outcome(&mut self, to: PipeRef, ctx: &mut Context<Self>) {
        ctx.send_for(to.take(1), |_: Outcome<usize>| PipeMsg::Seen {});
    }

    #[message]
    fn seen(&self) -> Vec<u64> {
        self.seen.clone()
    }

    #[message]
    fn answers(&self) -> Vec<String> {
        self.answers.clone()
    }
}

fn node(store: &Memory, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let builder = ActorSystem::builder("sends").node_id(format!("node-{number}"));
    builder.journal(store.clone())
}

async fn report(system: &ActorSystem, id: &str) -> (u64, u64, Vec<u64>, u32) {
    let purse = system.entity::<Pocket>(id);
    let report = purse.report().retry_for(STEP_LIMIT).await;
    report.expect("answered")
}

/// Waits until nothing is under way from a purse any more.
async fn settled(system: &ActorSystem, id: &str) -> (u64, u64, Vec<u64>, u32) {
    let look = || report(system, id);
    eventually("it is settled", look, |report| report.1 == 0).await
}

#[tokio::test]
async fn a_send_and_its_answer_arrive_once() {
    let system = node(&Memory::new(), 0).start_local().unwrap();
    let (ada, bob) = (
        system.entity::<Pocket>("ada"),
        system.entity::<Pocket>("bob"),
    );
    ada.fill(100).await.unwrap();
    for cents in 1..=9 {
        ada.transfer(bob.clone(), cents).await.unwrap();
    }
    let (left, _, _, refused) = settled(&system, "ada").await;
    assert_eq!((left, refused), (55, 0));
    assert_eq!(report(&system, "bob").await, (45, 0, (1..=9).collect(), 0));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_domain_error_comes_back_to_the_sender() {
    let system = node(&Memory::new(), 0).start_local().unwrap();
    let (ada, bob) = (
        system.entity::<Pocket>("ada"),
        system.entity::<Pocket>("bob"),
    );
    ada.fill(10).await.unwrap();
    bob.close().await.unwrap();
    ada.transfer(bob.clone(), 7).await.unwrap();
    assert_eq!(settled(&system, "ada").await, (10, 0, vec![], 1));
    // A purse that sends to itself.
    ada.transfer(ada.clone(), 3).await.unwrap();
    assert_eq!(settled(&system, "ada").await, (10, 0, vec![3], 1));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_sent_survives_a_restart_and_the_receiver_takes_it_once() {
    let store = Memory::new();
    for round in 0..5 {
        let system = node(&store, 0).start_local().unwrap();
        let ada = system.entity::<Pocket>("ada");
        ada.fill(100).await.unwrap();
        for _ in 0..10 {
            for name in ["bob", "cyd", "dan"] {
                ada.transfer(system.entity::<Pocket>(name), 1)
                    .await
                    .unwrap();
            }
        }
        if round == 4 {
            assert_eq!(settled(&system, "ada").await.0, 500 - 150);
            for name in ["bob", "cyd", "dan"] {
                assert_eq!(report(&system, name).await, (50, 0, vec![1; 50], 0));
            }
        }
        // It ends with sends under way.
        system.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_durable_entity_sends_from_its_context() {
    let system = node(&Memory::new(), 0).start_local().unwrap();
    let pipe = |name: &str| system.entity::<Pipe>(name);
    let to = || vec![pipe("b"), pipe("c"), pipe("a")];
    for number in 1..=3 {
        pipe("a").pass(number, to()).await.unwrap();
    }
    let look = || async { pipe("a").answers().await.unwrap() };
    let answers = eventually("all have answered", look, |answers| answers.len() == 9).await;
    for number in 1..=3 {
        let answer = format!("{number}: Ok({number})");
        assert_eq!(
            answers.iter().filter(|it| **it == answer).count(),
            3,
            "{answers:?}"
        );
    }
    for name in ["a", "b", "c"] {
        assert_eq!(pipe(name).seen().await.unwrap(), [1, 2, 3], "{name}");
    }
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_left_goes_on_without_a_message_to_the_sender() {
    let (store, open) = (Memory::new(), Open::default());
    let start = || {
        node(&store, 0)
            .resource(open.clone())
            .start_local()
            .unwrap()
    };
    let system = start();
    let (a, b) = (system.entity::<Pipe>("a"), system.entity::<Pipe>("b"));
    a.pass_if_open(1, b.clone()).await.unwrap();
    // It comes after one that is not taken, and waits for it.
    a.pass(2, vec![b]).await.unwrap();
    system.shutdown().await.unwrap();
    let seen = |system: &ActorSystem| {
        let b = system.entity::<Pipe>("b");
        async move { b.seen().await.unwrap() }
    };
    let system = start();
    assert_eq!(seen(&system).await, [0; 0]);
    open.0.store(true, Ordering::SeqCst);
    let look = || seen(&system);
    eventually("both are taken", look, |seen| *seen == [1, 2]).await;
    system.shutdown().await.unwrap();

    // The same of a cluster: no shard has an owner at first.
    open.0.store(false, Ordering::SeqCst);
    let in_cluster = |number| node(&store, number).resource(open.clone());
    let nodes = cluster_of(2, in_cluster).await;
    let (a, c) = (nodes[0].entity::<Pipe>("a"), nodes[0].entity::<Pipe>("c"));
    a.pass_if_open(3, c).retry_for(STEP_LIMIT).await.unwrap();
    shutdown(nodes).await;
    open.0.store(true, Ordering::SeqCst);
    let nodes = cluster_of(2, in_cluster).await;
    let c = || {
        let c = nodes[1].entity::<Pipe>("c");
        async move { c.seen().retry_for(STEP_LIMIT).await.unwrap() }
    };
    eventually("it is taken", c, |seen| *seen == [3]).await;
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_shard_with_too_many_sends_under_way_refuses_more() {
    let (store, open) = (Memory::new(), Open::default());
    let system = node(&store, 0)
        .resource(open.clone())
        .start_local()
        .unwrap();
    let (a, b) = (system.entity::<Pipe>("a"), system.entity::<Pipe>("b"));
    let mut sent = 0;
    let refused = loop {
        let round = (0..512).map(|n| a.pass_if_open(n, b.clone()).into_future());
        let answers = futures_util::future::join_all(round).await;
        let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        sent += 512 - refused.len();
        if let Some(first) = refused.into_iter().next() {
            break first;
        }
    };
    assert!(
        matches!(refused, AskError::OutboxFull { waiting } if waiting >= 4096),
        "{refused:?}"
    );
    // What is asked of it otherwise is answered.
    assert_eq!(a.seen().await.unwrap(), [0; 0]);
    open.0.store(true, Ordering::SeqCst);
    let look = || async { b.seen().retry_for(STEP_LIMIT).await.unwrap() };
    eventually("all that was accepted is taken", look, |seen| {
        seen.len() == sent
    })
    .await;
    a.pass_if_open(7, b.clone()).await.unwrap();
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_without_the_outcome_is_a_failure_that_says_so() {
    let system = node(&Memory::new(), 0).start_local().unwrap();
    let a = system.entity::<Pipe>("a");
    let failed = a.forgets_the_outcome(a.clone()).await;
    let Err(AskError::Panicked { message }) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        message.contains("`seen`") && message.contains("no `Outcome`"),
        "{message}"
    );
    system.shutdown().await.unwrap();
}

fn log_of<E: Entity>(id: &str) -> Log {
    Log {
        kind: E::NAME.into(),
        shard: EntityId::from(id).shard(E::SHARDS).0,
    }
}

#[tokio::test]
async fn an_entity_that_is_erased_has_sent_what_it_was_to_send() {
    let store = Memory::new();
    let system = node(&store, 0).start_local().unwrap();
    let ada = system.entity::<Pocket>("ada");
    ada.fill(12).await.unwrap();
    ada.empty_into(system.entity::<Pocket>("bob"))
        .await
        .unwrap();
    let look = || report(&system, "bob");
    eventually("bob has it", look, |report| report.0 == 12).await;
    let (log, id) = (log_of::<Pocket>("ada"), EntityId::from("ada"));
    let look = || async {
        let page = Records::default();
        let records = store.read_entity(&log, &id, 0, page).await.unwrap();
        records
            .iter()
            .filter(|record| !record.body.is_empty())
            .count()
    };
    eventually("it is erased", look, |left| *left == 0).await;
    system.shutdown().await.unwrap();
}

/// All purses together have what was put into them, once nothing is under way.
async fn all_is_there(system: &ActorSystem, purses: u32, sum: u64) {
    for n in 0..purses {
        settled(system, &n.to_string()).await;
    }
    let mut found = 0;
    for n in 0..purses {
        found += report(system, &n.to_string()).await.0;
    }
    assert_eq!(found, sum);
}

async fn fill_all(system: &ActorSystem, purses: u32, cents: u64) {
    for n in 0..purses {
        let purse = system.entity::<Pocket>(n.to_string());
        let filled = purse.fill(cents).key("fill").retry_for(STEP_LIMIT).await;
        filled.unwrap();
    }
}

/// Transfers between all purses, each with a key, so that it is begun once.
async fn transfer_all(system: &ActorSystem, purses: u32, round: u32) {
    let transfers = (0..purses).map(|from| {
        let to = (from + 1 + round % (purses - 1)) % purses;
        let to = system.entity::<Pocket>(to.to_string());
        let from = system.entity::<Pocket>(from.to_string());
        let transfer = from.transfer(to, 1).key(format!("round-{round}"));
        async move { transfer.retry_for(STEP_LIMIT).await.unwrap() }
    });
    futures_util::future::join_all(transfers).await;
}

const PURSES: u32 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_between_nodes_survive_the_node_that_sends_and_the_one_that_receives() {
    let store = Memory::new();
    let mut nodes = cluster_of(3, |number| node(&store, number)).await;
    fill_all(&nodes[0], PURSES, 100).await;
    for round in 0..4 {
        transfer_all(&nodes[0], PURSES, round).await;
    }
    // It dies with sends under way, in both directions.
    transfer_all(&nodes[0], PURSES, 4).await;
    drop(nodes.remove(2));
    transfer_all(&nodes[0], PURSES, 5).await;
    all_is_there(&nodes[1], PURSES, 100 * u64::from(PURSES)).await;
    for n in 0..PURSES {
        let (_, _, credits, refused) = report(&nodes[0], &n.to_string()).await;
        assert_eq!((credits.len(), refused), (6, 0), "purse {n}");
    }
    shutdown(nodes).await;
}

fn in_folder(folder: &Path, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let name = format!("node-{number}");
    ActorSystem::builder("sends-in-folders")
        .data_dir(folder.join(&name))
        .node_id(name)
}

/// Waits until each shard of the pockets that has an owner has three copies.
async fn all_are_copied(node: &ActorSystem) {
    let admin = Admin::connect("sends-in-folders", [node.address()]);
    let admin = admin.await.unwrap();
    let copies = || async {
        let kinds = admin.shards().await.unwrap().kinds.into_iter();
        let homes = kinds
            .filter(|it| it.name == "Pocket")
            .flat_map(|it| it.homes);
        let copies = homes.filter_map(|home| home.copies);
        copies
            .map(|copies| copies.in_sync.len())
            .collect::<Vec<_>>()
    };
    let are_three = |found: &Vec<usize>| !found.is_empty() && found.iter().all(|it| *it == 3);
    eventually("each has three copies", copies, are_three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_between_nodes_with_copies_survive_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = cluster_of(3, |number| in_folder(folder.path(), number)).await;
    fill_all(&nodes[0], PURSES, 100).await;
    all_are_copied(&nodes[0]).await;
    for round in 0..3 {
        transfer_all(&nodes[0], PURSES, round).await;
    }
    drop(nodes.remove(2));
    transfer_all(&nodes[0], PURSES, 3).await;
    all_is_there(&nodes[1], PURSES, 100 * u64::from(PURSES)).await;
    for n in 0..PURSES {
        let (_, _, credits, refused) = report(&nodes[0], &n.to_string()).await;
        assert_eq!((credits.len(), refused), (4, 0), "purse {n}");
    }
    soon("they end", shutdown(nodes)).await;
}

#[tokio::test]
async fn a_store_that_falls_silent_while_it_is_looked_for_sends_holds_up_no_shutdown() {
    casty_tests::log();
    let store = FaultyStore::new(Arc::new(Memory::new())).connection(1);
    // There are hundreds of logs: the look goes on for seconds.
    store.set(Faults {
        delay_max: Duration::from_millis(20),
        ..Faults::default()
    });
    let builder = ActorSystem::builder("silent").journal(store.clone());
    let node = builder.start().await.unwrap();
    soon("it founds", node.wait_for(1)).await.unwrap();
    store.set(Faults {
        is_silent: true,
        ..Faults::default()
    });
    soon("it ends", node.shutdown()).await.unwrap();
}
