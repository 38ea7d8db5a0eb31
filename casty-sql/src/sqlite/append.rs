//! One commit of records.

use std::{
    collections::BTreeSet,
    fmt::Write,
    ops::Range,
    sync::{Arc, LazyLock},
};

use casty::persistence::{Append, Appended, Record};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Either, Error, Executor, Row, Sqlite, SqliteConnection, query::Query};

use crate::values::{epoch_to_sql, number_to_sql};

/// A part of a batch, and the number of its kind.
pub(super) struct Part {
    pub(super) kind: i64,
    pub(super) append: Append,
}

/// Where a transaction has ended.
pub(super) enum Failed {
    /// Before its COMMIT: nothing was written.
    Before(Error),
    /// In its COMMIT: it is not known.
    AtCommit(Error),
}

impl Failed {
    pub(super) fn error(&self) -> &Error {
        match self {
            Self::Before(error) | Self::AtCommit(error) => error,
        }
    }
}

/// The driver for SQLite, and only this one, runs several statements at once, and answers each.
/// That saves most of the time of a small batch, since each call is a change of threads and back.
///
/// Advances the heads of all logs whose claim and head are as the batch expects. The rest of the
/// transaction inserts the records of those that it returns.
const HEADS: &str = "\
BEGIN IMMEDIATE;
UPDATE casty_shard SET head = part.last
FROM (SELECT value ->> 0 AS kind, value ->> 1 AS shard, value ->> 2 AS epoch,
             value ->> 3 AS before, value ->> 4 AS last FROM json_each(?1)) AS part
WHERE casty_shard.kind = part.kind AND casty_shard.shard = part.shard
  AND casty_shard.epoch = part.epoch AND casty_shard.head = part.before
RETURNING kind, shard";

/// How many records one statement inserts. Few sizes, so that all statements stay prepared.
const SIZES: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// For each size the statement, and the statement with the end of the transaction.
static INSERTS: LazyLock<Vec<[Arc<str>; 2]>> = LazyLock::new(|| {
    let insert = |size: usize| {
        let mut text = "INSERT INTO casty_record \
                        (kind, shard, position, epoch, entity, seq, at, body) VALUES "
            .to_owned();
        for row in 0..size {
            text.push_str(if row == 0 { "" } else { "," });
            text.push_str("(?,?,?,?,?,?,?,?)");
        }
        text
    };
    let both = |&size| {
        let plain = insert(size);
        let last = format!("{plain};\nCOMMIT");
        [plain.into(), last.into()]
    };
    SIZES.iter().map(both).collect()
});

/// Appends the parts in one transaction. No log occurs in two of them.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    parts: Vec<Part>,
) -> Result<Vec<Appended>, Failed> {
    let written = advance_heads(connection, &parts).await?;
    let is_written = |part: &Part| written.contains(&(part.kind, i64::from(part.append.log.shard)));
    let appended = parts.iter().map(|part| {
        if is_written(part) {
            Appended::Written
        } else {
            Appended::Refused
        }
    });
    let appended = appended.collect();
    let mut rows = Vec::new();
    for part in parts {
        if is_written(&part) {
            let (kind, shard) = (part.kind, i64::from(part.append.log.shard));
            rows.extend(
                part.append
                    .records
                    .into_iter()
                    .map(|record| (kind, shard, record)),
            );
        }
    }
    if rows.is_empty() {
        let end = sqlx::query("ROLLBACK").execute(connection).await;
        end.map_err(Failed::Before)?;
        return Ok(appended);
    }
    insert(connection, rows).await?;
    Ok(appended)
}

async fn advance_heads(
    connection: &mut SqliteConnection,
    parts: &[Part],
) -> Result<BTreeSet<(i64, i64)>, Failed> {
    let mut heads = "[".to_owned();
    for Part { kind, append } in parts {
        let Some(Range { start, end }) = positions(&append.records) else {
            continue;
        };
        let (shard, epoch) = (append.log.shard, epoch_to_sql(append.epoch));
        let (before, last) = (number_to_sql(start - 1), number_to_sql(end - 1));
        let comma = if heads.len() == 1 { "" } else { "," };
        let _ = write!(heads, "{comma}[{kind},{shard},{epoch},{before},{last}]");
    }
    heads.push(']');
    let mut results = connection.fetch_many(sqlx::query(HEADS).bind(heads));
    let mut written = BTreeSet::new();
    // To the end: only then is the statement over.
    while let Some(result) = results.try_next().await.map_err(Failed::Before)? {
        let Either::Right(row) = result else { continue };
        let read = || Ok((row.try_get(0)?, row.try_get(1)?));
        written.insert(read().map_err(Failed::Before)?);
    }
    Ok(written)
}

/// The positions of records that follow each other.
fn positions(records: &[Record]) -> Option<Range<u64>> {
    let (first, last) = (records.first()?.position, records.last()?.position);
    let is_dense = first > 0 && last.checked_sub(first)?.checked_add(1)? == records.len() as u64;
    is_dense.then(|| first..last + 1)
}

async fn insert(
    connection: &mut SqliteConnection,
    rows: Vec<(i64, i64, Record)>,
) -> Result<(), Failed> {
    let mut left = rows.len();
    let mut rows = rows.into_iter();
    for (&size, [plain, last]) in SIZES.iter().zip(INSERTS.iter()) {
        while left >= size {
            left -= size;
            let text = if left == 0 { last } else { plain };
            let mut query = sqlx::query(AssertSqlSafe(text.clone()));
            for (kind, shard, record) in rows.by_ref().take(size) {
                query = bind(query, kind, shard, record);
            }
            let mut results = connection.fetch_many(query);
            let mut inserted = false;
            loop {
                match results.try_next().await {
                    Ok(Some(_)) => inserted = true,
                    Ok(None) => break,
                    Err(error) if inserted => return Err(Failed::AtCommit(error)),
                    Err(error) => return Err(Failed::Before(error)),
                }
            }
        }
    }
    Ok(())
}

fn bind(
    query: Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
    kind: i64,
    shard: i64,
    record: Record,
) -> Query<'_, Sqlite, sqlx::sqlite::SqliteArguments> {
    query
        .bind(kind)
        .bind(shard)
        .bind(number_to_sql(record.position))
        .bind(epoch_to_sql(record.epoch))
        .bind(Arc::<str>::from(record.entity.as_str()))
        .bind(number_to_sql(record.seq))
        .bind(number_to_sql(record.at))
        .bind(Vec::from(record.body))
}
