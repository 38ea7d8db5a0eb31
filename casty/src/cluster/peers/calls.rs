//! Calls: questions on the control lane of a link, and their answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::wire::{Answer, Call, Request};
use crate::{
    cluster::locks::Rank,
    infra::{mutants, sync::Ranked},
    message::codec,
    transport::link::Link,
};

/// Calls of peers that are worked on at a time; more are refused. A peer has a handful under way.
pub(crate) const CALLS_MAX: usize = 4096;

/// Why a call has no answer. What was asked may have been done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer in {0:?}")]
    Timeout(Duration),
}

/// A call without an answer yet.
struct Waiting {
    link: Arc<Link>,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

/// The calls of this process that have no answer yet, and how many of its peers' it works on.
pub(crate) struct Calls {
    last: AtomicU64,
    waiting: Ranked<BTreeMap<u64, Waiting>>,
    answering: Arc<AtomicUsize>,
}

/// A peer's call is worked on as long as this lives.
pub(crate) struct Answering(Arc<AtomicUsize>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(0),
            waiting: Rank::Calls.mutex(BTreeMap::new()),
            answering: Arc::default(),
        }
    }
}

impl Calls {
    /// How many calls are under way.
    #[cfg(feature = "sim")]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// How many calls of peers are worked on.
    #[cfg(feature = "sim")]
    pub(super) fn answering(&self) -> usize {
        self.answering.load(Ordering::Relaxed)
    }

    /// Begins to work on a peer's call. `None` if there are [`CALLS_MAX`] already.
    pub(super) fn begin_answer(&self) -> Option<Answering> {
        let before = self.answering.fetch_add(1, Ordering::Relaxed);
        let place = Answering(self.answering.clone());
        (before < CALLS_MAX).then_some(place)
    }

    /// Asks on a link, and waits for the answer.
    ///
    /// # Cancel safety
    /// Dropped, the question may have been asked all the same.
    pub(super) async fn ask(
        &self,
        link: Arc<Link>,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let unreachable = |reason: String| CallError::Unreachable(reason);
        let bytes = codec::to_vec(&Request::Call { id, call })
            .map_err(|error| unreachable(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            link: link.clone(),
            answer,
        };
        self.waiting.lock().insert(id, waiting);
        let _under_way = UnderWay { calls: self, id };
        link.send_control(&bytes)
            .map_err(|failure| unreachable(failure.to_string()))?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unreachable("this node is shutting down".to_owned())),
            Err(_) => Err(CallError::Timeout(limit)),
        }
    }

    pub(super) fn answered(&self, id: u64, answer: Answer) {
        let waiting = self.waiting.lock().remove(&id);
        if let Some(waiting) = waiting {
            // An error means that the caller has stopped waiting.
            let _ = waiting.answer.send(Ok(answer));
        }
    }

    /// The connection is lost, and with it the answers to what was asked on it.
    pub(super) fn disconnected(&self, link: &Arc<Link>, reason: &str) {
        let lost: Vec<Waiting> = self
            .waiting
            .lock()
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

/// Forgets a call when its caller stops waiting.
struct UnderWay<'a> {
    calls: &'a Calls,
    id: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if mutants::on("questions_are_never_forgotten") {
            return;
        }
        self.calls.waiting.lock().remove(&self.id);
    }
}
