//! Calls that are repeated while their message was certainly not handled.

use std::{convert::Infallible, fmt, future::IntoFuture, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        Actor, Address, Message as _,
        ask::call::{Ask, Call},
    },
    error::{AskError, TellError, send::Repeat},
    infra::backoff::Backoff,
};

/// The pause before the first repetition. It doubles with each one.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A call that is repeated while its message was certainly not handled. Made by
/// [`Call::retry_for`]; [`tell`](Self::tell) it, or `.await` it to ask.
#[must_use = "a call does nothing until it is told (`.tell().await`) or asked (`.await`)"]
pub struct Retry<A: Actor, T, E = Infallible> {
    pub(super) call: Call<A, T, E>,
    pub(super) limit: Duration,
}

impl<A: Actor, T, E> Call<A, T, E> {
    /// Repeats the call while its message was certainly not handled and another try may succeed:
    /// while the entity has no home, its node is unreachable or has lost its lease, its queue is
    /// full, or it could not start. An answer, an error of the handler, and a message that may
    /// have been handled end it; so does what every try would end with, such as an id that is
    /// invalid.
    ///
    /// The pause between two tries grows from 10 ms to 1 s, with jitter. No try begins once
    /// `limit` is over. Each has the timeout of the call, so an ask may end later by one timeout.
    /// The error is that of the last try.
    ///
    /// To be sent again, a message that is asked is encoded before the first try. One that cannot
    /// be encoded, because it holds a reference to an actor of a system without a network, is asked
    /// once.
    ///
    /// ```standalone_crate
    /// use casty::prelude::*;
    ///
    /// /// Starts on the third attempt.
    /// #[derive(Debug)]
    /// struct Slow;
    ///
    /// # static TRIES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    /// #[entity(backoff = "1ms")]
    /// impl Slow {
    ///     #[init]
    ///     fn load() -> Result<Self, String> {
    ///         # let tries = TRIES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ///         # if tries == 2 { return Ok(Self) }
    ///         // ..
    ///         Err("the database is not up yet".to_owned())
    ///     }
    ///
    ///     #[message]
    ///     fn greet(&self, name: String) -> String {
    ///         format!("hello, {name}")
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::local("app");
    /// let slow = system.entity::<Slow>("a");
    /// let greeting = slow.greet("you".into()).retry_for(Duration::from_secs(30)).await?;
    /// assert_eq!(greeting, "hello, you");
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_for(self, limit: Duration) -> Retry<A, T, E> {
        Retry { call: self, limit }
    }
}

impl<A: Actor, T, E> Retry<A, T, E> {
    /// Sends the message and does not wait for an answer. As [`Call::tell`], it waits for room,
    /// which is no reason to repeat it.
    ///
    /// # Errors
    /// [`TellError`] of the last try; it gives the message back.
    ///
    /// # Cancel safety
    /// If the future is dropped before it resolves, the message is not sent.
    pub async fn tell(self) -> Result<(), TellError<A::Message>> {
        let Self { mut call, limit } = self;
        let mut pauses = Pauses::new(limit, Instant::now());
        loop {
            let (to, timeout, spec) = (call.to.clone(), call.timeout, call.spec.clone());
            let Err(error) = call.tell().await else {
                return Ok(());
            };
            let Some(pause) = pauses.after::<A>(&to, error.repeat()) else {
                return Err(error);
            };
            let message = error.into_message();
            tokio::time::sleep(pause).await;
            call = Call {
                to,
                message,
                timeout,
                spec,
            };
        }
    }
}

impl<A: Actor, T: Send + 'static, E: Send + 'static> IntoFuture for Retry<A, T, E> {
    type Output = Result<T, AskError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

impl<A: Actor, T, E> Retry<A, T, E> {
    async fn ask(self) -> Result<T, AskError<E>> {
        let Self { call, limit } = self;
        let mut pauses = Pauses::new(limit, Instant::now());
        let (to, timeout, spec) = (call.to.clone(), call.timeout, call.spec.clone());
        let mut encoded = Vec::new();
        let can_repeat = call.message.encode(&mut encoded).is_ok();
        let mut asking = call.into_future();
        loop {
            let kept = can_repeat.then_some(&*encoded);
            let message = match pauses.next::<A, T, E>(&to, asking.await, kept) {
                AfterTry::End(end) => return end,
                AfterTry::Again(pause, message) => {
                    tokio::time::sleep(pause).await;
                    message
                }
            };
            asking = Ask::new(to.clone(), message, timeout, spec.clone());
        }
    }
}

impl<A: Actor, T, E> fmt::Debug for Retry<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({:?}, {:?})", self.call, self.limit)
    }
}

/// What follows a try.
pub(super) enum AfterTry<R, M> {
    End(R),
    /// The message is sent again after the pause.
    Again(Duration, M),
}

/// The pauses between tries.
pub(super) struct Pauses {
    /// The message is handled once, however often it is sent.
    pub(super) is_keyed: bool,
    begun: Instant,
    limit: Duration,
    backoff: Backoff,
}

impl Pauses {
    pub(super) fn new(limit: Duration, begun: Instant) -> Self {
        Self {
            is_keyed: false,
            begun,
            limit,
            backoff: Backoff::new(PAUSE, PAUSE_MAX),
        }
    }

    /// The consequence of a try. `kept`: its message, encoded, where it can be sent again.
    pub(super) fn next<A: Actor, T, E>(
        &mut self,
        to: &A::Address,
        tried: Result<T, AskError<E>>,
        kept: Option<&[u8]>,
    ) -> AfterTry<Result<T, AskError<E>>, A::Message> {
        let mut again = || {
            let error = tried.as_ref().err()?;
            let repeat = if self.is_keyed {
                error.repeat_keyed()
            } else {
                error.repeat()
            };
            let pause = self.after::<A>(to, repeat)?;
            let message = to.runtime().enter(|| A::Message::decode(kept?).ok())?;
            Some(AfterTry::Again(pause, message))
        };
        again().unwrap_or(AfterTry::End(tried))
    }

    fn after<A: Actor>(&mut self, to: &A::Address, repeat: Repeat) -> Option<Duration> {
        let runtime = to.runtime();
        let can_help = match repeat {
            Repeat::IfItStartsAgain => A::Address::STARTS_AGAIN,
            _ => true,
        };
        if !can_help || runtime.is_stopped() {
            return None;
        }
        self.pause(repeat, Instant::now(), runtime.jitter())
    }

    /// The pause before the next try; `None` if there is none. `jitter` is random, from 0 to 1.
    fn pause(&mut self, repeat: Repeat, now: Instant, jitter: f64) -> Option<Duration> {
        let least = match repeat {
            Repeat::Never => return None,
            Repeat::Soon | Repeat::IfItStartsAgain => Duration::ZERO,
            Repeat::After(least) => least,
        };
        let spent = now.saturating_duration_since(self.begun);
        let left = self.limit.saturating_sub(spent);
        if left.is_zero() || least > left {
            return None;
        }
        // The last try is made when the time is up.
        Some(self.backoff.pause(jitter).max(least).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_up_to_a_second_and_end_with_the_limit() {
        let begun = Instant::now();
        let (mut now, limit) = (begun, SECOND * 10);
        let mut pauses = Pauses::new(limit, begun);
        let mut longest = Duration::ZERO;
        while let Some(pause) = pauses.pause(Repeat::Soon, now, 1.0) {
            assert!(pause <= PAUSE_MAX && !pause.is_zero(), "{pause:?}");
            let last = now + pause == begun + limit;
            assert!(pause >= longest || last, "{pause:?} after {longest:?}");
            longest = longest.max(pause);
            now += pause;
        }
        assert_eq!((longest, now), (PAUSE_MAX, begun + limit));
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept_or_not_begun() {
        let begun = Instant::now();
        let mut pauses = Pauses::new(SECOND * 10, begun);
        let after = Repeat::After(SECOND * 4);
        assert_eq!(pauses.pause(after, begun, 0.0), Some(SECOND * 4));
        assert_eq!(pauses.pause(after, begun + SECOND * 8, 0.0), None);
        assert_eq!(pauses.pause(Repeat::Never, begun, 0.0), None);
        let mut endless = Pauses::new(Duration::MAX, begun);
        assert!(endless.pause(after, begun + SECOND, 0.5).is_some());
    }
}
