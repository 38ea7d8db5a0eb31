//! The loops between two processes: the same for every side.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    AnyError,
    cases::{Case, IN_FLIGHT, Outcome, Side},
    local::{Ask, Clock, Scale, Tell, arrived},
};

/// A counter in another process.
pub(crate) trait Remote: 'static {
    type Counter: Ask;
    /// Serves until it is dropped.
    type Server;

    /// The tells in flight at once. More than one only where each is acknowledged.
    const TELLS_IN_FLIGHT: usize = 1;

    /// Serves one counter in this process, and prints its address in one line.
    fn serve() -> impl Future<Output = Result<(String, Self::Server), AnyError>> + Send;

    /// Connects to the counter from another process.
    fn connect(place: String) -> impl Future<Output = Result<Self::Counter, AnyError>> + Send;
}

const ASKS: i64 = 50_000;
const ASKS_MANY: i64 = 500_000;
const TELLS: i64 = 2_000_000;
/// Messages sent before the clock starts.
const WARM_UP: usize = 200;

/// The limit for a connect, with all the steps before.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause between two tries to connect.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until the input ends.
pub(crate) async fn serve<R: Remote>() -> Result<(), AnyError> {
    use tokio::io::AsyncReadExt;
    let (place, _server) = R::serve().await?;
    println!("{place}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    // An orderly end is not needed, and not every side has one.
    std::process::exit(0);
}

/// Measures a remote case that asks.
pub(crate) async fn asking<R: Remote>(
    case: Case,
    side: Side,
    scale: Scale,
) -> Result<Outcome, AnyError> {
    let other = Other::start(side)?;
    let counter = R::connect(other.place.clone()).await?;
    for _ in 0..WARM_UP {
        counter.ask(0).await;
    }
    match case {
        Case::RemoteAskOne => {
            let (clock, mut sent) = (Clock::start(), 0);
            while clock.goes_on(sent, scale.of(ASKS)) {
                sent += 1;
                let answer = counter.ask(1).await;
                if answer != sent {
                    return Err(format!("ask {sent} was answered with {answer}").into());
                }
            }
            arrived(&[counter], sent, clock).await
        }
        _ => {
            many(
                counter,
                IN_FLIGHT,
                scale.of(ASKS_MANY),
                |counter| async move {
                    counter.ask(1).await;
                },
            )
            .await
        }
    }
}

/// Measures any remote case.
pub(crate) async fn measure<R: Remote>(
    case: Case,
    side: Side,
    scale: Scale,
) -> Result<Outcome, AnyError>
where
    R::Counter: Tell,
{
    if case != Case::RemoteTell {
        return asking::<R>(case, side, scale).await;
    }
    let other = Other::start(side)?;
    let counter = R::connect(other.place.clone()).await?;
    for _ in 0..WARM_UP {
        counter.ask(0).await;
    }
    many(
        counter,
        R::TELLS_IN_FLIGHT,
        scale.of(TELLS),
        |counter| async move {
            counter.tell(1).await;
        },
    )
    .await
}

/// Runs this many tasks, each of which sends one message after the other.
async fn many<C: Ask, F: Future<Output = ()> + Send>(
    counter: C,
    tasks: usize,
    most: i64,
    deliver: impl Fn(Arc<C>) -> F + Copy + Send + 'static,
) -> Result<Outcome, AnyError> {
    let counter = Arc::new(counter);
    let most = most / i64::try_from(tasks)?;
    let clock = Clock::start();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut sent = 0;
                while clock.goes_on(sent, most) {
                    deliver(counter.clone()).await;
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += task.await?;
    }
    arrived(std::slice::from_ref(&*counter), sent, clock).await
}

/// The serving process. It ends with this value.
struct Other {
    process: Child,
    /// The process ends when this input ends.
    input: Option<ChildStdin>,
    place: String,
}

impl Other {
    fn start(side: Side) -> Result<Self, AnyError> {
        let name = side.to_possible_value().ok_or("no such side")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", name.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no output")?;
        let mut other = Self {
            process,
            input,
            place: String::new(),
        };
        BufReader::new(output).read_line(&mut other.place)?;
        other.place = other.place.trim().to_owned();
        if other.place.is_empty() {
            return Err("the other process does not serve".into());
        }
        Ok(other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago, for sides that do not report their port.
pub(crate) fn free_port() -> Result<u16, AnyError> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
