//! The same batches by hand, as short as the database allows: the same logs, entities and bytes, in
//! tables of the same form, which hold what the store held before.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use casty::persistence::{Append, Journal as _, Memory};
use rusqlite::{TransactionBehavior, params};
use sqlx::{Connection as _, PgConnection};

use super::{
    AnyError,
    others::{Clock, Took},
    recorded::Batches,
};

/// The statements of SQLite.
const HEAD: &str = "UPDATE shard SET head = ?2 WHERE shard = ?1";
const INSERT: &str = "INSERT INTO record VALUES (1, ?1, ?2, 1, ?3, ?4, ?5, ?6)";

/// As a store in memory has it.
pub(crate) async fn memory(batches: &Batches) -> Result<Took, AnyError> {
    let memory = Memory::new();
    for batch in batches.warm() {
        for Append { log, epoch, .. } in batch {
            memory.claim(log, *epoch, "bare").await?;
        }
        memory.append(batch.clone()).await?;
    }
    let measured = batches.measured().to_vec();
    let clock = Clock::start()?;
    for batch in measured {
        memory.append(batch).await?;
    }
    clock.stop()
}

/// With rusqlite, which links the same SQLite: a prepared statement for each record and each head.
pub(crate) fn sqlite(batches: &Batches) -> Result<Took, AnyError> {
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
    for batch in batches.warm() {
        write(&mut connection, batch)?;
    }
    let clock = Clock::start()?;
    for batch in batches.measured() {
        write(&mut connection, batch)?;
    }
    clock.stop()
}

fn write(connection: &mut rusqlite::Connection, batch: &[Append]) -> Result<(), AnyError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut head = transaction.prepare_cached(HEAD)?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for Append { log, records, .. } in batch {
            let last = records.last().map_or(0, |record| record.position);
            head.execute(params![log.shard, last.cast_signed()])?;
            for record in records {
                insert.execute(params![
                    log.shard,
                    record.position.cast_signed(),
                    record.entity.as_str(),
                    record.seq.cast_signed(),
                    record.at.cast_signed(),
                    &*record.body
                ])?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Each batch is one statement, by as many connections as casty had commits at once.
pub(crate) async fn postgres(url: &str, batches: &Batches) -> Result<Took, AnyError> {
    let mut connection = PgConnection::connect(url).await?;
    let tables = "DROP TABLE IF EXISTS bare; CREATE TABLE bare (kind integer NOT NULL,
        shard integer NOT NULL, position bigint NOT NULL, epoch bigint NOT NULL,
        seq bigint NOT NULL, at bigint NOT NULL, entity text COLLATE \"C\" NOT NULL,
        body bytea NOT NULL, PRIMARY KEY (kind, shard, position));
        CREATE UNIQUE INDEX bare_entity ON bare (kind, shard, entity, seq)";
    sqlx::raw_sql(tables).execute(&mut connection).await?;
    for batch in batches.warm() {
        insert(&mut connection, batch).await?;
    }
    let mut connections = vec![connection];
    while connections.len() < batches.lanes {
        let mut connection = PgConnection::connect(url).await?;
        // Prepares the statement.
        insert(&mut connection, &[]).await?;
        connections.push(connection);
    }
    let left = Mutex::new(batches.measured().iter().collect::<VecDeque<_>>());
    let clock = Clock::start()?;
    let loops = connections.into_iter().map(|mut connection| {
        let left = &left;
        async move {
            loop {
                let next = left
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some(batch) = next else {
                    return Ok::<(), AnyError>(());
                };
                insert(&mut connection, batch).await?;
            }
        }
    });
    futures_util::future::try_join_all(loops).await?;
    clock.stop()
}

async fn insert(connection: &mut PgConnection, batch: &[Append]) -> Result<(), AnyError> {
    let (mut shards, mut positions, mut entities) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seqs, mut times, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for Append { log, records, .. } in batch {
        for record in records {
            shards.push(log.shard.cast_signed());
            positions.push(record.position.cast_signed());
            entities.push(record.entity.as_str());
            seqs.push(record.seq.cast_signed());
            times.push(record.at.cast_signed());
            bodies.push(&*record.body);
        }
    }
    sqlx::query(
        "INSERT INTO bare (kind, shard, position, epoch, seq, at, entity, body)
         SELECT 1, shard, position, 1, seq, at, entity, body
         FROM unnest($1::int4[], $2::int8[], $3::text[], $4::int8[], $5::int8[], $6::bytea[])
              AS record (shard, position, entity, seq, at, body)",
    )
    .bind(shards)
    .bind(positions)
    .bind(entities)
    .bind(seqs)
    .bind(times)
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
