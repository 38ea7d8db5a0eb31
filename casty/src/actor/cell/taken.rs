//! Sends of other entities, which a stored entity takes once.
//!
//! The mark of a send is part of the record that handling it writes, also if that has changed
//! nothing else (rule S3). So it is known after a failover that it was handled, and a send that
//! comes again is answered once that record is durable (S4). What the handler returns goes back as
//! a send of this entity, in the same record.

use crate::{
    actor::outcome::{self, GAP, TAKEN},
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

/// The answer to a send that was taken.
pub(super) fn taken() -> RawAnswer {
    RawAnswer::Encoded(TAKEN.into())
}

/// The answer to a send that is not handled now.
pub(super) fn known(terms: &SendTerms, writer: &Writer) -> Option<RawAnswer> {
    let last = writer.taken().of(&terms.kind, terms.shard);
    match judge(last, terms.mark, terms.after) {
        Judged::New => None,
        Judged::Repeat => Some(taken()),
        Judged::Gap => Some(RawAnswer::Encoded(GAP.into())),
    }
}

/// What is to be recorded of a send that was handled. `outcome`: the encoded reply, or why there is
/// none.
pub(super) fn received(terms: &SendTerms, outcome: Result<&[u8], String>) -> Option<Received> {
    let form = terms.answer.as_ref();
    let answer = match form
        .map(|form| outcome::answering(terms, form, outcome))
        .transpose()
    {
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
