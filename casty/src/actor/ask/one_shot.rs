//! The way back of an answer within a process: a one-shot channel with a deadline, which later asks
//! reuse.
//!
//! Most asks are answered long before their deadline, and soon after another ask of the same kind.
//! So a thread keeps the one-shot of an ask for its next ask. The one-shot stays known to the
//! [`Deadlines`] of its system: the next ask only sets its own deadline. An answer and a deadline
//! wake the asker in the same way.
//!
//! `casty::models` checks this code under a model checker.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    actor::ask::deadlines::{Deadlines, Expires, Tick},
    infra::{
        concurrent::{Mutex, lock, thread_local},
        mutants, panic,
    },
};

/// How many one-shots of a type a thread keeps. Each also keeps the waker of its last asker, a task
/// that may have ended.
const KEPT_MAX: usize = 64;

/// Of how many types a thread keeps one-shots.
const TYPES_MAX: usize = 64;

/// How an ask ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival<T> {
    Answer(T),
    /// The [`Answerer`] was dropped.
    Unanswered,
    /// The deadline has passed.
    Late,
}

struct OneShot<T> {
    deadlines: Arc<Deadlines>,
    slot: Mutex<AskSlot<T>>,
}

struct AskSlot<T> {
    outcome: Option<Arrival<T>>,
    waker: Option<Waker>,
    /// Set while the asker waits.
    expiry: Option<Expiry>,
    /// When the deadlines check this slot next.
    noted: Option<Tick>,
    /// The time between two checks, while there are asks.
    step: Duration,
}

/// When an ask is late.
#[derive(Clone, Copy)]
enum Expiry {
    At(Tick),
    /// This long after the next check. A task that asks often thus need not read the clock each
    /// time.
    After(Duration),
}

/// Deadline checks per ask. An ask ends late by at most `timeout / CHECKS`.
const CHECKS: u32 = 16;

/// Shorter timeouts are exact to the millisecond.
pub(crate) const EXACT: Duration = Duration::from_secs(1);

impl<T> OneShot<T> {
    fn settle(self: Arc<Self>, outcome: Arrival<T>) {
        let mut slot = lock(&self.slot);
        if slot.outcome.is_some() {
            // The ask has ended already. Drop the answer outside the lock.
            drop(slot);
            return panic::contained("an answer", || drop(outcome));
        }
        slot.outcome = Some(outcome);
        // Wake by reference, under the lock: the next ask in this slot is likely to come from the
        // same task, which then need not clone its waker.
        if slot.expiry.take().is_some() {
            if let Some(waker) = &slot.waker
                && !mutants::on("an_answer_wakes_no_asker")
            {
                waker.wake_by_ref();
            }
        } else if Arc::strong_count(&self) == 1 {
            // The asker has given up.
            let unwanted = slot.outcome.take();
            drop(slot);
            panic::contained("an answer", || drop(unwanted));
        }
    }
}

impl<T: Send + 'static> OneShot<T> {
    /// Sets the deadline, and has the deadlines check this slot in time.
    #[cold]
    fn arm(self: &Arc<Self>, slot: &mut AskSlot<T>, after: Duration) {
        let now = self.deadlines.now();
        let due = now + after;
        slot.expiry = Some(Expiry::At(due));
        slot.step = after / CHECKS;
        let check = if after >= EXACT {
            due.min(now + slot.step)
        } else {
            due
        };
        if slot.noted.is_none_or(|noted| check < noted) {
            slot.noted = Some(check);
            let this: Weak<Self> = Arc::downgrade(self);
            if !self.deadlines.note(check, this) {
                (slot.expiry, slot.noted) = (None, None);
                slot.outcome = Some(Arrival::Late);
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

impl<T: Send> Expires for OneShot<T> {
    fn expire(&self, noted: Tick, now: Tick) -> Option<Tick> {
        let waker = {
            let mut slot = lock(&self.slot);
            if slot.noted != Some(noted) {
                return None;
            }
            let due = match slot.expiry {
                None => {
                    slot.noted = None;
                    return None;
                }
                Some(Expiry::At(due)) => due,
                Some(Expiry::After(after)) => now + after,
            };
            if due > now {
                slot.expiry = Some(Expiry::At(due));
                slot.noted = Some(due.min(now + slot.step));
                return slot.noted;
            }
            (slot.expiry, slot.noted) = (None, None);
            slot.outcome = Some(Arrival::Late);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

/// Makes the two ends of a one-shot.
pub(crate) fn one_shot<T: Send + 'static>(deadlines: &Arc<Deadlines>) -> (Answerer<T>, Asked<T>) {
    let kept = kept(|kept: &mut Vec<Arc<OneShot<T>>>| kept.pop()).flatten();
    // The deadlines of another system would check a one-shot of that system.
    let one_shot = kept.filter(|kept| Arc::ptr_eq(&kept.deadlines, deadlines));
    let one_shot = one_shot.unwrap_or_else(|| {
        Arc::new(OneShot {
            deadlines: deadlines.clone(),
            slot: Mutex::new(AskSlot {
                outcome: None,
                waker: None,
                expiry: None,
                noted: None,
                step: Duration::MAX,
            }),
        })
    });
    (Answerer(Some(one_shot.clone())), Asked(Some(one_shot)))
}

/// The duty to answer. Dropped without an answer, it ends the ask as unanswered.
pub(crate) struct Answerer<T>(Option<Arc<OneShot<T>>>);

impl<T> Answerer<T> {
    /// Drops the answer if the ask has ended.
    pub(crate) fn answer(mut self, answer: T) {
        if let Some(one_shot) = self.0.take() {
            one_shot.settle(Arrival::Answer(answer));
        }
    }
}

impl<T> Answerer<T> {
    /// Whether the ask has ended: its deadline has passed, or its asker waits no more.
    pub(crate) fn is_given_up(&self) -> bool {
        let Some(one_shot) = &self.0 else { return true };
        Arc::strong_count(one_shot) == 1 || lock(&one_shot.slot).outcome.is_some()
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        if let Some(one_shot) = self.0.take() {
            one_shot.settle(Arrival::Unanswered);
        }
    }
}

/// Waits for the answer.
pub(crate) struct Asked<T: Send + 'static>(Option<Arc<OneShot<T>>>);

impl<T: Send + 'static> Asked<T> {
    /// Returns the outcome, or wakes `cx` when there is one. The ask is [`Late`](Arrival::Late)
    /// `after` this time, counted from the first call. From a second on, that may come later by up
    /// to a sixteenth.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, after: Duration) -> Poll<Arrival<T>> {
        let Some(one_shot) = &self.0 else {
            return Poll::Ready(Arrival::Unanswered);
        };
        let mut slot = lock(&one_shot.slot);
        if let Some(outcome) = slot.outcome.take() {
            // `settle` and `expire` have cleared the deadline.
            drop(slot);
            if let Some(one_shot) = self.0.take() {
                keep(one_shot);
            }
            return Poll::Ready(outcome);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if slot.expiry.is_none() {
            if after >= EXACT && slot.noted.is_some() && slot.step <= after / CHECKS {
                slot.expiry = Some(Expiry::After(after));
            } else {
                one_shot.arm(&mut slot, after);
            }
        }
        Poll::Pending
    }
}

impl<T: Send + 'static> Drop for Asked<T> {
    fn drop(&mut self) {
        let Some(one_shot) = self.0.take() else {
            return;
        };
        let left = {
            let mut slot = lock(&one_shot.slot);
            slot.expiry = None;
            slot.outcome.take()
        };
        drop(left);
        keep(one_shot);
    }
}

/// Keeps an empty one-shot for another ask, if nothing else refers to it.
fn keep<T: Send + 'static>(one_shot: Arc<OneShot<T>>) {
    if Arc::strong_count(&one_shot) == 1 || mutants::on("a_slot_in_use_is_kept") {
        kept(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(one_shot);
            }
        });
    }
}

/// The kept one-shots of one type.
struct Kept {
    of: TypeId,
    /// A `Vec<Arc<OneShot<T>>>`.
    one_shots: Box<dyn Any>,
}

thread_local! {
    /// Of few types, the most recently used first.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Gives access to the kept one-shots of one type on this thread. `None` while the thread ends, or
/// drops what it kept.
fn kept<T: Send + 'static, R>(with: impl FnOnce(&mut Vec<Arc<OneShot<T>>>) -> R) -> Option<R> {
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        let of = TypeId::of::<T>();
        match kept.iter().position(|kept| kept.of == of) {
            Some(0) => {}
            Some(at) => kept[..=at].rotate_right(1),
            None => {
                let one_shots = Box::new(Vec::<Arc<OneShot<T>>>::new());
                kept.insert(0, Kept { of, one_shots });
                kept.truncate(TYPES_MAX);
            }
        }
        kept.first_mut()?.one_shots.downcast_mut().map(with)
    });
    kept.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use crate::actor::ask::one_shot::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines() -> Arc<Deadlines> {
        Deadlines::new(tokio::runtime::Handle::current())
    }

    fn ask(deadlines: &Arc<Deadlines>) -> (Answerer<u32>, Asked<u32>) {
        one_shot(deadlines)
    }

    async fn outcome(mut asked: Asked<u32>, after: Duration) -> Arrival<u32> {
        poll_fn(|cx| asked.poll(cx, after)).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_before_and_after_the_asker_waits() {
        let deadlines = deadlines();
        let (answerer, asked) = ask(&deadlines);
        answerer.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Arrival::Answer(1));
        let (answerer, asked) = ask(&deadlines);
        let answering = async {
            tokio::time::sleep(SECOND / 2).await;
            answerer.answer(2);
        };
        let (outcome, ()) = tokio::join!(outcome(asked, SECOND), answering);
        assert_eq!(outcome, Arrival::Answer(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ask_whose_answerer_is_dropped_ends_unanswered() {
        let (answerer, asked) = ask(&deadlines());
        drop(answerer);
        assert_eq!(outcome(asked, SECOND).await, Arrival::Unanswered);
    }

    #[tokio::test(start_paused = true)]
    async fn each_ask_has_its_own_deadline_whatever_was_noted_for_an_earlier_one() {
        let deadlines = deadlines();
        for millis in [5_000, 50, 900, 2_000, 10, 3_000] {
            // An ask with a later deadline, which is answered, in the same slot.
            let (answerer, asked) = ask(&deadlines);
            let waiting = outcome(asked, SECOND * 7);
            let (heard, ()) = tokio::join!(waiting, async { answerer.answer(0) });
            assert_eq!(heard, Arrival::Answer(0));
            let begun = Instant::now();
            let (answerer, asked) = ask(&deadlines);
            let after = Duration::from_millis(millis);
            assert_eq!(outcome(asked, after).await, Arrival::Late);
            let late = if after < EXACT {
                Duration::ZERO
            } else {
                after / CHECKS
            };
            let took = begun.elapsed();
            assert!(
                took >= after && took <= after + late,
                "{took:?} for {after:?}"
            );
            // The ask has ended.
            answerer.answer(3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_slot_is_empty() {
        let deadlines = deadlines();
        let (answerer, asked) = ask(&deadlines);
        answerer.answer(1);
        drop(asked);
        let (_answerer, asked) = ask(&deadlines);
        assert_eq!(outcome(asked, SECOND).await, Arrival::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_can_still_be_answered_is_not_kept() {
        let deadlines = deadlines();
        let (late, asked) = ask(&deadlines);
        drop(asked);
        let (_answerer, asked) = ask(&deadlines);
        late.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Arrival::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_of_another_system_is_not_used() {
        let (first, second) = (deadlines(), deadlines());
        let (answerer, asked) = ask(&first);
        answerer.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Arrival::Answer(1));
        let (answerer, _asked) = ask(&second);
        let one_shot = answerer.0.as_ref().unwrap();
        assert!(Arc::ptr_eq(&one_shot.deadlines, &second));
    }
}
