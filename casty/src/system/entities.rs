//! The entities of a type, listed.

use std::fmt;

use serde::Serialize;

use crate::{
    cluster::{
        peers::reads::{Newest, Which},
        reading::{
            answer::LIMIT_MAX,
            nodes::Nodes,
            reader::{EntityReader, FoundEntity},
        },
    },
    error::StoredError,
    id::{EntityId, NodeId, ShardId},
};

/// The entities of a type, in pages: those that are active on some node of the cluster, and, of a
/// stored type, those that are stored. Memory is bounded by the size of a page.
///
/// An entity that is there as long as the listing takes is listed exactly once: if it is
/// stored, or stays active on one node. Pages come in no particular order; within one, the
/// entities of a shard stand together, in the order of their ids.
///
/// ```standalone_crate
/// use casty::{listing::ListedEntity, prelude::*};
///
/// #[derive(Default)]
/// struct Lamp {
///     on: bool,
/// }
///
/// #[entity(name = "docs/listed-lamp")]
/// impl Lamp {
///     #[message]
///     fn switch(&mut self) -> bool {
///         self.on = !self.on;
///         self.on
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("house").start().await?;
/// node.ready().await?;
/// for room in ["hall", "kitchen", "cellar"] {
///     node.entity::<Lamp>(room).switch().await?;
/// }
/// let mut lamps = node.entities::<Lamp>().active().starting_with("k");
/// let mut found = Vec::new();
/// while let Some(page) = lamps.next_page().await? {
///     found.extend(page.into_iter().map(|lamp: ListedEntity| lamp.id.to_string()));
/// }
/// assert_eq!(found, ["kitchen"]);
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is listed before the first page is asked for"]
pub struct Entities<'a> {
    nodes: Box<dyn Nodes + 'a>,
    /// The name of this process, for entities that are active in it.
    here: NodeId,
    reader: EntityReader,
}

impl fmt::Debug for Entities<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entities").finish_non_exhaustive()
    }
}

impl<'a> Entities<'a> {
    pub(crate) fn new(nodes: Box<dyn Nodes + 'a>, here: NodeId, reader: EntityReader) -> Self {
        Self {
            nodes,
            here,
            reader,
        }
    }

    /// Only those that are active. This does not read the store, so
    /// [`stored`](ListedEntity::stored) is `None` for all of them.
    pub fn active(mut self) -> Self {
        self.reader.filter.which = Which::Active;
        self
    }

    /// Only those that are stored, whether they are active or not.
    pub fn stored(mut self) -> Self {
        self.reader.filter.which = Which::Stored;
        self
    }

    /// Only those whose ids begin with this text. The store is not read for the others.
    pub fn starting_with(mut self, prefix: impl Into<String>) -> Self {
        self.reader.filter.prefix = prefix.into();
        self
    }

    /// How many entities a page has at most: from 1 to 512, which is the default. A page may have
    /// fewer, also if it is not the last one.
    pub fn page_size(mut self, entities: usize) -> Self {
        self.reader.limit = entities.clamp(1, LIMIT_MAX);
        self
    }

    /// The next page, which is not empty. `None` after the last one.
    ///
    /// # Errors
    /// [`StoredError`]. The next call asks for the same page again.
    ///
    /// # Cancel safety
    /// Safe. The next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ListedEntity>>, StoredError> {
        let page = self.reader.next_page(&*self.nodes).await?;
        let listed = |found: FoundEntity| {
            let node = found.node.unwrap_or_else(|| self.here.clone());
            ListedEntity {
                id: found.id,
                shard: found.shard,
                active_on: found.active.then_some(node),
                stored: found.stored.map(LastRecord::from),
            }
        };
        Ok(page.map(|page| page.into_iter().map(listed).collect()))
    }
}

/// An entity in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedEntity {
    /// Its id.
    pub id: EntityId,
    /// Its shard.
    pub shard: ShardId,
    /// The node on which it is active. `None`: on none.
    pub active_on: Option<NodeId>,
    /// What is stored of it. `None`: nothing.
    pub stored: Option<LastRecord>,
}

/// The last record of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LastRecord {
    /// Its number among the records of the entity, which begin with 1.
    pub seq: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub at: u64,
}

impl From<Newest> for LastRecord {
    fn from(Newest { seq, at }: Newest) -> Self {
        Self { seq, at }
    }
}
