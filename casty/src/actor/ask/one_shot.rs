//! The way back of an answer within a process: a one-shot with a deadline, used again and again.
//!
//! Most asks are answered long before their deadline, and soon after another one of the same kind
//! was. So what an ask waits in is kept on its thread for the next ask, and stays known to the
//! [`Deadlines`] of its system: the next ask only says when its own time is up. The asker is woken
//! through its place here in either case.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    actor::ask::deadlines::{Deadlines, Expires, Tick},
    infra::sync::lock,
};

/// One-shots of a type kept on a thread. What they waited for last, a task that may have ended, is
/// kept with them.
const KEPT_MAX: usize = 64;

/// Types of which a thread keeps any.
const TYPES_MAX: usize = 64;

/// What an asker gets to hear.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    Answer(T),
    /// The duty to answer was dropped.
    Unanswered,
    /// Its time is up.
    Late,
}

struct OneShot<T> {
    deadlines: Arc<Deadlines>,
    place: Mutex<Place<T>>,
}

struct Place<T> {
    outcome: Option<Outcome<T>>,
    waker: Option<Waker>,
    /// Once the asker waits.
    due: Option<Due>,
    /// When the deadlines look here next.
    noted: Option<Tick>,
    /// From one look to the next, while there are asks.
    step: Duration,
}

/// When an asker's time is up.
#[derive(Clone, Copy)]
enum Due {
    At(Tick),
    /// So long after the next look: whoever asks often need not read the clock each time.
    After(Duration),
}

/// The looks within the time of an ask, and so how late it may end: by this part of its time.
const LOOKS: u32 = 16;

/// Shorter times are kept to the millisecond.
const EXACT: Duration = Duration::from_secs(1);

impl<T> OneShot<T> {
    fn settle(self: Arc<Self>, outcome: Outcome<T>) {
        let mut place = lock(&self.place);
        if place.outcome.is_some() {
            // Too late. Dropped outside of the lock.
            drop(place);
            return drop(outcome);
        }
        place.outcome = Some(outcome);
        // By reference, under the lock: the next ask in this place is likely to be of the same
        // task, which then need not clone its waker.
        if place.due.take().is_some()
            && let Some(waker) = &place.waker
        {
            waker.wake_by_ref();
        }
    }
}

impl<T: Send + 'static> OneShot<T> {
    /// Has the deadlines look here in time.
    #[cold]
    fn arm(self: &Arc<Self>, place: &mut Place<T>, after: Duration) {
        let now = self.deadlines.now();
        let due = now + after;
        place.due = Some(Due::At(due));
        place.step = after / LOOKS;
        let look = if after >= EXACT {
            due.min(now + place.step)
        } else {
            due
        };
        if place.noted.is_none_or(|noted| look < noted) {
            place.noted = Some(look);
            let this: Weak<Self> = Arc::downgrade(self);
            self.deadlines.note(look, this);
        }
    }
}

impl<T: Send> Expires for OneShot<T> {
    fn expire(&self, noted: Tick, now: Tick) -> Option<Tick> {
        let waker = {
            let mut place = lock(&self.place);
            if place.noted != Some(noted) {
                return None;
            }
            let due = match place.due {
                None => {
                    place.noted = None;
                    return None;
                }
                Some(Due::At(due)) => due,
                Some(Due::After(after)) => now + after,
            };
            if due > now {
                place.due = Some(Due::At(due));
                place.noted = Some(due.min(now + place.step));
                return place.noted;
            }
            (place.due, place.noted) = (None, None);
            place.outcome = Some(Outcome::Late);
            place.waker.take()
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
    // One of another system would be looked after by that system's deadlines.
    let one_shot = kept.filter(|kept| Arc::ptr_eq(&kept.deadlines, deadlines));
    let one_shot = one_shot.unwrap_or_else(|| {
        Arc::new(OneShot {
            deadlines: deadlines.clone(),
            place: Mutex::new(Place {
                outcome: None,
                waker: None,
                due: None,
                noted: None,
                step: Duration::MAX,
            }),
        })
    });
    (Answerer(Some(one_shot.clone())), Asked(Some(one_shot)))
}

/// The duty to answer. Dropped, it says that there will be no answer.
pub(crate) struct Answerer<T>(Option<Arc<OneShot<T>>>);

impl<T> Answerer<T> {
    /// An asker that waits no more does not hear of it.
    pub(crate) fn answer(mut self, answer: T) {
        if let Some(one_shot) = self.0.take() {
            one_shot.settle(Outcome::Answer(answer));
        }
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        if let Some(one_shot) = self.0.take() {
            one_shot.settle(Outcome::Unanswered);
        }
    }
}

/// Waits for the answer.
pub(crate) struct Asked<T: Send + 'static>(Option<Arc<OneShot<T>>>);

impl<T: Send + 'static> Asked<T> {
    /// The outcome, if there is one; else `cx` is woken when there is. The time `after` which it is
    /// [`Late`](Outcome::Late) counts from the first call; where it is a second or more it may last
    /// longer, by a sixteenth.
    pub(crate) fn poll(&mut self, cx: &Context<'_>, after: Duration) -> Poll<Outcome<T>> {
        let Some(one_shot) = &self.0 else {
            return Poll::Ready(Outcome::Unanswered);
        };
        let mut place = lock(&one_shot.place);
        if let Some(outcome) = place.outcome.take() {
            // Whoever settled it took the time it was due.
            drop(place);
            if let Some(one_shot) = self.0.take() {
                keep(one_shot);
            }
            return Poll::Ready(outcome);
        }
        match &mut place.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        if place.due.is_none() {
            if after >= EXACT && place.noted.is_some() && place.step <= after / LOOKS {
                place.due = Some(Due::After(after));
            } else {
                one_shot.arm(&mut place, after);
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
            let mut place = lock(&one_shot.place);
            place.due = None;
            place.outcome.take()
        };
        drop(left);
        keep(one_shot);
    }
}

/// Keeps an empty place for another ask, if nobody else can reach it.
fn keep<T: Send + 'static>(one_shot: Arc<OneShot<T>>) {
    if Arc::strong_count(&one_shot) == 1 {
        kept(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(one_shot);
            }
        });
    }
}

/// What is kept of one type on this thread.
struct Kept {
    of: TypeId,
    /// A `Vec<Arc<OneShot<T>>>`.
    places: Box<dyn Any>,
}

thread_local! {
    /// Few types, most recently used first.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// What is kept of one type on this thread; `None` while the thread ends, or drops what it kept.
fn kept<T: Send + 'static, R>(with: impl FnOnce(&mut Vec<Arc<OneShot<T>>>) -> R) -> Option<R> {
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.try_borrow_mut().ok()?;
        let of = TypeId::of::<T>();
        match kept.iter().position(|kept| kept.of == of) {
            Some(0) => {}
            Some(at) => kept[..=at].rotate_right(1),
            None => {
                let places = Box::new(Vec::<Arc<OneShot<T>>>::new());
                kept.insert(0, Kept { of, places });
                kept.truncate(TYPES_MAX);
            }
        }
        kept.first_mut()?.places.downcast_mut().map(with)
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

    async fn outcome(mut asked: Asked<u32>, after: Duration) -> Outcome<u32> {
        poll_fn(|cx| asked.poll(cx, after)).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_arrives_before_and_after_the_asker_waits() {
        let deadlines = deadlines();
        let (answerer, asked) = ask(&deadlines);
        answerer.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Outcome::Answer(1));
        let (answerer, asked) = ask(&deadlines);
        let answering = async {
            tokio::time::sleep(SECOND / 2).await;
            answerer.answer(2);
        };
        let (outcome, ()) = tokio::join!(outcome(asked, SECOND), answering);
        assert_eq!(outcome, Outcome::Answer(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_duty_is_heard_of() {
        let (answerer, asked) = ask(&deadlines());
        drop(answerer);
        assert_eq!(outcome(asked, SECOND).await, Outcome::Unanswered);
    }

    #[tokio::test(start_paused = true)]
    async fn each_ask_has_its_own_deadline_whatever_was_noted_for_an_earlier_one() {
        let deadlines = deadlines();
        for millis in [5_000, 50, 900, 2_000, 10, 3_000] {
            // One that is answered, with a later deadline, in the same place.
            let (answerer, asked) = ask(&deadlines);
            let waiting = outcome(asked, SECOND * 7);
            let (heard, ()) = tokio::join!(waiting, async { answerer.answer(0) });
            assert_eq!(heard, Outcome::Answer(0));
            let begun = Instant::now();
            let (answerer, asked) = ask(&deadlines);
            let after = Duration::from_millis(millis);
            assert_eq!(outcome(asked, after).await, Outcome::Late);
            let late = if after < EXACT {
                Duration::ZERO
            } else {
                after / LOOKS
            };
            let took = begun.elapsed();
            assert!(
                took >= after && took <= after + late,
                "{took:?} for {after:?}"
            );
            // Nobody hears of it any more.
            answerer.answer(3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_place_is_empty() {
        let deadlines = deadlines();
        let (answerer, asked) = ask(&deadlines);
        answerer.answer(1);
        drop(asked);
        let (_answerer, asked) = ask(&deadlines);
        assert_eq!(outcome(asked, SECOND).await, Outcome::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_can_still_be_answered_is_not_kept() {
        let deadlines = deadlines();
        let (late, asked) = ask(&deadlines);
        drop(asked);
        let (_answerer, asked) = ask(&deadlines);
        late.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Outcome::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_of_another_system_is_not_used() {
        let (first, second) = (deadlines(), deadlines());
        let (answerer, asked) = ask(&first);
        answerer.answer(1);
        assert_eq!(outcome(asked, SECOND).await, Outcome::Answer(1));
        let (answerer, _asked) = ask(&second);
        let one_shot = answerer.0.as_ref().unwrap();
        assert!(Arc::ptr_eq(&one_shot.deadlines, &second));
    }
}
