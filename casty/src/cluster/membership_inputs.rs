//! The inputs of a membership's machine, from all parts of the process.

use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::{cluster::locks::Rank, infra::sync::Ranked, protocol::membership::MembershipInput};

/// Inputs that wait at a time. Beyond that an input is dropped, with a warning: peers repeat what
/// they say, and a map that was not heard of is noticed by `map_followed`.
const INPUTS_MAX: usize = 256;

/// An input, and the sender of its answer, for a command of an operator.
pub(crate) type Told = (MembershipInput, Option<oneshot::Sender<Result<(), String>>>);

/// The queue of inputs to a membership's machine. Lives as long as the process.
pub(crate) struct MembershipInputs {
    sender: mpsc::Sender<Told>,
    /// `None` once the driver has taken it.
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
        // A closed queue means that the process stops: nothing follows from an input any more.
        if let Err(TrySendError::Full((input, _))) = self.sender.try_send((input, None)) {
            tracing::warn!(?input, "an input of the membership was dropped");
        }
    }

    /// The regions follow a newer map.
    pub(crate) fn tell_of_map(&self) {
        self.map_followed.notify_one();
    }

    /// Lets the node go on without the leader, from what it knows, as the only member of a new
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
