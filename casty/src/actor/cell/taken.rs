//! Sends of other entities, which a stored entity takes once.
//!
//! The mark of a send is part of the record that handling it writes, also if that has changed
//! nothing else (rule S3). So it is known after a failover that it was handled, and a send that
//! comes again is answered once that record is durable (S4). What the handler returns goes back as
//! a send of this entity, in the same record.

use crate::{
    actor::{
        Actor, Handled,
        ask::{
            promise::Deferred,
            reply::ReplyTo,
            sent::{self, GAP, TAKEN},
        },
        cell::{keyed, run::Run},
    },
    infra::mutants,
    message::{answer::RawAnswer, codec::EncodeError},
    persistence::{
        sends::{SendTerms, TakenSend, WrittenSend},
        writer::Writer,
    },
    protocol::outbox::{Judged, judge},
};

/// What the record of a send says besides what it has changed.
pub(super) struct Received {
    pub(super) taken: TakenSend,
    pub(super) answer: Option<WrittenSend>,
}

/// The answer to a send that is not handled now.
pub(super) fn known(terms: &SendTerms, writer: &Writer) -> Option<RawAnswer> {
    let last = writer.taken().of(&terms.kind, terms.shard);
    match judge(last, terms.mark, terms.after) {
        Judged::New => None,
        Judged::Repeat => Some(RawAnswer::Encoded(TAKEN.into())),
        Judged::Gap => Some(RawAnswer::Encoded(GAP.into())),
    }
}

impl<A: Actor> Run<A> {
    /// What is to be recorded of a send that was handled. Its sender is answered that it was taken.
    #[inline]
    pub(super) fn received(
        reply: &mut ReplyTo<A::Reply>,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<Received> {
        let terms = reply.terms()?.sent.as_deref()?;
        Self::take_send(terms, handled)
    }

    #[cold]
    fn take_send(
        terms: &SendTerms,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<Received> {
        let Ok(slot) = handled else { return None };
        if matches!(slot, Handled::Stash(_)) {
            // It is handled in a later state.
            return None;
        }
        let taken = |reply: ReplyTo<_>| reply.answer_encoded(RawAnswer::Encoded(TAKEN.into()));
        let handled = std::mem::replace(slot, Handled::Later(Deferred(Box::new(taken))));
        let outcome = match handled {
            Handled::Reply(reply) if terms.answer.is_some() => match keyed::encoded(reply) {
                RawAnswer::Encoded(bytes) => Ok(bytes),
                RawAnswer::Failed(failure) => Err(failure.to_string()),
            },
            Handled::Reply(reply) => {
                crate::actor::message::discard(reply);
                Ok(bytes::Bytes::new())
            }
            Handled::Later(_) => Err("its reply comes from a promise".to_owned()),
            Handled::Unhandled { state, .. } => {
                Err(format!("state `{state}` has no handler for it"))
            }
            Handled::Stash(_) => return None,
        };
        let answer = terms.answer.as_ref().map(|form| {
            let outcome = outcome.as_deref().map_err(String::clone);
            sent::answering(terms, form, outcome)
        });
        let answer = match answer.transpose() {
            Ok(answer) => answer,
            Err(EncodeError(reason)) => {
                tracing::error!(reason, "the answer to a send cannot be encoded");
                None
            }
        };
        if mutants::on("taken_sends_are_not_recorded") {
            return None;
        }
        Some(Received {
            taken: terms.taken(),
            answer,
        })
    }
}
