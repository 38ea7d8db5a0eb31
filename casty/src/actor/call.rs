//! A message on its way: told, or asked.

use std::{
    convert::Infallible,
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{
    Actor, Address, Rejected,
    chain::{self, Waits},
    envelope::{Answer, Asker, Envelope, ReplyTo},
    runtime::Runtime,
    timer::Deadline,
};
use crate::{
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

    /// Sends the message and does not wait for an answer; waits for room in the mailbox, not for the handler.
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
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<A: Actor, T, E> fmt::Debug for Call<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", super::Message::name(&self.message))
    }
}

impl<A: Actor, T, E> IntoFuture for Call<A, T, E> {
    type Output = Result<T, AskError<E>>;
    type IntoFuture = Ask<A, T, E>;

    fn into_future(self) -> Ask<A, T, E> {
        let after = self.timeout.unwrap_or(self.to.runtime().ask_timeout);
        Ask {
            runtime: self.to.runtime().clone(),
            state: State::Unsent(self.to, self.message),
            after,
            deadline: None,
            waits: Waits::new(None),
            spec: self.spec,
        }
    }
}

/// An ask under way: resolves to exactly one answer or one error.
///
/// # Cancel safety
/// Dropped before it is polled, the message is not sent. Dropped later, it may be handled all the same, and the
/// answer is thrown away.
#[must_use = "an ask does nothing until it is awaited"]
pub struct Ask<A: Actor, T, E = Infallible> {
    runtime: Arc<Runtime>,
    state: State<A>,
    after: Duration,
    deadline: Option<Deadline>,
    waits: Waits,
    spec: CallSpec<A, T, E>,
}

enum State<A: Actor> {
    Unsent(A::Address, A::Message),
    Sending(
        BoxFuture<'static, Result<(), Rejected<A>>>,
        oneshot::Receiver<Answer<A::Reply>>,
    ),
    Waiting(oneshot::Receiver<Answer<A::Reply>>),
    Done,
}

// Nothing in it is pinned in place: the parts that need it are boxed.
impl<A: Actor, T, E> Unpin for Ask<A, T, E> {}

impl<A: Actor, T, E> Future for Ask<A, T, E> {
    type Output = Result<T, AskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.state, State::Done) {
                State::Unsent(to, message) => {
                    let (asker, answer) = oneshot::channel();
                    let chain = chain::here();
                    this.waits = Waits::new(chain.clone());
                    let envelope = Envelope {
                        message,
                        reply: ReplyTo::Asker(Asker {
                            answer: asker,
                            chain,
                        }),
                    };
                    match to.try_send(envelope) {
                        Ok(()) => this.state = State::Waiting(answer),
                        Err(Rejected {
                            envelope,
                            failure: Failure::Full,
                        }) => {
                            this.state = State::Sending(to.send(envelope), answer);
                        }
                        Err(rejected) => return Poll::Ready(Err(rejected.failure.into())),
                    }
                }
                State::Sending(mut sending, answer) => match sending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => this.state = State::Waiting(answer),
                    Poll::Ready(Err(rejected)) => return Poll::Ready(Err(rejected.failure.into())),
                    Poll::Pending => {
                        if this.poll_deadline(cx) {
                            // Dropping `sending` withdraws the message.
                            return Poll::Ready(Err(AskError::Full));
                        }
                        this.state = State::Sending(sending, answer);
                        return Poll::Pending;
                    }
                },
                State::Waiting(mut answer) => match Pin::new(&mut answer).poll(cx) {
                    Poll::Ready(Ok(answer)) => return Poll::Ready(this.read(answer)),
                    // The envelope was dropped unhandled.
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(AskError::Stopped)),
                    Poll::Pending => {
                        if this.poll_deadline(cx) {
                            return Poll::Ready(Err(AskError::Timeout { after: this.after }));
                        }
                        this.state = State::Waiting(answer);
                        return Poll::Pending;
                    }
                },
                State::Done => panic!("an ask was polled after it had resolved"),
            }
        }
    }
}

impl<A: Actor, T, E> Ask<A, T, E> {
    /// Whether the time is up. The timer starts with the first wait: most local answers need none.
    fn poll_deadline(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let after = self.after;
        let deadline = self.deadline.get_or_insert_with(|| Deadline::new(after));
        Pin::new(deadline).poll(cx).is_ready()
    }

    fn read(&self, answer: Answer<A::Reply>) -> Result<T, AskError<E>> {
        let mismatch = || DecodeError("the answer is to another message".to_owned());
        let read = match answer {
            Answer::Reply(reply) => (self.spec.extract)(reply).ok_or_else(mismatch),
            Answer::Encoded(bytes) => self.runtime.enter(|| (self.spec.decode)(&bytes)),
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
