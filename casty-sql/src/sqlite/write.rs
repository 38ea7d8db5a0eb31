//! Claims, snapshots, and what is forgotten.

use std::{num::NonZeroU32, sync::Arc};

use casty::{
    id::{EntityId, Epoch},
    persistence::{JournalError, Snapshot},
};
use sqlx::{Error, Row, SqliteConnection};

use super::{
    LogKey,
    run::{Unfinished, run},
};
use crate::{
    kinds::other_shards,
    values::{epoch_from_sql, epoch_to_sql, number_from_sql, number_to_sql},
};

/// The claim that stands, if it is not the one that was asked for.
pub(super) struct Stands {
    pub(super) epoch: Epoch,
    pub(super) owner: String,
}

/// Claims a log. A claim that is repeated writes nothing, so it works on a full disk.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    LogKey { kind, shard }: LogKey,
    epoch: Epoch,
    owner: &str,
) -> Result<Result<u64, Stands>, Error> {
    let standing = sqlx::query(
        "BEGIN IMMEDIATE;
         SELECT epoch, owner, head FROM casty_shard WHERE kind = ?1 AND shard = ?2",
    )
    .bind(kind)
    .bind(shard);
    let rows = run(connection, standing, 2).await?;
    let mut head = 0;
    if let Some(row) = rows.first() {
        let stands = Stands {
            epoch: epoch_from_sql(row.try_get(0)?),
            owner: row.try_get(1)?,
        };
        head = number_from_sql(row.try_get(2)?);
        let is_repeated = stands.epoch == epoch && stands.owner == owner;
        if is_repeated || stands.epoch >= epoch {
            run(connection, sqlx::query("ROLLBACK"), 1).await?;
            return Ok(if is_repeated { Ok(head) } else { Err(stands) });
        }
    }
    let claim = sqlx::query(
        "INSERT INTO casty_shard (kind, shard, epoch, owner, head) VALUES (?1, ?2, ?3, ?4, 0)
         ON CONFLICT (kind, shard) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner;
         COMMIT",
    )
    .bind(kind)
    .bind(shard)
    .bind(epoch_to_sql(epoch))
    .bind(owner.to_owned());
    run(connection, claim, 2).await?;
    Ok(Ok(head))
}

/// Within a transaction that is open.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    (LogKey { kind, shard }, epoch, entity): (LogKey, Epoch, &EntityId),
    snapshot: &Snapshot,
) -> Result<(), Unfinished> {
    let save = sqlx::query(
        "INSERT INTO casty_state (kind, shard, entity, seq, at, body)
         SELECT ?1, ?2, ?4, ?5, ?6, ?7 FROM casty_shard
         WHERE kind = ?1 AND shard = ?2 AND epoch = ?3
           AND EXISTS (SELECT 1 FROM casty_record
                       WHERE kind = ?1 AND shard = ?2 AND entity = ?4 AND seq = ?5
                         AND length(body) > 0)
         ON CONFLICT (kind, shard, entity)
         DO UPDATE SET seq = excluded.seq, at = excluded.at, body = excluded.body
         WHERE casty_state.seq < excluded.seq",
    )
    .bind(kind)
    .bind(shard)
    .bind(epoch_to_sql(epoch))
    .bind(entity.as_str().to_owned())
    .bind(number_to_sql(snapshot.seq))
    .bind(number_to_sql(snapshot.at))
    .bind(snapshot.body.to_vec());
    run(connection, save, 1).await.map(drop)
}

/// Within a transaction that is open.
///
/// What is forgotten is always all up to a number. So the search for records that are not forgotten
/// yet ends at the first one that is.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    (LogKey { kind, shard }, epoch, entity): (LogKey, Epoch, &EntityId),
    through: u64,
    snapshot: bool,
) -> Result<(), Unfinished> {
    let forget = sqlx::query(
        "UPDATE casty_record SET body = x''
         WHERE kind = ?1 AND shard = ?2 AND entity = ?4 AND seq <= ?5
           AND seq > coalesce((SELECT seq FROM casty_record
                               WHERE kind = ?1 AND shard = ?2 AND entity = ?4 AND seq <= ?5
                                 AND length(body) = 0 ORDER BY seq DESC LIMIT 1), 0)
           AND EXISTS (SELECT 1 FROM casty_shard WHERE kind = ?1 AND shard = ?2 AND epoch = ?3);
         DELETE FROM casty_state
         WHERE kind = ?1 AND shard = ?2 AND entity = ?4 AND seq <= ?5 AND ?6
           AND EXISTS (SELECT 1 FROM casty_shard WHERE kind = ?1 AND shard = ?2 AND epoch = ?3)",
    )
    .bind(kind)
    .bind(shard)
    .bind(epoch_to_sql(epoch))
    .bind(entity.as_str().to_owned())
    .bind(number_to_sql(through))
    .bind(snapshot);
    run(connection, forget, 2).await.map(drop)
}

/// The numbers of kinds. Those that are new are stored.
pub(super) async fn open_kinds(
    connection: &mut SqliteConnection,
    kinds: &[(Arc<str>, NonZeroU32)],
) -> Result<Result<Vec<i64>, JournalError>, Error> {
    run(connection, sqlx::query("BEGIN IMMEDIATE"), 1).await?;
    let mut numbers = Vec::new();
    for (name, shards) in kinds {
        let open = sqlx::query(
            "INSERT INTO casty_kind (name, shards) VALUES (?1, ?2) ON CONFLICT DO NOTHING;
             SELECT kind, shards FROM casty_kind WHERE name = ?1",
        )
        .bind(name.to_string())
        .bind(shards.get());
        let rows = run(connection, open, 2).await?;
        let row = rows.first().ok_or(Error::RowNotFound)?;
        let stored: i64 = row.try_get(1)?;
        if stored != i64::from(shards.get()) {
            run(connection, sqlx::query("ROLLBACK"), 1).await?;
            return Ok(Err(other_shards(name, stored, *shards)));
        }
        numbers.push(row.try_get(0)?);
    }
    run(connection, sqlx::query("COMMIT"), 1).await?;
    Ok(Ok(numbers))
}
