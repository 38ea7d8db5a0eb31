//! The log beside a bare file: `cargo bench -p casty-log --bench log`.
//!
//! Clients keep 1, 64 and 1,024 records in flight. What they give while a commit runs is the next
//! commit, of at most 512 records. The bare loop writes as many bytes to a file that is filled with
//! zeros, with one `fdatasync` a commit, and from its start again when it reaches the end: no
//! checksum, no index, no heads. Clients, queues and threads are the same. The two take turns, and
//! the medians are printed.
//!
//! No figure is printed if other processes used more than a tenth of the machine, unless `--force`
//! is given.

#[path = "../../casty-sql/benches/journal/others.rs"]
mod others;

use std::{
    collections::BTreeMap,
    fs::File,
    num::NonZeroU32,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use casty_log::{Change, Log, LogId, Options, Record, disk::Folder};
use tokio::sync::{mpsc, oneshot};

use self::others::{Clock, Others};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1_200);
/// The records of a commit, at most.
const BATCH: usize = 512;
const SHARDS: u32 = 64;
const ENTITIES: u64 = 10_000;
/// The bytes of a body.
const BYTES: usize = 160;
/// What a record takes in a file besides its body.
const HEADER: usize = 70;
/// How many records of a shard are kept.
const KEPT: u64 = 1_000;
/// Of all processors, in percent.
const OTHERS_MAX: f64 = 10.0;

/// What a client gives.
struct Given {
    entity: u64,
    done: oneshot::Sender<()>,
}

/// Where it goes.
enum Sink {
    Log(Log),
    Bare(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>),
}

fn main() -> Result<(), AnyError> {
    let is_forced = std::env::args().any(|argument| argument == "--force");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!(
        "Durable records a second, and microseconds of a processor for each.\n\n\
         | in flight | bare file | casty-log | ratio | processor, bare file | casty-log |\n\
         |---|---|---|---|---|---|"
    );
    for in_flight in [1, 64, 1_024] {
        let (mut bare, mut log, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bare_processor, mut log_processor) = (Vec::new(), Vec::new());
        let others = Others::now()?;
        for _ in 0..ROUNDS {
            let folder = tempfile::tempdir()?;
            let (of_log, processor) = runtime.block_on(measure(open(&folder)?, in_flight))?;
            let folder = tempfile::tempdir()?;
            log_processor.push(processor);
            let (of_bare, processor) = runtime.block_on(measure(bare_file(&folder)?, in_flight))?;
            bare_processor.push(processor);
            ratio.push(of_log / of_bare);
            bare.push(of_bare);
            log.push(of_log);
        }
        let used = others.used()?;
        if used > OTHERS_MAX && !is_forced {
            println!(
                "| {in_flight} | no figure: other processes used {used:.0} % of the machine; `--force` prints it |"
            );
            continue;
        }
        let (bare, log, ratio) = (median(bare), median(log), median(ratio));
        let (of_bare, of_log) = (median(bare_processor), median(log_processor));
        println!(
            "| {in_flight} | {bare:.0} | {log:.0} | {ratio:.2} | {of_bare:.2} | {of_log:.2} |"
        );
    }
    Ok(())
}

fn open(folder: &tempfile::TempDir) -> Result<Sink, AnyError> {
    let disk = Arc::new(Folder::new(folder.path()));
    Ok(Sink::Log(Log::open(disk, Options::default())?.0))
}

/// A file of as many bytes as the log keeps.
fn bare_file(folder: &tempfile::TempDir) -> Result<Sink, AnyError> {
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(folder.path().join("bare"))?;
    let end = 48 * 1024 * 1024_u64;
    file.write_all_at(&vec![0; usize::try_from(end)?], 0)?;
    file.sync_all()?;
    let (sender, mut queue) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(1);
    thread::spawn(move || {
        let mut offset = 0;
        while let Some((bytes, done)) = queue.blocking_recv() {
            if offset + bytes.len() as u64 > end {
                offset = 0;
            }
            let written = file.write_all_at(&bytes, offset);
            if written.and_then(|()| file.sync_data()).is_err() {
                return;
            }
            offset += bytes.len() as u64;
            // The round may be over.
            let _ = done.send(());
        }
    });
    Ok(Sink::Bare(sender))
}

/// Records a second, and microseconds of a processor for each, clients included.
async fn measure(sink: Sink, in_flight: u64) -> Result<(f64, f64), AnyError> {
    let heads = prepare(&sink).await?;
    let (sender, queue) = mpsc::channel(2_048);
    let is_over = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    #[expect(clippy::disallowed_methods, reason = "there is no node")]
    let committer = tokio::spawn(commit(sink, heads, queue));
    for client in 0..in_flight {
        let (sender, is_over, count) = (sender.clone(), is_over.clone(), count.clone());
        let client = async move {
            for number in (client..).step_by(7_919) {
                let (done, is_done) = oneshot::channel();
                let entity = number % ENTITIES;
                if sender.send(Given { entity, done }).await.is_err() || is_done.await.is_err() {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "there is no node")]
        tokio::spawn(client);
    }
    drop(sender);
    // The next segments are made meanwhile.
    tokio::time::sleep(ROUND / 4).await;
    let (clock, before) = (Clock::start()?, count.load(Ordering::Relaxed));
    tokio::time::sleep(ROUND).await;
    let made = count.load(Ordering::Relaxed) - before;
    let took = clock.stop()?;
    is_over.store(true, Ordering::Relaxed);
    committer.await??;
    Ok((took.rate(made), took.of_processors(made)))
}

/// Claims the shards, and writes as many records as are kept: from then on segments are used again,
/// as the bare file is from the start. The heads of the shards.
async fn prepare(sink: &Sink) -> Result<Vec<u64>, AnyError> {
    let mut heads = vec![0_u64; SHARDS as usize];
    let Sink::Log(log) = sink else {
        return Ok(heads);
    };
    let shards = NonZeroU32::new(SHARDS).ok_or("no shards")?;
    let name = "Meter".into();
    let mut first = vec![Change::Kind { name, shards }];
    first.extend((0..SHARDS).map(|shard| Change::Claim {
        log: LogId { kind: 0, shard },
        epoch: 1,
        owner: "bench".into(),
    }));
    log.commit(first).await?;
    let names = names();
    for from in (0..u64::from(SHARDS) * KEPT * 2).step_by(BATCH) {
        let entities = from..from + BATCH as u64;
        log.commit(changes(entities, &mut heads, &names)).await?;
    }
    Ok(heads)
}

fn names() -> Vec<Arc<str>> {
    let names = (0..ENTITIES).map(|it| format!("meter {it}").into());
    names.collect()
}

/// Writes what waits, until the clients are gone.
async fn commit(
    sink: Sink,
    mut heads: Vec<u64>,
    mut queue: mpsc::Receiver<Given>,
) -> Result<(), AnyError> {
    let names = names();
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, BATCH).await > 0 {
        match &sink {
            Sink::Log(log) => {
                let entities = waiting.iter().map(|given| given.entity);
                let changes = changes(entities, &mut heads, &names);
                log.commit(changes).await?;
            }
            Sink::Bare(file) => {
                let bytes = vec![7; waiting.len() * (HEADER + BYTES)];
                let (done, is_done) = oneshot::channel();
                file.send((bytes, done)).await?;
                is_done.await?;
            }
        }
        for given in waiting.drain(..) {
            // The round may be over.
            let _ = given.done.send(());
        }
    }
    Ok(())
}

/// One change for each shard, as an owner of all of them writes.
fn changes(
    entities: impl Iterator<Item = u64>,
    heads: &mut [u64],
    names: &[Arc<str>],
) -> Vec<Change> {
    static BODY: [u8; BYTES] = [7; BYTES];
    let mut shards = BTreeMap::<u32, Vec<Record>>::new();
    let mut changes = Vec::new();
    for entity in entities {
        let shard = u32::try_from(entity % u64::from(SHARDS)).unwrap_or_default();
        let head = &mut heads[shard as usize];
        if head.is_multiple_of(KEPT) && *head > KEPT && !shards.contains_key(&shard) {
            changes.push(Change::Trim {
                log: LogId { kind: 0, shard },
                epoch: 1,
                through: *head - KEPT,
            });
        }
        *head += 1;
        shards.entry(shard).or_default().push(Record {
            position: *head,
            epoch: 1,
            entity: names[usize::try_from(entity % ENTITIES).unwrap_or_default()].clone(),
            seq: *head,
            at: 1_700_000_000_000,
            body: bytes::Bytes::from_static(&BODY),
        });
    }
    changes.extend(shards.into_iter().map(|(shard, records)| Change::Append {
        log: LogId { kind: 0, shard },
        epoch: 1,
        records,
    }));
    changes
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
