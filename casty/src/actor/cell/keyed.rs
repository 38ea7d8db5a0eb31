//! Asks of stored entities that come with terms: an ask with a key is handled once, however often
//! it is asked.
//!
//! The key and the answer are part of the record of what the message has changed, so they are there
//! again after a failover. A message that has changed nothing, such as one that was refused, leaves
//! no record, and is handled again when it is asked again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use crate::{
    actor::{
        Actor, Envelope, Handled, Message as _, Reply as _,
        ask::{promise::Deferred, reply::ReplyTo, terms::Terms},
        cell::{run::Run, turn::Output},
    },
    error::{Failure, InvalidKey},
    infra::{
        mutants,
        panic::{self, panic_text},
    },
    message::{answer::RawAnswer, codec::EncodeError},
    persistence::{keys::KeyedReply, writer::Writer},
};

impl<A: Actor> Run<A> {
    /// Answers an ask whose key is remembered. Any other envelope comes back.
    #[inline]
    pub(super) fn recall(&mut self, envelope: Envelope<A>) -> Option<Envelope<A>> {
        if matches!(envelope.reply, ReplyTo::OnTerms(_)) {
            self.heed(envelope)
        } else {
            Some(envelope)
        }
    }

    #[cold]
    fn heed(&mut self, mut envelope: Envelope<A>) -> Option<Envelope<A>> {
        let name = envelope.message.name();
        let terms = envelope.reply.terms();
        let Some((terms, writer)) = terms.zip(self.settle.writer()) else {
            return Some(envelope);
        };
        let Some(answer) = recalled(terms, writer, name) else {
            return Some(envelope);
        };
        let answer = Deferred(Box::new(|reply: ReplyTo<_>| reply.answer_encoded(answer)));
        terms.heed(writer.progress(), writer.applied());
        // It waits for all that is written, and so for the record that holds it.
        self.settle(Output::deferred(name, envelope.reply, answer));
        None
    }

    /// What the handler has changed is written: its answer has seen that.
    #[inline]
    pub(super) fn place(&mut self, reply: &mut ReplyTo<A::Reply>) {
        if let Some((terms, writer)) = reply.terms().zip(self.settle.writer()) {
            terms.heed(writer.progress(), writer.applied());
        }
    }
}

/// The answer to an ask with a key that was asked before.
fn recalled(terms: &Terms, writer: &Writer, name: &str) -> Option<RawAnswer> {
    if let Err(invalid) = terms.check() {
        return Some(RawAnswer::Failed(Failure::InvalidKey(invalid)));
    }
    let known = writer.keys().get(terms.key.as_ref()?)?;
    if mutants::on("a_key_is_forgotten") {
        return None;
    }
    let failure = match &known.reply {
        _ if known.message != name => Failure::InvalidKey(InvalidKey::Taken {
            message: known.message.clone(),
        }),
        Some(reply) => return Some(RawAnswer::Encoded(reply.to_vec().into())),
        None => Failure::Reply {
            reason: "the message was handled when it was first asked with this key; its reply is \
                     not remembered, since it came from a promise, or could not be encoded"
                .to_owned(),
        },
    };
    Some(RawAnswer::Failed(failure))
}

/// What is to be remembered of an ask with a key. Its answer, if it has one, is encoded.
#[cold]
pub(super) fn remembered<A: Actor>(
    name: &'static str,
    reply: &mut ReplyTo<A::Reply>,
    handled: &mut thread::Result<Handled<A>>,
) -> Option<KeyedReply> {
    let key = reply.terms()?.key.clone()?;
    let nothing = || Handled::Unhandled {
        state: A::NAME,
        silent: true,
    };
    let reply = match handled {
        Ok(slot @ Handled::Reply(_)) => {
            let Handled::Reply(answer) = std::mem::replace(slot, nothing()) else {
                return None;
            };
            let answer = encoded::<A>(answer);
            let remembered = match &answer {
                RawAnswer::Encoded(bytes) => Some(bytes.to_vec().into()),
                RawAnswer::Failed(_) => None,
            };
            let answer = |reply: ReplyTo<_>| reply.answer_encoded(answer);
            *slot = Handled::Later(Deferred(Box::new(answer)));
            remembered
        }
        Ok(Handled::Later(_)) => None,
        // It was not handled.
        _ => return None,
    };
    Some(KeyedReply {
        key,
        message: name.to_owned(),
        reply,
    })
}

/// A user's code encodes, which may panic.
fn encoded<A: Actor>(answer: A::Reply) -> RawAnswer {
    let mut bytes = Vec::new();
    let encoded = catch_unwind(AssertUnwindSafe(|| answer.encode(&mut bytes)));
    let encoded = encoded.unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        panic::forget(panic);
        Err(EncodeError(format!("encoding it panicked: {text}")))
    });
    match encoded {
        Ok(()) => RawAnswer::Encoded(bytes.into()),
        Err(EncodeError(reason)) => RawAnswer::Failed(Failure::Reply { reason }),
    }
}
