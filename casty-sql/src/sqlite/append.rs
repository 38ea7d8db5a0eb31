//! One commit of records.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{Arc, LazyLock},
};

use casty::{
    id::Epoch,
    persistence::{Appended, Record},
};
use sqlx::{
    AssertSqlSafe, Error, Row, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments,
};

use super::{
    LogKey,
    run::{Unfinished, run},
};
use crate::values::{ends, epoch_to_sql, number_to_sql};

/// A part of a batch.
pub(super) struct Part {
    pub(super) log: LogKey,
    pub(super) epoch: Epoch,
    pub(super) records: Vec<Record>,
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

fn before(failed: impl Into<Error>) -> Failed {
    Failed::Before(failed.into())
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
RETURNING kind, shard, head";

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
    let heads = advance_heads(connection, &parts).await?;
    let mut rows = Vec::new();
    let appended = parts.into_iter().map(|part| {
        let LogKey { kind, shard } = part.log;
        let last = part.records.last().map(|last| number_to_sql(last.position));
        if !last.is_some_and(|last| heads.contains(&(kind, shard, last))) {
            return Appended::Refused;
        }
        rows.extend(part.records.into_iter().map(|record| (part.log, record)));
        Appended::Written
    });
    let appended = appended.collect();
    if rows.is_empty() {
        run(connection, sqlx::query("ROLLBACK"), 1)
            .await
            .map_err(before)?;
    } else {
        insert(connection, rows).await?;
    }
    Ok(appended)
}

/// The heads that were advanced: the log, and the new head.
async fn advance_heads(
    connection: &mut SqliteConnection,
    parts: &[Part],
) -> Result<BTreeSet<(i64, i64, i64)>, Failed> {
    let mut heads = "[".to_owned();
    for part in parts {
        let Some((before, last)) = ends(&part.records) else {
            continue;
        };
        let (LogKey { kind, shard }, epoch) = (part.log, epoch_to_sql(part.epoch));
        let (before, last) = (number_to_sql(before), number_to_sql(last));
        let comma = if heads.len() == 1 { "" } else { "," };
        let _ = write!(heads, "{comma}[{kind},{shard},{epoch},{before},{last}]");
    }
    heads.push(']');
    let advanced = run(connection, sqlx::query(HEADS).bind(heads), 2).await;
    let read =
        |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    let advanced = advanced.map_err(before)?;
    let advanced: Result<_, Error> = advanced.iter().map(read).collect();
    advanced.map_err(before)
}

async fn insert(
    connection: &mut SqliteConnection,
    rows: Vec<(LogKey, Record)>,
) -> Result<(), Failed> {
    let mut left = rows.len();
    let mut rows = rows.into_iter();
    for (&size, [plain, last]) in SIZES.iter().zip(INSERTS.iter()) {
        while left >= size {
            left -= size;
            let (text, statements) = if left == 0 { (last, 2) } else { (plain, 1) };
            let mut query = sqlx::query(AssertSqlSafe(text.clone()));
            for (log, record) in rows.by_ref().take(size) {
                query = bind(query, log, record);
            }
            let inserted = run(connection, query, statements).await;
            inserted.map_err(|Unfinished { ended, error }| match ended {
                0 => Failed::Before(error),
                _ => Failed::AtCommit(error),
            })?;
        }
    }
    Ok(())
}

fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    log: LogKey,
    record: Record,
) -> Query<'_, Sqlite, SqliteArguments> {
    query
        .bind(log.kind)
        .bind(log.shard)
        .bind(number_to_sql(record.position))
        .bind(epoch_to_sql(record.epoch))
        .bind(Arc::<str>::from(record.entity.as_str()))
        .bind(number_to_sql(record.seq))
        .bind(number_to_sql(record.at))
        .bind(Vec::from(record.body))
}
