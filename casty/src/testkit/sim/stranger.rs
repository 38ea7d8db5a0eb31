//! A process that belongs to no cluster and speaks the protocol well, to say what is not true.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::{CLUSTER, PORT, Sim};
use crate::{
    admin::peers_outside,
    cluster::{
        gossip,
        peers::{LocalMember, Peers, wire::Request},
    },
    id::{ClusterIdentity, Generation, Incarnation, MemberId, NodeId},
    message::codec,
    transport::{handshake::Lane, link::Peer},
};

/// The name of the stranger's host.
const STRANGER: &str = "stranger";

/// How long a stranger tries to say something.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a stranger says to a node.
#[doc(hidden)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Forgery {
    /// It is in a later generation of the node's cluster.
    LaterGeneration,
    /// This member has renewed its name in gossip.
    Renewal(MemberId),
}

impl Sim {
    /// A stranger says something to a node, at the cluster that the node is in. Does nothing if the
    /// node does not run.
    ///
    /// # Panics
    /// If there is no such node, or if a node is named `stranger`.
    #[doc(hidden)]
    pub fn forge(&mut self, to: &str, forgery: Forgery) {
        let Some(view) = self.view(to) else { return };
        self.trace
            .note(self.elapsed, STRANGER, &format!("{forgery:?} to {to}"));
        let address_of = |sim: &Self, name: &str| {
            let host = sim.host(name);
            let ip = sim.network.with(|network| network.ip(host));
            SocketAddr::new(ip, PORT)
        };
        let (at, net, seed) = self.outsider(STRANGER);
        let own = address_of(self, STRANGER);
        let place = address_of(self, to);
        let later = u32::from(matches!(forgery, Forgery::LaterGeneration));
        let identity = ClusterIdentity {
            uuid: Uuid::from_u128(view.uuid),
            generation: Generation::new(view.generation + later, view.founder),
        };
        let datagram = match forgery {
            Forgery::LaterGeneration => None,
            Forgery::Renewal(who) => {
                let from = address_of(self, who.node.as_str());
                Some(gossip::renewed((who, from), (view.member, place)))
            }
        };
        let said = self.nodes[at].inbox.put(move |_| async move {
            let member = MemberId {
                node: NodeId::new(STRANGER),
                incarnation: Incarnation(1),
            };
            let local = LocalMember::new(member, Some(own));
            local.set_identity(identity);
            let cluster = CLUSTER.to_owned();
            let (peers, stop) = peers_outside(net, seed, PATIENCE, cluster, Arc::new(local));
            say(&peers, place, datagram).await;
            drop(stop);
        });
        drop(said);
    }
}

async fn say(peers: &Peers, place: SocketAddr, datagram: Option<Vec<u8>>) {
    let Some(datagram) = datagram else {
        // Whatever the answer: the hello says it.
        let _ = peers.greet(place, PATIENCE).await;
        return;
    };
    let peer = Peer {
        address: place,
        member: None,
    };
    let link = peers.link(peer, Lane::Control);
    if let Ok(bytes) = codec::to_vec(&Request::Gossip(ByteBuf::from(datagram))) {
        drop(link.send_control(&bytes));
    }
    // Nothing is answered. The connection stays for a while of simulated time, so that it is
    // written.
    tokio::time::sleep(PATIENCE).await;
}
