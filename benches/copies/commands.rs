//! Commands that three nodes have stored when they are answered, beside the floor.

use std::{sync::Arc, time::Duration};

use casty::prelude::*;
use casty_log::{Log, Options, disk::Folder};

use crate::{
    cluster::{Cluster, name},
    entities::{Meter, at, give, give_each, meters},
    floor::Floor,
    median_of,
    others::{Clock, Others, Took},
    support::{AnyError, now, percentile},
    table,
};

/// Of these, the ones on the first node are asked.
const ENTITIES: u64 = 10_000;

/// What is measured.
pub(crate) struct Loads {
    pub(crate) rounds: u64,
    /// How long commands are given in one round.
    pub(crate) round: Duration,
    /// Over many entities, and over one.
    pub(crate) many: bool,
    pub(crate) hot: bool,
    /// So many commands in flight, if not each number of them.
    pub(crate) in_flight: Option<u64>,
}

impl Loads {
    /// How many commands are in flight, and whether over one entity.
    fn each(&self) -> impl Iterator<Item = (u64, bool)> {
        let kinds = [(self.many, false), (self.hot, true)].into_iter();
        let kinds = kinds.filter(|(chosen, _)| *chosen);
        kinds.flat_map(|(_, is_hot)| {
            let in_flight = [1, 64, 1_024].into_iter();
            let in_flight = in_flight.filter(|it| self.in_flight.is_none_or(|only| only == *it));
            in_flight.map(move |in_flight| (in_flight, is_hot))
        })
    }
}

/// The figures of one side, one of each round.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    processors: Vec<f64>,
    half: Vec<f64>,
    most: Vec<f64>,
}

impl Side {
    /// `each`: how long each command took. Returns the commands a second.
    fn note(&mut self, mut each: Vec<Duration>, took: Took) -> f64 {
        let count = each.len() as u64;
        let rate = took.rate(count);
        each.sort_unstable();
        self.rate.push(rate);
        self.processors.push(took.of_processors(count));
        self.half.push(percentile(&each, 50).as_secs_f64() * 1e6);
        self.most.push(percentile(&each, 99).as_secs_f64() * 1e6);
        rate
    }

    fn times(self) -> String {
        format!("{:.0}, {:.0}", median_of(self.half), median_of(self.most))
    }
}

pub(crate) async fn measure(loads: &Loads, is_forced: bool) -> Result<(), AnyError> {
    let bytes = bytes_of_a_command().await?;
    println!(
        "Commands a second that three processes have stored, {bytes} bytes each; the times of a \
         command, median and 99 of 100, in microseconds; and the time of processors for each, in \
         microseconds: of the floor, and of casty.\n\n\
         | in flight | entities | floor | casty | ratio | times, floor | times, casty \
         | processors |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let cluster = Cluster::start(true).await?;
    let here = name(0);
    let all = Arc::new(meters(cluster.here()?, ENTITIES));
    give_each(&all, 1).await?;
    cluster.all_in_sync().await?;
    let many = Arc::new(at(&all, &here).await?);
    let hot: Vec<_> = many.iter().take(1).cloned().collect();
    if hot.is_empty() {
        return Err("no entity lives on the first node".into());
    }
    let hot = Arc::new(hot);
    // Segments of the log are used again from then on, as the files of the floor are.
    give_each(&many, 10).await?;
    let floor = Floor::start(bytes, true)?;
    for (in_flight, is_hot) in loads.each() {
        let asked = if is_hot { &hot } else { &many };
        let entities = asked.len() as u64;
        let (mut casty, mut bare, mut ratio) = (Side::default(), Side::default(), Vec::new());
        let others = Others::now()?;
        for _ in 0..loads.rounds {
            let (begun, round) = (now(), loads.round);
            let clock = Clock::start()?;
            let given = give(asked, in_flight, move |client, count| {
                let number = (client + count * (2 * client + 1)) % entities;
                (begun.elapsed() < round).then_some(number)
            });
            let stored = casty.note(given.await?, clock.stop()?);
            let clock = Clock::start()?;
            let given = floor.give(in_flight, round).await?;
            ratio.push(stored / bare.note(given, clock.stop()?));
        }
        let used = others.used()?;
        if at(asked, &here).await?.len() != asked.len() {
            return Err("shards have moved meanwhile".into());
        }
        let processors = (
            median_of(bare.processors.clone()),
            median_of(casty.processors.clone()),
        );
        let figures = [
            format!("{:.0}", median_of(bare.rate.clone())),
            format!("{:.0}", median_of(casty.rate.clone())),
            format!("{:.2}", median_of(ratio)),
            bare.times(),
            casty.times(),
            format!("{:.1}, {:.1}", processors.0, processors.1),
        ];
        table::row(
            &[in_flight.to_string(), entities.to_string()],
            &figures,
            used,
            is_forced,
        );
    }
    cluster.stop().await?;
    Ok(())
}

/// How many bytes a node stores of a command.
pub(crate) async fn bytes_of_a_command() -> Result<usize, AnyError> {
    const COMMANDS: u64 = 1_000;
    let folder = tempfile::tempdir()?;
    let builder = ActorSystem::builder("sizes").entity::<Meter>();
    let node = builder.data_dir(folder.path()).start_local()?;
    give_each(&Arc::new(meters(&node, COMMANDS)), 2).await?;
    node.shutdown().await?;
    drop(node);
    let disk = Arc::new(Folder::new(folder.path().join("log")));
    let (log, _) = Log::open(disk, Options::default())?;
    let bytes = log.usage().live_bytes / (2 * COMMANDS);
    log.close()?;
    if bytes == 0 {
        return Err("the directory of a node has no records where they should be".into());
    }
    Ok(usize::try_from(bytes)?)
}
