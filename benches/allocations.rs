//! Allocations of messages, and memory of idle actors. The bounds are those of ARCHITECTURE.md,
//! "The life of a message".
//!
//! Everything runs on the thread of its test, where every allocation is counted, also both ends of
//! a connection.

use std::{error::Error, fs, path::Path, time::Duration};

use casty::{
    ActorSystem,
    prelude::*,
    tls::{Identity, PeerRole, Tls},
};
use casty_benches::{
    Counter, Local, LocalRef,
    counting::{Counting, counts},
};
use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Outcome = Result<(), Box<dyn Error>>;

/// Of each measurement.
const ROUNDS: usize = 7;
/// Messages of a round.
const MESSAGES: u64 = 2_000;
/// Tells in a row before the sender waits for them: fewer than the capacity of a mailbox, and more
/// than the batch of a run.
const BURST: u64 = 500;

/// Asks that wait at the same time.
const IN_FLIGHT: u64 = 50;

/// Idle entities whose memory is measured.
const POPULATION: u32 = 20_000;
const BYTES_MAX: f64 = 400.0;

/// A counter that can name its node.
#[derive(Default)]
pub struct Elsewhere {
    value: i64,
}

#[entity(shards = 64)]
impl Elsewhere {
    /// Adds, without an answer.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// Adds, and returns the sum.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }

    /// The node of this entity.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

fn on_this_thread(test: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(test)
}

/// What this thread allocates by the clock alone, in a second: for gossip, leases and ticks.
async fn by_the_clock() -> f64 {
    let (begun, before) = (Instant::now(), counts().allocations);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let allocations = u32::try_from(counts().allocations - before).unwrap_or(u32::MAX);
    f64::from(allocations) / begun.elapsed().as_secs_f64()
}

/// Allocations of a round of [`MESSAGES`], without those that the clock causes meanwhile: the
/// busier the machine, the longer a round takes. The median of the rounds, since queues grow in the
/// first.
async fn allocations(
    by_the_clock: f64,
    round: impl AsyncFn() -> Outcome,
) -> Result<u64, Box<dyn Error>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (begun, before) = (Instant::now(), counts().allocations);
        round().await?;
        let allocations = counts().allocations - before;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small number, rounded down"
        )]
        let others = (by_the_clock * begun.elapsed().as_secs_f64()) as u64;
        rounds.push(allocations.saturating_sub(others));
    }
    rounds.sort_unstable();
    println!("allocations of {MESSAGES}: {rounds:?}");
    Ok(rounds[ROUNDS / 2])
}

/// Tells in bursts, each followed by one ask, which waits until they have been handled.
macro_rules! tells {
    ($to:expr, $by_the_clock:expr) => {
        allocations($by_the_clock, async || -> Outcome {
            for _ in 0..MESSAGES / BURST {
                for _ in 0..BURST {
                    $to.increment(1).tell().await?;
                }
                $to.add(0).await?;
            }
            Ok(())
        })
        .await?
    };
}

macro_rules! asks {
    ($to:expr, $by_the_clock:expr) => {
        allocations($by_the_clock, async || -> Outcome {
            for _ in 0..MESSAGES {
                $to.add(1).await?;
            }
            Ok(())
        })
        .await?
    };
}

#[test]
fn a_local_tell_allocates_nothing() -> Outcome {
    on_this_thread(async {
        let system = ActorSystem::local("tells");
        let entity = system.entity::<Counter>("one");
        assert_eq!(tells!(entity, 0.0), 0, "to an entity");
        let actor = system.spawn(Local::default());
        assert_eq!(tells!(actor, 0.0), 0, "to an actor");
        Ok(system.shutdown().await?)
    })
}

#[test]
fn a_local_ask_allocates_nothing() -> Outcome {
    on_this_thread(async {
        let system = ActorSystem::local("asks");
        let entity = system.entity::<Counter>("one");
        assert_eq!(asks!(entity, 0.0), 0, "an entity");
        let actor = system.spawn(Local::default());
        assert_eq!(asks!(actor, 0.0), 0, "an actor");
        Ok(system.shutdown().await?)
    })
}

/// Tells and asks, from one node to an entity of the other.
#[test]
fn a_remote_message_allocates_little() -> Outcome {
    on_this_thread(async {
        let here = ActorSystem::builder("remote")
            .entity::<Elsewhere>()
            .start()
            .await?;
        let there = ActorSystem::builder("remote")
            .seeds([here.address()])
            .entity::<Elsewhere>()
            .start()
            .await?;
        here.wait_for(2).await?;
        there.wait_for(2).await?;
        let mut ids = 0..;
        let entity = loop {
            let entity = here.entity::<Elsewhere>(ids.next().unwrap_or(0_u32).to_string());
            if entity.node().await? == there.node_id().to_string() {
                break entity;
            }
        };
        let clock = by_the_clock().await;
        let tell = tells!(entity, clock);
        // Buffers of the connections, one for each chunk.
        assert!(tell < MESSAGES / 10, "{tell} of {MESSAGES} tells");
        let ask = asks!(entity, clock);
        // Three, and the same.
        assert!(ask < 4 * MESSAGES, "{ask} of {MESSAGES} asks");
        // Messages under way at the same time share buffers.
        let together = allocations(clock, async || -> Outcome {
            let askers = (0..IN_FLIGHT).map(|_| async {
                for _ in 0..MESSAGES / IN_FLIGHT {
                    entity.add(1).await?;
                }
                Ok(())
            });
            join_all(askers).await.into_iter().collect()
        });
        let together = together.await?;
        assert!(together < 2 * MESSAGES, "{together} of {MESSAGES} asks");
        there.shutdown().await?;
        Ok(here.shutdown().await?)
    })
}

/// Waits until there are as many tasks as before: until every run has ended.
async fn no_task_more_than(before: usize) {
    let idle = async {
        while tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
            > before
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(10), idle).await;
    waited.expect("idle actors own tasks");
}

/// Bytes for each of the population that `populate` makes, once they own no task.
async fn bytes_each<T>(
    populate: impl AsyncFnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let before = counts().live_bytes;
    let kept = populate().await?;
    no_task_more_than(tasks).await;
    let bytes = u32::try_from(counts().live_bytes - before)?;
    drop(kept);
    let each = f64::from(bytes) / f64::from(POPULATION);
    println!("{each} bytes each, {tasks} tasks");
    Ok(each)
}

/// Messages after each other, after which a run waits for more instead of ending.
const BUSY: u32 = 5;

/// Longer than a busy machine takes, and short, so that the deadlines of asks soon have no ask left
/// to check.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_idle_entity_is_small_and_owns_no_task() -> Outcome {
    on_this_thread(async {
        let system = ActorSystem::local("idle");
        let each = bytes_each(async || {
            for id in 0..POPULATION {
                let entity = system.entity::<Counter>(id.to_string());
                for _ in 0..BUSY {
                    entity.add(1).timeout(SOON).await?;
                }
            }
            Ok(())
        });
        let each = each.await?;
        assert!(each <= BYTES_MAX, "{each} bytes");
        Ok(system.shutdown().await?)
    })
}

#[test]
fn an_idle_actor_is_small_and_owns_no_task() -> Outcome {
    on_this_thread(async {
        let system = ActorSystem::local("idle");
        let mut actors: Vec<LocalRef> = Vec::with_capacity(POPULATION as usize);
        let each = bytes_each(async || {
            for _ in 0..POPULATION {
                let actor = system.spawn(Local::default());
                for _ in 0..BUSY {
                    actor.add(1).timeout(SOON).await?;
                }
                actors.push(actor);
            }
            Ok(())
        });
        let each = each.await?;
        assert!(each <= BYTES_MAX, "{each} bytes");
        Ok(system.shutdown().await?)
    })
}

/// Connections of peers that are not known yet, and how much each of them says.
const UNKNOWN: usize = 32;
const SAID_BYTES: usize = 24 * 1024 - 64;
const UNKNOWN_BYTES_MAX: i64 = 64 * 1024;

/// A node with a certificate of its own authority.
async fn secured(folder: &Path) -> Result<ActorSystem, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params = CertificateParams::default();
    let uri = Identity::new("secured", PeerRole::Member, "a").to_string();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    let key = KeyPair::generate()?;
    let [ca, pem, of_key] = ["ca.pem", "a.pem", "a.key"].map(|name| folder.join(name));
    fs::write(&ca, authority.pem())?;
    fs::write(&pem, params.signed_by(&key, &authority)?.pem())?;
    fs::write(&of_key, key.serialize_pem())?;
    let tls = Tls::from_files(pem, of_key, ca);
    let node = ActorSystem::builder("secured").tls(tls).start().await?;
    node.wait_for(1).await?;
    Ok(node)
}

/// The beginning of a TLS handshake that announces more than it brings, in records of 4 KiB.
fn unfinished() -> Vec<u8> {
    let mut hello = vec![0_u8; SAID_BYTES];
    // A hello of the greatest length that TLS takes.
    hello[..4].copy_from_slice(&[1, 0, 0xff, 0xf0]);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[0x16, 3, 1, length[0], length[1]], part].concat()
    };
    let mut records: Vec<u8> = hello.chunks(4096).flat_map(record).collect();
    records.truncate(SAID_BYTES);
    records
}

#[test]
fn a_peer_that_is_not_known_costs_little() -> Outcome {
    on_this_thread(async {
        let folder = tempfile::tempdir()?;
        let node = secured(folder.path()).await?;
        let (said, before) = (unfinished(), counts().live_bytes);
        let mut peers = Vec::with_capacity(UNKNOWN);
        for _ in 0..UNKNOWN {
            let mut peer = TcpStream::connect(node.address()).await?;
            peer.write_all(&said).await?;
            peers.push(peer);
        }
        let each = || (counts().live_bytes - before) / i64::try_from(UNKNOWN).unwrap_or(1);
        // Until the node has read all of it.
        let said_bytes = i64::try_from(SAID_BYTES)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut most = 0;
        while most < said_bytes && Instant::now() < deadline {
            most = most.max(each());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most = most.max(each());
        println!("{most} bytes each");
        assert!(most >= said_bytes, "not all was read: {most} bytes each");
        assert!(most <= UNKNOWN_BYTES_MAX, "{most} bytes each");
        drop(peers);
        Ok(node.shutdown().await?)
    })
}
