//! Types and claims.

use std::num::NonZeroU32;

use crate::persistence::{
    Appended, JournalError,
    suite::fixture::{Fixture, Outcome, ensure, ensure_eq, log, record, records},
};

pub(super) async fn types(fixture: &Fixture) -> Outcome {
    let (one, other) = (fixture.connect().await, fixture.connect().await);
    let shards = |count| NonZeroU32::new(count).expect("not zero");
    let kinds = [
        ("suite/types-a".into(), shards(8)),
        ("suite/types-b".into(), shards(1)),
    ];
    for (connection, when) in [(&one, "at first"), (&one, "again"), (&other, "elsewhere")] {
        let opened = connection.0.open(&kinds).await;
        ensure_eq!(opened, Ok(()), "types with their number of shards, {when}");
    }
    let changed = [("suite/types-a".into(), shards(9))];
    for connection in [&one, &other] {
        let opened = connection.0.open(&changed).await;
        let Err(JournalError::Unusable { reason }) = opened else {
            return Err(format!("a type with another number of shards: {opened:?}"));
        };
        ensure!(
            reason.contains("suite/types-a") && reason.contains('8'),
            "the refusal of a type with another number of shards names neither the type nor its \
             number: {reason}"
        );
    }
    let opened = other.0.open(&kinds).await;
    ensure_eq!(opened, Ok(()), "the former number of shards, after that");
    ensure!(
        !one.0.describe().is_empty(),
        "a store says what it is in `describe`"
    );
    ensure!(one.0.lanes() > 0, "a store has at least one lane");
    Ok(())
}

pub(super) async fn claims(fixture: &Fixture) -> Outcome {
    let kind = "suite/claims";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let (log, next) = (log(kind, 2), log(kind, 3));
    ensure_eq!(
        one.claim(&log, 5, "a").await?,
        0,
        "the head of an empty log"
    );
    ensure_eq!(one.claim(&log, 5, "a").await?, 0, "a repeated claim");
    one.write(&log, 5, records(1, 3, 5, "x", "body")).await?;
    ensure_eq!(one.claim(&log, 5, "a").await?, 3, "a repeated claim");
    ensure_eq!(
        other.claim(&log, 5, "a").await?,
        3,
        "a claim repeated by another connection of the owner"
    );
    other.refused_claim(&log, (5, "b"), (5, "a")).await?;
    other.refused_claim(&log, (4, "b"), (5, "a")).await?;
    other.refused_claim(&log, (4, "a"), (5, "a")).await?;
    // What was refused has changed nothing.
    one.write(&log, 5, records(4, 4, 5, "x", "body")).await?;
    ensure_eq!(other.claim(&log, 9, "b").await?, 4, "a later claim");
    one.refused_claim(&log, (5, "a"), (9, "b")).await?;
    one.refused_claim(&log, (9, "a"), (9, "b")).await?;
    one.refused_claim(&log, (8, "a"), (9, "b")).await?;
    // A claim of one log says nothing of another, of the same number or the same type.
    ensure_eq!(one.claim(&next, 1, "a").await?, 0, "the next shard");
    let kind = "suite/claims-of-another";
    let third = fixture.open(kind).await?;
    let namesake = crate::persistence::Log {
        kind: kind.into(),
        shard: log.shard,
    };
    ensure_eq!(third.claim(&namesake, 1, "a").await?, 0, "another type");
    let odd = "Größe-7 'quoted' \"twice\"; -- \\";
    one.claim(&next, 2, odd).await?;
    one.refused_claim(&next, (2, "a"), (2, odd)).await
}

pub(super) async fn fencing(fixture: &Fixture) -> Outcome {
    let kind = "suite/fencing";
    let (one, other) = (fixture.open(kind).await?, fixture.open(kind).await?);
    let log = log(kind, 0);
    let unclaimed = one.append(&log, 1, records(1, 1, 1, "x", "")).await?;
    ensure_eq!(unclaimed, Appended::Refused, "an append without a claim");
    one.claim(&log, 2, "a").await?;
    one.write(&log, 2, records(1, 2, 2, "x", "of a")).await?;
    ensure_eq!(other.claim(&log, 3, "b").await?, 2, "the head of a claim");
    for (epoch, what) in [(2, "an earlier epoch"), (4, "an epoch that is not claimed")] {
        let appended = one
            .append(&log, epoch, records(3, 3, epoch, "x", "late"))
            .await?;
        ensure_eq!(appended, Appended::Refused, "an append under {what}");
    }
    other.write(&log, 3, records(3, 3, 3, "x", "of b")).await?;
    let late = one.append(&log, 2, records(4, 4, 2, "x", "late")).await?;
    ensure_eq!(late, Appended::Refused, "an append under an earlier epoch");
    let mut all = records(1, 2, 2, "x", "of a");
    all.push(record(3, 3, "x", 3, "of b"));
    ensure_eq!(one.all_of_log(&log).await?, all, "the log");
    Ok(())
}

pub(super) async fn epochs(fixture: &Fixture) -> Outcome {
    let kind = "suite/epochs";
    let one = fixture.open(kind).await?;
    let log = log(kind, 1);
    let ascending = [
        1,
        (1 << 32) - 1,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1,
        u64::MAX,
    ];
    let mut before = None;
    for (epoch, position) in ascending.into_iter().zip(1..) {
        let head = one.claim(&log, epoch, "a").await?;
        ensure_eq!(head + 1, position, "the head under epoch {epoch}");
        if let Some(before) = before {
            one.refused_claim(&log, (before, "a"), (epoch, "a")).await?;
            let late = records(position, position, before, "x", "late");
            let appended = one.append(&log, before, late).await?;
            ensure_eq!(
                appended,
                Appended::Refused,
                "an append under epoch {before}, while epoch {epoch} stands"
            );
        }
        one.write(&log, epoch, records(position, position, epoch, "x", "body"))
            .await?;
        before = Some(epoch);
    }
    let read: Vec<_> = one.all_of_log(&log).await?;
    let read: Vec<_> = read.iter().map(|record| record.epoch.0).collect();
    ensure_eq!(read, ascending, "the epochs of the records");
    let latest = one.latest_epoch().await?;
    ensure_eq!(Some(latest), before, "the latest epoch of all claims");
    Ok(())
}
