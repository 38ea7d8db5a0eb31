//! The inputs of the gossip task, and their bounded queue.

use std::{collections::BTreeMap, sync::Arc};

use serde_bytes::ByteBuf;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
};

use crate::{
    cluster::{
        process::{Job, Process},
        rumors::Rumors,
    },
    id::MemberId,
    protocol::facts::{Digest, Facts},
};

/// Inputs that wait at a time.
const INPUTS_MAX: usize = 1024;

/// Bytes of inputs from peers that wait at a time.
const INPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// An input of the gossip task. What comes from a peer comes from a member of the map.
pub(crate) enum Input {
    Datagram {
        from: MemberId,
        datagram: ByteBuf,
    },
    Digest {
        from: MemberId,
        digest: Digest,
    },
    Facts(BTreeMap<MemberId, Facts>),
    /// This process is another member from now on, with other rumors.
    Renew(MemberId, Arc<Rumors>),
    /// Says goodbye, and ends.
    Leave,
}

/// An input, and the room that it takes until it is handled.
pub(crate) struct Queued {
    pub(super) input: Input,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// The queue of a gossip task's inputs.
pub(crate) type Inputs = mpsc::Receiver<Queued>;

/// The sending end of the queue.
pub(crate) struct GossipInbox {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl GossipInbox {
    pub(crate) fn new() -> (Self, Inputs) {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let room = Arc::new(Semaphore::new(INPUT_BYTES_MAX));
        (Self { sender, room }, inputs)
    }

    /// Queues an input of `bytes` from a peer. `false` if there is no room, or no gossip any more.
    pub(crate) fn try_send(&self, bytes: usize, input: Input) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            return false;
        };
        let room = Some(room);
        self.sender.try_send(Queued { input, room }).is_ok()
    }

    /// Gives gossip an input of this node's own, and waits for a place in the queue.
    pub(crate) async fn send(&self, input: Input) {
        // An error means that gossip has ended.
        let _ = self.sender.send(Queued { input, room: None }).await;
    }

    /// Gives gossip an input of this node's own, which must not be lost, however many wait there.
    pub(crate) fn tell(&self, process: &Process, input: Input) {
        let queued = Queued { input, room: None };
        if let Err(TrySendError::Full(queued)) = self.sender.try_send(queued) {
            let sender = self.sender.clone();
            process.spawn(Job::Gossip, async move {
                // An error means that gossip has ended.
                let _ = sender.send(queued).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_that_wait_are_bounded_and_room_comes_back() {
        let (inbox, mut inputs) = GossipInbox::new();
        let half = INPUT_BYTES_MAX / 2;
        let send = |bytes| inbox.try_send(bytes, Input::Facts(BTreeMap::new()));
        assert!(send(half) && send(half));
        assert!(!send(1), "there is no room");
        drop(inputs.recv().await);
        assert!(send(half));
        assert!(!send(INPUT_BYTES_MAX + 1), "never");
        assert!(!send(usize::MAX), "never");
    }
}
