//! The way back for an answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    actor::{
        ask::{
            chain::{Acts, Chain},
            one_shot::Answerer,
            remote_reply::{Conveyed, RemoteAsk, RemoteReply},
            terms::Terms,
        },
        message::{Reply, discard},
        runtime::Runtime,
    },
    error::Failure,
    event::ActorPath,
    message::{
        answer::{Pending, RawAnswer, WayBack},
        caller::CameFrom,
        codec,
    },
    trace::{Relation, TraceContext},
};

/// The result that an asker gets.
pub(crate) enum Answer<R> {
    /// From an actor in this process.
    Reply(R),
    /// From another node, still encoded: only the asker knows the type.
    Encoded(Bytes),
    Failed(Failure),
}

pub(crate) enum ReplyTo<R> {
    /// It was told, in this process.
    Nobody,
    /// It was told, over a connection.
    Told(CameFrom),
    /// An actor sent it to itself, by a timer or at the end of some work.
    Own(Own),
    Asker(Asker<R>),
    /// The same, where the reply goes through the codec and may have so many bytes.
    Strict(Box<(Asker<R>, usize)>),
    Remote(RemoteReply),
    /// The same, asked by an actor that waits for it.
    RemoteActor(Box<(RemoteReply, Arc<Chain>)>),
    /// An ask that was sent to another node, came back, and turns out to be for this one.
    Relay(Box<dyn Pending>),
    /// Answered at any time, but only while this actor may act.
    Guarded(Box<(ReplyTo<R>, Arc<dyn Acts>)>),
    /// More comes with the message than what it says.
    OnTerms(Box<(ReplyTo<R>, Terms)>),
}

/// Which activation sent a message to itself.
pub(crate) struct Own {
    pub(crate) activation: u32,
    /// The result of work, which keeps an actor awake; a timer does not.
    pub(crate) is_work: bool,
    /// The span that has begun the timer or the work, if that is sampled. Boxed: a context would
    /// make each envelope larger.
    cause: Option<Box<TraceContext>>,
    delivery: OneDelivery,
}

impl Own {
    pub(crate) fn new(
        activation: u32,
        is_work: bool,
        cause: Option<TraceContext>,
        delivery: &Arc<Delivery>,
    ) -> Self {
        Self {
            activation,
            is_work,
            cause: cause.map(Box::new),
            delivery: OneDelivery(delivery.clone()),
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.delivery.0.is_cancelled()
    }
}

/// What a timer, or work, shares with the message that it sends.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    cancelled: AtomicBool,
    over: Notify,
}

impl Delivery {
    /// The message is not to be handled any more, wherever it is.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Resolves when a message that was sent is dealt with. Once for each message.
    pub(crate) async fn is_over(&self) {
        self.over.notified().await;
    }
}

/// A message under way. Its end, with the envelope's, says that the message is dealt with.
struct OneDelivery(Arc<Delivery>);

impl Drop for OneDelivery {
    fn drop(&mut self) {
        self.0.over.notify_one();
    }
}

/// The asker that waits in this process.
pub(crate) struct Asker<R> {
    pub(crate) answerer: Answerer<Answer<R>>,
    /// The actors that wait for it, if it was asked by one.
    pub(crate) chain: Option<Arc<Chain>>,
}

impl<R: Reply> ReplyTo<R> {
    #[inline]
    pub(crate) fn answer(self, reply: R) {
        if matches!(self, Self::Nobody) {
            discard(reply);
        } else {
            self.answer_asker(reply);
        }
    }

    fn answer_asker(self, reply: R) {
        match self {
            Self::Nobody | Self::Told(_) | Self::Own(_) => discard(reply),
            Self::Asker(asker) => asker.answerer.answer(Answer::Reply(reply)),
            Self::Remote(remote) => remote.answer(reply),
            Self::RemoteActor(remote) => remote.0.answer(reply),
            Self::Relay(pending) => pending.complete(encoded(reply)),
            Self::Strict(strict) => {
                let (asker, bytes_max) = *strict;
                Box::new(asker).complete(encoded_within(reply, bytes_max));
            }
            Self::Guarded(guarded) => {
                let (to, cell) = *guarded;
                if cell.may_act() {
                    to.answer(reply);
                } else {
                    to.fail(cell.lost_lease());
                    discard(reply);
                }
            }
            Self::OnTerms(on_terms) if !on_terms.1.concern_the_answer() => {
                on_terms.0.answer_asker(reply);
            }
            Self::OnTerms(_) => self.answer_encoded(encoded(reply)),
        }
    }

    /// Answers with a reply that is encoded already.
    pub(crate) fn answer_encoded(self, answer: RawAnswer) {
        match self {
            Self::Guarded(guarded) => {
                let (to, cell) = *guarded;
                if cell.may_act() {
                    to.answer_encoded(answer);
                } else {
                    to.fail(cell.lost_lease());
                }
            }
            Self::OnTerms(on_terms) => {
                let (to, terms) = *on_terms;
                let is_remote = matches!(to, Self::Remote(_) | Self::RemoteActor(_));
                if is_remote && terms.is_ignored() {
                    let reason = "the message was handled, but its key does not count: the entity \
                                  is not stored where it lives";
                    let reason = reason.to_owned();
                    return to.fail(Failure::Reply { reason });
                }
                to.answer_encoded(terms.answer(answer));
            }
            other => {
                if let Some(pending) = other.into_pending() {
                    pending.complete(answer);
                }
            }
        }
    }
}

impl<R> From<Conveyed> for ReplyTo<R> {
    fn from(received: Conveyed) -> Self {
        match received {
            Conveyed::Told(from, terms) => Self::Told(from).on_terms(terms),
            Conveyed::Asked(RemoteAsk {
                reply,
                chain,
                terms,
            }) => match chain {
                None => Self::Remote(reply),
                Some(chain) => Self::RemoteActor(Box::new((reply, chain))),
            }
            .on_terms(terms),
        }
    }
}

impl<R> ReplyTo<R> {
    /// Whether no sender learns the outcome of the message, so that its loss must be a dead letter.
    pub(crate) fn is_nobody(&self) -> bool {
        match self {
            Self::Guarded(guarded) => guarded.0.is_nobody(),
            Self::OnTerms(on_terms) => on_terms.0.is_nobody(),
            other => matches!(other, Self::Nobody | Self::Told(_) | Self::Own(_)),
        }
    }

    /// Whether no asker waits any more, as far as is known here.
    pub(crate) fn is_given_up(&self) -> bool {
        match self {
            Self::Nobody | Self::Told(_) => false,
            Self::Own(own) => own.is_cancelled(),
            Self::Asker(asker) => asker.answerer.is_given_up(),
            Self::Strict(strict) => strict.0.answerer.is_given_up(),
            Self::Remote(remote) => remote.is_given_up(),
            Self::RemoteActor(remote) => remote.0.is_given_up(),
            Self::Relay(pending) => pending.is_given_up(),
            Self::Guarded(guarded) => guarded.0.is_given_up(),
            Self::OnTerms(on_terms) => on_terms.0.is_given_up(),
        }
    }

    /// Whether the message came over a connection that has ended, and asks for an answer.
    pub(crate) fn is_orphaned(&self) -> bool {
        match self {
            Self::Remote(remote) => remote.has_ended(),
            Self::RemoteActor(remote) => remote.0.has_ended(),
            Self::OnTerms(on_terms) => on_terms.0.is_orphaned(),
            _ => false,
        }
    }

    /// To be answered at any time, but only while the actor may act.
    pub(crate) fn guarded(self, cell: Arc<dyn Acts>) -> Self {
        Self::Guarded(Box::new((self, cell)))
    }

    /// The same, of an asker that wants more than an answer.
    pub(crate) fn on_terms(self, terms: Option<Terms>) -> Self {
        match terms {
            Some(terms) => Self::OnTerms(Box::new((self, terms))),
            None => self,
        }
    }

    /// The message is part of a trace.
    #[cold]
    pub(crate) fn put_in_trace(&mut self, trace: TraceContext) {
        if let Self::OnTerms(on_terms) = self {
            on_terms.1.trace = Some(trace);
        } else {
            let reply = std::mem::replace(self, Self::Nobody);
            *self = reply.on_terms(Some(Terms::traced(trace)));
        }
    }

    /// How the span of its handler is related to the sender's, if that is sampled.
    #[cold]
    pub(crate) fn relation(&self) -> Option<Relation> {
        match self {
            Self::OnTerms(on_terms) => {
                let (reply, terms) = &**on_terms;
                let is_asked = !reply.is_nobody() && terms.once.is_none();
                let relation = if is_asked {
                    Relation::Parent
                } else {
                    Relation::Cause
                };
                terms.trace.map(relation)
            }
            Self::Own(own) => own.cause.as_deref().copied().map(Relation::Cause),
            _ => None,
        }
    }

    /// Whether the message is for an entity that is active, and starts none.
    #[inline]
    pub(crate) fn is_for_active(&self) -> bool {
        matches!(self, Self::OnTerms(on_terms) if on_terms.1.is_for_active)
    }

    /// See [`terms`](Self::terms).
    pub(crate) fn own_terms(&self) -> Option<&Terms> {
        match self {
            Self::OnTerms(on_terms) => Some(&on_terms.1),
            _ => None,
        }
    }

    /// What the asker wants besides an answer.
    pub(crate) fn terms(&mut self) -> Option<&mut Terms> {
        match self {
            Self::OnTerms(on_terms) => Some(&mut on_terms.1),
            _ => None,
        }
    }

    /// The actors that wait for the answer, and the terms, as they travel.
    pub(crate) fn encode_chain(&self, runtime: &Runtime) -> Vec<u8> {
        let chain = runtime.encode_chain(self.chain());
        match self {
            Self::OnTerms(on_terms) => on_terms.1.encoded(chain),
            _ => chain,
        }
    }

    /// The actors that wait for the answer.
    pub(crate) fn chain(&self) -> Option<&Arc<Chain>> {
        match self {
            Self::Asker(asker) => asker.chain.as_ref(),
            Self::Strict(strict) => strict.0.chain.as_ref(),
            Self::RemoteActor(remote) => Some(&remote.1),
            Self::Guarded(guarded) => guarded.0.chain(),
            Self::OnTerms(on_terms) => on_terms.0.chain(),
            Self::Nobody | Self::Told(_) | Self::Own(_) | Self::Remote(_) | Self::Relay(_) => None,
        }
    }

    /// The process that the message came from.
    pub(crate) fn came_from(&self) -> CameFrom {
        match self {
            Self::Told(from) => from.clone(),
            Self::Remote(remote) => remote.came_from(),
            Self::RemoteActor(remote) => remote.0.came_from(),
            Self::Guarded(guarded) => guarded.0.came_from(),
            Self::OnTerms(on_terms) => on_terms.0.came_from(),
            // What another node sent back is this node's own.
            Self::Nobody | Self::Own(_) | Self::Asker(_) | Self::Strict(_) | Self::Relay(_) => {
                CameFrom::Here
            }
        }
    }

    /// Whether it was sent in this process, as most messages are.
    #[inline]
    pub(crate) const fn is_from_here(&self) -> bool {
        matches!(self, Self::Nobody | Self::Own(_) | Self::Asker(_))
    }

    /// The same, for a reply that goes through the codec on its way.
    pub(crate) fn strict(self, bytes_max: usize) -> Self {
        match self {
            Self::Asker(asker) => Self::Strict(Box::new((asker, bytes_max))),
            Self::OnTerms(on_terms) => {
                let (to, terms) = *on_terms;
                to.strict(bytes_max).on_terms(Some(terms))
            }
            other => other,
        }
    }

    /// Drops the duty to answer: the asker hears of the message in another way.
    pub(crate) fn forget(self) {
        match self {
            Self::Remote(remote) => remote.forget(),
            Self::RemoteActor(remote) => remote.0.forget(),
            Self::OnTerms(on_terms) => on_terms.0.forget(),
            _ => {}
        }
    }

    /// Says that a message was not handled: to its asker, or else as a dead letter.
    ///
    /// Not for [`ReplyTo::Own`] of an activation that is over: its message ends with it.
    #[cold]
    pub(crate) fn undelivered(
        self,
        runtime: &Runtime,
        to: &dyn Fn() -> ActorPath,
        message: &str,
        failure: Failure,
    ) {
        if self.is_nobody() {
            // What is for an active entity alone is not lost if there is none.
            if failure != Failure::NotActive {
                runtime.dead_letter(to(), message, failure.into());
            }
        } else {
            self.fail(failure);
        }
    }

    pub(crate) fn fail(self, failure: Failure) {
        match self {
            Self::Nobody | Self::Told(_) | Self::Own(_) => {}
            Self::Asker(asker) => asker.answerer.answer(Answer::Failed(failure)),
            Self::Strict(strict) => strict.0.answerer.answer(Answer::Failed(failure)),
            Self::Remote(remote) => remote.complete(RawAnswer::Failed(failure)),
            Self::RemoteActor(remote) => remote.0.complete(RawAnswer::Failed(failure)),
            Self::Relay(pending) => pending.complete(RawAnswer::Failed(failure)),
            Self::Guarded(guarded) => guarded.0.fail(failure),
            Self::OnTerms(on_terms) => on_terms.0.fail(failure),
        }
    }
}

impl<R: Send + 'static> ReplyTo<R> {
    /// The same, for an ask that leaves this node.
    pub(crate) fn into_pending(self) -> Option<Box<dyn Pending>> {
        match self {
            Self::Nobody | Self::Told(_) | Self::Own(_) => None,
            Self::Asker(asker) => Some(Box::new(asker)),
            Self::Strict(strict) => Some(Box::new(strict.0)),
            Self::Remote(remote) => Some(Box::new(remote)),
            Self::RemoteActor(remote) => Some(Box::new(remote.0)),
            Self::Relay(pending) => Some(pending),
            Self::Guarded(guarded) => guarded.0.into_pending(),
            Self::OnTerms(on_terms) => on_terms.0.into_pending(),
        }
    }
}

impl<R: Send + 'static> WayBack for ReplyTo<R> {
    fn take(&mut self) -> Option<Box<dyn Pending>> {
        if self.is_nobody() {
            return None;
        }
        std::mem::replace(self, Self::Nobody).into_pending()
    }
}

fn encoded<R: Reply>(reply: R) -> RawAnswer {
    let mut payload = Vec::new();
    let written = reply.encode(&mut payload);
    discard(reply);
    match written {
        Ok(()) => RawAnswer::Encoded(payload.into()),
        Err(codec::EncodeError(reason)) => RawAnswer::Failed(Failure::Reply { reason }),
    }
}

impl<R: Send> Pending for Asker<R> {
    fn complete(self: Box<Self>, answer: RawAnswer) {
        self.answerer.answer(match answer {
            RawAnswer::Encoded(bytes) => Answer::Encoded(bytes),
            RawAnswer::Failed(failure) => Answer::Failed(failure),
        });
    }

    fn is_given_up(&self) -> bool {
        self.answerer.is_given_up()
    }
}

/// As [`encoded`], for a reply that is to stay in these bounds.
fn encoded_within<R: Reply>(reply: R, bytes_max: usize) -> RawAnswer {
    match encoded(reply) {
        RawAnswer::Encoded(bytes) if bytes.len() > bytes_max => {
            let bytes = bytes.len();
            let reason = format!("the reply has {bytes} bytes, a frame at most {bytes_max}");
            RawAnswer::Failed(Failure::Reply { reason })
        }
        answer => answer,
    }
}

/// Says that a message from another node could not be read.
pub(crate) fn undecodable<R: Reply>(
    runtime: &Runtime,
    to: &dyn Fn() -> ActorPath,
    message: &str,
    reply: ReplyTo<R>,
    reason: String,
) {
    let failure = Failure::Undecodable {
        message: message.to_owned(),
        reason,
    };
    reply.undelivered(runtime, to, message, failure);
}
