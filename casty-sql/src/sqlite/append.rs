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
    aside::{self, Aside, Asides},
    connection,
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

/// How many records one statement inserts: one of these numbers, or any below. Few sizes, so that
/// all statements stay prepared.
const SIZES: [usize; 4] = [512, 256, 128, 64];

/// The statements for all sizes: for a number below the smallest of [`SIZES`] at its index, then
/// for those.
static INSERTS: LazyLock<Vec<Inserts>> = LazyLock::new(|| {
    let sizes = (0..SIZES[SIZES.len() - 1]).chain(SIZES.into_iter().rev());
    sizes.map(Inserts::new).collect()
});

/// Splits rows: those of the next statement, which comes first, and the rest.
fn next_rows<T>(rows: &[T]) -> Option<(&'static Inserts, &[T], &[T])> {
    let size = SIZES.into_iter().find(|size| *size <= rows.len());
    let size = size.unwrap_or(rows.len());
    let inserts = INSERTS.iter().find(|inserts| inserts.size == size);
    let (some, left) = rows.split_at_checked(size).filter(|_| size > 0)?;
    Some((inserts?, some, left))
}

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

/// A view in which rows are appended, with the checks, by one statement that is a transaction of
/// its own. A small commit takes less time so: each statement answers, and each answer wakes a
/// thread. Of many rows it takes longer, since a trigger is slower than an insertion.
///
/// `last` is the new head, in the first row of each part.
pub(super) const SMALL: [&str; 3] = [
    "CREATE TEMP VIEW casty_append AS SELECT 0 AS kind, 0 AS shard, 0 AS position, 0 AS epoch,
     '' AS entity, 0 AS seq, 0 AS at, x'' AS body, 0 AS last",
    "CREATE TEMP TRIGGER casty_append_head INSTEAD OF INSERT ON casty_append
     WHEN NEW.last IS NOT NULL BEGIN
         UPDATE casty_shard SET head = NEW.last
         WHERE kind = NEW.kind AND shard = NEW.shard AND epoch = NEW.epoch
           AND head = NEW.position - 1;
         SELECT RAISE(ABORT, 'refused') WHERE changes() = 0;
     END",
    "CREATE TEMP TRIGGER casty_append_record INSTEAD OF INSERT ON casty_append BEGIN
         INSERT INTO casty_record (kind, shard, position, epoch, entity, seq, at, body)
         VALUES (NEW.kind, NEW.shard, NEW.position, NEW.epoch, NEW.entity, NEW.seq, NEW.at,
                 NEW.body);
     END",
];

/// How many rows a small commit has at most.
const SMALL_MAX: usize = 8;

/// The statement for each number of rows.
static SMALL_INSERTS: LazyLock<[Arc<str>; SMALL_MAX]> = LazyLock::new(|| {
    std::array::from_fn(|more| {
        let rows = ["(?,?,?,?,?,?,?,?,?)"; SMALL_MAX];
        let rows = rows[..=more].join(",");
        let insert = "INSERT INTO temp.casty_append \
                      (kind, shard, position, epoch, entity, seq, at, body, last) VALUES";
        format!("{insert} {rows}").into()
    })
});

/// Appends the parts in one transaction, in one call of the driver where that is possible, and what
/// waits to be written beside them.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    parts: Vec<Part>,
    asides: &Asides,
) -> Result<Vec<Appended>, Failed> {
    let heads = Heads::of(&parts);
    if heads.count < parts.len() || parts.is_empty() {
        return append_some(connection, parts).await;
    }
    let rows = rows(&parts);
    let taken = asides.take();
    let inserted = match small(&parts, &rows) {
        Some(insert) if taken.is_empty() => insert_small(connection, &parts, insert).await,
        _ => insert(connection, &rows, Some(heads), &taken).await,
    };
    match inserted {
        Ok(()) => {
            aside::answer(taken, &Ok(()));
            Ok(vec![Appended::Written; parts.len()])
        }
        Err(NotInserted::Refused) => {
            asides.put_back(taken);
            append_some(connection, parts).await
        }
        Err(NotInserted::Aside(index, error)) => {
            asides.fail(taken, index, &connection::journal_error(&error));
            if !connection::take_back(connection, &error).await {
                return Err(Failed::Before(error));
            }
            append_some(connection, parts).await
        }
        Err(NotInserted::Failed(why)) => {
            match &why {
                Failed::Before(_) => asides.put_back(taken),
                Failed::AtCommit(error) => {
                    aside::answer(taken, &Err(connection::journal_error(error)));
                }
            }
            Err(why)
        }
    }
}

/// The statement that writes the rows alone, if they are few.
fn small(parts: &[Part], rows: &[RecordRow<'_>]) -> Option<&'static Arc<str>> {
    let insert = SMALL_INSERTS.get(rows.len().checked_sub(1)?)?;
    let mut logs = BTreeSet::new();
    let is_plain = parts.iter().all(|part| {
        let mut records = part.records.iter();
        logs.insert((part.log.kind, part.log.shard))
            && records.all(|record| record.epoch == part.epoch)
    });
    is_plain.then_some(insert)
}

async fn insert_small(
    connection: &mut SqliteConnection,
    parts: &[Part],
    insert: &Arc<str>,
) -> Result<(), NotInserted> {
    let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
    for Part { log, records, .. } in parts {
        let mut last = records.last().map(|last| number_to_sql(last.position));
        for record in records {
            query = bind(query, (*log, record)).bind(last.take());
        }
    }
    let inserted = run(connection, query, 1).await;
    inserted.map(drop).map_err(|Unfinished { error, .. }| {
        // Of two triggers either may be the first. What is refused may also exist.
        if connection::is_constraint(&error) {
            NotInserted::Refused
        } else if connection::is_busy(&error) {
            NotInserted::Failed(Failed::Before(error))
        } else {
            NotInserted::Failed(Failed::AtCommit(error))
        }
    })
}

/// The same where parts are refused: the others are written. Nothing is written beside them.
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
        connection::roll_back(connection).await.map_err(before)?;
        return Ok(appended);
    }
    match insert(connection, &rows(&written), None, &[]).await {
        Ok(()) => Ok(appended),
        Err(NotInserted::Failed(why)) => Err(why),
        Err(NotInserted::Refused) => Err(Failed::Before(Error::RowNotFound)),
        Err(NotInserted::Aside(_, error)) => Err(Failed::Before(error)),
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
    /// Not all heads could be advanced. The transaction is over.
    Refused,
    /// What was to be written beside the records could not be: the one with this index. The
    /// transaction may be open.
    Aside(usize, Error),
    Failed(Failed),
}

/// Inserts records, writes what is beside them, and ends the transaction. With `heads`, it also
/// begins the transaction, and advances all of them.
async fn insert(
    connection: &mut SqliteConnection,
    mut rows: &[RecordRow<'_>],
    mut heads: Option<Heads>,
    asides: &[Aside],
) -> Result<(), NotInserted> {
    while let Some((inserts, some, left)) = next_rows(rows) {
        rows = left;
        let ends = rows.is_empty() && asides.is_empty();
        let (text, statements) = match (heads.is_some(), ends) {
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
        if let Err(unfinished) = run(connection, query, statements).await {
            return Err(not_inserted(connection, unfinished, before).await);
        }
    }
    if asides.is_empty() {
        return Ok(());
    }
    let written = aside::write_all(connection, asides).await;
    written.map_err(|(index, error)| NotInserted::Aside(index, error))?;
    let committed = run(connection, sqlx::query("COMMIT"), 1).await;
    let failed = |unfinished: Unfinished| Failed::AtCommit(unfinished.error);
    committed
        .map(drop)
        .map_err(|unfinished| NotInserted::Failed(failed(unfinished)))
}

/// `before`: how many statements come before the one that inserts.
async fn not_inserted(
    connection: &mut SqliteConnection,
    Unfinished { ended, error }: Unfinished,
    before: usize,
) -> NotInserted {
    let kind = error.as_database_error().map(DatabaseError::kind);
    if ended + 1 == before && matches!(kind, Some(ErrorKind::NotNullViolation)) {
        return match connection::roll_back(connection).await {
            Ok(()) => NotInserted::Refused,
            Err(error) => NotInserted::Failed(Failed::Before(error)),
        };
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
