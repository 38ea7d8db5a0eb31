//! The statements, each with the prefix of the tables' names.

use std::sync::Arc;

/// Locks the rows of the shards whose claim and head are as the batch expects, advances their
/// heads, and inserts their records. One statement, so one round trip and no open transaction.
///
/// The rows are locked in the order of their keys, so two batches never wait for each other. When
/// the lock was waited for, READ COMMITTED looks at the row anew, so a claim in between is seen.
///
/// A claim has a number, which grows when a claim under the same epoch is repeated after an append
/// whose outcome is not known. Without it a statement that was still on its way when its connection
/// was lost could be written after the claim has found that it was not.
const APPEND: &str = "\
WITH parts AS MATERIALIZED (
    SELECT part.number, shard.kind, shard.shard, part.epoch, part.last
    FROM casty_shard AS shard
    JOIN unnest($1::int4[], $2::int4[], $3::int4[], $4::int8[], $5::int8[], $6::int8[], $7::int8[])
         AS part (number, kind, shard, epoch, claim, before, last)
      ON shard.kind = part.kind AND shard.shard = part.shard
    WHERE shard.epoch = part.epoch AND shard.head = part.before
      AND (part.claim IS NULL OR shard.claim = part.claim)
    ORDER BY shard.kind, shard.shard FOR UPDATE OF shard),
advanced AS (
    UPDATE casty_shard AS shard SET head = parts.last FROM parts
    WHERE shard.kind = parts.kind AND shard.shard = parts.shard
    RETURNING parts.number, parts.kind, parts.shard, parts.epoch),
inserted AS (
    INSERT INTO casty_record (kind, shard, position, epoch, entity, seq, at, body)
    SELECT advanced.kind, advanced.shard, record.position, advanced.epoch, record.entity,
           record.seq, record.at, record.body
    FROM unnest($8::int4[], $9::int8[], $10::text[], $11::int8[], $12::int8[], $13::bytea[])
         AS record (number, position, entity, seq, at, body)
    JOIN advanced ON advanced.number = record.number)
SELECT number FROM advanced";

/// No row: another claim stands.
const CLAIM: &str = "\
INSERT INTO casty_shard (kind, shard, epoch, owner, head, claim) VALUES ($1, $2, $3, $4, 0, 1)
ON CONFLICT (kind, shard) DO UPDATE
SET epoch = excluded.epoch, owner = excluded.owner, claim = casty_shard.claim + $5
WHERE casty_shard.epoch < excluded.epoch
   OR (casty_shard.epoch = excluded.epoch AND casty_shard.owner = excluded.owner)
RETURNING head, claim";

const STANDING_CLAIM: &str = "SELECT epoch, owner FROM casty_shard WHERE kind = $1 AND shard = $2";

/// Holds the last record that the snapshot contains until it is stored: what forgets the record
/// waits for that, and then finds the snapshot.
const SAVE: &str = "\
WITH claimed AS MATERIALIZED (
    SELECT 1 FROM casty_shard WHERE kind = $1 AND shard = $2 AND epoch = $3 FOR SHARE),
contained AS MATERIALIZED (
    SELECT 1 FROM casty_record
    WHERE kind = $1 AND shard = $2 AND entity = $4 AND seq = $5 AND length(body) > 0
      AND EXISTS (SELECT 1 FROM claimed) FOR SHARE)
INSERT INTO casty_state (kind, shard, entity, seq, at, body)
SELECT $1::int4, $2::int4, $4::text, $5::int8, $6::int8, $7::bytea FROM contained
ON CONFLICT (kind, shard, entity)
DO UPDATE SET seq = excluded.seq, at = excluded.at, body = excluded.body
WHERE casty_state.seq < excluded.seq";

/// What is forgotten is always all up to a number. So the search for records that are not forgotten
/// yet ends at the first one that is.
const FORGET: &str = "\
WITH claimed AS MATERIALIZED (
    SELECT 1 FROM casty_shard WHERE kind = $1 AND shard = $2 AND epoch = $3 FOR SHARE)
UPDATE casty_record SET body = ''
WHERE kind = $1 AND shard = $2 AND entity = $4 AND seq <= $5
  AND seq > coalesce((SELECT seq FROM casty_record
                      WHERE kind = $1 AND shard = $2 AND entity = $4 AND seq <= $5
                        AND length(body) = 0 ORDER BY seq DESC LIMIT 1), 0)
  AND EXISTS (SELECT 1 FROM claimed)";

/// A statement of its own: it sees a snapshot that was saved while [`FORGET`] waited.
const FORGET_SNAPSHOT: &str = "\
WITH claimed AS MATERIALIZED (
    SELECT 1 FROM casty_shard WHERE kind = $1 AND shard = $2 AND epoch = $3 FOR SHARE)
DELETE FROM casty_state
WHERE kind = $1 AND shard = $2 AND entity = $4 AND seq <= $5
  AND EXISTS (SELECT 1 FROM claimed)";

const LATEST_EPOCH: &str = "SELECT max(epoch) FROM casty_shard";

const NEW_KIND: &str =
    "INSERT INTO casty_kind (name, shards) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

const KIND: &str = "SELECT kind, shards FROM casty_kind WHERE name = $1";

/// The server adds up the bytes, so that a page of large records is not sent only to be thrown
/// away.
const ENTITY: &str = "\
SELECT position, epoch, seq, at, body FROM (
    SELECT page.*, sum(length(body)) OVER read AS bytes, row_number() OVER read AS number
    FROM (SELECT position, epoch, seq, at, body FROM casty_record
          WHERE kind = $1 AND shard = $2 AND entity = $3 AND seq > $4
          ORDER BY seq LIMIT $5) AS page
    WINDOW read AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS page
WHERE bytes <= $6 OR number = 1 ORDER BY seq";

const LOG: &str = "\
SELECT position, epoch, seq, at, body, entity FROM (
    SELECT page.*, sum(length(body)) OVER read AS bytes, row_number() OVER read AS number
    FROM (SELECT position, epoch, seq, at, body, entity FROM casty_record
          WHERE kind = $1 AND shard = $2 AND position > $3
          ORDER BY position LIMIT $4) AS page
    WINDOW read AS (ORDER BY position ROWS UNBOUNDED PRECEDING)) AS page
WHERE bytes <= $5 OR number = 1 ORDER BY position";

const SNAPSHOT: &str =
    "SELECT seq, at, body FROM casty_state WHERE kind = $1 AND shard = $2 AND entity = $3";

/// From entity to entity by the index: the cost depends on the entities, not on their records. An
/// entity whose last record is forgotten has none that is not.
const ENTITIES: &str = "\
WITH RECURSIVE found (entity) AS (
    (SELECT entity FROM casty_record
     WHERE kind = $1 AND shard = $2 AND entity > $3 ORDER BY entity LIMIT 1)
    UNION ALL
    SELECT (SELECT entity FROM casty_record AS record
            WHERE record.kind = $1 AND record.shard = $2 AND record.entity > found.entity
            ORDER BY record.entity LIMIT 1)
    FROM found WHERE found.entity IS NOT NULL)
SELECT found.entity, last.seq, last.at
FROM found CROSS JOIN LATERAL (
    SELECT seq, at, body FROM casty_record AS record
    WHERE record.kind = $1 AND record.shard = $2 AND record.entity = found.entity
    ORDER BY record.seq DESC LIMIT 1) AS last
WHERE length(last.body) > 0
   OR EXISTS (SELECT 1 FROM casty_state AS state
              WHERE state.kind = $1 AND state.shard = $2 AND state.entity = found.entity)
LIMIT $4";

pub(super) struct Statements {
    pub(super) append: Arc<str>,
    pub(super) latest_epoch: Arc<str>,
    pub(super) claim: Arc<str>,
    pub(super) standing_claim: Arc<str>,
    pub(super) save: Arc<str>,
    pub(super) forget: Arc<str>,
    pub(super) forget_snapshot: Arc<str>,
    pub(super) new_kind: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) entity: Arc<str>,
    pub(super) log: Arc<str>,
    pub(super) snapshot: Arc<str>,
    pub(super) entities: Arc<str>,
}

impl Statements {
    pub(super) fn new(prefix: &str) -> Self {
        let with_prefix = |text: &str| Arc::from(text.replace("casty_", prefix));
        Self {
            append: with_prefix(APPEND),
            latest_epoch: with_prefix(LATEST_EPOCH),
            claim: with_prefix(CLAIM),
            standing_claim: with_prefix(STANDING_CLAIM),
            save: with_prefix(SAVE),
            forget: with_prefix(FORGET),
            forget_snapshot: with_prefix(FORGET_SNAPSHOT),
            new_kind: with_prefix(NEW_KIND),
            kind: with_prefix(KIND),
            entity: with_prefix(ENTITY),
            log: with_prefix(LOG),
            snapshot: with_prefix(SNAPSHOT),
            entities: with_prefix(ENTITIES),
        }
    }
}
