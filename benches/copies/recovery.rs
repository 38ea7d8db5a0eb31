//! A node that was killed: its entities on other nodes, its start, and what it missed.

use std::{fs, sync::Arc, time::Duration};

use crate::{
    cluster::{Cluster, LIMIT, name},
    commands::bytes_of_a_command,
    entities::{MeterRef, at, give_each, meters},
    median_of,
    others::{Others, float},
    support::{AnyError, now},
    table,
};

const ENTITIES: u64 = 3_000;
/// The node that is killed.
const VICTIM: usize = 2;
const TURNS: usize = 3;
/// How many commands each entity gets while the node is away.
const MISSED: u64 = 10;

/// A cluster whose entities have so many records together.
async fn filled(records: u64) -> Result<(Cluster, Arc<Vec<MeterRef>>), AnyError> {
    let cluster = Cluster::start(true).await?;
    let all = Arc::new(meters(cluster.here()?, ENTITIES));
    give_each(&all, 1).await?;
    cluster.all_in_sync().await?;
    give_each(&all, (records / ENTITIES).saturating_sub(1).max(1)).await?;
    Ok((cluster, all))
}

fn rate(records: u64, took: Duration) -> f64 {
    float(records) / took.as_secs_f64()
}

/// Of a node that comes back with its directory.
pub(crate) async fn recovery(records: u64, is_forced: bool) -> Result<(), AnyError> {
    println!(
        "\nRecords a second after a node was killed. Read: by the entities of the node, which live \
         on others then, from the first one that answers to the last one. Opened: from the start \
         of its process until it listens. Caught up: what it missed, from then on until it has \
         copies of all shards; in brackets the time, in milliseconds.\n\n\
         | records stored | read | missed | opened | caught up |\n\
         |---|---|---|---|---|"
    );
    let (mut cluster, all) = filled(records).await?;
    let mut each = records / ENTITIES;
    let others = Others::now()?;
    let (mut read, mut opened, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut caught_up, mut times) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let there = Arc::new(at(&all, &name(VICTIM)).await?);
        let first = there.first().ok_or("no entity lives on the node")?;
        cluster.kill(VICTIM)?;
        first.node().retry_for(LIMIT).await?;
        let since = now();
        all_answer(&there).await?;
        read.push(rate(there.len() as u64 * each, since.elapsed()));
        cluster.all_without(VICTIM).await?;
        give_each(&all, MISSED).await?;
        each += MISSED;
        let since = now();
        cluster.restart(VICTIM)?;
        let start = since.elapsed();
        opened.push(rate((each - MISSED) * ENTITIES, start));
        starts.push(start.as_secs_f64() * 1e3);
        let since = now();
        cluster.all_in_sync().await?;
        caught_up.push(rate(MISSED * ENTITIES, since.elapsed()));
        times.push(since.elapsed().as_secs_f64() * 1e3);
        cluster.all_vote().await?;
    }
    let figures = [
        format!("{:.0}", median_of(read)),
        (MISSED * ENTITIES).to_string(),
        format!("{:.0} ({:.0})", median_of(opened), median_of(starts)),
        format!("{:.0} ({:.0})", median_of(caught_up), median_of(times)),
    ];
    let stored = (each * ENTITIES).to_string();
    table::row(&[stored], &figures, others.used()?, is_forced);
    cluster.stop().await?;
    Ok(())
}

/// Each of them answers.
async fn all_answer(meters: &Arc<Vec<MeterRef>>) -> Result<(), AnyError> {
    const CLIENTS: usize = 64;
    let asking = (0..CLIENTS).map(|first| {
        let meters = meters.clone();
        let asking = async move {
            for meter in meters.iter().skip(first).step_by(CLIENTS) {
                meter.node().retry_for(LIMIT).await?;
            }
            Ok::<_, AnyError>(())
        };
        #[expect(clippy::disallowed_methods, reason = "a client is no part of a node")]
        tokio::spawn(asking)
    });
    let asking: Vec<_> = asking.collect();
    for asked in asking {
        asked.await??;
    }
    Ok(())
}

/// Of a node that comes back without its directory.
pub(crate) async fn repair(records: u64, is_forced: bool) -> Result<(), AnyError> {
    let bytes = bytes_of_a_command().await?;
    println!(
        "\nA node has lost its directory. From its start until it has copies of all shards.\n\n\
         | records | milliseconds | records a second | MB a second |\n\
         |---|---|---|---|"
    );
    let (mut cluster, _) = filled(records).await?;
    let others = Others::now()?;
    let (mut times, mut rates) = (Vec::new(), Vec::new());
    let records = records / ENTITIES * ENTITIES;
    for _ in 0..TURNS {
        cluster.kill(VICTIM)?;
        cluster.all_without(VICTIM).await?;
        fs::remove_dir_all(cluster.directory(VICTIM))?;
        let since = now();
        cluster.restart(VICTIM)?;
        cluster.all_in_sync().await?;
        let took = since.elapsed();
        times.push(took.as_secs_f64() * 1e3);
        rates.push(rate(records, took));
        cluster.all_vote().await?;
    }
    let rate = median_of(rates);
    let megabytes = rate * float(u64::try_from(bytes)?) / 1e6;
    let figures = [
        format!("{:.0}", median_of(times)),
        format!("{rate:.0}"),
        format!("{megabytes:.1}"),
    ];
    table::row(&[records.to_string()], &figures, others.used()?, is_forced);
    cluster.stop().await?;
    Ok(())
}
