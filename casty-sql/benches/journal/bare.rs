//! The same batches by hand, as short as the database allows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::params;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use super::{AnyError, recorded::Batches};

/// Records of one log.
struct Part {
    shard: u32,
    /// The position of the first one.
    first: u64,
    count: u64,
}

/// The batches with positions.
fn parts(batches: &Batches) -> Vec<Vec<Part>> {
    let mut heads = BTreeMap::<u32, u64>::new();
    let mut part = |&(shard, count): &(u32, u64)| {
        let head = heads.entry(shard).or_default();
        let first = *head + 1;
        *head += count;
        Part {
            shard,
            first,
            count,
        }
    };
    let shapes = batches.shapes.iter();
    shapes
        .map(|shape| shape.iter().map(&mut part).collect())
        .collect()
}

fn entity(position: u64) -> String {
    format!("meter {}", position % 1_000)
}

/// With rusqlite, which links the same SQLite: a prepared statement for each record and each head.
pub(crate) fn sqlite(batches: &Batches) -> Result<Duration, AnyError> {
    let folder = tempfile::tempdir()?;
    let mut connection = rusqlite::Connection::open(folder.path().join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = memory;
         PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 1000;
         PRAGMA journal_size_limit = 67108864; PRAGMA secure_delete = fast;
         CREATE TABLE shard (shard INTEGER PRIMARY KEY, head INTEGER NOT NULL) STRICT;
         CREATE TABLE record (kind INTEGER NOT NULL, shard INTEGER NOT NULL,
             position INTEGER NOT NULL, epoch INTEGER NOT NULL, entity TEXT NOT NULL,
             seq INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
             PRIMARY KEY (kind, shard, position)) STRICT, WITHOUT ROWID;
         CREATE UNIQUE INDEX record_entity ON record (kind, shard, entity, seq);",
    )?;
    for shard in 0..64 {
        connection.execute("INSERT INTO shard VALUES (?1, 0)", params![shard])?;
    }
    let (parts, body) = (parts(batches), vec![7_u8; batches.body()]);
    let start = Instant::now();
    for batch in &parts {
        let immediate = rusqlite::TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(immediate)?;
        {
            let mut head =
                transaction.prepare_cached("UPDATE shard SET head = ?2 WHERE shard = ?1")?;
            let insert = "INSERT INTO record VALUES (1, ?1, ?2, 1, ?3, ?2, 1700000000000, ?4)";
            let mut insert = transaction.prepare_cached(insert)?;
            for part in batch {
                let last = part.first + part.count - 1;
                head.execute(params![part.shard, last.cast_signed()])?;
                for position in part.first..=last {
                    let entity = entity(position);
                    insert.execute(params![part.shard, position.cast_signed(), entity, body])?;
                }
            }
        }
        transaction.commit()?;
    }
    Ok(start.elapsed())
}

/// Each batch is one statement, by as many connections as casty had commits at once.
pub(crate) async fn postgres(url: &str, batches: &Batches) -> Result<Duration, AnyError> {
    let mut connection = PgConnection::connect(url).await?;
    let tables = "DROP TABLE IF EXISTS bare; CREATE TABLE bare (kind integer NOT NULL,
        shard integer NOT NULL, position bigint NOT NULL, epoch bigint NOT NULL,
        seq bigint NOT NULL, at bigint NOT NULL, entity text COLLATE \"C\" NOT NULL,
        body bytea NOT NULL, PRIMARY KEY (kind, shard, position));
        CREATE UNIQUE INDEX bare_entity ON bare (kind, shard, entity, seq)";
    sqlx::raw_sql(tables).execute(&mut connection).await?;
    let mut parts = parts(batches);
    parts.reverse();
    let parts = Arc::new(Mutex::new(parts));
    let body = vec![7_u8; batches.body()];
    let mut connections = vec![connection];
    while connections.len() < batches.lanes {
        connections.push(PgConnection::connect(url).await?);
    }
    let start = Instant::now();
    let loops = connections.into_iter().map(|mut connection| {
        let (parts, body) = (parts.clone(), body.clone());
        async move {
            loop {
                let next = parts.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(batch) = next else {
                    return Ok::<(), AnyError>(());
                };
                insert(&mut connection, &batch, &body).await?;
            }
        }
    });
    futures_util::future::try_join_all(loops).await?;
    Ok(start.elapsed())
}

async fn insert(
    connection: &mut PgConnection,
    batch: &[Part],
    body: &[u8],
) -> Result<(), AnyError> {
    let (mut shards, mut positions, mut entities) = (Vec::new(), Vec::new(), Vec::new());
    let mut bodies = Vec::new();
    for part in batch {
        for position in part.first..part.first + part.count {
            shards.push(part.shard.cast_signed());
            positions.push(position.cast_signed());
            entities.push(entity(position));
            bodies.push(body.to_vec());
        }
    }
    sqlx::query(
        "INSERT INTO bare (kind, shard, position, epoch, seq, at, entity, body)
         SELECT 1, shard, position, 1, position, 1700000000000, entity, body
         FROM unnest($1::int4[], $2::int8[], $3::text[], $4::bytea[])
              AS record (shard, position, entity, body)",
    )
    .bind(shards)
    .bind(positions)
    .bind(entities)
    .bind(bodies)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn drop_tables(url: &str, prefix: &str) -> Result<(), AnyError> {
    let mut connection = PgConnection::connect(url).await?;
    for table in ["schema", "kind", "shard", "record", "state"] {
        let statement = format!("DROP TABLE {prefix}{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}
