//! What stored entities do by themselves: `cargo bench -p casty-benches --bench stored`.
//!
//! **Sends.** Two nodes share a store in memory. Entities send to others, half of which are on the
//! other node. The *floor* is the same two records of a send, made by two asks of a client, with as
//! many in flight.
//!
//! **Reminders.** A node with a directory sets a million of them, for an hour from now, starts
//! again, and reads them. So many bytes its memory holds for each. Then 10,000 more are due in the
//! same second: how late they are handled.
//!
//! Arguments after `--` choose what is measured: `sends`, `reminders`. Sizes are `--count` and
//! `--due` of reminders, and `--sends`, each with a number after it. The directory is in `TMPDIR`,
//! which must be on a disk.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "other benchmarks use the rest")]
mod support;

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use casty::{admin::Admin, persistence::Memory, prelude::*, remind::Remind};
use futures_util::{StreamExt, stream};

use support::{AnyError, runtime};

/// Asks under way at a time.
const IN_FLIGHT: usize = 256;
const ENTITIES: u64 = 256;

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// How late each reminder was handled.
static LATE: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// Passes on.
#[message]
#[derive(Default)]
pub struct Passer {
    passed: u64,
}

#[entity(event_sourced, shards = 16)]
impl Passer {
    /// Sends one.
    #[message]
    pub fn pass(&self, to: TakerRef) -> Effect<Self> {
        Effect::persist(PasserEvent::Passed {}).send(to.take())
    }

    /// Notes the same, and sends nothing.
    #[message]
    pub fn note(&self) -> Effect<Self> {
        Effect::persist(PasserEvent::Passed {})
    }

    #[event]
    fn passed(&mut self) {
        self.passed += 1;
    }
}

/// Takes what is passed on.
#[message]
#[derive(Default)]
pub struct Taker {
    taken: u64,
}

#[entity(event_sourced, shards = 16)]
impl Taker {
    /// Takes one.
    #[message]
    pub fn take(&self) -> Effect<Self> {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        Effect::persist(TakerEvent::Took {})
    }

    #[event]
    fn took(&mut self) {
        self.taken += 1;
    }
}

/// Sleeps until it is reminded.
#[message]
#[derive(Default)]
pub struct Sleeper {
    woken: u64,
}

#[entity(durable, shards = 64)]
impl Sleeper {
    /// Reminds of nothing for an hour, and sleeps.
    #[message]
    pub fn sleep(&mut self, ctx: &mut Context<Self>) {
        let later = Remind::after(Duration::from_hours(1));
        ctx.remind("far", later, SleeperMsg::Wake { due: 0 });
        ctx.passivate();
    }

    /// Is due at this time, in milliseconds since the Unix epoch.
    #[message]
    pub fn sleep_until(&mut self, due: u64, ctx: &mut Context<Self>) {
        let at = Remind::at(UNIX_EPOCH + Duration::from_millis(due));
        ctx.remind("near", at, SleeperMsg::Wake { due });
        ctx.passivate();
    }

    /// It was due then.
    #[message]
    pub fn wake(&mut self, due: u64) {
        self.woken += 1;
        let late = now().saturating_sub(Duration::from_millis(due));
        let mut all = LATE.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(late);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "reminders are due by the wall clock"
)]
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures wall-clock time"
)]
fn started() -> Instant {
    Instant::now()
}

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let number = |flag: &str, default: u64| {
        let mut after = arguments.iter().skip_while(|argument| *argument != flag);
        let number = after.nth(1).map(|number| number.parse::<u64>());
        number.unwrap_or(Ok(default))
    };
    let all = !has("sends") && !has("reminders");
    let runtime = runtime()?;
    if all || has("sends") {
        runtime.block_on(sends(number("--sends", 40_000)?))?;
    }
    if all || has("reminders") {
        let (count, due) = (number("--count", 1_000_000)?, number("--due", 10_000)?);
        runtime.block_on(reminders(count, due))?;
    }
    Ok(())
}

// ---- Sends.

async fn sends(count: u64) -> Result<(), AnyError> {
    let store = Memory::new();
    let builder = |name: &str| {
        let builder = ActorSystem::builder("sends").node_id(name);
        builder.journal(store.clone())
    };
    let first = builder("first").start().await?;
    first.wait_for(1).await?;
    let second = builder("second")
        .seeds([first.address().to_string()])
        .start()
        .await?;
    second.wait_for(2).await?;
    // All shards have their homes.
    passes(&first, 4 * ENTITIES, true).await?;
    let mut ratios = Vec::new();
    println!("| sends a second | two asks a second | of the floor |\n|---|---|---|");
    for _ in 0..5 {
        let sends = rate(count, passes(&first, count, true).await?);
        let asks = rate(count, passes(&first, count, false).await?);
        println!("| {sends:.0} | {asks:.0} | {:.2} |", sends / asks);
        ratios.push(sends / asks);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} of the floor", ratios[ratios.len() / 2]);
    second.shutdown().await?;
    first.shutdown().await?;
    Ok(())
}

/// Passes so many on, by sends or by asks. Returns how long it took until all were taken.
async fn passes(node: &ActorSystem, count: u64, by_sends: bool) -> Result<Duration, AnyError> {
    TAKEN.store(0, Ordering::Relaxed);
    let since = started();
    let asking = stream::iter(0..count).map(|n| async move {
        let passer = node.entity::<Passer>((n % ENTITIES).to_string());
        let taker = node.entity::<Taker>((n * 7 % ENTITIES).to_string());
        if by_sends {
            passer.pass(taker).await
        } else {
            passer.note().await?;
            taker.take().await
        }
    });
    let mut asking = asking.buffer_unordered(IN_FLIGHT);
    while let Some(asked) = asking.next().await {
        asked?;
    }
    while TAKEN.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(since.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

// ---- Reminders.

async fn reminders(count: u64, due: u64) -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let start = async || {
        let builder = ActorSystem::builder("reminders").node_id("one");
        let node = builder.data_dir(folder.path()).start().await?;
        node.wait_for(1).await?;
        Ok::<_, AnyError>(node)
    };
    let node = start().await?;
    let since = started();
    let setting = stream::iter(0..count).map(|n| {
        let sleeper = node.entity::<Sleeper>(n.to_string());
        async move { sleeper.sleep().retry_for(Duration::from_secs(30)).await }
    });
    let mut setting = setting.buffer_unordered(1024);
    while let Some(set) = setting.next().await {
        set?;
    }
    drop(setting);
    println!(
        "{:.0} reminders are set a second",
        rate(count, since.elapsed())
    );
    node.shutdown().await?;
    // Its directory is in use as long as there is a handle.
    drop(node);

    let before = resident()?;
    let since = started();
    let node = start().await?;
    let admin = Admin::connect("reminders", [node.address()]).await?;
    while admin.reminders(Some("Sleeper"), 1).await?.pending < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{count} are read in {:.1?}", since.elapsed());
    let bytes = resident()?.saturating_sub(before);
    println!("about {} bytes of memory for each", bytes / count.max(1));

    let at = u64::try_from(now().as_millis())? + 15_000;
    let setting = stream::iter(0..due).map(|n| {
        let sleeper = node.entity::<Sleeper>((n * 97 % count.max(1)).to_string());
        // Spread over one second.
        async move { sleeper.sleep_until(at + n % 1000).await }
    });
    let mut setting = setting.buffer_unordered(1024);
    while let Some(set) = setting.next().await {
        set?;
    }
    drop(setting);
    let handled = || LATE.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    if handled() > 0 {
        return Err("setting them took longer than 15 seconds".into());
    }
    while handled() < due {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut late = LATE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    late.sort();
    let quantile = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "{due} that are due in one second are handled after {:.0?} (median), {:.0?} (99 %), {:.0?} (the last)",
        quantile(50),
        quantile(99),
        quantile(100)
    );
    node.shutdown().await?;
    Ok(())
}

/// The memory of this process, in bytes.
fn resident() -> Result<u64, AnyError> {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).ok_or("no such figure")?;
    Ok(pages.parse::<u64>()? * PAGE)
}
