//! What is done with a connection.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use casty::{
    id::{EntityId, Epoch},
    persistence::{Append, Page, Record, Snapshot, StoredEntity},
};
use sqlx::{
    AssertSqlSafe, Connection, Error, PgConnection, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::statements::Statements;
use crate::values::{
    ends, epoch_from_sql, epoch_to_sql, limit_to_sql, number_from_sql, number_to_sql,
    text_from_sql, text_to_sql,
};

/// A log in numbers.
#[derive(Clone, Copy)]
pub(super) struct LogKey {
    pub(super) kind: i32,
    /// All 32 bits of the number of the shard.
    pub(super) shard: i32,
}

/// A part of a batch.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) log: LogKey,
    /// The number of the claim under which it is written, if the claim was made here.
    pub(super) claim: Option<i64>,
    pub(super) append: Append,
}

/// How a claim has ended.
pub(super) enum Claimed {
    Held { head: u64, number: i64 },
    Fenced { epoch: Epoch, owner: String },
}

fn query(text: &Arc<str>) -> Query<'static, sqlx::Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(text.clone()))
}

/// Appends the parts. The indices of those that were written.
pub(super) async fn append(
    connection: &mut PgConnection,
    statements: &Statements,
    parts: Vec<Part>,
) -> Result<BTreeSet<usize>, Error> {
    let (mut kinds, mut shards, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut claims, mut heads, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut numbers, mut of_part) = (Vec::new(), Vec::new());
    let (mut positions, mut entities, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut times, mut bodies) = (Vec::new(), Vec::new());
    for (number, part) in (0_i32..).zip(&parts) {
        let Some((before, last)) = ends(&part.append.records) else {
            continue;
        };
        numbers.push(number);
        kinds.push(part.log.kind);
        shards.push(part.log.shard);
        epochs.push(epoch_to_sql(part.append.epoch));
        claims.push(part.claim);
        heads.push(number_to_sql(before));
        lasts.push(number_to_sql(last));
        for record in &part.append.records {
            of_part.push(number);
            positions.push(number_to_sql(record.position));
            entities.push(text_to_sql(record.entity.as_str()));
            seqs.push(number_to_sql(record.seq));
            times.push(number_to_sql(record.at));
            bodies.push(&*record.body);
        }
    }
    let rows = query(&statements.append)
        .bind(numbers)
        .bind(kinds)
        .bind(shards)
        .bind(epochs)
        .bind(claims)
        .bind(heads)
        .bind(lasts)
        .bind(of_part)
        .bind(positions)
        .bind(entities)
        .bind(seqs)
        .bind(times)
        .bind(bodies)
        .fetch_all(connection)
        .await?;
    let number = |row: &PgRow| Ok(usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default());
    rows.iter().map(number).collect()
}

pub(super) async fn claim(
    connection: &mut PgConnection,
    statements: &Statements,
    (log, epoch, owner, anew): (LogKey, Epoch, &str, bool),
) -> Result<Claimed, Error> {
    loop {
        let claimed = query(&statements.claim)
            .bind(log.kind)
            .bind(log.shard)
            .bind(epoch_to_sql(epoch))
            .bind(text_to_sql(owner).into_owned())
            .bind(i64::from(anew))
            .fetch_all(&mut *connection)
            .await?;
        if let Some(row) = claimed.first() {
            return Ok(Claimed::Held {
                head: number_from_sql(row.try_get(0)?),
                number: row.try_get(1)?,
            });
        }
        let standing = query(&statements.standing_claim)
            .bind(log.kind)
            .bind(log.shard)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = standing {
            return Ok(Claimed::Fenced {
                epoch: epoch_from_sql(row.try_get(0)?),
                owner: text_from_sql(row.try_get(1)?).into_owned(),
            });
        }
        // The row was deleted in between.
    }
}

pub(super) async fn save(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    epoch: Epoch,
    entity: &EntityId,
    snapshot: Snapshot,
) -> Result<(), Error> {
    query(&statements.save)
        .bind(log.kind)
        .bind(log.shard)
        .bind(epoch_to_sql(epoch))
        .bind(text_to_sql(entity.as_str()).into_owned())
        .bind(number_to_sql(snapshot.seq))
        .bind(number_to_sql(snapshot.at))
        .bind(Vec::from(snapshot.body))
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn forget(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    epoch: Epoch,
    entity: &EntityId,
    (through, snapshot): (u64, bool),
) -> Result<(), Error> {
    let forget = |text| {
        query(text)
            .bind(log.kind)
            .bind(log.shard)
            .bind(epoch_to_sql(epoch))
            .bind(text_to_sql(entity.as_str()).into_owned())
            .bind(number_to_sql(through))
    };
    if !snapshot {
        return forget(&statements.forget)
            .execute(connection)
            .await
            .map(drop);
    }
    let mut transaction = connection.begin().await?;
    for text in [&statements.forget, &statements.forget_snapshot] {
        forget(text).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// The number of a kind, and of its shards.
pub(super) async fn kind(
    connection: &mut PgConnection,
    statements: &Statements,
    name: &str,
) -> Result<Option<(i32, i64)>, Error> {
    let row = query(&statements.kind)
        .bind(text_to_sql(name).into_owned())
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .transpose()
}

pub(super) async fn open_kind(
    connection: &mut PgConnection,
    statements: &Statements,
    name: &str,
    shards: NonZeroU32,
) -> Result<(i32, i64), Error> {
    query(&statements.new_kind)
        .bind(text_to_sql(name).into_owned())
        .bind(i64::from(shards.get()))
        .execute(&mut *connection)
        .await?;
    let found = kind(connection, statements, name).await?;
    found.ok_or(Error::RowNotFound)
}

pub(super) async fn entity(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    entity: &EntityId,
    after: u64,
    page: Page,
) -> Result<Vec<Record>, Error> {
    let rows = query(&statements.entity)
        .bind(log.kind)
        .bind(log.shard)
        .bind(text_to_sql(entity.as_str()).into_owned())
        .bind(number_to_sql(after))
        .bind(limit_to_sql(page.records))
        .bind(number_to_sql(page.bytes as u64))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| record(row, entity.clone())).collect()
}

pub(super) async fn log(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    after: u64,
    page: Page,
) -> Result<Vec<Record>, Error> {
    let rows = query(&statements.log)
        .bind(log.kind)
        .bind(log.shard)
        .bind(number_to_sql(after))
        .bind(limit_to_sql(page.records))
        .bind(number_to_sql(page.bytes as u64))
        .fetch_all(connection)
        .await?;
    let read = |row: &PgRow| {
        let entity = EntityId::new(text_from_sql(row.try_get(5)?));
        record(row, entity)
    };
    rows.iter().map(read).collect()
}

fn record(row: &PgRow, entity: EntityId) -> Result<Record, Error> {
    Ok(Record {
        position: number_from_sql(row.try_get(0)?),
        epoch: epoch_from_sql(row.try_get(1)?),
        entity,
        seq: number_from_sql(row.try_get(2)?),
        at: number_from_sql(row.try_get(3)?),
        body: row.try_get::<Vec<u8>, _>(4)?.into(),
    })
}

pub(super) async fn latest_epoch(
    connection: &mut PgConnection,
    statements: &Statements,
) -> Result<Epoch, Error> {
    let row = query(&statements.latest_epoch)
        .fetch_one(connection)
        .await?;
    let latest: Option<i64> = row.try_get(0)?;
    Ok(latest.map_or(Epoch::ZERO, epoch_from_sql))
}

pub(super) async fn snapshot(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    entity: &EntityId,
) -> Result<Option<Snapshot>, Error> {
    let row = query(&statements.snapshot)
        .bind(log.kind)
        .bind(log.shard)
        .bind(text_to_sql(entity.as_str()).into_owned())
        .fetch_optional(connection)
        .await?;
    let read = |row: PgRow| {
        Ok(Snapshot {
            seq: number_from_sql(row.try_get(0)?),
            at: number_from_sql(row.try_get(1)?),
            body: row.try_get::<Vec<u8>, _>(2)?.into(),
        })
    };
    row.map(read).transpose()
}

pub(super) async fn entities(
    connection: &mut PgConnection,
    statements: &Statements,
    log: LogKey,
    after: Option<&EntityId>,
    limit: usize,
) -> Result<Vec<StoredEntity>, Error> {
    let rows = query(&statements.entities)
        .bind(log.kind)
        .bind(log.shard)
        .bind(text_to_sql(after.map_or("", EntityId::as_str)).into_owned())
        .bind(limit_to_sql(limit))
        .fetch_all(connection)
        .await?;
    let read = |row: &PgRow| {
        Ok(StoredEntity {
            entity: EntityId::new(text_from_sql(row.try_get(0)?)),
            seq: number_from_sql(row.try_get(1)?),
            at: number_from_sql(row.try_get(2)?),
        })
    };
    rows.iter().map(read).collect()
}
