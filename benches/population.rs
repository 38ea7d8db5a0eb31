//! A million idle entities on one clustered node: `cargo bench -p casty-benches --bench population
//! [-- COUNT]`.
//!
//! Everything runs on one thread, where every byte is counted. An activation is measured from the
//! sending of a message to an entity without a state until the message is handled. A passivation is
//! measured from the message that asks for it until the entity is gone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use casty::{ActorSystem, call::Call, prelude::*};
use casty_benches::counting::{Counting, counts};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type AnyError = Box<dyn std::error::Error>;

const MILLION: u64 = 1_000_000;
/// Messages under way at a time.
const BURST: u64 = 1_000;

static WOKEN: AtomicU64 = AtomicU64::new(0);
static ASLEEP: AtomicU64 = AtomicU64::new(0);

/// One of many.
#[derive(Default)]
pub struct Resident {
    visits: u64,
}

#[entity(shards = 1024)]
impl Resident {
    /// Is there.
    #[message]
    pub fn wake(&mut self) {
        self.visits += 1;
        WOKEN.fetch_add(self.visits, Ordering::Relaxed);
    }

    /// Goes to sleep.
    #[message]
    pub fn sleep(&mut self, ctx: &mut Context<Self>) {
        ctx.passivate();
    }

    #[on_stop]
    fn asleep(&mut self) {
        ASLEEP.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() -> Result<(), AnyError> {
    let count = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench");
    let count = count.map_or(Ok(MILLION), |count| count.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(count))
}

async fn measure(count: u64) -> Result<(), AnyError> {
    let node = ActorSystem::builder("population")
        .entity::<Resident>()
        .start()
        .await?;
    node.wait_for(1).await?;
    // Every shard has its home before anything is measured.
    for id in 0..count.min(20 * BURST) {
        node.entity::<Resident>(id.to_string())
            .sleep()
            .tell()
            .await?;
    }
    until(|| ASLEEP.load(Ordering::Relaxed) >= count.min(20 * BURST)).await;
    ASLEEP.store(0, Ordering::Relaxed);
    let (tasks, before) = (tasks(), counts().live_bytes);

    let activating = send_all(&node, count, &WOKEN, ResidentRef::wake).await?;
    // Runs of busy cells linger before they end.
    until(|| self::tasks() <= tasks).await;
    let bytes = counts().live_bytes - before;
    let looking = look(&node, count).await?;
    let passivating = send_all(&node, count, &ASLEEP, ResidentRef::sleep).await?;
    until(|| self::tasks() <= tasks).await;
    let left = counts().live_bytes - before;

    println!("{count} entities on one node, one thread");
    println!(
        "{:.0} bytes each, idle; {tasks} tasks, as before",
        each(bytes, count)
    );
    println!(
        "{:.0} bytes each are kept after they are gone",
        each(left, count)
    );
    println!("{:.0} activations a second", rate(count, activating));
    println!("{:.0} passivations a second", rate(count, passivating));
    println!(
        "{:.1} ms for a look at all of them, as `casty top` and the dashboard take every two seconds",
        looking.as_secs_f64() * 1e3
    );
    Ok(node.shutdown().await?)
}

/// Looks at all of them, some times. Returns the median time of a look.
async fn look(node: &ActorSystem, count: u64) -> Result<Duration, AnyError> {
    let mut times = Vec::new();
    for _ in 0..9 {
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark measures wall-clock time"
        )]
        let started = Instant::now();
        let overview = node.overview().await?;
        times.push(started.elapsed());
        let active: u64 = overview.types(None).iter().map(|it| it.active).sum();
        assert_eq!(active, count, "it looks at all of them");
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Sends a message to each. Returns the time until `done` had counted all of them.
async fn send_all(
    node: &ActorSystem,
    count: u64,
    done: &AtomicU64,
    message: impl Fn(&ResidentRef) -> Call<Resident, ()>,
) -> Result<Duration, AnyError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures wall-clock time"
    )]
    let started = Instant::now();
    for id in 0..count {
        let resident = node.entity::<Resident>(id.to_string());
        message(&resident).tell().await?;
        if (id + 1) % BURST == 0 || id + 1 == count {
            while done.load(Ordering::Relaxed) <= id {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(started.elapsed())
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn each(bytes: i64, count: u64) -> f64 {
    bytes as f64 / count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
