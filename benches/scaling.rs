//! The cost of a message against the number of entities, shards and nodes, and against its size:
//! `cargo bench -p casty-benches --bench scaling`.
//!
//! Without arguments the benchmark measures a little of everything, and prints it. `-- --full`
//! measures the plots of `docs/scaling.md`, and writes them and their figures there. `-- --full
//! sizes` does so for one of `entities`, `shards`, `nodes` and `sizes`. A cost is wall-clock time
//! divided by messages, from the sending of the first message until the last is known to be
//! handled. It is the median of several rounds. The floor is that of `raw`, in the same run.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use casty::{ActorSystem, ClusterClient, Settings, prelude::*};
use futures_util::future::join_all;
use serde_bytes::ByteBuf;

mod plot;
#[expect(dead_code, reason = "`floor` measures the rest")]
mod raw;
#[expect(dead_code, reason = "`fairness` needs the rest")]
mod support;

use plot::{Axis, Line, Plot};
use support::{AnyError, Process, go, now, runtime, until_stdin_ends};

const PARTS: [&str; 4] = ["entities", "shards", "nodes", "sizes"];
const IN_FLIGHT: usize = 64;
/// An ask may wait for all that was told before.
const PATIENCE: Duration = Duration::from_mins(1);
/// Entities that messages between processes are spread over.
const SPREAD: usize = 4096;
/// Payloads that one round sends in all, where their number alone would be more than that.
const ROUND_BYTES: usize = 128 * 1024 * 1024;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    full: bool,
    rounds: usize,
    tells: usize,
    asks: usize,
}

const QUICK: Effort = Effort {
    full: false,
    rounds: 1,
    tells: 50_000,
    asks: 12_800,
};
const FULL: Effort = Effort {
    full: true,
    rounds: 3,
    tells: 400_000,
    asks: 64_000,
};

impl Effort {
    fn points<T: Copy>(self, all: &[T]) -> Vec<T> {
        let step = if self.full { 1 } else { 2 };
        all.iter().step_by(step).copied().collect()
    }
}

/// Tells that entities of this process have handled.
static HANDLED: AtomicI64 = AtomicI64::new(0);

/// Where messages go.
#[derive(Clone)]
enum To {
    Local(ActorSystem),
    Cluster(ClusterClient),
}

impl To {
    fn entity<E: casty::shards::Hosted<Key = casty::id::EntityId>>(&self, id: &str) -> E::Ref {
        match self {
            Self::Local(system) => system.entity::<E>(id),
            Self::Cluster(client) => client.entity::<E>(id),
        }
    }
}

/// The operations of one task on an entity, for any number of shards.
trait Target: Send + Sync + 'static {
    fn tell(to: &To, id: &str) -> impl Future<Output = ()> + Send;
    fn ask(to: &To, id: &str, amount: i64) -> impl Future<Output = i64> + Send;
}

macro_rules! target {
    ($name:ident, $shards:tt) => {
        #[doc = concat!("One of a type with ", $shards, " shards.")]
        #[derive(Default)]
        pub struct $name {
            value: i64,
        }

        #[entity(shards = $shards)]
        impl $name {
            /// Adds, without an answer.
            #[message]
            pub fn increment(&mut self, amount: i64) {
                self.value += amount;
                HANDLED.fetch_add(1, Ordering::Relaxed);
            }

            /// Adds, and returns the sum.
            #[message]
            pub fn add(&mut self, amount: i64) -> i64 {
                self.value += amount;
                self.value
            }

            /// Takes a payload, and says nothing.
            #[message]
            pub fn take(&mut self, payload: ByteBuf) {
                self.value += i64::from(!payload.is_empty());
            }

            /// Takes a payload, and says how many have come.
            #[message]
            pub fn weigh(&mut self, payload: ByteBuf) -> i64 {
                self.value += i64::from(!payload.is_empty());
                self.value
            }
        }

        impl Target for $name {
            async fn tell(to: &To, id: &str) {
                let told = to.entity::<Self>(id).increment(1).tell().await;
                told.expect("room");
            }

            async fn ask(to: &To, id: &str, amount: i64) -> i64 {
                let asked = to.entity::<Self>(id).add(amount).timeout(PATIENCE);
                asked.await.expect("an answer")
            }
        }
    };
}

target!(Of16, 16);
target!(Of64, 64);
target!(Of256, 256);
target!(Of1024, 1024);
target!(Of4096, 4096);

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", "raw"] => return runtime()?.block_on(serve_raw()),
        ["serve", name, ref seeds @ ..] => return runtime()?.block_on(serve(name, seeds)),
        _ => {}
    }
    let mut effort = QUICK;
    let mut parts = Vec::new();
    for argument in arguments {
        match argument {
            "--full" => effort = FULL,
            part if PARTS.contains(&part) => parts.push(part),
            other => return Err(format!("`{other}`: --full, or one of {PARTS:?}").into()),
        }
    }
    if parts.is_empty() {
        parts.extend(PARTS);
    }
    for part in parts {
        let measured = match part {
            "entities" => entities(effort)?,
            "shards" => shards(effort)?,
            "nodes" => nodes(effort)?,
            _ => sizes(effort)?,
        };
        println!("{}", measured.csv());
        if effort.full {
            measured.write(part)?;
        }
    }
    Ok(())
}

/// Nanoseconds a message, at one point.
#[derive(Clone, Copy, Default)]
struct Costs {
    tell: f64,
    ask: f64,
    floor_tell: f64,
    floor_ask: f64,
}

/// A part's figures.
struct Measured {
    title: String,
    axis: Axis,
    points: Vec<(usize, Costs)>,
}

impl Measured {
    fn csv(&self) -> String {
        let mut out = format!(
            "{},tell_ns,ask_ns,floor_tell_ns,floor_ask_ns\n",
            self.axis.name
        );
        for (x, costs) in &self.points {
            let Costs {
                tell,
                ask,
                floor_tell,
                floor_ask,
            } = costs;
            let _ = writeln!(out, "{x},{tell:.0},{ask:.0},{floor_tell:.0},{floor_ask:.0}");
        }
        out
    }

    /// Writes the figures and the plot beside `docs/scaling.md`.
    fn write(&self, part: &str) -> Result<(), AnyError> {
        let line = |name, colour, is_floor, cost: fn(&Costs) -> f64| Line {
            name,
            colour,
            is_floor,
            points: self.points.iter().map(|(x, c)| (*x, cost(c))).collect(),
        };
        let plot = Plot {
            title: &self.title,
            x: self.axis,
            y_label: "nanoseconds a message (logarithmic)",
            lines: vec![
                line("ask", plot::ORANGE, false, |c| c.ask),
                line("ask, floor", plot::ORANGE, true, |c| c.floor_ask),
                line("tell", plot::BLUE, false, |c| c.tell),
                line("tell, floor", plot::BLUE, true, |c| c.floor_tell),
            ],
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{part}.csv")), self.csv())?;
        fs::write(folder.join(format!("{part}.svg")), plot.svg())?;
        Ok(())
    }
}

fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn nanos(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The receiver of the n-th message: all entities in turn, in an order that no cache predicts.
fn scattered(n: usize, of: usize) -> usize {
    n.wrapping_mul(2_654_435_761) % of
}

fn names(count: usize) -> Arc<Vec<String>> {
    Arc::new((0..count).map(|n| format!("e{n}")).collect())
}

/// Asks so often, with many in flight; `ask` gets a number.
async fn ask_all<F: Future<Output = ()>>(count: usize, ask: impl Fn(usize) -> F) {
    let ask = &ask;
    let askers = (0..IN_FLIGHT).map(|asker| async move {
        for n in (asker..count).step_by(IN_FLIGHT) {
            ask(n).await;
        }
    });
    join_all(askers).await;
}

/// The sum of all entities' counts. Each entity has then handled all earlier messages.
async fn sum<T: Target>(to: &To, ids: &[String]) -> i64 {
    let sum = AtomicI64::new(0);
    ask_all(ids.len(), |n| {
        let sum = &sum;
        async move {
            sum.fetch_add(T::ask(to, &ids[n], 0).await, Ordering::Relaxed);
        }
    })
    .await;
    sum.into_inner()
}

/// The cost of asks to these entities from one task.
async fn ask_cost<T: Target>(to: &To, ids: &[String], effort: Effort) -> f64 {
    let begun = now();
    ask_all(effort.asks, |n| async move {
        T::ask(to, &ids[scattered(n, ids.len())], 1).await;
    })
    .await;
    nanos(begun.elapsed(), effort.asks)
}

/// The cost of tells to entities of another node from one task.
async fn tell_cost<T: Target>(to: &To, ids: &[String], effort: Effort) -> f64 {
    let before = sum::<T>(to, ids).await;
    let begun = now();
    for n in 0..effort.tells {
        T::tell(to, &ids[scattered(n, ids.len())]).await;
    }
    // Each entity answers after it has handled its tells.
    let after = sum::<T>(to, ids).await;
    let took = begun.elapsed();
    assert_eq!(after - before, signed(effort.tells), "tells are missing");
    nanos(took, effort.tells)
}

fn floor_local(effort: Effort) -> Result<(f64, f64), AnyError> {
    let (mut tells, mut asks) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (tell, ask) = runtime()?.block_on(go(async move {
            let raw = raw::Local::start();
            let begun = now();
            for _ in 0..effort.tells {
                raw.tell(1).await;
            }
            assert_eq!(raw.ask(0).await, signed(effort.tells), "tells are missing");
            let tell = nanos(begun.elapsed(), effort.tells);
            let begun = now();
            let asked = &raw;
            ask_all(effort.asks, |_| async move {
                asked.ask(1).await;
            })
            .await;
            (tell, nanos(begun.elapsed(), effort.asks))
        }));
        tells.push(tell);
        asks.push(ask);
    }
    Ok((median(tells), median(asks)))
}

/// More and more entities on one node.
fn entities(effort: Effort) -> Result<Measured, AnyError> {
    let (floor_tell, floor_ask) = floor_local(effort)?;
    let counts = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
    let mut points = Vec::new();
    for count in effort.points(&counts) {
        let (tell, ask) = runtime()?.block_on(go(async move {
            let system = ActorSystem::builder("scaling")
                .settings(Settings {
                    shutdown_timeout: PATIENCE,
                    ..Settings::default()
                })
                .start_local()?;
            let to = To::Local(system.clone());
            let ids = names(count);
            // Every entity is alive before the first message that counts.
            sum::<Of64>(&to, &ids).await;
            let (mut tells, mut asks) = (Vec::new(), Vec::new());
            for _ in 0..effort.rounds {
                tells.push(local_tell_cost(&to, &ids, effort).await);
                asks.push(ask_cost::<Of64>(&to, &ids, effort).await);
            }
            system.shutdown().await?;
            Ok::<_, AnyError>((median(tells), median(asks)))
        }))?;
        let costs = Costs {
            tell,
            ask,
            floor_tell,
            floor_ask,
        };
        points.push((count, costs));
    }
    Ok(Measured {
        title: "Cost of a local message against the number of entities".to_owned(),
        axis: Axis {
            name: "entities",
            label: "entities alive on the node (logarithmic)",
            is_log: true,
        },
        points,
    })
}

/// The same as [`tell_cost`] on this node. Asking each entity would cost more than the tells, so
/// the handled messages are counted instead.
async fn local_tell_cost(to: &To, ids: &[String], effort: Effort) -> f64 {
    let before = HANDLED.load(Ordering::Relaxed);
    let begun = now();
    for n in 0..effort.tells {
        Of64::tell(to, &ids[scattered(n, ids.len())]).await;
    }
    while HANDLED.load(Ordering::Relaxed) - before < signed(effort.tells) {
        tokio::task::yield_now().await;
    }
    nanos(begun.elapsed(), effort.tells)
}

/// A cluster of processes, and a client of it in this one.
struct Cluster {
    client: ClusterClient,
    /// In the order of their end: the founder last.
    _processes: Vec<Process>,
}

impl Cluster {
    async fn start(nodes: usize) -> Result<Self, AnyError> {
        let founder = Process::start(&["serve", "n0"])?;
        let seed = founder.address.clone();
        let mut processes = vec![founder];
        for n in 1..nodes {
            let name = format!("n{n}");
            processes.insert(0, Process::start(&["serve", &name, &seed])?);
        }
        let client = ClusterClient::connect("scaling", [seed]).await?;
        client.wait_for(nodes).await?;
        Ok(Self {
            client,
            _processes: processes,
        })
    }

    fn to(&self) -> To {
        To::Cluster(self.client.clone())
    }
}

async fn serve(name: &str, seeds: &[&str]) -> Result<(), AnyError> {
    let builder = ActorSystem::builder("scaling").node_id(name).seeds(seeds);
    let node = builder.start().await?;
    node.wait_for(1).await?;
    println!("{}", node.address());
    until_stdin_ends().await;
    node.shutdown().await?;
    Ok(())
}

async fn serve_raw() -> Result<(), AnyError> {
    println!("{}", raw::serve().await?);
    until_stdin_ends().await;
    Ok(())
}

/// Tells and asks from one task to entities spread over a cluster.
async fn remote_costs<T: Target>(to: To, effort: Effort) -> (f64, f64) {
    go(async move {
        let ids = names(SPREAD);
        let (mut tells, mut asks) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            tells.push(tell_cost::<T>(&to, &ids, effort).await);
            asks.push(ask_cost::<T>(&to, &ids, effort).await);
        }
        (median(tells), median(asks))
    })
    .await
}

/// The floor between two processes, for payloads of so many bytes.
fn floor_remote(effort: Effort, bytes: usize) -> Result<(f64, f64), AnyError> {
    let server = Process::start(&["serve", "raw"])?;
    let address = server.address.clone();
    let (tell_count, ask_count) = counts(effort, bytes);
    let measured = runtime()?.block_on(go(async move {
        let raw = raw::Remote::connect(&address).await?;
        let payload = ByteBuf::from(vec![1; bytes]);
        let (mut tells, mut asks) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let before = raw.ask(0).await;
            let begun = now();
            for _ in 0..tell_count {
                raw.tell_with(1, payload.clone()).await;
            }
            let told = raw.ask(0).await - before;
            assert_eq!(told, signed(tell_count), "tells are missing");
            tells.push(nanos(begun.elapsed(), tell_count));
            let begun = now();
            let (asked, payload) = (&raw, &payload);
            ask_all(ask_count, |_| async move {
                asked.ask_with(1, payload.clone()).await;
            })
            .await;
            asks.push(nanos(begun.elapsed(), ask_count));
        }
        Ok::<_, AnyError>((median(tells), median(asks)))
    }))?;
    drop(server);
    Ok(measured)
}

/// More and more shards, on two nodes.
fn shards(effort: Effort) -> Result<Measured, AnyError> {
    let (floor_tell, floor_ask) = floor_remote(effort, 0)?;
    let runtime = runtime()?;
    let points = runtime.block_on(async {
        let cluster = Cluster::start(2).await?;
        let mut points = Vec::new();
        for shards in effort.points(&[16, 64, 256, 1024, 4096]) {
            let to = cluster.to();
            let (tell, ask) = match shards {
                16 => remote_costs::<Of16>(to, effort).await,
                64 => remote_costs::<Of64>(to, effort).await,
                256 => remote_costs::<Of256>(to, effort).await,
                1024 => remote_costs::<Of1024>(to, effort).await,
                _ => remote_costs::<Of4096>(to, effort).await,
            };
            let costs = Costs {
                tell,
                ask,
                floor_tell,
                floor_ask,
            };
            points.push((shards, costs));
        }
        cluster.client.shutdown().await?;
        Ok::<_, AnyError>(points)
    })?;
    Ok(Measured {
        title: format!("Cost of a remote message against shards, {SPREAD} entities on 2 nodes"),
        axis: Axis {
            name: "shards",
            label: "shards of the entity type (logarithmic)",
            is_log: true,
        },
        points,
    })
}

/// More and more nodes, each a process.
fn nodes(effort: Effort) -> Result<Measured, AnyError> {
    let (floor_tell, floor_ask) = floor_remote(effort, 0)?;
    let mut points = Vec::new();
    for count in effort.points(&[1, 2, 3, 5, 7, 9]) {
        let (tell, ask) = runtime()?.block_on(async {
            let cluster = Cluster::start(count).await?;
            let costs = remote_costs::<Of256>(cluster.to(), effort).await;
            cluster.client.shutdown().await?;
            Ok::<_, AnyError>(costs)
        })?;
        let costs = Costs {
            tell,
            ask,
            floor_tell,
            floor_ask,
        };
        points.push((count, costs));
    }
    let cores = std::thread::available_parallelism()?;
    Ok(Measured {
        title: format!("Cost of a remote message against nodes, all of them on {cores} CPUs"),
        axis: Axis {
            name: "nodes",
            label: "processes that host the entities",
            is_log: false,
        },
        points,
    })
}

/// Tells and asks of one round with payloads of so many bytes.
fn counts(effort: Effort, bytes: usize) -> (usize, usize) {
    let most = ROUND_BYTES / bytes.max(1);
    (effort.tells.min(most), effort.asks.min(most))
}

/// Bigger and bigger messages to one node.
fn sizes(effort: Effort) -> Result<Measured, AnyError> {
    let mut floors = HashMap::new();
    let sizes = effort.points(&[
        16,
        64,
        256,
        1024,
        4 * 1024,
        16 * 1024,
        64 * 1024,
        256 * 1024,
        1024 * 1024,
    ]);
    for &bytes in &sizes {
        floors.insert(bytes, floor_remote(effort, bytes)?);
    }
    let measured = runtime()?.block_on(async {
        let cluster = Cluster::start(1).await?;
        let to = cluster.to();
        let mut points = Vec::new();
        for bytes in sizes {
            let (tell, ask) = size_costs(to.clone(), effort, bytes).await;
            points.push((bytes, tell, ask));
        }
        cluster.client.shutdown().await?;
        Ok::<_, AnyError>(points)
    })?;
    let points = measured.into_iter().map(|(bytes, tell, ask)| {
        let (floor_tell, floor_ask) = floors.get(&bytes).copied().unwrap_or_default();
        let costs = Costs {
            tell,
            ask,
            floor_tell,
            floor_ask,
        };
        (bytes, costs)
    });
    Ok(Measured {
        title: "Cost of a remote message against its size, between two processes".to_owned(),
        axis: Axis {
            name: "bytes",
            label: "bytes of payload (logarithmic)",
            is_log: true,
        },
        points: points.collect(),
    })
}

async fn size_costs(to: To, effort: Effort, bytes: usize) -> (f64, f64) {
    let (tell_count, ask_count) = counts(effort, bytes);
    go(async move {
        let entity = to.entity::<Of64>("one");
        let payload = ByteBuf::from(vec![1; bytes]);
        let (mut tells, mut asks) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let before = entity.add(0).await.expect("an answer");
            let begun = now();
            for _ in 0..tell_count {
                let told = entity.take(payload.clone()).tell().await;
                told.expect("room");
            }
            let after = entity.add(0).timeout(PATIENCE).await.expect("an answer");
            assert_eq!(after - before, signed(tell_count), "tells are missing");
            tells.push(nanos(begun.elapsed(), tell_count));
            let begun = now();
            let (asked, payload) = (&entity, &payload);
            ask_all(ask_count, |_| async move {
                let asked = asked.weigh(payload.clone()).timeout(PATIENCE);
                asked.await.expect("an answer");
            })
            .await;
            asks.push(nanos(begun.elapsed(), ask_count));
        }
        (median(tells), median(asks))
    })
    .await
}
