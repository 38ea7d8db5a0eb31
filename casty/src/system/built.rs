//! What a process in a cluster starts with, a node or a client.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use tokio_util::sync::CancellationToken;

use super::checks;
use crate::{
    actor::{
        resources::Resources,
        runtime::{Carrier, Runtime},
    },
    cluster::{
        homes::Homes,
        map_watch::MapWatch,
        parts::Parts,
        peers::{LocalMember, Peers, PeersSetup, remote_actors::RemoteActors},
        process::Process,
        region::Mesh,
        registry::Registry,
    },
    config::Settings,
    error::StartError,
    id::MemberId,
    transport::{connection::Keepalive, handshake::SharedSettings, link::LinkTimes, net::Net},
};

/// The parts with which a process in a cluster starts, a node or a client.
pub(super) struct Built {
    pub(super) parts: Parts,
    pub(super) remote_actors: Arc<RemoteActors>,
}

impl Built {
    pub(super) fn new(
        cluster: String,
        registry: &Registry,
        settings: &Settings,
        net: Arc<dyn Net>,
        local: Arc<LocalMember>,
        runtime: Arc<Runtime>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let process = Process::new(runtime.clone(), CancellationToken::new(), seed);
        let times = LinkTimes {
            connect: settings.connect_timeout,
            keepalive: Keepalive {
                interval: settings.keepalive_interval,
                timeout: settings.keepalive_timeout,
            },
            backoff: settings.backoff,
            backoff_max: settings.backoff_max,
        };
        let setup = PeersSetup {
            cluster,
            net,
            times,
            shared: local.is_node().then(|| SharedSettings::of(settings)),
        };
        let peers = Peers::new(setup, process.clone(), local);
        peers.begin_upkeep();
        let (map, homes) = (Arc::<MapWatch>::default(), Homes::new(peers.clone()));
        let mesh: Arc<dyn Mesh> = homes.clone();
        let (regions, routes) = registry.build(&runtime, settings, Some(&Arc::downgrade(&mesh)))?;
        runtime.set_routes(routes);
        checks::catalog(&peers, &regions)?;
        let remote_actors = RemoteActors::new(
            process.clone(),
            peers.clone(),
            map.clone(),
            settings.backoff,
        );
        let parts = Parts {
            process,
            peers,
            map,
            homes,
            regions: regions.into(),
        };
        Ok(Self {
            parts,
            remote_actors,
        })
    }
}

/// What all actors of a process share.
pub(super) fn make_runtime(
    member: &MemberId,
    settings: &Settings,
    resources: Resources,
    strict_wire: Option<usize>,
    seed: u64,
) -> Arc<Runtime> {
    let runtime = Runtime::new(member.node.clone(), settings, seed);
    runtime.set_resources(resources);
    if let Some(bytes_max) = strict_wire {
        runtime.set_strict_wire(bytes_max);
    }
    runtime
}

pub(super) fn carrier(remote_actors: &Arc<RemoteActors>) -> Weak<dyn Carrier> {
    let carrier: Arc<dyn Carrier> = remote_actors.clone();
    Arc::downgrade(&carrier)
}

/// The address of a name.
pub(super) async fn resolve_one(net: &dyn Net, name: &str) -> std::io::Result<SocketAddr> {
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    net.resolve(name).await?.into_iter().next().ok_or_else(none)
}
