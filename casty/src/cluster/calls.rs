//! Questions on the control lane, and their answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    node::Node,
    wire::{Answer, Call, Request},
};
use crate::{
    infra::{mutants, sync::lock},
    message::codec,
    transport::{
        handshake::Lane,
        link::{Link, Peer},
    },
};

/// Why a call has no answer. What was asked may have been done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer in {0:?}")]
    Timeout(Duration),
}

struct Waiting {
    link: Arc<Link>,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

/// What this node asked others and has no answer to yet.
#[derive(Default)]
pub(crate) struct Calls {
    last: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

impl Calls {
    /// How many questions are under way.
    #[cfg(feature = "sim")]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }

    pub(crate) fn answered(&self, id: u64, answer: Answer) {
        // Whoever asked may have stopped waiting.
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _ = waiting.answer.send(Ok(answer));
        }
    }

    /// The connection is gone: nobody will answer what was asked on it.
    pub(crate) fn disconnected(&self, link: &Arc<Link>, reason: &str) {
        let lost: Vec<Waiting> = lock(&self.waiting)
            .extract_if(.., |_, waiting| Arc::ptr_eq(&waiting.link, link))
            .map(|(_, waiting)| waiting)
            .collect();
        for waiting in lost {
            let _ = waiting
                .answer
                .send(Err(CallError::Unreachable(reason.to_owned())));
        }
    }
}

/// A question that nobody waits for any more is forgotten.
struct Asked<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if mutants::on("questions_are_never_forgotten") {
            return;
        }
        lock(&self.calls.waiting).remove(&self.id);
    }
}

impl Node {
    /// Asks another node something.
    ///
    /// # Cancel safety
    /// Dropped, the question may have been asked all the same.
    pub(crate) async fn call(
        &self,
        peer: &Peer,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        self.call_on(Lane::Control, peer, call, limit).await
    }

    /// The same, on another lane: the control lane never waits behind anything large.
    pub(crate) async fn call_on(
        &self,
        lane: Lane,
        peer: &Peer,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let calls = self.calls();
        let id = calls.last.fetch_add(1, Ordering::Relaxed) + 1;
        let unreachable = |reason: String| CallError::Unreachable(reason);
        let bytes = codec::to_vec(&Request::Call { id, call })
            .map_err(|error| unreachable(error.to_string()))?;
        let link = self.link(peer.clone(), lane);
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            link: link.clone(),
            answer,
        };
        lock(&calls.waiting).insert(id, waiting);
        let _asked = Asked { calls, id };
        link.send_control(&bytes)
            .map_err(|failure| unreachable(failure.to_string()))?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unreachable("this node is shutting down".to_owned())),
            Err(_) => Err(CallError::Timeout(limit)),
        }
    }
}
