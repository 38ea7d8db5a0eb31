//! A client of a cluster: it sends and asks, but hosts no entities and is not a member.

use std::{collections::BTreeSet, fmt, sync::Arc};

use tokio_util::sync::DropGuard;

use super::{
    MemberInfo, MemberStatus,
    builder::{SystemBuilder, fresh_seed},
    built::{Built, carrier, make_runtime},
    checks,
    entities::Entities,
    history::History,
    shards::Shards,
    wait,
};
#[cfg(feature = "tls")]
use crate::transport::{identity::PeerRole, tls::Tls};
use crate::{
    actor::reference::Hosted,
    cluster::{
        client::Client,
        peers::{LocalMember, remote_actors::RemoteActors},
        reading::reader::{self, EntityReader, HistoryReader},
    },
    error::{ConnectError, JoinError, ShutdownError, StartError, StoredError},
    event::Events,
    id::{Incarnation, IntoId, MemberId, NodeId},
    infra::boxed::{Boxed, boxed},
};

/// A client of a cluster: it sends and asks, but hosts no entities and is not a member.
#[derive(Clone, Debug)]
pub struct ClusterClient(Arc<ClientInner>);

struct ClientInner {
    client: Arc<Client>,
    /// The runtime refers to it weakly.
    _remote_actors: Arc<RemoteActors>,
    _stop: DropGuard,
}

impl fmt::Debug for ClientInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("node", &self.client.process.runtime.node)
            .finish_non_exhaustive()
    }
}

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

    /// The same, with the certificate of this client, `casty://CLUSTER/client/NAME`. See
    /// [`tls`](crate::tls).
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); and [`StartError::Tls`] for files that cannot be used.
    #[cfg(feature = "tls")]
    pub async fn connect_tls<S: ToString>(
        cluster: impl Into<String>,
        seeds: impl IntoIterator<Item = S>,
        tls: Tls,
    ) -> Result<Self, ConnectError> {
        let builder = SystemBuilder::new(cluster.into()).seeds(seeds).tls(tls);
        Self::connecting(builder).await
    }

    fn connecting(builder: SystemBuilder) -> Boxed<'static, Result<Self, ConnectError>> {
        boxed(Self::join(builder))
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_mut, reason = "TLS takes the place of its network")
    )]
    async fn join(mut builder: SystemBuilder) -> Result<Self, ConnectError> {
        checks::name("cluster", &builder.cluster)?;
        checks::seeds(&builder.seeds, None)?;
        if builder.seeds.is_empty() {
            let reason = "a client needs at least one seed".to_owned();
            return Err(StartError::Setting {
                setting: "seeds",
                reason,
            }
            .into());
        }
        #[cfg(feature = "tls")]
        builder.secure(PeerRole::Client)?;
        let incarnation = Incarnation::now();
        let name = format!("client-{:016x}", fresh_seed());
        let member = MemberId {
            node: NodeId::new(name),
            incarnation,
        };
        let (seed, strict_wire) = (fresh_seed(), builder.strict_bytes_max());
        let (settings, resources) = (&builder.settings, builder.resources);
        let runtime = make_runtime(&member, settings, resources, strict_wire, seed);
        let local = Arc::new(LocalMember::new(member, None));
        let Built {
            parts,
            remote_actors,
        } = Built::new(
            builder.cluster,
            &builder.registry,
            settings,
            builder.net,
            local.clone(),
            runtime,
            seed,
        )?;
        let runtime = &parts.process.runtime;
        runtime.set_network(None, carrier(&remote_actors));
        let stop = parts.process.cancel.clone().drop_guard();
        let client = Client::new(builder.settings, builder.seeds, parts, local);
        client.start();
        let inner = ClientInner {
            client,
            _remote_actors: remote_actors,
            _stop: stop,
        };
        let connected = Self(Arc::new(inner));
        connected.wait_for(1).await?;
        Ok(connected)
    }

    /// A reference to an entity. See [`ActorSystem::entity`](crate::ActorSystem::entity).
    pub fn entity<E: Hosted>(&self, id: impl IntoId<E::Key>) -> E::Proxy {
        self.0.client.process.runtime.entity::<E>(id)
    }

    /// The shards of an entity type. See [`ActorSystem::shards`](crate::ActorSystem::shards).
    pub fn shards<E: Hosted>(&self) -> Shards<E> {
        Shards {
            route: self.0.client.process.runtime.route::<E>(),
        }
    }

    /// The entities of a type. See [`ActorSystem::entities`](crate::ActorSystem::entities).
    pub fn entities<E: Hosted>(&self) -> Entities<'static> {
        let runtime = &self.0.client.process.runtime;
        let route = runtime.route::<E>();
        let shards = Some(route.shards().get());
        let reader = EntityReader::new(route.name().to_owned(), shards);
        let nodes = Box::new(self.0.client.clone());
        Entities::new(nodes, runtime.node.clone(), reader)
    }

    /// What is stored of an entity. See [`ActorSystem::history`](crate::ActorSystem::history).
    pub fn history<E: Hosted>(&self, id: impl IntoId<E::Key>) -> History<E> {
        let runtime = &self.0.client.process.runtime;
        let kind = runtime.route::<E>().name().to_owned();
        let reader = HistoryReader::new(kind, id.into_entity_id());
        let nodes = Box::new(self.0.client.clone());
        History::new(nodes, runtime.clone(), reader)
    }

    /// Erases what is stored of an entity. See [`ActorSystem::erase`](crate::ActorSystem::erase).
    ///
    /// # Errors
    /// [`StoredError`]. To erase twice is to erase once.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entity may be erased all the same.
    pub async fn erase<E: Hosted>(&self, id: impl IntoId<E::Key>) -> Result<bool, StoredError> {
        let client = self.0.client.clone();
        let kind = client.process.runtime.route::<E>().name().to_owned();
        let id = id.into_entity_id();
        boxed(async move { reader::erase(&client, &kind, &id).await }).await
    }

    /// The events of this client, from now on.
    pub fn events(&self) -> Events {
        self.0.client.process.runtime.events.subscribe()
    }

    /// The members of the cluster as this client sees them.
    pub fn members(&self) -> Vec<MemberInfo> {
        let map = self.0.client.map.get();
        let members = map.iter().flat_map(|map| map.members.iter());
        members
            .map(|(id, member)| MemberInfo {
                id: id.clone(),
                address: member.address,
                status: MemberStatus::of(member.status),
                entities: None,
                roles: BTreeSet::new(),
            })
            .collect()
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
        let Client {
            map,
            failed,
            process,
            ..
        } = &*self.0.client;
        wait(map, failed, &process.cancel, members, |_| true).await
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
        boxed(self.0.client.leave()).await
    }
}
