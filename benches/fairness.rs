//! How much a load delays other work: `cargo bench -p casty-benches --bench fairness`, with `--
//! --check` to fail where a bound does not hold.
//!
//! A thread makes small asks at a steady pace, first alone and then beside a load. Each bound is a
//! ratio of two figures of the same run. An ask that begins late, because the ask before took too
//! long, counts from the moment at which it was due. So a pause of the whole system counts for each
//! ask that it delayed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use casty::{ActorSystem, ClusterClient, Event, Settings, event::Events, prelude::*};
use casty_benches::{Counter, CounterRef};
use serde_bytes::ByteBuf;
use tokio::runtime::Handle;

#[expect(dead_code, reason = "remote cases are measured by `floor`")]
mod raw;
mod support;

use support::{AnyError, Process, go, now, percentile, runtime, until_stdin_ends};

/// Between two asks.
const PERIOD: Duration = Duration::from_micros(250);
/// How long peace is measured.
const PEACE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(20);

const HOT_TELLS: i64 = 1_000_000;
const PEER_TELLS: i64 = 100_000;
/// How long a process stands still: too short for it to be declared down.
const STALL: Duration = Duration::from_secs(2);
/// Bytes of a tell to the process that stands still.
const TOLD_BYTES: usize = 1024;
/// The window of a connection and the queue of its writer, twice, since payloads have frames around
/// them.
const UNDER_WAY_BYTES_MAX: u64 = 10 * 1024 * 1024;

const BLOBS: usize = 1024;
const BLOB_BYTES: usize = 64 * 1024;

/// Longer than entities that come with a shard are awake one after the other.
const QUIET: Duration = Duration::from_millis(20);

/// The role of the nodes whose entities do not move.
const STILL: &str = "still";

/// An entity of one role's nodes, so that it never moves.
#[derive(Default)]
pub struct Still {
    value: i64,
}

#[entity(shards = 16, role = "still")]
impl Still {
    /// Adds, and returns the sum.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }
}

/// Counts its messages, on any node.
#[derive(Default)]
pub struct Peer {
    told: i64,
}

#[entity(shards = 16)]
impl Peer {
    /// Counts one.
    #[message]
    pub fn take(&mut self, payload: ByteBuf) {
        self.told += i64::from(payload.len() <= TOLD_BYTES);
    }

    /// How many came.
    #[message]
    pub fn told(&self) -> i64 {
        self.told
    }

    /// The name of the entity's node.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// A state worth moving.
#[message]
#[derive(Default)]
pub struct Blob {
    bytes: ByteBuf,
}

#[entity(shards = 2, migrate)]
impl Blob {
    /// Holds so many bytes from now on.
    #[message]
    pub fn hold(&mut self, bytes: usize) {
        self.bytes = ByteBuf::from(vec![b'x'; bytes]);
    }

    /// The number of bytes it holds, and the name of its node.
    #[message]
    pub fn look(&self, ctx: &mut Context<Self>) -> (usize, String) {
        (self.bytes.len(), ctx.node_id().to_string())
    }
}

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["serve", name, ref seeds @ ..] = arguments[..] {
        return runtime()?.block_on(serve(name, seeds));
    }
    let check = arguments.contains(&"--check");
    let named = |case| arguments.iter().all(|a| a.starts_with('-')) || arguments.contains(&case);
    let mut report = Report::default();
    if named("hot") {
        hot(&mut report)?;
    }
    if named("stalled") {
        stalled(&mut report)?;
    }
    if named("leave") {
        leave(&mut report)?;
    }
    if named("join") {
        join(&mut report)?;
    }
    for broken in &report.broken {
        println!("NOT HELD: {broken}");
    }
    if check && !report.broken.is_empty() {
        return Err("a bound does not hold".into());
    }
    Ok(())
}

async fn serve(name: &str, seeds: &[&str]) -> Result<(), AnyError> {
    let node = node(name, seeds, true).await?;
    println!("{}", node.address());
    until_stdin_ends().await;
    node.shutdown().await?;
    Ok(())
}

async fn node(name: &str, seeds: &[&str], still: bool) -> Result<ActorSystem, AnyError> {
    let mut builder = ActorSystem::builder("fairness")
        .node_id(name)
        .seeds(seeds)
        // No node is to be declared down while it stands still.
        .settings(Settings::patient())
        .entity::<Still>()
        .entity::<Peer>()
        .entity::<Blob>();
    if still {
        builder = builder.role(STILL);
    }
    Ok(builder.start().await?)
}

/// Which bounds did not hold.
#[derive(Default)]
struct Report {
    broken: Vec<String>,
}

impl Report {
    /// `what` is at most `most` times `beside`.
    fn at_most(&mut self, what: &str, value: Duration, beside: Duration, most: f64) {
        let ratio = value.as_secs_f64() / beside.as_secs_f64().max(f64::MIN_POSITIVE);
        println!("{what}: {ratio:.2}, at most {most}");
        if ratio > most {
            self.broken.push(format!("{what}: {ratio:.2} > {most}"));
        }
    }

    fn holds(&mut self, what: &str, holds: bool) {
        println!("{what}: {}", if holds { "yes" } else { "NO" });
        if !holds {
            self.broken.push(what.to_owned());
        }
    }
}

/// The median of the rounds' 99th percentiles, so that one round does not count in which the
/// machine was busy otherwise.
fn row(what: &str, rounds: &mut [Vec<Duration>]) -> Duration {
    let count: usize = rounds.iter().map(Vec::len).sum();
    for times in rounds.iter_mut() {
        times.sort_unstable();
    }
    let median = |hundredths| {
        let of = |times: &Vec<Duration>| percentile(times, hundredths);
        let mut all: Vec<Duration> = rounds.iter().map(of).collect();
        all.sort_unstable();
        percentile(&all, 50)
    };
    let p99 = median(99);
    println!(
        "| {what} | {count} | {:?} | {p99:?} | {:?} |",
        median(50),
        median(100)
    );
    p99
}

fn heading(what: &str) {
    println!("\n{what}\n\n| asks | count | p50 | p99 | slowest |\n|---|---|---|---|---|");
}

/// Asks at a steady pace while `goes_on` returns true. Returns the time of each ask. Runs on a
/// thread of its own, whose pace depends on no worker.
fn paced<F: Future<Output = bool>>(
    handle: &Handle,
    goes_on: impl Fn() -> bool,
    ask: impl Fn() -> F,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut due = now();
    while goes_on() {
        let left = due.saturating_duration_since(now());
        let begun = if left.is_zero() {
            due
        } else {
            #[expect(
                clippy::disallowed_methods,
                reason = "a thread of its own, whose pace depends on no runtime"
            )]
            std::thread::sleep(left);
            // The delay until the system wakes a thread is not measured.
            now()
        };
        if !handle.block_on(ask()) {
            break;
        }
        times.push(begun.elapsed());
        due = begun.max(due) + PERIOD;
    }
    times
}

fn for_a_while(time: Duration) -> impl Fn() -> bool {
    let begun = now();
    move || begun.elapsed() < time
}

/// Asks at a steady pace while `load` goes on.
fn during<T: Send, F: Future<Output = bool>>(
    handle: &Handle,
    load: impl Future<Output = T> + Send,
    ask: impl Fn() -> F + Send,
) -> (Vec<Duration>, T) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| paced(handle, || !over.load(Ordering::Relaxed), ask));
        let done = handle.block_on(load);
        over.store(true, Ordering::Relaxed);
        (asking.join().expect("the asker ends"), done)
    })
}

/// An entity that takes a million tells, and a quiet one beside it, on one node.
fn hot(report: &mut Report) -> Result<(), AnyError> {
    heading(
        "A quiet entity beside one that takes a million tells, on one node; the floor does the same with channels",
    );
    let runtime = runtime()?;
    let handle = runtime.handle();
    let system = {
        let _in = handle.enter();
        ActorSystem::local("fairness")
    };
    let (quiet, busy) = (
        system.entity::<Counter>("quiet"),
        system.entity::<Counter>("hot"),
    );
    let (raw_quiet, raw_busy) = {
        let _in = handle.enter();
        (raw::Local::start(), raw::Local::start())
    };
    let ask = || async { quiet.add(1).await.is_ok() };
    let raw_ask = || async {
        raw_quiet.ask(1).await;
        true
    };
    let (mut peace, mut loaded) = (Vec::new(), Vec::new());
    let (mut raw_peace, mut raw_loaded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw_peace.push(paced(handle, for_a_while(PEACE / 2), raw_ask));
        let target = raw_busy.clone();
        let load = go(async move {
            for _ in 0..HOT_TELLS {
                target.tell(1).await;
            }
            target.ask(0).await
        });
        raw_loaded.push(during(handle, load, raw_ask).0);
        peace.push(paced(handle, for_a_while(PEACE / 2), ask));
        let (times, ()) = during(handle, go(heat(busy.clone())), ask);
        loaded.push(times);
    }
    row("floor, in peace", &mut raw_peace);
    let floor = row("floor, beside the hot one", &mut raw_loaded);
    row("casty, in peace", &mut peace);
    let p99 = row("casty, beside the hot one", &mut loaded);
    report.at_most("p99 beside the hot one, casty : floor", p99, floor, 3.0);
    let told = handle.block_on(async { busy.add(0).await })?;
    report.holds(
        "all that was told was handled",
        told == HOT_TELLS * i64::try_from(ROUNDS)?,
    );
    handle.block_on(system.shutdown())?;
    Ok(())
}

async fn heat(target: CounterRef) {
    for _ in 0..HOT_TELLS {
        target.increment(1).tell().await.expect("room");
    }
    let counted = target.add(0).timeout(PATIENCE).await;
    assert!(counted.is_ok(), "{counted:?}");
}

/// A peer of the client's that lives on a node.
async fn peer_on(client: &ClusterClient, node: &str) -> Result<PeerRef, AnyError> {
    for n in 0.. {
        let peer = client.entity::<Peer>(format!("p{n}"));
        if peer.node().await? == node {
            return Ok(peer);
        }
    }
    Err("no entity lives there".into())
}

/// The time until a peer has handled this many bytes.
async fn tell_all(peer: &PeerRef) -> Duration {
    let begun = now();
    let before = peer.told().await.expect("an answer");
    for _ in 0..PEER_TELLS {
        let told = peer.take(ByteBuf::new()).tell().await;
        assert!(told.is_ok(), "{told:?}");
    }
    let told = peer.told().timeout(PATIENCE).await.expect("an answer");
    assert_eq!(told - before, PEER_TELLS, "tells are missing");
    begun.elapsed()
}

/// A process that is stopped while messages go to it, and another beside it.
fn stalled(report: &mut Report) -> Result<(), AnyError> {
    heading("A node beside one whose process stands still, and is sent to");
    let runtime = runtime()?;
    let handle = runtime.handle();
    let near = Process::start(&["serve", "a"])?;
    let far = Process::start(&["serve", "b", &near.address])?;
    let (client, lively, still) = handle.block_on(async {
        let client = ClusterClient::connect("fairness", [&near.address]).await?;
        client.wait_for(2).await?;
        let lively = peer_on(&client, "a").await?;
        let still = peer_on(&client, "b").await?;
        Ok::<_, AnyError>((client, lively, still))
    })?;
    let ask = || async { lively.told().await.is_ok() };
    let (mut peace, mut beside) = (Vec::new(), Vec::new());
    let (mut times_in_peace, mut times_beside) = (Vec::new(), Vec::new());
    let (told, mut waits, mut bounded) = (AtomicU64::new(0), true, true);
    for _ in 0..ROUNDS {
        peace.push(paced(handle, for_a_while(STALL / 2), ask));
        let target = lively.clone();
        times_in_peace.push(handle.block_on(go(async move { tell_all(&target).await })));

        let over = AtomicBool::new(false);
        let before = told.load(Ordering::Relaxed);
        let telling = async {
            while !over.load(Ordering::Relaxed) {
                let payload = ByteBuf::from(vec![0; TOLD_BYTES]);
                still.take(payload).tell().await?;
                told.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, AnyError>(())
        };
        far.signal("STOP")?;
        let stopped = now();
        std::thread::scope(|scope| {
            let telling = scope.spawn(|| handle.block_on(telling));
            // The load fills all queues first. Asks that are slow meanwhile wait for the processor,
            // not for the stopped process.
            while told.load(Ordering::Relaxed) == before || !has_come_to_rest(&told) {}
            let waiting = told.load(Ordering::Relaxed);
            beside.push(paced(handle, || stopped.elapsed() < STALL / 2, ask));
            let target = lively.clone();
            times_beside.push(handle.block_on(go(async move { tell_all(&target).await })));
            waits &= told.load(Ordering::Relaxed) == waiting && !telling.is_finished();
            bounded &= (waiting - before) * (TOLD_BYTES as u64) < UNDER_WAY_BYTES_MAX;
            over.store(true, Ordering::Relaxed);
            far.signal("CONT")?;
            telling.join().expect("the teller ends")
        })?;
        // The process catches up before the next round begins.
        handle.block_on(async { still.told().timeout(PATIENCE).await })?;
    }
    let in_peace = row("in peace", &mut peace);
    let p99 = row("beside the one that stands still", &mut beside);
    report.at_most("p99 beside it : in peace", p99, in_peace, 3.0);
    times_in_peace.sort_unstable();
    times_beside.sort_unstable();
    report.at_most(
        "time of tells to the other, beside it : in peace",
        percentile(&times_beside, 50),
        percentile(&times_in_peace, 50),
        2.0,
    );
    report.holds("a tell to it waits", waits);
    report.holds("what is under way to it is bounded", bounded);
    let told = told.load(Ordering::Relaxed);
    let arrived = handle.block_on(async { still.told().timeout(PATIENCE).await })?;
    report.holds(
        "all that was told to it was handled once it went on",
        u64::try_from(arrived)? == told,
    );
    handle.block_on(client.shutdown())?;
    Ok(())
}

/// Whether nothing is counted for a while.
fn has_come_to_rest(count: &AtomicU64) -> bool {
    let before = count.load(Ordering::Relaxed);
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, and time is what is measured"
    )]
    std::thread::sleep(Duration::from_millis(50));
    count.load(Ordering::Relaxed) == before
}

/// Fills `count` entities that live on `home`, and says which.
async fn fill(system: &ActorSystem, home: &str, count: usize) -> Result<Vec<String>, AnyError> {
    let mut filled = Vec::new();
    for n in 0.. {
        let id = format!("b{n}");
        let blob = system.entity::<Blob>(&id);
        if blob.look().await?.1 != home {
            continue;
        }
        blob.hold(BLOB_BYTES).await?;
        filled.push(id);
        if filled.len() == count {
            break;
        }
    }
    Ok(filled)
}

async fn all_there(client: &ClusterClient, ids: &[String]) -> Result<bool, AnyError> {
    for id in ids {
        if client.entity::<Blob>(id).look().timeout(PATIENCE).await?.0 != BLOB_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A node with 64 MiB of states in one shard leaves, the states move to the other node, and this
/// process asks that one all the while.
fn leave(report: &mut Report) -> Result<(), AnyError> {
    heading("Small asks to the node that 64 MiB of states are sent to");
    let runtime = runtime()?;
    let handle = runtime.handle();
    let (mut peace, mut moving) = (Vec::new(), Vec::new());
    let (mut there, mut moves) = (true, Vec::new());
    for _ in 0..ROUNDS {
        let founder = Process::start(&["serve", "a"])?;
        let (leaver, filled) = handle.block_on(async {
            let leaver = node("p", &[&founder.address], false).await?;
            leaver.wait_for(2).await?;
            let filled = fill(&leaver, "p", BLOBS).await?;
            Ok::<_, AnyError>((leaver, filled))
        })?;
        let asked = leaver.entity::<Still>("one");
        let ask = || async { asked.add(1).await.is_ok() };
        peace.push(paced(handle, for_a_while(PEACE), ask));
        let begun = now();
        let (times, left) = during(handle, leaver.shutdown(), ask);
        moves.push(begun.elapsed());
        left?;
        moving.push(times);
        there &= handle.block_on(async {
            let client = ClusterClient::connect("fairness", [&founder.address]).await?;
            let there = all_there(&client, &filled).await;
            client.shutdown().await?;
            there
        })?;
    }
    println_moves(&mut moves);
    let in_peace = row("in peace", &mut peace);
    let p99 = row("while the states move", &mut moving);
    report.at_most("p99 while states are sent : in peace", p99, in_peace, 3.0);
    report.holds("all states have arrived", there);
    Ok(())
}

/// This process joins a node, takes over a shard with 64 MiB of states, and sends the node small
/// asks all the while.
fn join(report: &mut Report) -> Result<(), AnyError> {
    heading("Small asks to the node that 64 MiB of states come from");
    let runtime = runtime()?;
    let handle = runtime.handle();
    let (mut peace, mut moving) = (Vec::new(), Vec::new());
    let (mut there, mut moves) = (true, Vec::new());
    for _ in 0..ROUNDS {
        let founder = Process::start(&["serve", "a"])?;
        let (client, filled) = handle.block_on(async {
            let client = ClusterClient::connect("fairness", [&founder.address]).await?;
            let mut filled = Vec::new();
            // Half of them for either shard.
            for n in 0..2 * BLOBS {
                let id = format!("b{n}");
                client.entity::<Blob>(&id).hold(BLOB_BYTES).await?;
                filled.push(id);
            }
            Ok::<_, AnyError>((client, filled))
        })?;
        let joiner = handle.block_on(async {
            let joiner = node("p", &[&founder.address], false).await?;
            joiner.wait_for(2).await?;
            Ok::<_, AnyError>(joiner)
        })?;
        let asked = joiner.entity::<Still>("one");
        let ask = || async { asked.add(1).await.is_ok() };
        let begun = now();
        let (times, took) = during(handle, woken(joiner.events()), ask);
        let took = took?;
        moves.push(took - begun);
        moving.push(times);
        peace.push(paced(handle, for_a_while(PEACE), ask));
        there &= handle.block_on(all_there(&client, &filled))?;
        handle.block_on(async {
            joiner.shutdown().await?;
            client.shutdown().await?;
            Ok::<_, AnyError>(())
        })?;
    }
    println_moves(&mut moves);
    let in_peace = row("in peace", &mut peace);
    let p99 = row("while the states move", &mut moving);
    report.at_most("p99 while states come : in peace", p99, in_peace, 3.0);
    report.holds("all states have arrived", there);
    Ok(())
}

/// The moment at which the last of the moved entities was awake. Known a little later, when no
/// other followed.
async fn woken(mut events: Events) -> Result<Instant, AnyError> {
    let mut last = None;
    loop {
        let patience = if last.is_none() { PATIENCE } else { QUIET };
        match tokio::time::timeout(patience, events.next()).await {
            Ok(Some(Event::ActorStarted(_) | Event::Missed(_))) => last = Some(now()),
            Ok(Some(_)) => {}
            Ok(None) => return Err("the node has stopped".into()),
            Err(_) => return last.ok_or_else(|| "no shard has moved".into()),
        }
    }
}

fn println_moves(moves: &mut [Duration]) {
    moves.sort_unstable();
    println!("| (a move took {:?}) | | | | |", percentile(moves, 50));
}
