//! casty beside a raw tokio floor: `cargo bench`.
//!
//! The floor is the same work written by hand: within a process, a bounded channel and one-shots;
//! between two, one TCP connection with length-prefixed MessagePack and a coalescing writer. The
//! same loops drive both, in turns, in the same run. The benchmark prints the medians and their
//! ratio, since absolute figures of a shared machine mean little. Each run counts the messages that
//! arrived, and fails if one is missing.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use casty::{ActorSystem, ClusterClient};
use casty_benches::{Counter, CounterRef, Local, LocalRef};
use futures_util::future::join_all;

mod raw;

type AnyError = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;
const LOCAL_TELLS: i64 = 1_000_000;
const LOCAL_ASKS: i64 = 200_000;
const REMOTE_TELLS: i64 = 500_000;
const REMOTE_ASKS: i64 = 10_000;
/// Divisible by the number in flight.
const REMOTE_ASKS_64: i64 = 64 * 1_600;
const IN_FLIGHT: i64 = 64;
/// The last ask of a run waits for all that was told before.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", "raw"] => runtime()?.block_on(serve_raw()),
        ["serve", "casty"] => runtime()?.block_on(serve_casty()),
        ["measure", case, side, address] => {
            let rate = runtime()?.block_on(remote(case, side, address))?;
            println!("{rate}");
            Ok(())
        }
        // One side of a local case, for a profiler.
        ["local", side] => {
            let rate = runtime()?.block_on(local(side.to_owned()));
            println!("{rate:.0}");
            Ok(())
        }
        _ => report(),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

fn report() -> Result<(), AnyError> {
    println!("| case | floor | casty | ratio |\n|---|---|---|---|");
    for (case, side) in [
        ("local tell, entity", "entity"),
        ("local tell, actor", "actor"),
        ("local ask, entity", "entity-ask"),
        ("local ask, actor", "actor-ask"),
    ] {
        let floor = if side.ends_with("ask") {
            "raw-ask"
        } else {
            "raw"
        };
        row(
            case,
            || Ok(runtime()?.block_on(local(floor.to_owned()))),
            || Ok(runtime()?.block_on(local(side.to_owned()))),
        )?;
    }
    for (case, name, pinned) in [
        ("remote ask, 1 in flight, pinned to one CPU", "ask-1", true),
        ("remote ask, 64 in flight", "ask-64", false),
        ("remote tell", "tell", false),
    ] {
        row(
            case,
            || between_processes(name, "raw", pinned),
            || between_processes(name, "casty", pinned),
        )?;
    }
    Ok(())
}

/// Measures both sides in turns.
fn row(
    case: &str,
    mut floor: impl FnMut() -> Result<f64, AnyError>,
    mut casty: impl FnMut() -> Result<f64, AnyError>,
) -> Result<(), AnyError> {
    let (mut floors, mut castys) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(floor()?);
        castys.push(casty()?);
    }
    let (floor, casty) = (median(floors), median(castys));
    println!(
        "| {case} | {floor:.0}/s | {casty:.0}/s | {:.2} |",
        casty / floor
    );
    std::io::stdout().flush()?;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(count: i64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// A counter of any side. The same loops drive all of them.
trait Target: Sync {
    fn tell(&self, amount: i64) -> impl Future<Output = ()> + Send;
    fn ask(&self, amount: i64) -> impl Future<Output = i64> + Send;
}

impl Target for raw::Local {
    async fn tell(&self, amount: i64) {
        raw::Local::tell(self, amount).await;
    }

    async fn ask(&self, amount: i64) -> i64 {
        raw::Local::ask(self, amount).await
    }
}

impl Target for raw::Remote {
    async fn tell(&self, amount: i64) {
        raw::Remote::tell(self, amount).await;
    }

    async fn ask(&self, amount: i64) -> i64 {
        raw::Remote::ask(self, amount).await
    }
}

impl Target for CounterRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }

    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Target for LocalRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }

    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

/// Tells or asks `count` times, with so many asks in flight, and says how many a second that were.
async fn drive(target: &impl Target, tells: bool, count: i64, in_flight: i64) -> f64 {
    let before = target.ask(0).await;
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    if tells {
        for _ in 0..count {
            target.tell(1).await;
        }
    } else if in_flight == 1 {
        for _ in 0..count {
            target.ask(1).await;
        }
    } else {
        let askers = (0..in_flight).map(|_| async {
            for _ in 0..count / in_flight {
                target.ask(1).await;
            }
        });
        join_all(askers).await;
    }
    let arrived = target.ask(0).await - before;
    assert_eq!(arrived, count, "messages are missing");
    rate(count, started.elapsed())
}

async fn local(side: String) -> f64 {
    let system = ActorSystem::local("bench");
    let entity = system.entity::<Counter>("one");
    let actor = system.spawn(Local::default());
    let raw = raw::Local::start();
    // The loops run on a worker thread, as an application's do.
    let measured = async move {
        match side.as_str() {
            "raw" => drive(&raw, true, LOCAL_TELLS, 1).await,
            "entity" => drive(&entity, true, LOCAL_TELLS, 1).await,
            "actor" => drive(&actor, true, LOCAL_TELLS, 1).await,
            "raw-ask" => drive(&raw, false, LOCAL_ASKS, 1).await,
            "entity-ask" => drive(&entity, false, LOCAL_ASKS, 1).await,
            _ => drive(&actor, false, LOCAL_ASKS, 1).await,
        }
    };
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own task")]
    let measured = tokio::spawn(measured);
    let rate = measured.await.expect("the loop ends");
    system.shutdown().await.expect("an orderly end");
    rate
}

/// Starts a server and a client, each in a process of its own. Returns the rate that the client
/// prints.
fn between_processes(case: &str, side: &str, pinned: bool) -> Result<f64, AnyError> {
    let command = |arguments: &[&str]| -> std::io::Result<Command> {
        let this = std::env::current_exe()?;
        let mut command = if pinned {
            let mut taskset = Command::new("taskset");
            taskset.args(["-c", "0"]).arg(this);
            taskset
        } else {
            Command::new(this)
        };
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Ok(command)
    };
    let mut server = command(&["serve", side])?.spawn()?;
    let address = {
        use std::io::{BufRead, BufReader};
        let mut line = String::new();
        let stdout = server.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        line.trim().to_owned()
    };
    let output = command(&["measure", case, side, &address])?.output();
    // The end of its input ends the server.
    drop(server.stdin.take());
    server.wait()?;
    let output = output?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn until_stdin_ends() {
    use tokio::io::AsyncReadExt;
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

async fn serve_raw() -> Result<(), AnyError> {
    println!("{}", raw::serve().await?);
    until_stdin_ends().await;
    Ok(())
}

async fn serve_casty() -> Result<(), AnyError> {
    let node = ActorSystem::builder("bench")
        .entity::<Counter>()
        .start()
        .await?;
    node.wait_for(1).await?;
    println!("{}", node.address());
    until_stdin_ends().await;
    node.shutdown().await?;
    Ok(())
}

async fn remote(case: &str, side: &str, address: &str) -> Result<f64, AnyError> {
    let (case, side, address) = (case.to_owned(), side.to_owned(), address.to_owned());
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own task")]
    let measuring = tokio::spawn(async move {
        match side.as_str() {
            "raw" => remote_raw(&case, &address)
                .await
                .map_err(|error| error.to_string()),
            _ => remote_casty(&case, &address)
                .await
                .map_err(|error| error.to_string()),
        }
    });
    Ok(measuring.await??)
}

async fn remote_raw(case: &str, address: &str) -> std::io::Result<f64> {
    Ok(drive_remote(&raw::Remote::connect(address).await?, case).await)
}

async fn remote_casty(case: &str, address: &str) -> Result<f64, AnyError> {
    let client = ClusterClient::connect("bench", [address]).await?;
    let rate = drive_remote(&client.entity::<Counter>("one"), case).await;
    client.shutdown().await?;
    Ok(rate)
}

async fn drive_remote(target: &impl Target, case: &str) -> f64 {
    match case {
        "ask-1" => drive(target, false, REMOTE_ASKS, 1).await,
        "ask-64" => drive(target, false, REMOTE_ASKS_64, IN_FLIGHT).await,
        _ => drive(target, true, REMOTE_TELLS, 1).await,
    }
}
