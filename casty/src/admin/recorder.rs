//! The flight recorder, for operators.

use super::{Admin, AdminError};
pub use crate::cluster::reading::record::RecorderReport;
use crate::{cluster::reading::record, id::EntityId, recorder::Recording};

impl Admin {
    /// Has the [flight recorder](crate::recorder) record an entity from its next message on, on the
    /// node where it lives now, and keep at least the last `messages`, 256 by default and 65,536 at
    /// most. `kind` is the wire name of its type. It goes on until
    /// [`stop_recording`](Self::stop_recording), or until the node ends; on a node that the entity
    /// moves to, it has to be asked for again.
    ///
    /// Returns what the recorder has now.
    ///
    /// ```standalone_crate
    /// use casty::{admin::Admin, prelude::*};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Counter { value: i64 }
    ///
    /// #[entity(migrate)]
    /// impl Counter {
    ///     #[message]
    ///     fn add(&mut self, amount: i64) -> i64 {
    ///         self.value += amount;
    ///         self.value
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let node = ActorSystem::builder("shop").node_id("node-1").start().await?;
    /// # node.wait_for(1).await?;
    /// # let alice = node.entity::<Counter>("alice");
    /// # alice.add(1).await?;
    /// let admin = Admin::connect("shop", [node.address()]).await?;
    /// admin.record("Counter", "alice", None).await?;
    /// alice.add(2).await?;
    /// let recording = admin.recording("Counter", "alice").await?.expect("a message is recorded");
    /// assert_eq!(recording.sections[0].turns[0].shown(), "add {amount: 2}");
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AdminError::Stored`] where no member hosts the type, no node owns the entity's shard, or
    /// its owner does not answer, and those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, the entity may be recorded all the same.
    pub async fn record(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
        messages: Option<u32>,
    ) -> Result<RecorderReport, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(record::begin(&nodes, &kind, &id, messages).await?)
    }

    /// Records an entity no more, and forgets what an operator had asked for. Returns what is still
    /// recorded, since the entity's type says so.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// As [`record`](Self::record).
    pub async fn stop_recording(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<Option<RecorderReport>, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(record::end(&nodes, &kind, &id).await?)
    }

    /// What the [flight recorder](crate::recorder) has of an entity now, the message included that
    /// is being handled. `None`: nothing.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn recording(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<Option<Recording>, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(record::tell(&nodes, &kind, &id, false).await?)
    }

    /// The same for a stored entity, with what is stored of it: all records, and the last snapshot.
    /// [`testkit::replay`](crate::recorder) reads them with the code of today, and compares the
    /// state that they make with the snapshot. Without `record`, and without messages since
    /// [`record`](Self::record), it has the journal alone.
    ///
    /// # Errors
    /// As [`record`](Self::record); [`AdminError::Stored`] also if the entity's type is not stored,
    /// or more than 128 MiB of records are.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stored_recording(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<Recording, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(record::tell_stored(&nodes, &kind, &id).await?)
    }

    /// What the [flight recorder](crate::recorder) had of an entity when it failed last, as far as
    /// the node where it lives remembers. `None`: nothing.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed_recording(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<Option<Recording>, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(record::tell(&nodes, &kind, &id, true).await?)
    }
}
