//! Messages that handlers of stored entities send. When they leave is the business of
//! [`hold`](crate::actor::hold).

use std::future::ready;

use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    actor::{
        Actor, Address, Envelope, Rejected,
        hold::{self, Outgoing},
    },
    error::Failure,
    infra::panic,
};

/// Queues the envelope now, for a sender that can wait. What may not leave yet is refused as if
/// there were no room.
#[inline]
pub(crate) fn offer<A: Actor>(to: &A::Address, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
    if hold::is_on() && !hold::may_send() {
        return Err(Rejected::new(envelope, Failure::Full));
    }
    to.try_send(envelope)
}

/// The same, for a sender that does not wait.
#[inline]
pub(crate) fn offer_now<A: Actor>(
    to: &A::Address,
    envelope: Envelope<A>,
) -> Result<(), Rejected<A>> {
    if hold::is_on() {
        return queue(to, envelope);
    }
    to.try_send(envelope)
}

/// Waits until the envelope may leave, and for room; then queues it.
#[cold]
pub(crate) fn send<A: Actor>(
    to: &A::Address,
    envelope: Envelope<A>,
) -> BoxFuture<'static, Result<(), Rejected<A>>> {
    let Some(passage) = hold::passage() else {
        return to.send(envelope);
    };
    if passage.swallows() {
        panic::contained("a message", || drop(envelope));
        return Box::pin(ready(Ok(())));
    }
    let to = to.clone();
    Box::pin(async move {
        match passage.open().await {
            Ok(()) => to.send(envelope).await,
            Err(failure) => Err(Rejected::new(envelope, failure)),
        }
    })
}

#[cold]
fn queue<A: Actor>(to: &A::Address, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
    match hold::here() {
        Some(outlet) if outlet.has_room() => {
            let to = to.clone();
            outlet.queue(Box::new(Queued::<A> { to, envelope }));
            Ok(())
        }
        _ => Err(Rejected::new(envelope, Failure::Full)),
    }
}

/// A message that leaves later.
struct Queued<A: Actor> {
    to: A::Address,
    envelope: Envelope<A>,
}

impl<A: Actor> Outgoing for Queued<A> {
    fn send(self: Box<Self>) -> Option<BoxFuture<'static, ()>> {
        let Self { to, envelope } = *self;
        match to.try_send(envelope) {
            Ok(()) => None,
            Err(rejected) if rejected.failure == Failure::Full => {
                let sending = to.send(rejected.envelope);
                Some(Box::pin(sending.map(move |sent| {
                    sent.unwrap_or_else(|rejected| lost::<A>(&to, rejected));
                })))
            }
            Err(rejected) => {
                lost::<A>(&to, rejected);
                None
            }
        }
    }

    fn lose(self: Box<Self>, why: &Failure) {
        let Self { to, envelope } = *self;
        lost::<A>(&to, Rejected::new(envelope, why.clone()));
    }
}

/// Its sender does not learn of it any more.
fn lost<A: Actor>(to: &A::Address, rejected: Rejected<A>) {
    let Rejected { envelope, failure } = rejected;
    panic::contained("a message", || {
        envelope.undelivered(to.runtime(), &|| to.path(), failure);
    });
}
