//! How late time comes on a machine with too much to do: `cargo bench -p casty-benches --bench
//! lateness`, with `-- 24` for another number of busy threads.
//!
//! Three nodes are in this process, beside threads that never wait. At a steady pace an ask that
//! gets no answer begins, and with it two raw timers of tokio with the ask's timeout:
//!
//! - *sleep*: on the workers where the ask is;
//! - *thread*: on a thread with a runtime of its own, which wakes a task of the workers, as casty's
//!   timer thread does.
//!
//! How late each of the three ends is the operating system's doing as far as it is the same for
//! all. The last column is the ratio to *thread*.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use casty::{
    ActorSystem,
    prelude::*,
    reply::{Later, Promise},
};
use casty_benches::Counter;
use tokio::{runtime::Handle, sync::oneshot};

#[expect(dead_code, reason = "processes are for other benchmarks")]
mod support;

use support::{AnyError, now, percentile, runtime};

const BUSY: usize = 24;
const PACE: Duration = Duration::from_millis(5);
const SPAN: Duration = Duration::from_secs(6);
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(2)];
/// Tasks that ask without a pause, in the case *overloaded*.
const ASKERS: usize = 64;

/// Leaves every question without an answer.
#[derive(Default)]
struct Silent {
    kept: Vec<Promise<()>>,
}

#[actor]
impl Silent {
    #[message]
    fn wait(&mut self) -> Later<()> {
        let (promise, later) = Promise::new();
        if self.kept.len() >= 10_000 {
            self.kept.clear();
        }
        self.kept.push(promise);
        later
    }
}

/// Threads that never wait, until this is dropped.
struct Busy {
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn new(threads: usize) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let threads = (0..threads).map(|_| {
            let is_over = is_over.clone();
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
        });
        let threads = threads.collect();
        Self { is_over, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How late each of the three ended, and how often a node had no lease when it was looked at.
#[derive(Default)]
struct Seen {
    asks: Vec<Duration>,
    sleeps: Vec<Duration>,
    threads: Vec<Duration>,
    looks: usize,
    without_lease: usize,
}

/// A thread with a runtime of its own, until the sender is dropped.
fn timer_thread() -> Result<(Handle, oneshot::Sender<()>), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (end, ended) = oneshot::channel();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(ended));
    Ok((handle, end))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's own tasks")]
async fn measure(nodes: &[ActorSystem], timeout: Duration) -> Result<Seen, AnyError> {
    let silent = nodes[0].spawn(Silent::default());
    let (thread, _end) = timer_thread()?;
    let (mut asks, mut sleeps, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = Seen::default();
    let begun = now();
    while begun.elapsed() < SPAN {
        let silent = silent.clone();
        asks.push(tokio::spawn(async move {
            let due = now() + timeout;
            let _ = silent.wait().timeout(timeout).await;
            now().saturating_duration_since(due)
        }));
        sleeps.push(tokio::spawn(async move {
            let due = now() + timeout;
            tokio::time::sleep(timeout).await;
            now().saturating_duration_since(due)
        }));
        let thread = thread.clone();
        threads.push(tokio::spawn(async move {
            let due = now() + timeout;
            let (wake, woken) = oneshot::channel();
            thread.spawn(async move {
                tokio::time::sleep_until(due.into()).await;
                let _ = wake.send(());
            });
            let _ = woken.await;
            now().saturating_duration_since(due)
        }));
        seen.looks += nodes.len();
        seen.without_lease += nodes.iter().filter(|node| !node.is_ready()).count();
        tokio::time::sleep(PACE).await;
    }
    for (tasks, late) in [
        (asks, &mut seen.asks),
        (sleeps, &mut seen.sleeps),
        (threads, &mut seen.threads),
    ] {
        for task in tasks {
            late.push(task.await?);
        }
        late.sort_unstable();
    }
    Ok(seen)
}

/// Asks without a pause, until it is aborted.
#[expect(clippy::disallowed_methods, reason = "a benchmark's own tasks")]
fn overload(nodes: &[ActorSystem]) -> Vec<tokio::task::JoinHandle<()>> {
    let askers = (0..ASKERS).map(|asker| {
        let counter = nodes[asker % nodes.len()].entity::<Counter>(asker.to_string());
        tokio::spawn(async move {
            loop {
                if counter.add(1).await.is_err() {
                    tokio::time::sleep(PACE).await;
                }
            }
        })
    });
    askers.collect()
}

fn row(case: &str, timeout: Duration, what: &str, late: &[Duration], beside: &[Duration]) {
    let ratio = |hundredths| {
        let beside = percentile(beside, hundredths).as_secs_f64();
        percentile(late, hundredths).as_secs_f64() / beside.max(1e-6)
    };
    println!(
        "| {case} | {timeout:?} | {what} | {} | {:.1?} | {:.1?} | {:.1?} | {:.2} | {:.2} |",
        late.len(),
        percentile(late, 50),
        percentile(late, 99),
        percentile(late, 100),
        ratio(50),
        ratio(99),
    );
}

async fn run(busy: usize) -> Result<(), AnyError> {
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for name in ["a", "b", "c"] {
        let seeds = nodes.first().map(|node| node.address().to_string());
        let builder = ActorSystem::builder("lateness").node_id(name).seeds(seeds);
        nodes.push(builder.entity::<Counter>().start().await?);
    }
    for node in &nodes {
        node.wait_for(nodes.len()).await?;
        node.ready().await?;
    }
    println!(
        "| case | timeout | ends late | count | p50 | p99 | slowest | p50 ratio | p99 ratio |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    let mut leases = Vec::new();
    for (case, threads, asks) in [
        ("idle", 0, false),
        ("busy", busy, false),
        ("overloaded", busy, true),
    ] {
        let _busy = Busy::new(threads);
        let askers = if asks { overload(&nodes) } else { Vec::new() };
        for timeout in TIMEOUTS {
            let seen = measure(&nodes, timeout).await?;
            row(case, timeout, "ask", &seen.asks, &seen.threads);
            row(case, timeout, "sleep", &seen.sleeps, &seen.threads);
            row(case, timeout, "thread", &seen.threads, &seen.threads);
            leases.push((case, seen.without_lease, seen.looks));
        }
        for asker in askers {
            asker.abort();
        }
    }
    println!();
    for (case, without_lease, looks) in leases {
        println!("{case}: a node without a lease in {without_lease} of {looks} looks");
    }
    for node in nodes {
        node.shutdown().await?;
    }
    Ok(())
}

fn main() -> Result<(), AnyError> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    runtime()?.block_on(run(numbers.next().unwrap_or(BUSY)))
}
