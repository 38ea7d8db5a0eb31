//! The ways of a reader to the nodes: of a system, and of a client.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{
    answer::{Answerer, answer_of},
    ask::{InVain, ask_peer},
};
use crate::{
    actor::runtime::Runtime,
    cluster::{
        client::Client,
        map_watch::MapWatch,
        node::Node,
        peers::reads::{Read, ReadAnswer},
        region::AnyRegion,
    },
    error::StoredError,
    id::MemberId,
    protocol::map::ClusterMap,
    transport::link::Peer,
};

/// The pause before the nodes are asked again, unless the map changes.
const PAUSE: Duration = Duration::from_millis(50);

/// The nodes, for a reader.
pub(crate) trait Nodes: Send + Sync {
    /// The present map. `None` in a system without a network.
    fn map(&self) -> Result<Option<Arc<ClusterMap>>, StoredError>;

    /// This process, if it is a member.
    fn me(&self) -> Option<MemberId>;

    /// Asks a member; `None` is this process.
    fn ask(&self, asked: Option<Peer>, read: Read) -> BoxFuture<'_, Result<ReadAnswer, InVain>>;

    /// Waits until the map has changed, for a moment at most.
    fn later(&self) -> BoxFuture<'_, ()>;
}

async fn change(map: &MapWatch) {
    let seen = map.get();
    // Either way they are asked again.
    let _ = timeout(PAUSE, map.newer_than(seen.as_deref())).await;
}

fn known(map: &MapWatch) -> Result<Option<Arc<ClusterMap>>, StoredError> {
    let none = || StoredError::Unreachable {
        reason: "this process is in no cluster at present".to_owned(),
    };
    map.get().map(Some).ok_or_else(none)
}

/// A system without a network.
pub(crate) struct Alone {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) regions: Vec<Arc<dyn AnyRegion>>,
}

impl Nodes for Alone {
    fn map(&self) -> Result<Option<Arc<ClusterMap>>, StoredError> {
        Ok(None)
    }

    fn me(&self) -> Option<MemberId> {
        None
    }

    fn ask(&self, _: Option<Peer>, read: Read) -> BoxFuture<'_, Result<ReadAnswer, InVain>> {
        Box::pin(async move {
            let answerer = Answerer {
                runtime: &self.runtime,
                regions: &self.regions,
                hosts: &|_| true,
                map: None,
                node: None,
            };
            answerer.answer(read).await.map_err(InVain::Refused)
        })
    }

    fn later(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(PAUSE))
    }
}

impl Nodes for Arc<Node> {
    fn map(&self) -> Result<Option<Arc<ClusterMap>>, StoredError> {
        known(&self.map)
    }

    fn me(&self) -> Option<MemberId> {
        Some(self.peers.local().member.clone())
    }

    fn ask(&self, asked: Option<Peer>, read: Read) -> BoxFuture<'_, Result<ReadAnswer, InVain>> {
        Box::pin(async move {
            match asked {
                None => answer_of(self, read).await.map_err(InVain::Refused),
                Some(peer) => ask_peer(&self.peers, &peer, read).await,
            }
        })
    }

    fn later(&self) -> BoxFuture<'_, ()> {
        Box::pin(change(&self.map))
    }
}

impl Nodes for Arc<Client> {
    fn map(&self) -> Result<Option<Arc<ClusterMap>>, StoredError> {
        known(&self.map)
    }

    fn me(&self) -> Option<MemberId> {
        None
    }

    fn ask(&self, asked: Option<Peer>, read: Read) -> BoxFuture<'_, Result<ReadAnswer, InVain>> {
        Box::pin(async move {
            let Some(peer) = asked else {
                return Err(InVain::Silent("a client hosts nothing".to_owned()));
            };
            ask_peer(&self.peers, &peer, read).await
        })
    }

    fn later(&self) -> BoxFuture<'_, ()> {
        Box::pin(change(&self.map))
    }
}
