//! The messages of one turn of the task.

use super::{message::CopyEnvelope, outlet::CopyOutlet};
use crate::protocol::copies::StoreId;

/// What is to be sent at the end of the turn, in the order in which it was decided: one frame for
/// each store serves all shards.
#[derive(Default)]
pub(super) struct Outgoing(Vec<(StoreId, Vec<CopyEnvelope>)>);

impl Outgoing {
    pub(super) fn add(&mut self, envelope: CopyEnvelope) {
        let to = envelope.to;
        match self.0.iter_mut().find(|(store, _)| *store == to) {
            Some((_, envelopes)) => envelopes.push(envelope),
            None => self.0.push((to, vec![envelope])),
        }
    }

    pub(super) fn send_all(&mut self, outlet: &dyn CopyOutlet) {
        for (to, envelopes) in self.0.drain(..) {
            outlet.send(to, envelopes);
        }
    }
}
