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

/// Calls of peers that are worked on at a time; more are refused.
pub(crate) const CALLS_MAX: usize = 4096;

/// Calls of one connection among them. A peer has a handful under way; a stranger that asks
/// for more must not take the places of the members, whose calls keep the leader.
const CALLS_PER_CONNECTION_MAX: usize = 128;

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
pub(crate) struct Answering([Arc<AtomicUsize>; 2]);

impl Drop for Answering {
    fn drop(&mut self) {
        for count in &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
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

    /// Begins to work on a call of a connection, of which there are so many. `None` if there are
    /// too many already, in all or of that connection.
    pub(super) fn begin_answer(&self, of_connection: &Arc<AtomicUsize>) -> Option<Answering> {
        let place = Answering([&self.answering, of_connection].map(Arc::clone));
        let [all, own] = place.0.each_ref();
        let all = all.fetch_add(1, Ordering::Relaxed);
        let own = own.fetch_add(1, Ordering::Relaxed);
        let is_fine = all < CALLS_MAX
            && (own < CALLS_PER_CONNECTION_MAX || mutants::on("calls_are_not_bounded"));
        is_fine.then_some(place)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::mutants::breaking;

    /// How many calls of one connection are worked on, and whether one of another is.
    fn worked_on() -> (usize, bool) {
        let (calls, greedy, other) = (Calls::default(), Arc::default(), Arc::default());
        let begin = || calls.begin_answer(&greedy);
        let places: Vec<_> = (0..CALLS_MAX).map_while(|_| begin()).collect();
        (places.len(), calls.begin_answer(&other).is_some())
    }

    #[test]
    fn the_calls_of_one_connection_leave_room_for_those_of_others() {
        assert_eq!(worked_on(), (CALLS_PER_CONNECTION_MAX, true));
        breaking("calls_are_not_bounded", || {
            assert_eq!(worked_on(), (CALLS_MAX, false));
        });
    }

    #[test]
    fn a_call_that_was_answered_leaves_its_place() {
        let (calls, own) = (Calls::default(), Arc::default());
        for _ in 0..CALLS_MAX * 2 {
            assert!(calls.begin_answer(&own).is_some());
        }
    }
}
