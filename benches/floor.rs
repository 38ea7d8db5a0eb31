//! casty beside a raw tokio floor: `cargo bench`.
//!
//! The floor is what one would write by hand: a bounded channel and one-shots in a process; one TCP connection with
//! length-prefixed MessagePack and a coalescing writer between two. Both are driven by the same loops, in turns, in
//! the same run; printed are the medians and their ratio, since absolute figures of a shared machine mean little.
//! Each run counts what arrived, and fails if anything is missing.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use casty::{ActorSystem, ClusterClient};
use casty_benches::{Counter, Local};
use futures_util::future::join_all;

mod raw;

type AnyError = Box<dyn std::error::Error>;

const ROUNDS: usize = 5;
const LOCAL_TELLS: i64 = 1_000_000;
const LOCAL_ASKS: i64 = 200_000;
const REMOTE_TELLS: i64 = 500_000;
const REMOTE_ASKS: i64 = 10_000;
const REMOTE_ASKS_64: i64 = 100_000;
const IN_FLIGHT: i64 = 64;

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
            || Ok(runtime()?.block_on(local(floor))),
            || Ok(runtime()?.block_on(local(side))),
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

async fn local(side: &str) -> f64 {
    let system = ActorSystem::local("bench");
    let entity = system.entity::<Counter>("one");
    let actor = system.spawn(Local::default());
    let raw = raw::Local::start();
    // The loops run on a worker thread, as an application's do.
    let side = side.to_owned();
    let measured = async move {
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark measures wall-clock time"
        )]
        let started = Instant::now();
        let count = if side.ends_with("ask") {
            LOCAL_ASKS
        } else {
            LOCAL_TELLS
        };
        let mut last = 0;
        for _ in 0..count {
            match side.as_str() {
                "raw" => raw.tell(1).await,
                "entity" => entity.increment(1).tell().await.expect("room"),
                "actor" => actor.increment(1).tell().await.expect("room"),
                "raw-ask" => last = raw.ask(1).await,
                "entity-ask" => last = entity.add(1).await.expect("an answer"),
                _ => last = actor.add(1).await.expect("an answer"),
            }
        }
        match side.as_str() {
            "raw" => last = raw.ask(0).await,
            "entity" => last = entity.add(0).await.expect("an answer"),
            "actor" => last = actor.add(0).await.expect("an answer"),
            _ => {}
        }
        assert_eq!(last, count, "messages are missing");
        rate(count, started.elapsed())
    };
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own task")]
    let measured = tokio::spawn(measured);
    let rate = measured.await.expect("the loop ends");
    system.shutdown().await.expect("an orderly end");
    rate
}

/// Starts a server and a client, each in a process of its own, and takes the rate that the client says.
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
    let raw = raw::Remote::connect(address).await?;
    assert_eq!(raw.ask(0).await, 0);
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    let count = match case {
        "ask-1" => {
            for _ in 0..REMOTE_ASKS {
                raw.ask(1).await;
            }
            REMOTE_ASKS
        }
        "ask-64" => {
            let askers = (0..IN_FLIGHT).map(|_| async {
                for _ in 0..REMOTE_ASKS_64 / IN_FLIGHT {
                    raw.ask(1).await;
                }
            });
            join_all(askers).await;
            REMOTE_ASKS_64 / IN_FLIGHT * IN_FLIGHT
        }
        _ => {
            for _ in 0..REMOTE_TELLS {
                raw.tell(1).await;
            }
            REMOTE_TELLS
        }
    };
    assert_eq!(raw.ask(0).await, count, "messages are missing");
    Ok(rate(count, started.elapsed()))
}

async fn remote_casty(case: &str, address: &str) -> Result<f64, AnyError> {
    let client = ClusterClient::connect("bench", [address]).await?;
    let counter = client.entity::<Counter>("one");
    assert_eq!(counter.add(0).await?, 0);
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    let count = match case {
        "ask-1" => {
            for _ in 0..REMOTE_ASKS {
                counter.add(1).await?;
            }
            REMOTE_ASKS
        }
        "ask-64" => {
            let askers = (0..IN_FLIGHT).map(|_| async {
                for _ in 0..REMOTE_ASKS_64 / IN_FLIGHT {
                    counter.add(1).await.expect("an answer");
                }
            });
            join_all(askers).await;
            REMOTE_ASKS_64 / IN_FLIGHT * IN_FLIGHT
        }
        _ => {
            for _ in 0..REMOTE_TELLS {
                counter.increment(1).tell().await.expect("room");
            }
            REMOTE_TELLS
        }
    };
    assert_eq!(
        counter.add(0).timeout(Duration::from_secs(30)).await?,
        count,
        "messages are missing"
    );
    let rate = rate(count, started.elapsed());
    client.shutdown().await?;
    Ok(rate)
}
