//! Where the parts of a process tell the machine of its membership what has happened.

use tokio::sync::{Notify, mpsc, oneshot};

use crate::{cluster::locks::Rank, infra::sync::Ranked, protocol::membership::MembershipInput};

/// Inputs that wait at a time. More of them are dropped: what a peer says, it says again.
const INPUTS_MAX: usize = 256;

/// An input, and where its answer goes.
pub(crate) type Told = (MembershipInput, Option<oneshot::Sender<Result<(), String>>>);

/// Where the parts of a process tell its membership what has happened. Lives as long as the
/// process.
pub(crate) struct MembershipInputs {
    sender: mpsc::Sender<Told>,
    /// Until the task has it that drives the machine.
    receiver: Ranked<Option<mpsc::Receiver<Told>>>,
    pub(crate) map_followed: Notify,
}

impl Default for MembershipInputs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(INPUTS_MAX);
        Self {
            sender,
            receiver: Rank::Inputs.mutex(Some(receiver)),
            map_followed: Notify::new(),
        }
    }
}

impl MembershipInputs {
    pub(crate) fn take_receiver(&self) -> Option<mpsc::Receiver<Told>> {
        self.receiver.lock().take()
    }

    /// Says what has happened.
    pub(crate) fn tell(&self, input: MembershipInput) {
        if let Err(error) = self.sender.try_send((input, None)) {
            tracing::debug!(%error, "the membership is not told");
        }
    }

    /// The regions follow a newer map.
    pub(crate) fn tell_of_map(&self) {
        self.map_followed.notify_one();
    }

    /// Has the node go on without the leader, from what it knows, as the only member of a new
    /// generation.
    pub(crate) async fn recover(&self, force: bool) -> Result<(), String> {
        let (reply, replied) = oneshot::channel();
        // The machine gets its number when it is told.
        let command = None;
        let input = MembershipInput::Recover { command, force };
        let ended = || "this node is shutting down".to_owned();
        let sent = self.sender.send((input, Some(reply))).await;
        sent.map_err(|_| ended())?;
        replied.await.unwrap_or_else(|_| Err(ended()))
    }

    pub(crate) async fn tell_of_leave(&self) {
        // Without the task nothing is left to be told.
        let _ = self.sender.send((MembershipInput::Leave, None)).await;
    }
}
