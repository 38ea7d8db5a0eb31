//! Reads, in pages.

use bytes::Bytes;
use casty::{
    id::{EntityId, Epoch},
    persistence::{Page, Record, Snapshot, StoredEntity},
};
use sqlx::{
    Error, Executor, Row, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    LogKey,
    run::{finish, run},
};
use crate::values::{epoch_from_sql, limit_to_sql, number_from_sql, number_to_sql};

/// The number of a kind.
pub(super) async fn kind(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<i64>, Error> {
    let query = sqlx::query("SELECT kind FROM casty_kind WHERE name = ?1").bind(name.to_owned());
    let rows = run(connection, query, 1).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

/// The bodies of a page of records in one row, and lists of the numbers beside them. The driver
/// hands over each row from thread to thread, which takes longer than to read it.
///
/// A body of more than `?6` bytes is left out: its length tells. So a row has as many bytes as a
/// page at most. It has the bytes of the bodies only if the file stores texts in UTF-8.
const PAGE: &str = "\
SELECT min(epoch), max(epoch), min(seq), max(seq),
       group_concat(position), group_concat(at), group_concat(length(body)),
       CAST(group_concat(body, '') FILTER (WHERE length(body) <= ?6) AS BLOB)
FROM (SELECT position, epoch, seq, at, body FROM casty_record
      WHERE kind = ?1 AND shard = ?2 AND entity = ?3 AND seq > ?4 ORDER BY seq LIMIT ?5)";

/// So many records are read as one row at most.
const PAGE_MAX: usize = 4_096;

pub(super) async fn entity(
    connection: &mut SqliteConnection,
    log: LogKey,
    entity: &EntityId,
    after: u64,
    (page, is_utf8): (Page, bool),
) -> Result<Vec<Record>, Error> {
    if is_utf8 && (1..=PAGE_MAX).contains(&page.records) {
        let body_max = page.bytes / page.records;
        let rows = entity_query(PAGE, log, entity, after, page).bind(limit_to_sql(body_max));
        let rows = run(connection, rows, 1).await?;
        let row = rows.first().ok_or(Error::RowNotFound)?;
        if let Some(records) = page_of(row, entity)? {
            return Ok(records);
        }
    }
    let text = "SELECT position, epoch, seq, at, body FROM casty_record
         WHERE kind = ?1 AND shard = ?2 AND entity = ?3 AND seq > ?4 ORDER BY seq LIMIT ?5";
    let rows = entity_query(text, log, entity, after, page);
    take(connection, rows, page, |row| record(row, entity.clone())).await
}

fn entity_query(
    text: &'static str,
    LogKey { kind, shard }: LogKey,
    entity: &EntityId,
    after: u64,
    page: Page,
) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(text)
        .bind(kind)
        .bind(shard)
        .bind(entity.as_str().to_owned())
        .bind(number_to_sql(after))
        .bind(limit_to_sql(page.records))
}

/// The records of a [`PAGE`]. `None` if it does not have all bodies as they are stored.
fn page_of(row: &SqliteRow, entity: &EntityId) -> Result<Option<Vec<Record>>, Error> {
    let bound = |column| row.try_get::<Option<i64>, _>(column);
    let listed = |column| row.try_get::<Option<&str>, _>(column).map(numbers);
    let (Some(epoch), Some(first), Some(last)) = (bound(0)?, bound(2)?, bound(3)?) else {
        return Ok(Some(Vec::new()));
    };
    if bound(1)? != Some(epoch) {
        return Ok(None);
    }
    let (epoch, mut seqs) = (epoch_from_sql(epoch), first..=last);
    let (mut positions, mut times, lengths) = (listed(4)?, listed(5)?, listed(6)?);
    let bodies: Option<&[u8]> = row.try_get(7)?;
    let mut bodies = Bytes::copy_from_slice(bodies.unwrap_or_default());
    let (mut before, mut records) = (0, Vec::new());
    for length in lengths {
        let numbers = (positions.next(), seqs.next(), times.next());
        let (Ok(length), (Some(position), Some(seq), Some(at))) =
            (usize::try_from(length?), numbers)
        else {
            return Ok(None);
        };
        let position = number_from_sql(position?);
        // An aggregate takes the rows in the order of the query, though SQLite does not promise it.
        let is_next = std::mem::replace(&mut before, position) < position;
        // A body may be left out: this one, or one before it.
        if !is_next || length > bodies.len() {
            return Ok(None);
        }
        records.push(Record {
            position,
            epoch,
            entity: entity.clone(),
            seq: number_from_sql(seq),
            at: number_from_sql(at?),
            body: bodies.split_to(length),
        });
    }
    let is_whole = bodies.is_empty() && seqs.next().is_none();
    Ok(is_whole.then_some(records))
}

/// The numbers of a list.
fn numbers(list: Option<&str>) -> impl Iterator<Item = Result<i64, Error>> {
    let numbers = list.into_iter().flat_map(|list| list.split(','));
    numbers.map(|number| {
        number
            .parse()
            .map_err(|error| Error::Decode(Box::new(error)))
    })
}

pub(super) async fn log(
    connection: &mut SqliteConnection,
    LogKey { kind, shard }: LogKey,
    after: u64,
    page: Page,
) -> Result<Vec<Record>, Error> {
    let query = sqlx::query(
        "SELECT position, epoch, seq, at, body, entity FROM casty_record
         WHERE kind = ?1 AND shard = ?2 AND position > ?3 ORDER BY position LIMIT ?4",
    )
    .bind(kind)
    .bind(shard)
    .bind(number_to_sql(after))
    .bind(limit_to_sql(page.records));
    take(connection, query, page, |row| {
        let entity = EntityId::new(row.try_get::<&str, _>(5)?);
        record(row, entity)
    })
    .await
}

fn record(row: &SqliteRow, entity: EntityId) -> Result<Record, Error> {
    Ok(Record {
        position: number_from_sql(row.try_get(0)?),
        epoch: epoch_from_sql(row.try_get(1)?),
        entity,
        seq: number_from_sql(row.try_get(2)?),
        at: number_from_sql(row.try_get(3)?),
        body: row.try_get::<Vec<u8>, _>(4)?.into(),
    })
}

/// Takes as many records as the page allows. The connection reads only some rows ahead.
async fn take(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    page: Page,
    read: impl Fn(&SqliteRow) -> Result<Record, Error>,
) -> Result<Vec<Record>, Error> {
    let (mut bytes, mut records) = (0, Vec::new());
    let each = |row| {
        let record = read(&row)?;
        bytes += record.body.len();
        let fits = bytes <= page.bytes || records.is_empty();
        if fits {
            records.push(record);
        }
        Ok(fits)
    };
    finish(connection.fetch_many(query), 1, each).await?;
    Ok(records)
}

pub(super) async fn snapshot(
    connection: &mut SqliteConnection,
    LogKey { kind, shard }: LogKey,
    entity: &EntityId,
) -> Result<Option<Snapshot>, Error> {
    let query = sqlx::query(
        "SELECT seq, at, body FROM casty_state WHERE kind = ?1 AND shard = ?2 AND entity = ?3",
    )
    .bind(kind)
    .bind(shard)
    .bind(entity.as_str().to_owned());
    let rows = run(connection, query, 1).await?;
    let read = |row: &SqliteRow| {
        Ok(Snapshot {
            seq: number_from_sql(row.try_get(0)?),
            at: number_from_sql(row.try_get(1)?),
            body: row.try_get::<Vec<u8>, _>(2)?.into(),
        })
    };
    rows.first().map(read).transpose()
}

pub(super) async fn latest_epoch(connection: &mut SqliteConnection) -> Result<Epoch, Error> {
    let query = sqlx::query("SELECT max(epoch) FROM casty_shard");
    let rows = run(connection, query, 1).await?;
    let row = rows.first().ok_or(Error::RowNotFound)?;
    let latest: Option<i64> = row.try_get(0)?;
    Ok(latest.map_or(Epoch::ZERO, epoch_from_sql))
}

/// From entity to entity by the index: the cost depends on the entities, not on their records. An
/// entity whose last record is forgotten has none that is not.
///
/// A recursion gives its rows in the order in which they were found, and CROSS JOIN keeps it.
pub(super) async fn entities(
    connection: &mut SqliteConnection,
    LogKey { kind, shard }: LogKey,
    after: Option<&EntityId>,
    limit: usize,
) -> Result<Vec<StoredEntity>, Error> {
    let query = sqlx::query(
        "WITH RECURSIVE found (entity) AS (
             SELECT min(entity) FROM casty_record WHERE kind = ?1 AND shard = ?2 AND entity > ?3
             UNION ALL
             SELECT (SELECT min(entity) FROM casty_record
                     WHERE kind = ?1 AND shard = ?2 AND entity > found.entity)
             FROM found WHERE found.entity IS NOT NULL)
         SELECT found.entity, last.seq, last.at FROM found
         CROSS JOIN casty_record AS last
           ON last.kind = ?1 AND last.shard = ?2 AND last.entity = found.entity
              AND last.seq = (SELECT max(seq) FROM casty_record
                              WHERE kind = ?1 AND shard = ?2 AND entity = found.entity)
         WHERE length(last.body) > 0
            OR EXISTS (SELECT 1 FROM casty_state
                       WHERE kind = ?1 AND shard = ?2 AND entity = found.entity)
         LIMIT ?4",
    )
    .bind(kind)
    .bind(shard)
    .bind(after.map_or("", EntityId::as_str).to_owned())
    .bind(limit_to_sql(limit));
    let rows = run(connection, query, 1).await?;
    let read = |row: &SqliteRow| {
        Ok(StoredEntity {
            entity: EntityId::new(row.try_get::<&str, _>(0)?),
            seq: number_from_sql(row.try_get(1)?),
            at: number_from_sql(row.try_get(2)?),
        })
    };
    rows.iter().map(read).collect()
}
