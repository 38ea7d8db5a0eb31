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
    AssertSqlSafe, Error, Row, Sqlite, SqliteConnection,
    error::{DatabaseError, ErrorKind},
    query::Query,
    sqlite::SqliteArguments,
};

use super::{
    LogKey,
    run::{Unfinished, run},
};
use crate::values::{ends, epoch_to_sql, limit_to_sql, number_to_sql};

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

/// Advances the heads of all logs whose claim and head are as the batch expects.
const HEADS: &str = "\
UPDATE OR ROLLBACK casty_shard SET head = part.last
FROM (SELECT value ->> 0 AS kind, value ->> 1 AS shard, value ->> 2 AS epoch,
             value ->> 3 AS before, value ->> 4 AS last FROM json_each(?)) AS part
WHERE casty_shard.kind = part.kind AND casty_shard.shard = part.shard
  AND casty_shard.epoch = part.epoch AND casty_shard.head = part.before";

/// Fails, since each record has a kind, unless so many heads were advanced.
const CHECK: &str = "INSERT INTO casty_record (kind) SELECT NULL WHERE changes() <> ?";

/// How many statements begin a transaction and check its heads.
const BEFORE: usize = 3;

/// How many records one statement inserts. Few sizes, so that all statements stay prepared.
const SIZES: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// The statements that insert so many records.
///
/// The driver for SQLite, and only this one, runs several statements at once, and answers each.
/// That saves most of the time of a small batch, since each call is a change of threads and back.
///
/// An error of a statement with several rows takes back the statement, unless it says ROLLBACK. For
/// that SQLite would copy each page before it changes it, and no error leaves anything to keep.
struct Inserts {
    size: usize,
    /// The whole transaction.
    whole: Arc<str>,
    /// With its beginning.
    first: Arc<str>,
    middle: Arc<str>,
    /// With its end.
    last: Arc<str>,
}

static INSERTS: LazyLock<[Inserts; SIZES.len()]> = LazyLock::new(|| SIZES.map(Inserts::new));

impl Inserts {
    fn new(size: usize) -> Self {
        let mut insert = "INSERT OR ROLLBACK INTO casty_record \
                          (kind, shard, position, epoch, entity, seq, at, body) VALUES "
            .to_owned();
        for row in 0..size {
            insert.push_str(if row == 0 { "" } else { "," });
            insert.push_str("(?,?,?,?,?,?,?,?)");
        }
        let before = format!("BEGIN IMMEDIATE;\n{HEADS};\n{CHECK};\n");
        Self {
            size,
            whole: format!("{before}{insert};\nCOMMIT").into(),
            first: format!("{before}{insert}").into(),
            last: format!("{insert};\nCOMMIT").into(),
            middle: insert.into(),
        }
    }
}

/// Appends the parts in one transaction, in one call of the driver where that is possible.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    parts: Vec<Part>,
) -> Result<Vec<Appended>, Failed> {
    let heads = Heads::of(&parts);
    if heads.count == parts.len() && heads.count > 0 {
        match insert(connection, &rows(&parts), Some(heads)).await {
            Ok(()) => return Ok(vec![Appended::Written; parts.len()]),
            Err(NotInserted::Refused) => roll_back(connection).await?,
            Err(NotInserted::Failed(why)) => return Err(why),
        }
    }
    append_some(connection, parts).await
}

async fn roll_back(connection: &mut SqliteConnection) -> Result<(), Failed> {
    let ended = run(connection, sqlx::query("ROLLBACK"), 1).await;
    ended.map_err(before).map(drop)
}

/// The same where parts are refused: the others are written.
async fn append_some(
    connection: &mut SqliteConnection,
    parts: Vec<Part>,
) -> Result<Vec<Appended>, Failed> {
    let heads = advance_heads(connection, Heads::of(&parts)).await?;
    let (mut appended, mut written) = (Vec::new(), Vec::new());
    for part in parts {
        let LogKey { kind, shard } = part.log;
        let last = part.records.last().map(|last| number_to_sql(last.position));
        if last.is_some_and(|last| heads.contains(&(kind, shard, last))) {
            appended.push(Appended::Written);
            written.push(part);
        } else {
            appended.push(Appended::Refused);
        }
    }
    if written.is_empty() {
        roll_back(connection).await?;
        return Ok(appended);
    }
    match insert(connection, &rows(&written), None).await {
        Ok(()) => Ok(appended),
        Err(NotInserted::Failed(why)) => Err(why),
        Err(NotInserted::Refused) => Err(Failed::Before(Error::RowNotFound)),
    }
}

/// The heads that were advanced: the log, and the new head.
async fn advance_heads(
    connection: &mut SqliteConnection,
    heads: Heads,
) -> Result<BTreeSet<(i64, i64, i64)>, Failed> {
    let text = format!("BEGIN IMMEDIATE;\n{HEADS} RETURNING kind, shard, head");
    let query = sqlx::query(AssertSqlSafe(text)).bind(heads.json);
    let advanced = run(connection, query, 2).await;
    let read =
        |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    let advanced = advanced.map_err(before)?;
    let advanced: Result<_, Error> = advanced.iter().map(read).collect();
    advanced.map_err(before)
}

/// The heads that are to be advanced, and how many.
struct Heads {
    json: String,
    count: usize,
}

impl Heads {
    fn of(parts: &[Part]) -> Self {
        let (mut json, mut count) = ("[".to_owned(), 0);
        for part in parts {
            let Some((before, last)) = ends(&part.records) else {
                continue;
            };
            let (LogKey { kind, shard }, epoch) = (part.log, epoch_to_sql(part.epoch));
            let (before, last) = (number_to_sql(before), number_to_sql(last));
            let comma = if count == 0 { "" } else { "," };
            let _ = write!(json, "{comma}[{kind},{shard},{epoch},{before},{last}]");
            count += 1;
        }
        json.push(']');
        Self { json, count }
    }
}

type RecordRow<'a> = (LogKey, &'a Record);

fn rows(parts: &[Part]) -> Vec<RecordRow<'_>> {
    let mut rows = Vec::new();
    for part in parts {
        rows.extend(part.records.iter().map(|record| (part.log, record)));
    }
    rows
}

enum NotInserted {
    /// Not all heads could be advanced. The transaction is open.
    Refused,
    Failed(Failed),
}

/// Inserts records, and ends the transaction. With `heads`, it also begins the transaction, and
/// advances all of them.
async fn insert(
    connection: &mut SqliteConnection,
    mut rows: &[RecordRow<'_>],
    mut heads: Option<Heads>,
) -> Result<(), NotInserted> {
    for inserts in INSERTS.iter() {
        while let Some((some, left)) = rows.split_at_checked(inserts.size) {
            rows = left;
            let (text, statements) = match (heads.is_some(), rows.is_empty()) {
                (true, true) => (&inserts.whole, BEFORE + 2),
                (true, false) => (&inserts.first, BEFORE + 1),
                (false, true) => (&inserts.last, 2),
                (false, false) => (&inserts.middle, 1),
            };
            let mut query = sqlx::query(AssertSqlSafe(text.clone()));
            let mut before = 0;
            if let Some(Heads { json, count }) = heads.take() {
                query = query.bind(json).bind(limit_to_sql(count));
                before = BEFORE;
            }
            for row in some {
                query = bind(query, *row);
            }
            let inserted = run(connection, query, statements).await;
            inserted.map_err(|unfinished| not_inserted(unfinished, before))?;
        }
    }
    Ok(())
}

/// `before`: how many statements come before the one that inserts.
fn not_inserted(Unfinished { ended, error }: Unfinished, before: usize) -> NotInserted {
    let kind = error.as_database_error().map(DatabaseError::kind);
    if ended + 1 == before && matches!(kind, Some(ErrorKind::NotNullViolation)) {
        return NotInserted::Refused;
    }
    NotInserted::Failed(if ended > before {
        Failed::AtCommit(error)
    } else {
        Failed::Before(error)
    })
}

fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    (log, record): RecordRow<'_>,
) -> Query<'q, Sqlite, SqliteArguments> {
    query
        .bind(log.kind)
        .bind(log.shard)
        .bind(number_to_sql(record.position))
        .bind(epoch_to_sql(record.epoch))
        .bind(Arc::<str>::from(record.entity.as_str()))
        .bind(number_to_sql(record.seq))
        .bind(number_to_sql(record.at))
        .bind(record.body.to_vec())
}
