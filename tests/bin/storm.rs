//! Kills and restarts processes under load, one after the other: `casty-storm [--seconds N] [--seed
//! N] [--nodes N] [--preset default|fast] [--namespaces]`. With seven nodes two members do not
//! vote.
//!
//! With `--namespaces` each process has a network namespace of its own, made and removed by this
//! program, and is also cut off from others, in one direction or both. All processes can always
//! reach the store. So if a node that is cut off writes to a purse that has another owner by now,
//! the store fences the write, or the program detects it.
//!
//! Purses are kept in an outside store that fences. In the end no purse may hold less than what was
//! acknowledged or more than what was tried. No ask may hang, no process may grow, and after the
//! last restart every purse answers. The program prints what it measures.

#![expect(
    clippy::disallowed_methods,
    reason = "who asks is no node: its tasks end with the runtime"
)]

use std::{
    collections::BTreeMap,
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::{AskError, ClusterClient, admin::Admin, member::MemberStatus};
use casty_tests::{
    namespaces::{BRIDGE, Namespaces},
    process::{Launch, Process},
    store::{Purse, STORE, Store},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// The port of nodes that have an address of their own.
const PORT: u16 = 25520;
const PURSES: usize = 500;
const ASKERS: usize = 32;
/// A step that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(40);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Default)]
struct Tally {
    tried: Vec<AtomicU64>,
    acknowledged: Vec<AtomicU64>,
    errors: Mutex<BTreeMap<String, u64>>,
    slowest_millis: AtomicU64,
    stop: AtomicBool,
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Faults {
    kills: u32,
    restarts: u32,
    partitions: u32,
    /// Panics of the nodes' own code.
    panics: u64,
}

struct Options {
    seconds: u64,
    seed: u64,
    nodes: u8,
    preset: String,
    namespaces: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seconds: 60,
        seed: 1,
        nodes: 5,
        preset: "default".to_owned(),
        namespaces: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        if option == "--namespaces" {
            options.namespaces = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{option} needs a value"))?;
        let number = || {
            let number: Result<u64, _> = value.parse();
            number.map_err(|_| format!("{option} needs a number, not `{value}`"))
        };
        match option.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--nodes" => options.nodes = u8::try_from(number()?.clamp(3, 9)).unwrap_or(5),
            "--preset" => options.preset = value,
            _ => {
                return Err(format!(
                    "unknown option `{option}`; there are --seconds, --seed, --nodes, --preset, --namespaces"
                ));
            }
        }
    }
    Ok(options)
}

/// One asker. It asks one purse after the other, each ask with its own deadline.
async fn ask(client: ClusterClient, tally: Arc<Tally>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !tally.stop.load(Ordering::Relaxed) {
        let n = rng.random_range(0..PURSES);
        let begun = Instant::now();
        tally.tried[n].fetch_add(1, Ordering::Relaxed);
        let answer = client.entity::<Purse>(format!("p{n}")).add(1).await;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tally.slowest_millis.fetch_max(took, Ordering::Relaxed);
        match answer {
            Ok(_) => drop(tally.acknowledged[n].fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let what = match &error {
                    AskError::Entity(reason) => format!("Entity({reason})"),
                    other => {
                        let name = format!("{other:?}");
                        let end = name.find([' ', '(', '{']).unwrap_or(name.len());
                        name[..end].to_owned()
                    }
                };
                *tally
                    .errors
                    .lock()
                    .expect("no panic")
                    .entry(what)
                    .or_default() += 1;
                // Wait, as a caller would after a retryable error.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

struct Cluster {
    launches: Vec<Launch>,
    processes: Vec<Option<Process>>,
    listen: Vec<SocketAddr>,
    client: Option<ClusterClient>,
    admin: Option<Admin>,
}

impl Cluster {
    async fn start(
        store: &Store,
        options: &Options,
        namespaces: Option<&Namespaces>,
    ) -> Result<Self, Failure> {
        let mut cluster = Self {
            launches: Vec::new(),
            processes: Vec::new(),
            listen: Vec::new(),
            client: None,
            admin: None,
        };
        let mut like_all = Launch::beside_me()?;
        let address = (STORE.to_owned(), store.address.to_string());
        like_all.environment.push(address);
        let preset = ("CASTY_PRESET".to_owned(), options.preset.clone());
        like_all.environment.push(preset);
        for n in 0..options.nodes {
            // All nodes share the count of panics.
            let mut launch = like_all.clone();
            let mut listen = "127.0.0.1:0".to_owned();
            if let Some(namespaces) = namespaces {
                launch.wrapper = namespaces.wrapper(n);
                listen = format!("{}:{PORT}", Namespaces::address(n));
            }
            let seeds: Vec<String> = cluster.listen.iter().map(ToString::to_string).collect();
            let process = launch.start(&format!("n{n}"), &listen, &seeds).await?;
            cluster.launches.push(launch);
            cluster.listen.push(process.address);
            cluster.processes.push(Some(process));
        }
        let client = ClusterClient::connect("storm", &cluster.listen);
        cluster.client = Some(tokio::time::timeout(LIMIT, client).await??);
        cluster.admin = Some(Admin::connect("storm", &cluster.listen).await?);
        cluster.all_up().await?;
        Ok(cluster)
    }

    fn client(&self) -> &ClusterClient {
        self.client.as_ref().expect("it has started")
    }

    /// How many members vote, according to the nodes that answer.
    async fn votes(&self) -> usize {
        let admin = self.admin.as_ref().expect("it has started");
        let members = admin.members().await;
        members.map_or(0, |seen| seen.members.iter().filter(|m| m.votes).count())
    }

    /// Waits until all nodes are Up in their present incarnations and the full number votes. A
    /// voter's state is lost with its process, so killing the next node before the last one is
    /// replaced would kill the map.
    async fn all_up(&self) -> Result<(), Failure> {
        let all = async {
            loop {
                let members = self.client().members();
                let up = members
                    .iter()
                    .filter(|m| m.status == MemberStatus::Up)
                    .count();
                let others = members.iter().any(|m| m.status == MemberStatus::Leaving);
                let nodes = self.listen.len();
                let voters = if nodes < 5 { 3 } else { 5 };
                if up == nodes && !others && self.votes().await == voters {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            let members = self.client().members();
            return Err(format!("not all of them came up: {members:#?}").into());
        }
        Ok(())
    }

    async fn restart(&mut self, n: usize) -> Result<(), Failure> {
        let others = self.listen.iter().enumerate();
        let others = others.filter(|(other, _)| *other != n);
        let seeds: Vec<String> = others.map(|(_, address)| address.to_string()).collect();
        let listen = self.listen[n].to_string();
        let name = format!("n{n}");
        let started = self.launches[n].start(&name, &listen, &seeds);
        self.processes[n] = Some(tokio::time::timeout(LIMIT, started).await??);
        Ok(())
    }

    /// The role of a node in the cluster at this moment.
    async fn role(&self, name: &str) -> Result<&'static str, Failure> {
        let admin = self.admin.as_ref().expect("it has started");
        let members = admin.members().await?;
        let member = members
            .members
            .iter()
            .find(|member| member.id.node.as_str() == name);
        Ok(match member {
            Some(member) if member.leads => "the leader",
            Some(member) if member.votes => "a voter",
            _ => "another",
        })
    }

    fn resident_bytes(&self) -> u64 {
        let all = self.processes.iter().flatten();
        all.filter_map(Process::resident_bytes).max().unwrap_or(0)
    }
}

/// Waits until a purse answers again.
async fn until_answered(client: &ClusterClient, purse: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let asked = client.entity::<Purse>(purse).node();
        if asked.timeout(Duration::from_secs(4)).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("`{purse}` does not answer again").into())
}

/// Cuts a minority off from the rest, or one direction between two nodes, for a while.
async fn partition(namespaces: &Namespaces, nodes: u8, rng: &mut StdRng) -> Result<(), Failure> {
    let one = rng.random_range(0..nodes);
    let other = (one + rng.random_range(1..nodes)) % nodes;
    let rest =
        |minority: &[u8]| -> Vec<u8> { (0..nodes).filter(|n| !minority.contains(n)).collect() };
    match rng.random_range(0..5) {
        0 => namespaces.cut(one, other)?,
        // No other node hears it, or it hears no other node.
        1 => rest(&[one])
            .iter()
            .try_for_each(|to| namespaces.cut(one, *to))?,
        2 => rest(&[one])
            .iter()
            .try_for_each(|from| namespaces.cut(*from, one))?,
        both => {
            let minority: &[u8] = if both == 3 { &[one] } else { &[one, other] };
            for inside in minority {
                for outside in rest(minority) {
                    namespaces.cut(*inside, outside)?;
                    namespaces.cut(outside, *inside)?;
                }
            }
        }
    }
    // From shorter than a lease to long enough that a node that is cut off is declared Down.
    tokio::time::sleep(Duration::from_millis(rng.random_range(200..6000))).await;
    namespaces.heal()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    casty_tests::log();
    let options = options()?;
    // From here on the signals do not end the process, so that it removes what it has made.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let namespaces = options
        .namespaces
        .then(|| Namespaces::make(options.nodes))
        .transpose()?;
    tokio::select! {
        result = storm(&options, namespaces.as_ref()) => result,
        _ = interrupted.recv() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    }
}

async fn storm(options: &Options, namespaces: Option<&Namespaces>) -> Result<(), Failure> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let address = namespaces.map_or(Ipv4Addr::LOCALHOST, |_| BRIDGE);
    let store = Store::start(address).await?;
    let mut cluster = Cluster::start(&store, options, namespaces).await?;
    let counters = || (0..PURSES).map(|_| AtomicU64::new(0)).collect();
    let tally = Arc::new(Tally {
        tried: counters(),
        acknowledged: counters(),
        ..Tally::default()
    });
    let askers: Vec<_> = (0..ASKERS as u64)
        .map(|n| {
            tokio::spawn(ask(
                cluster.client().clone(),
                tally.clone(),
                options.seed * 1000 + n,
            ))
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut faults = Faults::default();
    let mut pauses = BTreeMap::<&str, Vec<Duration>>::new();
    let mut resident = Vec::new();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1500))).await;
        resident.push(cluster.resident_bytes());
        if let Some(namespaces) = namespaces
            && rng.random()
        {
            partition(namespaces, options.nodes, &mut rng).await?;
            faults.partitions += 1;
            cluster.all_up().await?;
        } else if rng.random_range(0..4) == 0 {
            // One after the other, as in the rollout of a new version.
            for n in 0..cluster.processes.len() {
                if let Some(process) = &mut cluster.processes[n] {
                    process.leave(LIMIT).await?;
                }
                cluster.restart(n).await?;
                cluster.all_up().await?;
                faults.restarts += 1;
            }
        } else {
            let victim = rng.random_range(0..cluster.processes.len());
            let name = format!("n{victim}");
            let mut lives_there = None;
            for n in 0..PURSES {
                let purse = format!("p{n}");
                let asked = cluster.client().entity::<Purse>(&purse).node();
                if asked.await.is_ok_and(|home| home == name) {
                    lives_there = Some(purse);
                    break;
                }
            }
            let role = cluster.role(&name).await?;
            let begun = Instant::now();
            if let Some(process) = &mut cluster.processes[victim] {
                process.kill().await?;
            }
            faults.kills += 1;
            if let Some(purse) = lives_there {
                until_answered(cluster.client(), &purse).await?;
                pauses.entry(role).or_default().push(begun.elapsed());
            }
            cluster.restart(victim).await?;
            cluster.all_up().await?;
        }
    }
    tally.stop.store(true, Ordering::Relaxed);
    for asker in askers {
        tokio::time::timeout(LIMIT, asker)
            .await
            .map_err(|_| "an asker hangs")??;
    }
    for n in 0..PURSES {
        until_answered(cluster.client(), &format!("p{n}")).await?;
    }
    for process in cluster.processes.iter_mut().rev().flatten() {
        process.leave(LIMIT).await?;
    }
    faults.panics = cluster.launches[0].panics.load(Ordering::Relaxed);
    report(&store, &tally, &faults, &mut pauses, &resident)
}

fn report(
    store: &Store,
    tally: &Tally,
    faults: &Faults,
    pauses: &mut BTreeMap<&str, Vec<Duration>>,
    resident: &[u64],
) -> Result<(), Failure> {
    let sum = |of: &[AtomicU64]| of.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>();
    let books = store.books();
    let kept: u64 = books.purses.values().map(|(_, total)| total).sum();
    println!("{faults:?}");
    println!(
        "{} tried, {kept} written, {} acknowledged; {} writes fenced; slowest ask {} ms",
        sum(&tally.tried),
        sum(&tally.acknowledged),
        books.fenced,
        tally.slowest_millis.load(Ordering::Relaxed)
    );
    if books.fenced > 0 {
        println!("the last one fenced: {}", books.last_fenced);
    }
    println!("errors: {:?}", tally.errors.lock().expect("no panic"));
    for (role, pauses) in pauses {
        pauses.sort_unstable();
        if let (Some(least), Some(most)) = (pauses.first(), pauses.last()) {
            let (count, median) = (pauses.len(), pauses[pauses.len() / 2]);
            println!(
                "killed {role} {count} times; its entities answered again after {least:.2?} at least, \
                 {median:.2?} in the median, {most:.2?} at most"
            );
        }
    }
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let (early, late) = resident.split_at(resident.len() / 2);
    let most = |of: &[u64]| mib(of.iter().copied().max().unwrap_or(0));
    println!(
        "largest process: {} MiB in the first half, {} MiB in the second",
        most(early),
        most(late)
    );
    for n in 0..PURSES {
        let total = books
            .purses
            .get(&format!("p{n}"))
            .map_or(0, |(_, total)| *total);
        let (least, at_most) = (
            tally.acknowledged[n].load(Ordering::Relaxed),
            tally.tried[n].load(Ordering::Relaxed),
        );
        if total < least || total > at_most {
            return Err(format!(
                "p{n} holds {total}: {least} were acknowledged, {at_most} were tried"
            )
            .into());
        }
    }
    if faults.panics > 0 {
        return Err("a node panicked".into());
    }
    if most(late) > most(early) * 2 + 64 {
        return Err("the processes grow".into());
    }
    if faults.kills + faults.restarts + faults.partitions == 0 || sum(&tally.acknowledged) == 0 {
        return Err("nothing happened".into());
    }
    Ok(())
}
