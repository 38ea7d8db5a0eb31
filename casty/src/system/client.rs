//! A client: routes and asks, hosts nothing, is no member.

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
    cluster::join,
    error::{JoinError, ShutdownError, StartError},
    event::Events,
    id::{Incarnation, MemberId, NodeId},
    infra::boxed::{Boxed, boxed},
};

/// A client of a cluster: routes and asks, hosts nothing, is no member.
#[derive(Clone, Debug)]
pub struct ClusterClient(Arc<Inner>);

impl ClusterClient {
    /// Connects to the cluster `cluster` through any of its members, and waits until it knows where
    /// things are.
    ///
    /// Seeds that cannot be reached are tried again; there is no timeout: wrap it in
    /// [`tokio::time::timeout`] where one is wanted.
    ///
    /// # Errors
    /// [`ConnectError`] if a seed refuses this client for good, or the types of this process clash.
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
        join::start(&node, inputs);
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

    /// Everything that happens to this client from now on.
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
    /// [`JoinError`] once it is certain that this will not be.
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
    /// [`ShutdownError::Timeout`] if they did not close in time. They are cut all the same.
    ///
    /// # Cancel safety
    /// Dropped half way, the shutdown may be incomplete; call it again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.shut_down().await
    }
}

/// Why a client is not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client could not be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The cluster does not take it.
    #[error(transparent)]
    Join(#[from] JoinError),
}
