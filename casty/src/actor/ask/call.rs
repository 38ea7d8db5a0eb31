//! Calls: a message to an actor, told or asked.

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
use tokio::time::Instant;

#[cfg(feature = "metrics")]
use crate::actor::ask::durations;
use crate::{
    actor::{
        Actor, Address, Envelope, Message as _, Rejected, Reply, ReplyCodec,
        ask::{
            chain::{self, Awaited, Waits},
            held,
            one_shot::{Arrival, Asked, EXACT, one_shot},
            reply::{Answer, Asker, ReplyTo},
            terms::Terms,
        },
        hold,
        message::stored_by_user,
        runtime::Runtime,
    },
    error::{AskError, Delay, Failure, TellError},
    message::codec::{self, DecodeError},
    recorder::{
        answers::Answers,
        recording::{Noted, RecordedAnswer, RecordedAsk},
    },
    trace::{self, Asking},
};

/// How long another node is asked, at most, what holds an ask up.
const EXPLAINED_MAX: Duration = Duration::from_millis(250);

/// How the answer to a message is read.
pub(crate) struct CallSpec<A: Actor, T, E> {
    /// `None` if the answer is to another message, which would be a bug of casty's.
    extract: fn(A::Reply) -> Option<Result<T, E>>,
    decode: Decode<T, E>,
}

/// How an encoded answer is read.
enum Decode<T, E> {
    Value(Read<T>),
    Result(Read<Result<T, E>>),
}

type Read<R> = fn(&[u8]) -> Result<R, DecodeError>;

impl<A: Actor, T: 'static> CallSpec<A, T, Infallible> {
    /// The handler returns a plain value.
    #[inline]
    pub(crate) fn value(codec: ReplyCodec<T>) -> Self {
        Self {
            extract: |reply| reply.answer().map(Ok),
            decode: Decode::Value(codec.decode),
        }
    }
}

impl<A: Actor, T: 'static, E: 'static> CallSpec<A, T, E> {
    /// The handler returns a `Result`.
    #[inline]
    pub(crate) fn result(codec: ReplyCodec<Result<T, E>>) -> Self {
        Self {
            extract: |reply| reply.answer(),
            decode: Decode::Result(codec.decode),
        }
    }
}

impl<A: Actor, T, E> CallSpec<A, T, E> {
    /// What an answer says.
    pub(super) fn read(
        &self,
        runtime: &Arc<Runtime>,
        answer: Answer<A::Reply>,
    ) -> Result<T, AskError<E>> {
        let read = match answer {
            Answer::Reply(reply) => match (self.extract)(reply) {
                Some(result) => return result.map_err(AskError::Entity),
                None => Err(DecodeError("the answer is to another message".to_owned())),
            },
            Answer::Encoded(bytes) => runtime.enter(|| match self.decode {
                Decode::Value(decode) => decode(&bytes).map(Ok),
                Decode::Result(decode) => decode(&bytes),
            }),
            Answer::Failed(failure) => return Err(failure.into()),
        };
        match read {
            Ok(result) => result.map_err(AskError::Entity),
            Err(DecodeError(reason)) => Err(AskError::Reply { reason }),
        }
    }
}

impl<A: Actor, T, E> Clone for CallSpec<A, T, E> {
    fn clone(&self) -> Self {
        Self {
            extract: self.extract,
            decode: match self.decode {
                Decode::Value(decode) => Decode::Value(decode),
                Decode::Result(decode) => Decode::Result(decode),
            },
        }
    }
}

/// A call that was built and not yet made: [`tell`](Self::tell) it, or `.await` it to ask.
///
/// `T` is the answer, `E` the error of a handler that returns `Result<T, E>`.
///
/// A call can be awaited, which makes it no [`Future`] yet: it is an [`IntoFuture`], and
/// [`into_future`](IntoFuture::into_future) gives the [`Ask`] that functions such as `tokio::spawn`
/// and `tokio::select!` want. [`Context::pipe`](crate::Context::pipe) takes the call itself.
///
/// ```standalone_crate
/// # use casty::prelude::*;
/// #[derive(Default)]
/// struct Adder;
///
/// #[entity]
/// impl Adder {
///     #[message]
///     fn add(&self, one: u32, two: u32) -> u32 {
///         one + two
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let system = ActorSystem::local("app");
/// let adder = system.entity::<Adder>("a");
/// assert_eq!(adder.add(1, 2).await, Ok(3));
/// let asking = tokio::spawn(adder.add(3, 4).into_future());
/// assert_eq!(asking.await.unwrap(), Ok(7));
/// # }
/// ```
#[must_use = "a call does nothing until it is told (`.tell().await`) or asked (`.await`)"]
pub struct Call<A: Actor, T, E = Infallible> {
    pub(super) to: A::Address,
    pub(super) message: A::Message,
    pub(super) timeout: Option<Duration>,
    pub(super) spec: CallSpec<A, T, E>,
}

impl<A: Actor, T, E> Call<A, T, E> {
    #[inline]
    pub(crate) fn new(to: &A::Address, message: A::Message, spec: CallSpec<A, T, E>) -> Self {
        Self {
            to: to.clone(),
            message,
            timeout: None,
            spec,
        }
    }

    pub(super) fn into_parts(self) -> (A::Address, A::Message) {
        (self.to, self.message)
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
        // A loop of tells yields now and then, so that other tasks run, such as the link's writer.
        tokio::task::coop::consume_budget().await;
        match try_send::<A>(&self.to, self.message) {
            Ok(()) => Ok(()),
            Err(rejected) => send_later::<A>(&self.to, rejected).await.map_err(refused),
        }
    }

    /// Sends the message if there is room for it now. Never waits; needs no async context.
    ///
    /// # Errors
    /// [`TellError`] gives the message back, [`TellError::Full`] among others.
    pub fn try_tell(self) -> Result<(), TellError<A::Message>> {
        held::offer_now(&self.to, told::<A>(self.message)).map_err(refused)
    }

    /// Asks with a timeout of its own, instead of the message's or the system's.
    ///
    /// The timeout starts when the ask first waits. Below one second it is exact to a millisecond;
    /// above, it may fire up to 1/16 late, because asks share one timer.
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
        Ask::new(self.to, self.message, self.timeout, self.spec)
    }
}

/// Queues a tell now. Compiled once for a type of actor, and not for each of its replies, as all
/// that follows.
#[inline]
pub(super) fn try_send<A: Actor>(to: &A::Address, message: A::Message) -> Result<(), Rejected<A>> {
    if trace::is_on() {
        return try_send_in_trace(to, message);
    }
    let reply = ReplyTo::Nobody;
    held::offer(to, Envelope { message, reply })
}

/// The same, where what tells may be part of a trace. A function of its own: to choose between two
/// replies costs each tell a twentieth.
#[cold]
fn try_send_in_trace<A: Actor>(to: &A::Address, message: A::Message) -> Result<(), Rejected<A>> {
    held::offer(to, told(message))
}

/// A message that asks for no answer. It has the teller's place in a trace, if that has one.
fn told<A: Actor>(message: A::Message) -> Envelope<A> {
    let reply = ReplyTo::Nobody.on_terms(trace::here().map(Terms::traced));
    Envelope { message, reply }
}

/// The rest of a tell that was not queued at once: waits for room, if room is what lacks.
#[cold]
pub(super) fn send_later<A: Actor>(
    to: &A::Address,
    rejected: Rejected<A>,
) -> BoxFuture<'static, Result<(), Rejected<A>>> {
    if rejected.failure != Failure::Full {
        return Box::pin(std::future::ready(Err(rejected)));
    }
    held::send(to, rejected.envelope)
}

pub(super) fn refused<A: Actor>(rejected: Rejected<A>) -> TellError<A::Message> {
    TellError::new(rejected.envelope.message, rejected.failure)
}

/// An ask under way: resolves to exactly one answer or one error.
///
/// # Cancel safety
/// Dropped before it is polled, the message is not sent. Dropped later, it may be handled all the
/// same, and the answer is thrown away.
#[must_use = "an ask does nothing until it is awaited"]
pub struct Ask<A: Actor, T, E = Infallible> {
    under_way: UnderWay<A>,
    spec: CallSpec<A, T, E>,
}

// Nothing in it is pinned in place: the parts that need it are boxed.
impl<A: Actor, T, E> Unpin for Ask<A, T, E> {}

impl<A: Actor, T, E> Future for Ask<A, T, E> {
    type Output = Result<T, AskError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.under_way.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(answer)) => {
                Poll::Ready(self.spec.read(self.under_way.runtime(), answer))
            }
            Poll::Ready(Err(failed)) => Poll::Ready(Err(self.under_way.error(failed))),
        }
    }
}

impl<A: Actor, T, E> Ask<A, T, E> {
    #[inline]
    pub(super) fn new(
        to: A::Address,
        message: A::Message,
        timeout: Option<Duration>,
        spec: CallSpec<A, T, E>,
    ) -> Self {
        Self {
            under_way: UnderWay::new(to, message, timeout),
            spec,
        }
    }
}

/// Records the answer to an ask of a handler.
#[cold]
fn record<R: Reply>(answers: &Answers, number: usize, answer: &Answer<R>) {
    let encoded = |reply: &R| {
        let encoded = codec::by_user(&mut |out| reply.encode(out).map(|()| ""));
        encoded.map(|(_, bytes)| RecordedAnswer::Reply(bytes.into()))
    };
    answers.answer(
        number,
        match answer {
            Answer::Encoded(bytes) => RecordedAnswer::Reply(bytes.to_vec().into()),
            Answer::Failed(failure) => RecordedAnswer::Failed(failure.clone()),
            Answer::Reply(reply) => encoded(reply).unwrap_or(RecordedAnswer::LeftOut),
        },
    );
}

/// Why an ask ends without an answer.
pub(super) enum NoAnswer {
    Failed(Failure),
    /// Its time is up.
    Late(Option<Delay>),
}

/// That an entity is not active is what an asker wants to know.
#[cold]
fn fail(span: &Asking, why: &Failure) {
    if *why != Failure::NotActive {
        span.fail(why);
    }
}

impl NoAnswer {
    #[cold]
    fn fail(&self, span: &Asking) {
        match self {
            Self::Failed(failure) => fail(span, failure),
            Self::Late(_) => span.fail(&"no answer in time"),
        }
    }
}

/// The part of an ask that is the same for all messages of a type of actor, and compiled once for
/// them.
pub(super) struct UnderWay<A: Actor> {
    to: A::Address,
    state: AskState<A>,
    after: Duration,
    waits: Waits,
}

enum AskState<A: Actor> {
    Unsent(A::Message),
    Sending(
        BoxFuture<'static, Result<(), Rejected<A>>>,
        Asked<Answer<A::Reply>>,
    ),
    Waiting(Asked<Answer<A::Reply>>),
    /// The time is up. The node of the target is asked what holds it up.
    Late(BoxFuture<'static, Option<Delay>>),
    /// The answer comes from a recording. `None`: there never is one.
    #[cfg(feature = "testkit")]
    Replayed(Option<Answer<A::Reply>>),
    Done,
}

impl<A: Actor> UnderWay<A> {
    fn new(to: A::Address, message: A::Message, timeout: Option<Duration>) -> Self {
        Self {
            after: timeout.unwrap_or(to.runtime().ask_timeout),
            to,
            state: AskState::Unsent(message),
            waits: Waits::new(None),
        }
    }

    /// An ask that is sent now, on these terms.
    pub(super) fn on_terms(
        to: A::Address,
        message: A::Message,
        timeout: Option<Duration>,
        terms: Terms,
    ) -> Result<Self, Failure> {
        let mut asking = Self {
            after: timeout.unwrap_or(to.runtime().ask_timeout),
            to,
            state: AskState::Done,
            waits: Waits::new(None),
        };
        let to_asker = |asker| ReplyTo::Asker(asker).on_terms(Some(terms));
        if let Err(why) = asking.send(message, to_asker) {
            if let Some(span) = asking.waits.span() {
                fail(span, &why);
            }
            return Err(why);
        }
        Ok(asking)
    }

    pub(super) fn runtime(&self) -> &Arc<Runtime> {
        self.to.runtime()
    }

    pub(super) fn error<E>(&self, failed: NoAnswer) -> AskError<E> {
        if let Some(span) = self.waits.span() {
            failed.fail(span);
        }
        match failed {
            NoAnswer::Late(delay) => AskError::Timeout {
                after: self.after,
                delay: delay.map(Box::new),
            },
            NoAnswer::Failed(failure) => failure.into(),
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<Answer<A::Reply>, NoAnswer>> {
        loop {
            match &mut self.state {
                AskState::Unsent(_) => {
                    let AskState::Unsent(message) =
                        std::mem::replace(&mut self.state, AskState::Done)
                    else {
                        continue;
                    };
                    if let Err(failure) = self.send(message, ReplyTo::Asker) {
                        self.record_failure(&failure);
                        return Poll::Ready(Err(NoAnswer::Failed(failure)));
                    }
                }
                // The timeout covers both the wait for room and the wait for the answer.
                AskState::Sending(sending, asked) => match sending.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => {
                        if let AskState::Sending(_, asked) =
                            std::mem::replace(&mut self.state, AskState::Done)
                        {
                            self.state = AskState::Waiting(asked);
                        }
                    }
                    Poll::Ready(Err(rejected)) => {
                        self.state = AskState::Done;
                        let why = hold::unsent(rejected.failure);
                        self.record_failure(&why);
                        return Poll::Ready(Err(NoAnswer::Failed(why)));
                    }
                    Poll::Pending => {
                        let Poll::Ready(_) = asked.poll(cx, self.after) else {
                            return Poll::Pending;
                        };
                        // Dropping `sending` withdraws the message.
                        self.state = AskState::Done;
                        let why = hold::not_confirmed().map_or(Failure::Full, hold::unsent);
                        self.record_failure(&why);
                        return Poll::Ready(Err(NoAnswer::Failed(why)));
                    }
                },
                AskState::Waiting(asked) => {
                    let Poll::Ready(outcome) = asked.poll(cx, self.after) else {
                        return Poll::Pending;
                    };
                    self.state = AskState::Done;
                    #[cfg(feature = "metrics")]
                    if let Some(since) = self.waits.timed {
                        self.to.runtime().asks.took(A::NAME, since.elapsed());
                    }
                    return Poll::Ready(match outcome {
                        Arrival::Answer(answer) => {
                            if let Some((answers, number)) = self.waits.recorded() {
                                record(answers, number, &answer);
                            }
                            if let (Some(span), Answer::Failed(why)) = (self.waits.span(), &answer)
                            {
                                fail(span, why);
                            }
                            Ok(answer)
                        }
                        // The envelope was dropped unhandled.
                        Arrival::Unanswered => {
                            self.record_failure(&Failure::Stopped);
                            Err(NoAnswer::Failed(Failure::Stopped))
                        }
                        Arrival::Late => match self.explain() {
                            Ok(()) => continue,
                            Err(why) => Err(why),
                        },
                    });
                }
                AskState::Late(delay) => {
                    return delay.as_mut().poll(cx).map(|delay| {
                        self.state = AskState::Done;
                        Err(NoAnswer::Late(delay))
                    });
                }
                #[cfg(feature = "testkit")]
                AskState::Replayed(answer) => {
                    let Some(answer) = answer.take() else {
                        return Poll::Pending;
                    };
                    self.state = AskState::Done;
                    return Poll::Ready(Ok(answer));
                }
                AskState::Done => panic!("an ask was polled after it had resolved"),
            }
        }
    }

    /// Finds out what holds the ask up, now that its time is up.
    #[cold]
    fn explain(&mut self) -> Result<(), NoAnswer> {
        if let Some((answers, number)) = self.waits.recorded() {
            answers.answer(number, RecordedAnswer::Late);
        }
        let runtime = self.to.runtime();
        if !runtime.has_lost_tokio() {
            let within = (self.after >= EXACT).then(|| (self.after / 16).min(EXPLAINED_MAX));
            let delay = self.to.explain(within).ok_or(NoAnswer::Late(None))?;
            self.state = AskState::Late(delay);
            return Ok(());
        }
        Err(NoAnswer::Failed(Failure::Unreachable {
            node: runtime.node.to_string(),
            reason: "the tokio runtime of this system has ended".to_owned(),
            maybe_handled: true,
        }))
    }

    /// Makes the ask a span, if what asks is part of a trace.
    #[cold]
    fn begin_span(&mut self, message: &'static str, reply: &mut ReplyTo<A::Reply>) {
        if let Some((span, context)) = Asking::begin(&self.to.path(), message) {
            self.waits.begin_span(span);
            reply.put_in_trace(context);
        }
    }

    /// Answers from a recording, and sends nothing, where a handler is replayed. Returns whether it
    /// is.
    #[cfg(feature = "testkit")]
    #[cold]
    fn replay(&mut self, answers: &Answers, message: &A::Message) -> bool {
        let Some(answer) = answers.next(self.asked(message)) else {
            return false;
        };
        self.state = match answer {
            RecordedAnswer::Reply(bytes) => {
                AskState::Replayed(Some(Answer::Encoded(bytes.into_vec().into())))
            }
            RecordedAnswer::Failed(failure) => AskState::Replayed(Some(Answer::Failed(failure))),
            RecordedAnswer::None | RecordedAnswer::LeftOut => AskState::Replayed(None),
            RecordedAnswer::Late => AskState::Late(Box::pin(std::future::ready(None))),
        };
        true
    }

    /// Has the answer recorded.
    #[cold]
    fn record(&mut self, answers: &Answers, message: &A::Message) {
        let number = answers.ask(self.asked(message));
        self.waits.record(number);
    }

    #[cold]
    fn record_failure(&self, failure: &Failure) {
        if let Some((answers, number)) = self.waits.recorded() {
            answers.answer(number, RecordedAnswer::Failed(failure.clone()));
        }
    }

    /// The ask, as a recording has it. Of an actor that is no entity, the type alone: its number is
    /// another one in each process.
    fn asked(&self, message: &A::Message) -> RecordedAsk {
        let path = self.to.path();
        let to = if A::Address::STARTS_AGAIN {
            path.to_string()
        } else {
            path.kind
        };
        RecordedAsk {
            to,
            message: message.name().to_owned(),
            arguments: stored_by_user(message).map(|bytes| Noted::of(&bytes)),
            answer: RecordedAnswer::None,
        }
    }

    #[inline]
    fn send(
        &mut self,
        message: A::Message,
        to_asker: impl FnOnce(Asker<A::Reply>) -> ReplyTo<A::Reply>,
    ) -> Result<(), Failure> {
        let (answerer, asked) = one_shot(&self.to.runtime().deadlines);
        let (to, name) = (&self.to, message.name());
        let chain = chain::asking(|| Awaited {
            to: Box::new({
                let to = to.clone();
                move || to.path()
            }),
            message: name,
            since: Instant::now(),
        });
        self.waits = Waits::new(chain.clone());
        #[cfg(feature = "metrics")]
        if durations::is_sampled() {
            self.waits.timed = Some(Instant::now());
        }
        let answers = chain.as_ref().and_then(|chain| chain.answers().cloned());
        let mut envelope = Envelope {
            message,
            reply: to_asker(Asker { answerer, chain }),
        };
        if let Some(answers) = answers {
            #[cfg(feature = "testkit")]
            if self.replay(&answers, &envelope.message) {
                return Ok(());
            }
            self.record(&answers, &envelope.message);
        }
        if trace::is_on() {
            self.begin_span(name, &mut envelope.reply);
        }
        self.state = match held::offer(&self.to, envelope) {
            Ok(()) => AskState::Waiting(asked),
            Err(Rejected {
                envelope,
                failure: Failure::Full,
            }) => AskState::Sending(held::send(&self.to, envelope), asked),
            Err(rejected) => return Err(rejected.failure),
        };
        Ok(())
    }
}

impl<A: Actor, T, E> fmt::Debug for Ask<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("after", &self.under_way.after)
            .finish_non_exhaustive()
    }
}
