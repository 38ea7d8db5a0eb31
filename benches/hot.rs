//! One case of the hot path on one side, alone in a process, for profilers and instruction
//! counters.
//!
//! `hot CASE SIDE COUNT [threads]` runs `COUNT` messages, actors or round trips, checks that all
//! arrived, and prints nanoseconds for each. With one thread, the default, equal arguments execute
//! equal instructions, near enough. `hot guard` counts these instructions, and compares them with
//! the committed baseline.

use std::time::{Duration, Instant};

use casty::{ActorSystem, ClusterClient, Settings};
use casty_benches::{Counter, CounterRef, Local, LocalRef};
use futures_util::future::join_all;

mod baseline;
mod guard;
#[expect(dead_code, reason = "remote cases are measured by `floor`")]
mod raw;

use baseline::AnyError;

const MANY: usize = 1_000;
const SENDERS: usize = 4;
const ASKERS: usize = 64;
/// The last ask of a run waits for all that was told before.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [first, options @ ..] = &arguments[..]
        && first == "guard"
    {
        return guard::main(options);
    }
    let [case, side, count, threads @ ..] = &arguments[..] else {
        let usage = "hot CASE SIDE COUNT [THREADS], or hot guard [--write]";
        if arguments.is_empty() {
            // `cargo bench` runs everything without arguments.
            println!("{usage}");
            return Ok(());
        }
        return Err(usage.into());
    };
    let count: usize = count.parse()?;
    let threads: usize = threads.first().map_or(Ok(1), |threads| threads.parse())?;
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?
    };
    let (case, side) = (case.clone(), side.clone());
    let nanos = runtime.block_on(go(async move { start(&case, &side, count).await }))?;
    println!("{nanos:.1}");
    // Exits without ending a thousand actors. Their end would count as part of their start.
    std::process::exit(0);
}

/// Starts the systems that the case needs, and runs it. The systems are left running.
async fn start(case: &str, side: &str, count: usize) -> Result<f64, String> {
    let (nanos, left) = match side {
        "raw" => return Ok(run(case, count, |_| raw::Local::start()).await),
        "entity" => {
            let system = ActorSystem::local("bench");
            let measured = run(case, count, |n| system.entity::<Counter>(n.to_string()));
            (measured.await, system)
        }
        "actor" => {
            let system = ActorSystem::local("bench");
            let measured = run(case, count, |_| system.spawn(Local::default()));
            (measured.await, system)
        }
        "remote" => {
            let measured = remote(case, count);
            measured.await.map_err(|error| error.to_string())?
        }
        other => return Err(format!("no side `{other}`")),
    };
    std::mem::forget(left);
    Ok(nanos)
}

/// Between a node and a client of it over loopback, both on this runtime.
async fn remote(case: &str, count: usize) -> Result<(f64, ActorSystem), AnyError> {
    // So that little happens by the clock while messages are counted.
    let settings = Settings {
        gossip_interval: Duration::from_secs(5),
        suspect_after: Duration::from_secs(15),
        lease: Duration::from_mins(1),
        ..Settings::default()
    };
    let node = ActorSystem::builder("bench")
        .settings(settings)
        .seed(1)
        .entity::<Counter>()
        .start()
        .await?;
    node.wait_for(1).await?;
    let client = ClusterClient::connect("bench", [node.address()]).await?;
    let nanos = run(case, count, |n| client.entity::<Counter>(n.to_string())).await;
    std::mem::forget(client);
    Ok((nanos, node))
}

/// On a worker thread, as an application's tasks are.
async fn go<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own task")]
    let task = tokio::spawn(task);
    task.await.expect("it ends")
}

trait Target: Send + Sync + Clone + 'static {
    fn tell(&self, amount: i64) -> impl Future<Output = ()> + Send;
    fn ask(&self, amount: i64) -> impl Future<Output = i64> + Send;

    /// The count, once all earlier messages are handled.
    fn total(&self) -> impl Future<Output = i64> + Send {
        self.ask(0)
    }
}

impl Target for raw::Local {
    async fn tell(&self, amount: i64) {
        raw::Local::tell(self, amount).await;
    }

    async fn ask(&self, amount: i64) -> i64 {
        raw::Local::ask(self, amount).await
    }
}

impl Target for CounterRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }

    async fn ask(&self, amount: i64) -> i64 {
        self.add(amount).await.expect("an answer")
    }

    async fn total(&self) -> i64 {
        let answer = self.add(0).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Target for LocalRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }

    async fn ask(&self, amount: i64) -> i64 {
        self.add(amount).await.expect("an answer")
    }

    async fn total(&self) -> i64 {
        let answer = self.add(0).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

#[expect(clippy::cast_possible_wrap, reason = "counts of a benchmark")]
async fn run<T: Target>(case: &str, count: usize, make: impl Fn(usize) -> T) -> f64 {
    let targets = match case {
        "tell" | "ask" => 1,
        "ask-conc" => ASKERS,
        "tell-many" => MANY,
        _ => 0,
    };
    let targets: Vec<T> = (0..targets).map(&make).collect();
    let mut before = 0;
    for target in &targets {
        before += target.total().await;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    match case {
        "tell" => {
            for _ in 0..count {
                targets[0].tell(1).await;
            }
        }
        "tell-many" => {
            let senders = (0..SENDERS).map(|_| {
                let targets = targets.clone();
                go(async move {
                    for n in 0..count / SENDERS {
                        targets[n % MANY].tell(1).await;
                    }
                })
            });
            join_all(senders).await;
        }
        "ask" => {
            for _ in 0..count {
                targets[0].ask(1).await;
            }
        }
        "ask-conc" => {
            let askers = targets.iter().cloned().map(|target| {
                go(async move {
                    for _ in 0..count / ASKERS {
                        target.ask(1).await;
                    }
                })
            });
            join_all(askers).await;
        }
        "spawn" => {
            let mut kept = Vec::with_capacity(count);
            for n in 0..count {
                let target = make(n);
                before -= target.ask(1).await;
                kept.push(target);
            }
            assert_eq!(before, -(count as i64), "answers are missing");
            let took = started.elapsed();
            return nanos(took, count);
        }
        other => panic!("no case `{other}`"),
    }
    let mut after = 0;
    for target in &targets {
        after += target.total().await;
    }
    assert_eq!(after - before, count as i64, "messages are missing");
    nanos(started.elapsed(), count)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn nanos(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}
