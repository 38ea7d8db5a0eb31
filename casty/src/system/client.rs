//! A client of a cluster: it sends and asks, but hosts no entities and is not a member.

use std::sync::Arc;

use super::{
    Inner, MemberInfo,
    builder::{SystemBuilder, fresh_seed},
    members,
    shards::Shards,
    wait_for,
};
use crate::{
    actor::Entity,
    cluster::membership,
    error::{JoinError, ShutdownError, StartError},
    event::Events,
    id::{Incarnation, MemberId, NodeId},
    infra::boxed::{Boxed, boxed},
};

/// A client of a cluster: it sends and asks, but hosts no entities and is not a member.
#[derive(Clone, Debug)]
pub struct ClusterClient(Arc<Inner>);

impl ClusterClient {
    /// Connects to the cluster `cluster` through any of its members, and waits for its first map.
    ///
    /// A seed that cannot be reached is tried again. There is no timeout; wrap the call in
    /// [`tokio::time::timeout`] for one.
    ///
    /// # Errors
    /// [`ConnectError`] if a seed refuses this client for good, or if two entity types of this
    /// process have the same wire name.
    pub async fn connect<S: ToString>(
        cluster: impl Into<String>,
        seeds: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConnectError> {
        Self::connecting(SystemBuilder::new(cluster.into()).seeds(seeds)).await
    }

    fn connecting(builder: SystemBuilder) -> Boxed<'static, Result<Self, ConnectError>> {
        boxed(Self::join(builder))
    }

    async fn join(builder: SystemBuilder) -> Result<Self, ConnectError> {
        SystemBuilder::check_name("cluster", &builder.cluster)?;
        if builder.seeds.is_empty() {
            let reason = "a client needs at least one seed".to_owned();
            return Err(StartError::Setting {
                setting: "seeds",
                reason,
            }
            .into());
        }
        let incarnation = Incarnation::now();
        let name = format!("client-{:016x}", fresh_seed());
        let member = MemberId {
            node: NodeId::new(name),
            incarnation,
        };
        let (inner, node, inputs) = builder.assemble(member, None, None)?;
        membership::start(&node, inputs);
        wait_for(&node, 1).await?;
        Ok(Self(inner))
    }

    /// A reference to an entity. See [`ActorSystem::entity`](crate::ActorSystem::entity).
    pub fn entity<E: Entity>(&self, id: impl AsRef<str>) -> E::Ref {
        self.0.runtime.entity::<E>(id)
    }

    /// The shards of an entity type. See [`ActorSystem::shards`](crate::ActorSystem::shards).
    pub fn shards<E: Entity>(&self) -> Shards<E> {
        Shards {
            route: self.0.runtime.route::<E>(),
        }
    }

    /// The events of this client, from now on.
    pub fn events(&self) -> Events {
        self.0.runtime.events.subscribe()
    }

    /// The members of the cluster as this client sees them.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.0.node.as_deref().map_or_else(Vec::new, members)
    }

    /// Waits until at least `members` members are Up. See
    /// [`ActorSystem::wait_for`](crate::ActorSystem::wait_for).
    ///
    /// # Errors
    /// [`JoinError`] as soon as this can no longer happen.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for(&self, members: usize) -> Result<(), JoinError> {
        match &self.0.node {
            Some(node) => wait_for(node, members).await,
            None => Err(JoinError::ShutDown),
        }
    }

    /// Closes the connections.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if the connections did not close in time. They are cut all the
    /// same.
    ///
    /// # Cancel safety
    /// If the future is dropped, the shutdown may be incomplete. Call it again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.shut_down().await
    }
}

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client could not be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The cluster refuses the client.
    #[error(transparent)]
    Join(#[from] JoinError),
}
