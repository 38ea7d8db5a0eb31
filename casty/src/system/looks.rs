//! What a program can see of the cluster from a node, without a type: what
//! [`Admin`](crate::admin::Admin) sees from outside.

use super::{ActorSystem, Entities};
use crate::{
    admin::{RecordPages, ShardHomes, view::shard_homes},
    cluster::reading::{
        overview::{self, Overview},
        reader::{EntityReader, HistoryReader},
        record::{self, RecorderReport},
        why::{self, Why},
    },
    error::StoredError,
    id::EntityId,
    recorder::Recording,
};

impl ActorSystem {
    /// What the members that serve count and see now, as
    /// [`Admin::overview`](crate::admin::Admin::overview) gives it.
    ///
    /// # Errors
    /// [`StoredError::Unreachable`] while this node knows no cluster. A member that does not answer
    /// is no error.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn overview(&self) -> Result<Overview, StoredError> {
        overview::overview(&*self.nodes()).await
    }

    /// Why an entity does not answer, as [`Admin::why`](crate::admin::Admin::why) gives it. `kind`
    /// is the wire name of its type.
    ///
    /// # Errors
    /// [`StoredError::UnknownEntity`] where no member hosts the type, and
    /// [`StoredError::Unreachable`] where the owner of the entity does not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn why(&self, kind: &str, id: impl AsRef<str>) -> Result<Why, StoredError> {
        why::why(&*self.nodes(), kind, &EntityId::new(id)).await
    }

    /// Has an entity recorded, as [`Admin::record`](crate::admin::Admin::record) does. `kind` is
    /// the wire name of its type.
    ///
    /// # Errors
    /// [`StoredError::UnknownEntity`] where no member hosts the type, and
    /// [`StoredError::Unreachable`] where no node owns the entity's shard, or its owner does not
    /// answer.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entity may be recorded all the same.
    pub async fn record(
        &self,
        kind: &str,
        id: impl AsRef<str>,
        messages: Option<u32>,
    ) -> Result<RecorderReport, StoredError> {
        record::begin(&*self.nodes(), kind, &EntityId::new(id), messages).await
    }

    /// Has an entity recorded no more, as
    /// [`Admin::stop_recording`](crate::admin::Admin::stop_recording) does.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// As [`record`](Self::record).
    pub async fn stop_recording(
        &self,
        kind: &str,
        id: impl AsRef<str>,
    ) -> Result<Option<RecorderReport>, StoredError> {
        record::end(&*self.nodes(), kind, &EntityId::new(id)).await
    }

    /// What is recorded of an entity, as [`Admin::recording`](crate::admin::Admin::recording) gives
    /// it.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn recording(
        &self,
        kind: &str,
        id: impl AsRef<str>,
    ) -> Result<Option<Recording>, StoredError> {
        record::tell(&*self.nodes(), kind, &EntityId::new(id), false).await
    }

    /// What is recorded and stored of an entity, as
    /// [`Admin::stored_recording`](crate::admin::Admin::stored_recording) gives it.
    ///
    /// # Errors
    /// As [`record`](Self::record); [`StoredError::NotStored`] if its type is not stored, and
    /// [`StoredError::Unusable`] if more than 128 MiB of records are.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stored_recording(
        &self,
        kind: &str,
        id: impl AsRef<str>,
    ) -> Result<Recording, StoredError> {
        record::tell_stored(&*self.nodes(), kind, &EntityId::new(id)).await
    }

    /// What was recorded of an entity when it failed last, as
    /// [`Admin::failed_recording`](crate::admin::Admin::failed_recording) gives it.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed_recording(
        &self,
        kind: &str,
        id: impl AsRef<str>,
    ) -> Result<Option<Recording>, StoredError> {
        record::tell(&*self.nodes(), kind, &EntityId::new(id), true).await
    }

    /// The home of each shard, as [`Admin::shards`](crate::admin::Admin::shards) gives it, by the
    /// cluster map that this node knows. `None` while it knows none, and in a system without a
    /// network.
    pub fn shard_homes(&self) -> Option<ShardHomes> {
        let map = self.0.node.as_ref()?.map.get()?;
        Some(shard_homes(&map))
    }

    /// How many stored shards have fewer copies in sync than there could be on the members that are
    /// Up, by the cluster map that this node knows. While there are some, a rolling restart should
    /// wait.
    pub fn lacking_copies(&self) -> usize {
        let map = self.0.node.as_ref().and_then(|node| node.map.get());
        map.map_or(0, |map| map.lacking_copies())
    }

    /// The entities of a type by its wire name, for programs that do not know the type: see
    /// [`entities`](Self::entities). A name that no member knows is an error of the first page.
    pub fn entities_of(&self, kind: impl Into<String>) -> Entities<'static> {
        let kind = kind.into();
        let regions = self.0.regions.iter();
        let mut known = regions.filter(|region| region.name() == kind);
        let shards = known.next().map(|region| region.shards().get());
        let reader = EntityReader::new(kind, shards);
        Entities::new(self.nodes(), self.node_id().clone(), reader)
    }

    /// What is stored of an entity, for programs that do not know its type, as
    /// [`Admin::history`](crate::admin::Admin::history) gives it. `kind` is the wire name of the
    /// type.
    pub fn records_of(&self, kind: impl Into<String>, id: impl AsRef<str>) -> RecordPages<'static> {
        let reader = HistoryReader::new(kind.into(), EntityId::new(id));
        RecordPages::new(self.nodes(), reader)
    }
}
