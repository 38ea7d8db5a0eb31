//! Several owners at once, and appends that are given up.

use std::{collections::BTreeMap, task::Poll};

use futures_util::future::try_join_all;
use tokio::sync::watch;

use crate::persistence::{
    Appended, Log, Record,
    suite::fixture::{Connection, Fixture, Outcome, ensure, ensure_eq, log, part, record, records},
};

/// Polls a future once, and drops it.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The contract of `Journal`: what a dropped future has begun ends by itself or has no effect, and
/// a claim waits for its end.
pub(super) async fn dropped(fixture: &Fixture) -> Outcome {
    let kind = "suite/dropped";
    let one = fixture.open(kind).await?;
    let log = log(kind, 0);
    let mut head = one.claim(&log, 1, "a").await?;
    for round in 0..20 {
        let entity = format!("of round {round}");
        let made: Vec<_> = (1..=5)
            .map(|n| record(head + n, 1, &entity, n, "given up"))
            .collect();
        let given_up = poll_once(one.0.append(vec![part(&log, 1, made)])).await;
        let _ = poll_once(one.0.claim(&log, crate::id::Epoch(1), "a")).await;
        let now = one.claim(&log, 1, "a").await?;
        ensure!(
            now == head + 5 || now == head && given_up.is_none(),
            "an append of 5 records to a log with head {head}, given up ({given_up:?}): head {now}"
        );
        for _ in 0..3 {
            tokio::task::yield_now().await;
            let read = one.all_of_log(&log).await?.len() as u64;
            ensure_eq!(
                read,
                now,
                "the records of a log after a claim, which waits for an append that was given up"
            );
        }
        let next = record(now + 1, 1, &entity, now + 1 - head, "the next");
        one.write(&log, 1, vec![next]).await?;
        head = now + 1;
    }
    Ok(())
}

/// A record that its writer knows to be durable.
type Confirmed = BTreeMap<u64, Record>;

/// What the owners of one log tell each other.
#[derive(Clone, Copy)]
struct Reign {
    /// The epoch that is to be claimed next.
    next: u64,
    /// How far the records of all owners are durable.
    durable: u64,
}

/// Owners that depose each other, at many logs at once.
pub(super) async fn takeovers(fixture: &Fixture) -> Outcome {
    let kind = "suite/takeovers";
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(fixture.open(kind).await?);
    }
    let contests = (0..4).map(|shard| contest(&connections, log(kind, shard)));
    try_join_all(contests).await.map(drop)
}

/// The reigns over one log.
async fn contest(connections: &[Connection], log: Log) -> Outcome {
    const OWNERS: u64 = 12;
    let reign = watch::Sender::new(Reign {
        next: 1,
        durable: 0,
    });
    let owners = (1..=OWNERS).zip(connections.iter().cycle());
    let owners =
        owners.map(|(epoch, connection)| own(connection, &log, &reign, epoch, epoch == OWNERS));
    let confirmed = try_join_all(owners).await?;
    let read = connections[0].all_of_log(&log).await?;
    let mut last_seq = BTreeMap::new();
    let mut last_epoch = 0;
    for (record, position) in read.iter().zip(1..) {
        ensure_eq!(
            record.position,
            position,
            "the position of a record of {log}"
        );
        let seq = last_seq.entry(&record.entity).or_insert(0);
        *seq += 1;
        ensure_eq!(record.seq, *seq, "the number of the record at {position}");
        ensure!(
            record.epoch.0 >= last_epoch,
            "{log}: a record of epoch {} follows one of epoch {last_epoch} at position {position}",
            record.epoch
        );
        last_epoch = record.epoch.0;
    }
    let read: BTreeMap<_, _> = read.iter().map(|found| (found.position, found)).collect();
    for (position, record) in confirmed.iter().flatten() {
        let found = read.get(position).copied();
        ensure_eq!(
            found,
            Some(record),
            "{log}: what was confirmed at position {position}"
        );
    }
    Ok(())
}

/// One owner: claims once the owner before it has written something, appends until it is refused.
async fn own(
    connection: &Connection,
    log: &Log,
    reign: &watch::Sender<Reign>,
    epoch: u64,
    is_last: bool,
) -> Outcome<Confirmed> {
    let mut seen = reign.subscribe();
    let before = seen.wait_for(|reign| reign.next == epoch).await;
    let before = before.map_err(|error| error.to_string())?.durable;
    // Each owner strikes at another moment.
    let enough = before + if epoch > 1 { epoch * 3 % 11 } else { 0 };
    let confirmed = seen.wait_for(|reign| reign.durable >= enough).await;
    let confirmed = confirmed.map_err(|error| error.to_string())?.durable;
    let owner = format!("owner-{epoch}");
    let mut head = connection.claim(log, epoch, &owner).await?;
    ensure!(
        head >= confirmed,
        "{log}: {confirmed} records were confirmed, and then epoch {epoch} found head {head}"
    );
    for _ in 0..4 {
        let claimed = connection.all_of_log(log).await?.len() as u64;
        ensure_eq!(
            claimed,
            head,
            "{log}: the records once epoch {epoch} is claimed, under which nothing is written yet"
        );
        // The owner before it has time to write what it must not.
        tokio::task::yield_now().await;
    }
    reign.send_modify(|reign| reign.next = epoch + 1);
    let mut mine = Confirmed::new();
    let mut seq = 0;
    loop {
        let count = 1 + (head + epoch) % 4;
        let batch: Vec<_> = (1..=count)
            .map(|n| record(head + n, epoch, &owner, seq + n, &format!("{epoch}/{n}")))
            .collect();
        match connection.append(log, epoch, batch.clone()).await? {
            Appended::Written => {
                head += count;
                seq += count;
                mine.extend(batch.into_iter().map(|record| (record.position, record)));
                reign.send_modify(|reign| reign.durable = reign.durable.max(head));
            }
            Appended::Refused if is_last => {
                return Err(format!("{log}: the last owner, epoch {epoch}, is refused"));
            }
            Appended::Refused => {
                // Once refused, refused for ever.
                let late = records(head + 1, head + 1, epoch, "late", "late");
                let again = connection.append(log, epoch, late).await?;
                ensure_eq!(
                    again,
                    Appended::Refused,
                    "{log}: a second try of epoch {epoch}"
                );
                return Ok(mine);
            }
        }
        if is_last && seq > 30 {
            return Ok(mine);
        }
        tokio::task::yield_now().await;
    }
}
