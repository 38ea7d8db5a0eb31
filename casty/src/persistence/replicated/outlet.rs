//! What the store of a node needs of its cluster.

use super::message::CopyEnvelope;
use crate::{
    id::Epoch,
    persistence::Log,
    protocol::copies::{CopyProposal, StopOwning, StoreId},
};

/// The way out of the store of one node. Nothing of it waits.
pub(crate) trait CopyOutlet: Send + Sync + 'static {
    /// Sends messages to the process that has a store, which is the receiver of all of them. Each
    /// may be lost.
    fn send(&self, to: StoreId, envelopes: Vec<CopyEnvelope>);

    /// Proposes changes of the map. They may be lost, or be refused: what is still needed is
    /// proposed again.
    fn propose(&self, proposals: Vec<(Log, CopyProposal)>);

    /// This node cannot let anything of a shard out any more under this epoch.
    fn stopped(&self, log: &Log, epoch: Epoch, why: StopOwning);

    /// The node that has a store, or had it last.
    fn node_of(&self, store: StoreId) -> String;
}
