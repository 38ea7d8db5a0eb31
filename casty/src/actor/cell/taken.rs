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
        record_body::RecordBody,
        reminders::{ReminderChange, ReminderJudged, ReminderTerms},
        sends::{OnceTerms, SendTerms, TakenSend, WrittenSend},
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

/// What has come, and is not handled now.
pub(super) struct Unhandled {
    pub(super) answer: RawAnswer,
    /// What is to be recorded of it.
    pub(super) says: RecordBody,
    /// An operator has given it up.
    pub(super) is_given_up: bool,
}

/// What has come: a send, or a reminder.
pub(super) enum Came {
    /// It is handled. Of a reminder: for this time.
    New(Option<u64>),
    Unhandled(Box<Unhandled>),
}

impl Came {
    /// It is answered, and nothing is recorded.
    fn answered(answer: RawAnswer) -> Self {
        Self::Unhandled(Box::new(Unhandled {
            answer,
            says: RecordBody::default(),
            is_given_up: false,
        }))
    }

    /// It is taken by this record, without being handled.
    fn taken(says: RecordBody, is_given_up: bool) -> Self {
        Self::Unhandled(Box::new(Unhandled {
            answer: taken(),
            says,
            is_given_up,
        }))
    }
}

/// Whether a send, or a reminder, is handled now.
pub(super) fn judged(once: &OnceTerms, writer: &Writer) -> Came {
    match once {
        OnceTerms::Send(terms) => judged_send(terms, writer),
        OnceTerms::Reminder(terms) => judged_reminder(terms, writer),
    }
}

fn judged_send(terms: &SendTerms, writer: &Writer) -> Came {
    let last = writer.taken().of(&terms.kind, terms.shard);
    match judge(last, terms.mark, terms.after) {
        Judged::New if terms.is_given_up => {
            let reason = "an operator has given the message up".to_owned();
            let Received { taken, answer, .. } = received(terms, Err(reason)).unwrap_or_default();
            let says = RecordBody {
                taken,
                sends: answer.into_iter().collect(),
                ..RecordBody::default()
            };
            Came::taken(says, true)
        }
        Judged::New => Came::New(None),
        Judged::Repeat => Came::answered(taken()),
        Judged::Gap => Came::answered(RawAnswer::Encoded(GAP.into())),
    }
}

/// What is to be recorded of a send that was handled, and whose sender is told later.
pub(super) fn promised(terms: &SendTerms) -> Received {
    Received {
        taken: Some(terms.taken()),
        ..Received::default()
    }
}

/// What is to be recorded of a send that was handled. `outcome`: the encoded reply, or why there is
/// none.
pub(super) fn received(terms: &SendTerms, outcome: Result<&[u8], String>) -> Option<Received> {
    let sender = terms.waiting_sender();
    let answer = match sender
        .map(|sender| outcome::answering(&sender, outcome))
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

fn judged_reminder(terms: &ReminderTerms, writer: &Writer) -> Came {
    let moved = |change: ReminderChange, is_given_up: bool| {
        let says = RecordBody {
            reminders: vec![change],
            ..RecordBody::default()
        };
        Came::taken(says, is_given_up)
    };
    match writer.reminders().judge(terms, writer.reminder_millis()) {
        Ok(ReminderJudged::Due { change, .. }) if terms.is_given_up => moved(change, true),
        Ok(ReminderJudged::Due { at, .. }) => Came::New(Some(at)),
        Ok(ReminderJudged::Late(change)) => moved(change, false),
        Ok(ReminderJudged::Void) => Came::answered(RawAnswer::Encoded(VOID.into())),
        Err(error) => {
            let reason = error.to_string();
            tracing::error!(name = &*terms.name, reason, "a reminder cannot be handled");
            Came::answered(RawAnswer::Failed(Failure::Unreadable { reason }))
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
