//! A message on its way: told, or asked.

use std::{
    convert::Infallible,
    fmt,
    future::IntoFuture,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Address, Rejected,
        ask::{
            chain::{self, Waits},
            one_shot::{Asked, Outcome, one_shot},
        },
        envelope::{Answer, Asker, Envelope, ReplyTo},
    },
    error::{AskError, Failure, TellError},
    message::codec::{self, DecodeError},
};

/// How the answer to one kind of message is read. Generated.
#[doc(hidden)]
#[expect(clippy::type_complexity, reason = "spelled out, for generated code")]
pub struct CallSpec<A: Actor, T, E> {
    /// Of this message; `None` takes the system's default.
    pub timeout: Option<Duration>,
    /// `None` if the answer is to another message, which would be a bug of casty's.
    pub extract: fn(A::Reply) -> Option<Result<T, E>>,
    pub decode: fn(&[u8]) -> Result<Result<T, E>, DecodeError>,
}

/// A call that was built and not yet made: [`tell`](Self::tell) it, or `.await` it to ask.
///
/// `T` is the answer, `E` the error of a handler that returns `Result<T, E>`.
#[must_use = "a call does nothing until it is told (`.tell().await`) or asked (`.await`)"]
pub struct Call<A: Actor, T, E = Infallible> {
    to: A::Address,
    message: A::Message,
    timeout: Option<Duration>,
    spec: CallSpec<A, T, E>,
}

impl<A: Actor, T, E> Call<A, T, E> {
    #[doc(hidden)]
    pub fn new(to: &A::Address, message: A::Message, spec: CallSpec<A, T, E>) -> Self {
        Self {
            to: to.clone(),
            message,
            timeout: spec.timeout,
            spec,
        }
    }

    /// Sends the message and does not wait for an answer; waits for room in the mailbox, not for
    /// the handler.
    ///
    /// `Ok` means queued. What happens to a queued message that cannot be handled is told by a
    /// [`DeadLetter`](crate::Event::DeadLetter).
    ///
    /// # Errors
    /// [`TellError`] gives the message back: it was certainly not sent.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message is not sent.
    pub async fn tell(self) -> Result<(), TellError<A::Message>> {
        // A loop of tells lets others have the thread, now and then: the writer of the link among
        // them.
        tokio::task::coop::consume_budget().await;
        let envelope = Envelope {
            message: self.message,
            reply: ReplyTo::Nobody,
        };
        let rejected = match self.to.try_send(envelope) {
            Ok(()) => return Ok(()),
            Err(rejected) if rejected.failure == Failure::Full => {
                let sending = self.to.send(rejected.envelope);
                match sending.await {
                    Ok(()) => return Ok(()),
                    Err(rejected) => rejected,
                }
            }
            Err(rejected) => rejected,
        };
        Err(TellError::new(rejected.envelope.message, rejected.failure))
    }

    /// Sends the message if there is room for it now. Never waits; needs no async context.
    ///
    /// # Errors
    /// [`TellError`] gives the message back, [`TellError::Full`] among others.
    pub fn try_tell(self) -> Result<(), TellError<A::Message>> {
        let envelope = Envelope {
            message: self.message,
            reply: ReplyTo::Nobody,
        };
        self.to
            .try_send(envelope)
            .map_err(|Rejected { envelope, failure }| TellError::new(envelope.message, failure))
    }

    /// Asks with a timeout of its own, instead of the message's or the system's.
    ///
    /// It counts from when the ask first has to wait. One shorter than a second is kept to the
    /// millisecond; a longer one may last longer than it says, by a sixteenth, since nobody starts
    /// a timer for it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<A: Actor, T, E> fmt::Debug for Call<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", crate::actor::Message::name(&self.message))
    }
}

impl<A: Actor, T, E> IntoFuture for Call<A, T, E> {
    type Output = Result<T, AskError<E>>;
    type IntoFuture = Ask<A, T, E>;

    fn into_future(self) -> Ask<A, T, E> {
        Ask {
            after: self.timeout.unwrap_or(self.to.runtime().ask_timeout),
            to: self.to,
            state: State::Unsent(self.message),
            waits: Waits::new(None),
            spec: self.spec,
        }
    }
}

/// An ask under way: resolves to exactly one answer or one error.
///
/// # Cancel safety
/// Dropped before it is polled, the message is not sent. Dropped later, it may be handled all the
/// same, and the answer is thrown away.
#[must_use = "an ask does nothing until it is awaited"]
pub struct Ask<A: Actor, T, E = Infallible> {
    to: A::Address,
    state: State<A>,
    after: Duration,
    waits: Waits,
    spec: CallSpec<A, T, E>,
}

enum State<A: Actor> {
    Unsent(A::Message),
    Sending(
        BoxFuture<'static, Result<(), Rejected<A>>>,
        Asked<Answer<A::Reply>>,
    ),
    Waiting(Asked<Answer<A::Reply>>),
    Done,
}

// Nothing in it is pinned in place: the parts that need it are boxed.
impl<A: Actor, T, E> Unpin for Ask<A, T, E> {}

impl<A: Actor, T, E> Future for Ask<A, T, E> {
    type Output = Result<T, AskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Unsent(_) => {
                    let State::Unsent(message) = std::mem::replace(&mut this.state, State::Done)
                    else {
                        continue;
                    };
                    if let Err(failure) = this.send(message) {
                        return Poll::Ready(Err(failure.into()));
                    }
                }
                // The time is up for both, the wait for room and the wait for the answer.
                State::Sending(sending, asked) => match sending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => {
                        if let State::Sending(_, asked) =
                            std::mem::replace(&mut this.state, State::Done)
                        {
                            this.state = State::Waiting(asked);
                        }
                    }
                    Poll::Ready(Err(rejected)) => {
                        this.state = State::Done;
                        return Poll::Ready(Err(rejected.failure.into()));
                    }
                    Poll::Pending => {
                        let Poll::Ready(_) = asked.poll(cx, this.after) else {
                            return Poll::Pending;
                        };
                        // Dropping `sending` withdraws the message.
                        this.state = State::Done;
                        return Poll::Ready(Err(AskError::Full));
                    }
                },
                State::Waiting(asked) => {
                    let Poll::Ready(outcome) = asked.poll(cx, this.after) else {
                        return Poll::Pending;
                    };
                    this.state = State::Done;
                    return Poll::Ready(match outcome {
                        Outcome::Answer(answer) => this.read(answer),
                        // The envelope was dropped unhandled.
                        Outcome::Unanswered => Err(AskError::Stopped),
                        Outcome::Late => Err(AskError::Timeout { after: this.after }),
                    });
                }
                State::Done => panic!("an ask was polled after it had resolved"),
            }
        }
    }
}

impl<A: Actor, T, E> Ask<A, T, E> {
    fn send(&mut self, message: A::Message) -> Result<(), Failure> {
        let (answerer, asked) = one_shot(&self.to.runtime().deadlines);
        let chain = chain::here();
        self.waits = Waits::new(chain.clone());
        let envelope = Envelope {
            message,
            reply: ReplyTo::Asker(Asker { answerer, chain }),
        };
        self.state = match self.to.try_send(envelope) {
            Ok(()) => State::Waiting(asked),
            Err(Rejected {
                envelope,
                failure: Failure::Full,
            }) => State::Sending(self.to.send(envelope), asked),
            Err(rejected) => return Err(rejected.failure),
        };
        Ok(())
    }

    fn read(&self, answer: Answer<A::Reply>) -> Result<T, AskError<E>> {
        let mismatch = || DecodeError("the answer is to another message".to_owned());
        let read = match answer {
            Answer::Reply(reply) => (self.spec.extract)(reply).ok_or_else(mismatch),
            Answer::Encoded(bytes) => self.to.runtime().enter(|| (self.spec.decode)(&bytes)),
            Answer::Failed(failure) => return Err(failure.into()),
        };
        match read {
            Ok(result) => result.map_err(AskError::Entity),
            Err(DecodeError(reason)) => Err(AskError::Reply { reason }),
        }
    }
}

impl<A: Actor, T, E> fmt::Debug for Ask<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// Reads the reply of a handler that returns a plain value.
#[doc(hidden)]
pub(crate) fn decode_value<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<Result<T, Infallible>, DecodeError> {
    codec::decode(bytes).map(Ok)
}

/// Reads the reply of a handler that returns a `Result`.
#[doc(hidden)]
pub(crate) fn decode_result<T, E>(bytes: &[u8]) -> Result<Result<T, E>, DecodeError>
where
    Result<T, E>: serde::de::DeserializeOwned,
{
    codec::decode(bytes)
}
