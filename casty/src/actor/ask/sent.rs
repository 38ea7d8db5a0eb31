//! Sends: messages that are part of the record of what their sender has changed.
//!
//! A send is encoded when the handler makes it, and kept in the record. The outbox of the sender's
//! shard carries it, by [`deliver`], to the receiver, as an ask whose terms name it. The receiver
//! answers [`TAKEN`] once it has the send in a durable record of its own. A reminder is carried
//! likewise, to the entity that has set it.

use std::{fmt, future::poll_fn, sync::Arc};

use futures_util::future::{BoxFuture, ready};

use crate::{
    actor::{
        Entity, Message as _,
        ask::{
            call::{Call, UnderWay},
            reply::Answer,
            terms::Terms,
        },
        message::of_stored,
        outcome::{GAP, TAKEN, Unsendable, VOID},
        reference::{EntityRef, Stored},
        runtime::Runtime,
    },
    error::Failure,
    message::codec::DecodeError,
    persistence::{
        outbox::Letter,
        sends::{AnswerForm, OnceTerms, WrittenSend},
    },
    protocol::outbox::{Carried, Receiver},
    trace,
};

/// A call, as a record has it.
pub(crate) fn written<A: Stored, T, E>(
    call: Call<A, T, E>,
    answer: Option<AnswerForm>,
) -> Result<WrittenSend, Unsendable> {
    let (to, message) = call.into_parts();
    let id = to.entity_id().clone();
    id.check().map_err(|reason| Unsendable::Id {
        id: id.clone(),
        reason,
    })?;
    let mut bytes = Vec::new();
    message.encode(&mut bytes)?;
    Ok(WrittenSend {
        kind: to.path().kind.as_str().into(),
        entity: id.into_text(),
        message: message.name().to_owned(),
        bytes: bytes.into(),
        answer: answer.map(Arc::new),
        trace: trace::here().map(Box::new),
    })
}

/// Carries a send, or a reminder, to an entity of type `E`.
pub(crate) fn deliver<E: Entity>(
    runtime: &Arc<Runtime>,
    to: Receiver,
    letter: &Letter,
    terms: OnceTerms,
) -> BoxFuture<'static, Carried> {
    let failed = |reason: String| Box::pin(ready(Carried::Failed(reason)));
    let message =
        match runtime.enter(|| of_stored::<E::Message>(&letter.send.message, &letter.send.bytes)) {
            Ok(message) => message,
            Err(DecodeError(reason)) => {
                return failed(format!("this node cannot read the message: {reason}"));
            }
        };
    let to = EntityRef::<E>::new(runtime.route::<E>(), to.entity);
    let mut terms = Terms::once(terms);
    terms.trace = letter.send.trace.as_deref().copied();
    let asking = UnderWay::<E>::on_terms(to, message, None, terms);
    let mut asking = match asking {
        Ok(asking) => asking,
        Err(failure) => return failed(failure.to_string()),
    };
    Box::pin(async move {
        let reason = match poll_fn(|cx| asking.poll(cx)).await {
            Ok(Answer::Encoded(bytes)) if *bytes == *TAKEN => return Carried::Taken,
            Ok(Answer::Encoded(bytes)) if *bytes == *VOID => return Carried::Void,
            Ok(Answer::Encoded(bytes)) if *bytes == *GAP => {
                "the receiver has not taken an earlier one".to_owned()
            }
            Ok(Answer::Encoded(_) | Answer::Reply(_)) => {
                "the receiver has handled it as any message, and may do so again: its type is not \
                 stored on its node"
                    .to_owned()
            }
            Ok(Answer::Failed(failure @ Failure::Panicked { .. })) => {
                return Carried::Broken(failure.to_string());
            }
            Ok(Answer::Failed(failure)) => failure.to_string(),
            Err(failed) => asking.error::<std::convert::Infallible>(failed).to_string(),
        };
        Carried::Failed(reason)
    })
}

/// How the entities of one type are sent to.
#[derive(Clone, Copy)]
pub(crate) struct Deliver(
    pub(crate) fn(&Arc<Runtime>, Receiver, &Letter, OnceTerms) -> BoxFuture<'static, Carried>,
);

impl fmt::Debug for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliver")
    }
}
