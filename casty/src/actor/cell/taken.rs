//! Sends of other entities, and reminders, which a stored entity takes once.
//!
//! The mark of a send is part of the record that handling it writes, also if that has changed
//! nothing else (rule S3). So it is known after a failover that it was handled, and a send that
//! comes again is answered once that record is durable (S4). What the handler returns goes back as
//! a send of this entity, in the same record. A reminder that was handled is moved on, or gone, by
//! that record likewise.

use crate::{
    actor::outcome::{self, GAP, TAKEN, VOID},
    error::Failure,
    infra::mutants,
    message::{answer::RawAnswer, codec::EncodeError},
    persistence::{
        reminders::{ReminderChange, ReminderJudged, ReminderTerms},
        sends::{SendTerms, TakenSend, WrittenSend},
        writer::Writer,
    },
    protocol::outbox::{Judged, judge},
};

/// What the record of a send says besides what it has changed.
#[derive(Default)]
pub(super) struct Received {
    pub(super) taken: Option<TakenSend>,
    pub(super) answer: Option<WrittenSend>,
    /// Of a reminder: when it is due next.
    pub(super) reminder: Option<ReminderChange>,
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
        taken: Some(terms.taken()),
        answer,
        reminder: None,
    })
}

/// A reminder that has come.
pub(super) enum CameReminder {
    /// It is handled, for this time.
    Due(u64),
    /// It is not handled now, but answered, and this is to be recorded of it.
    Known(RawAnswer, Option<ReminderChange>),
}

pub(super) fn judged(terms: &ReminderTerms, writer: &Writer) -> CameReminder {
    match writer.reminders().judge(terms, writer.reminder_millis()) {
        Ok(ReminderJudged::Due { at, .. }) => CameReminder::Due(at),
        Ok(ReminderJudged::Late(change)) => CameReminder::Known(taken(), Some(change)),
        Ok(ReminderJudged::Void) => CameReminder::Known(RawAnswer::Encoded(VOID.into()), None),
        Err(error) => {
            let reason = error.to_string();
            tracing::error!(name = &*terms.name, reason, "a reminder cannot be handled");
            CameReminder::Known(RawAnswer::Failed(Failure::Unreadable { reason }), None)
        }
    }
}

/// What is to be recorded of a reminder that was handled.
pub(super) fn reminded(terms: &ReminderTerms, writer: &Writer) -> Option<Received> {
    if mutants::on("handled_reminders_are_not_recorded") {
        return None;
    }
    match writer.reminders().judge(terms, writer.reminder_millis()) {
        Ok(ReminderJudged::Due { change, .. } | ReminderJudged::Late(change)) => Some(Received {
            reminder: Some(change),
            ..Received::default()
        }),
        // It was judged before it was handled, and is still the same.
        Ok(ReminderJudged::Void) | Err(_) => None,
    }
}
