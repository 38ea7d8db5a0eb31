//! What the tests of the suite have in common.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    id::{EntityId, Epoch},
    persistence::{
        Append, Appended, ClaimError, Journal, Log, Page, Record, Snapshot, StoredEntity,
    },
};

/// The shards of each type of the suite.
const SHARDS: NonZeroU32 = NonZeroU32::new(64).expect("not zero");

/// Returns an error with a text, unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

/// Returns an error unless two values are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($text:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{}: {left:?} instead of {right:?}", format_args!($($text)+)));
        }
    }};
}
pub(super) use ensure_eq;

/// What a test found: an error says what is wrong.
pub(super) type Outcome<T = ()> = Result<T, String>;

/// Makes connections to one store.
pub(super) struct Fixture {
    pub(super) connect: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Journal>> + Send + Sync>,
}

impl Fixture {
    pub(super) async fn connect(&self) -> Connection {
        Connection((self.connect)().await)
    }

    /// A connection, and a type that it is open for.
    pub(super) async fn open(&self, kind: &str) -> Outcome<Connection> {
        let connection = self.connect().await;
        connection.open(kind).await?;
        Ok(connection)
    }
}

/// The log of one shard.
pub(super) fn log(kind: &str, shard: u32) -> Log {
    Log {
        kind: kind.into(),
        shard,
    }
}

/// A record of a log.
pub(super) fn record(position: u64, epoch: u64, entity: &str, seq: u64, body: &str) -> Record {
    Record {
        position,
        epoch: Epoch(epoch),
        entity: EntityId::new(entity),
        seq,
        at: 1_700_000_000_000 + position,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// Records of one entity that follow each other, the first with the number and the position
/// `from`.
pub(super) fn records(
    from: u64,
    through: u64,
    epoch: u64,
    entity: &str,
    body: &str,
) -> Vec<Record> {
    let made = (from..=through).map(|number| record(number, epoch, entity, number, body));
    made.collect()
}

/// A part of a batch.
pub(super) fn part(log: &Log, epoch: u64, records: Vec<Record>) -> Append {
    Append {
        log: log.clone(),
        epoch: Epoch(epoch),
        records,
    }
}

/// A connection to the store, with what tests do all the time. Errors of the store are errors of
/// the test.
#[derive(Clone)]
pub(super) struct Connection(pub(super) Arc<dyn Journal>);

impl Connection {
    pub(super) async fn open(&self, kind: &str) -> Outcome {
        let opened = self.0.open(&[(kind.into(), SHARDS)]).await;
        opened.map_err(|error| format!("open: {error}"))
    }

    /// Claims a log. The claim has to succeed.
    pub(super) async fn claim(&self, log: &Log, epoch: u64, owner: &str) -> Outcome<u64> {
        let claimed = self.0.claim(log, Epoch(epoch), owner).await;
        claimed.map_err(|error| format!("a claim of {log} under epoch {epoch}: {error}"))
    }

    /// The latest epoch of all claims.
    pub(super) async fn latest_epoch(&self) -> Outcome<u64> {
        let latest = self.0.latest_epoch().await;
        let latest = latest.map_err(|error| format!("the latest epoch: {error}"))?;
        Ok(latest.0)
    }

    /// A claim that has to be refused, since another one stands.
    pub(super) async fn refused_claim(
        &self,
        log: &Log,
        (epoch, owner): (u64, &str),
        (stands, holder): (u64, &str),
    ) -> Outcome {
        let fenced = ClaimError::Fenced {
            epoch: Epoch(stands),
            owner: holder.to_owned(),
        };
        let claimed = self.0.claim(log, Epoch(epoch), owner).await;
        ensure_eq!(
            claimed,
            Err(fenced),
            "a claim under epoch {epoch} by `{owner}`, while epoch {stands} of `{holder}` stands"
        );
        Ok(())
    }

    /// Appends a batch, with one answer for each part.
    pub(super) async fn batch(&self, parts: Vec<Append>) -> Outcome<Vec<Appended>> {
        let count = parts.len();
        let appended = self.0.append(parts).await;
        let appended = appended.map_err(|error| format!("an append: {error}"))?;
        ensure_eq!(appended.len(), count, "the number of answers to an append");
        Ok(appended)
    }

    pub(super) async fn append(
        &self,
        log: &Log,
        epoch: u64,
        records: Vec<Record>,
    ) -> Outcome<Appended> {
        let appended = self.batch(vec![part(log, epoch, records)]).await?;
        Ok(appended[0])
    }

    /// Appends records, which have to be written.
    pub(super) async fn write(&self, log: &Log, epoch: u64, records: Vec<Record>) -> Outcome {
        let first = records.first().map_or(0, |record| record.position);
        let appended = self.append(log, epoch, records).await?;
        ensure_eq!(
            appended,
            Appended::Written,
            "an append at position {first} under epoch {epoch}, the one of the claim"
        );
        Ok(())
    }

    pub(super) async fn page_of_log(
        &self,
        log: &Log,
        after: u64,
        page: Page,
    ) -> Outcome<Vec<Record>> {
        let read = self.0.read_log(log, after, page).await;
        read.map_err(|error| format!("read_log: {error}"))
    }

    pub(super) async fn page_of_entity(
        &self,
        log: &Log,
        entity: &str,
        after: u64,
        page: Page,
    ) -> Outcome<Vec<Record>> {
        let entity = EntityId::new(entity);
        let read = self.0.read_entity(log, &entity, after, page).await;
        read.map_err(|error| format!("read_entity: {error}"))
    }

    /// All records of a log, page by page.
    pub(super) async fn all_of_log(&self, log: &Log) -> Outcome<Vec<Record>> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map_or(0, |record| record.position);
            let mut page = self.page_of_log(log, after, Page::default()).await?;
            if page.is_empty() {
                return Ok(all);
            }
            ensure!(
                page[0].position > after,
                "read_log gave position {} after position {after}",
                page[0].position
            );
            all.append(&mut page);
        }
    }

    /// All records of an entity, page by page.
    pub(super) async fn all_of_entity(&self, log: &Log, entity: &str) -> Outcome<Vec<Record>> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map_or(0, |record| record.seq);
            let mut page = self
                .page_of_entity(log, entity, after, Page::default())
                .await?;
            if page.is_empty() {
                return Ok(all);
            }
            ensure!(
                page[0].seq > after,
                "read_entity gave record {} after record {after}",
                page[0].seq
            );
            all.append(&mut page);
        }
    }

    pub(super) async fn save(
        &self,
        log: &Log,
        epoch: u64,
        entity: &str,
        snapshot: &Snapshot,
    ) -> Outcome {
        let entity = EntityId::new(entity);
        let saved = self
            .0
            .save(log, Epoch(epoch), &entity, snapshot.clone())
            .await;
        saved.map_err(|error| format!("save: {error}"))
    }

    pub(super) async fn load(&self, log: &Log, entity: &str) -> Outcome<Option<Snapshot>> {
        let loaded = self.0.load(log, &EntityId::new(entity)).await;
        loaded.map_err(|error| format!("load: {error}"))
    }

    pub(super) async fn forget(
        &self,
        log: &Log,
        epoch: u64,
        entity: &str,
        through: u64,
        snapshot: bool,
    ) -> Outcome {
        let entity = EntityId::new(entity);
        let forgotten = self
            .0
            .forget(log, Epoch(epoch), &entity, through, snapshot)
            .await;
        forgotten.map_err(|error| format!("forget: {error}"))
    }

    pub(super) async fn entities(
        &self,
        log: &Log,
        after: Option<&str>,
        limit: usize,
    ) -> Outcome<Vec<StoredEntity>> {
        let after = after.map(EntityId::new);
        let entities = self.0.entities(log, after.as_ref(), limit).await;
        entities.map_err(|error| format!("entities: {error}"))
    }
}

/// A snapshot.
pub(super) fn snapshot(seq: u64, body: &str) -> Snapshot {
    Snapshot {
        seq,
        at: 1_700_000_000_000 + seq,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}
