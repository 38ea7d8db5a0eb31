//! Why an entity does not answer.

use super::{Admin, AdminError};
use crate::{cluster::reading::why, id::EntityId};

impl Admin {
    /// Why an entity does not answer: where it lives, in which state, how many messages wait, which
    /// handler runs and since when; what that handler has asked and has no answer to, and why that
    /// does not answer, to the end of the chain, across nodes. `kind` is the wire name of its type.
    /// The entity is not started, and hears nothing of it.
    ///
    /// ```standalone_crate
    /// use casty::{admin::Admin, prelude::*};
    ///
    /// #[derive(Default)]
    /// struct Counter { value: i64 }
    ///
    /// #[entity]
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
    /// # node.entity::<Counter>("alice").add(1).await?;
    /// let admin = Admin::connect("shop", [node.address()]).await?;
    /// let why = admin.why("Counter", "alice").await?;
    /// assert_eq!(why.steps[0].node.as_ref().map(|node| node.as_str()), Some("node-1"));
    /// assert_eq!(why.steps[0].queued, 0);
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AdminError::Stored`] where no member hosts the type, or the owner of the entity does not
    /// answer, and those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn why(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<why::Why, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        Ok(why::why(&nodes, &kind, &id).await?)
    }
}
