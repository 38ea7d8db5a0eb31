//! How long entities of a node that is killed do not answer: those that are stored, and others.

use std::time::Duration;

use casty::ClusterClient;

use crate::{
    cluster::{CLUSTER, Cluster, LIMIT, name},
    entities::{Meter, Plain},
    median_of,
    others::Others,
    support::{AnyError, go, now},
    table,
};

/// Entities of each type, so that each node has some.
const ENTITIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(5);
const ASK: Duration = Duration::from_secs(4);

pub(crate) async fn measure(kills: u64, is_forced: bool) -> Result<(), AnyError> {
    println!(
        "\nMilliseconds from the kill of a node until an entity of it answers again: median, and \
         longest. A stored entity answers to a command, which it stores.\n\n\
         | killed | times | not stored | stored | ratio of the medians | of the longest |\n\
         |---|---|---|---|---|---|"
    );
    let mut cluster = Cluster::start(false).await?;
    let client = ClusterClient::connect(CLUSTER, cluster.addresses().to_vec()).await?;
    let others = Others::now()?;
    let mut pauses = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for kill in 0..kills {
        for number in 0..ENTITIES {
            let meter = client.entity::<Meter>(number.to_string());
            meter.take(1).retry_for(LIMIT).await?;
            let plain = client.entity::<Plain>(number.to_string());
            plain.node().retry_for(LIMIT).await?;
        }
        cluster.all_in_sync().await?;
        let leader = cluster.leader().await.ok_or("no leader")?;
        let victim = usize::try_from(kill % 3)?;
        let victim_name = name(victim);
        let (mut stored, mut plain) = (None, None);
        for number in 0..ENTITIES {
            let meter = client.entity::<Meter>(number.to_string());
            if stored.is_none() && meter.node().await? == victim_name {
                stored = Some(meter);
            }
            let other = client.entity::<Plain>(number.to_string());
            if plain.is_none() && other.node().await? == victim_name {
                plain = Some(other);
            }
        }
        let stored = stored.ok_or("no stored entity lives there")?;
        let plain = plain.ok_or("no entity lives there")?;
        let begun = now();
        cluster.kill(victim)?;
        let of_stored = async move {
            while stored.take(1).timeout(ASK).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            begun.elapsed()
        };
        let of_plain = async move {
            while plain.node().timeout(ASK).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            begun.elapsed()
        };
        let both = go(async { tokio::join!(of_plain, of_stored) });
        let (of_plain, of_stored) = tokio::time::timeout(LIMIT, both).await?;
        let (plain, stored) = &mut pauses[usize::from(leader == victim_name)];
        plain.push(of_plain.as_secs_f64() * 1e3);
        stored.push(of_stored.as_secs_f64() * 1e3);
        cluster.restart(victim)?;
        cluster.all_vote().await?;
    }
    let used = others.used()?;
    for ((plain, stored), killed) in pauses.into_iter().zip(["a voter", "the leader"]) {
        if plain.is_empty() {
            continue;
        }
        let longest = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
        let (most_plain, most_stored) = (longest(&plain), longest(&stored));
        let times = plain.len().to_string();
        let (plain, stored) = (median_of(plain), median_of(stored));
        let figures = [
            format!("{plain:.0}, {most_plain:.0}"),
            format!("{stored:.0}, {most_stored:.0}"),
            format!("{:.2}", stored / plain),
            format!("{:.2}", most_stored / most_plain),
        ];
        table::row(&[killed.to_owned(), times], &figures, used, is_forced);
    }
    cluster.stop().await?;
    Ok(())
}
