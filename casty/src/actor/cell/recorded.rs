//! What the flight recorder keeps of a turn.
//!
//! Called where observers are. The parts that depend on the type are closures that encode, so that
//! the rest is compiled once.

use std::sync::Arc;

use serde_bytes::ByteBuf;

use crate::{
    actor::{
        Actor, Handled, Reply as _,
        ask::{chain, reply::ReplyTo},
        cell::{leased::CutShort, run::Run},
        message::{Message as _, stored_bytes},
    },
    infra::{
        panic::{self, panic_text},
        sync::lock,
    },
    message::codec::EncodeError,
    persistence::sends::OnceTerms,
    recorder::{
        answers::Answers,
        recording::{Noted, RecordedState, RecordedTurn, StateAfter, TurnOutcome, now},
        ring::{Frozen, PART_BYTES_MAX, SharedRing},
    },
};

/// Encodes something of a user's, whose code may panic.
fn encoded(
    encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<&'static str, EncodeError>,
) -> Result<(&'static str, ByteBuf), String> {
    let mut bytes = Vec::new();
    let name = panic::caught(|| encode(&mut bytes))
        .unwrap_or_else(|text| Err(EncodeError(format!("encoding it panicked: {text}"))));
    match name {
        Ok(name) => Ok((name, ByteBuf::from(bytes))),
        Err(EncodeError(reason)) => Err(reason),
    }
}

fn begins(
    ring: &SharedRing,
    activation: u32,
    turn: RecordedTurn,
    freeze: &mut dyn FnMut() -> Frozen,
) -> bool {
    let wants_state = lock(ring).wants_state(activation);
    // A user's code, so without the lock.
    let state = wants_state.then(freeze);
    let answers = Arc::new(Answers::recorded());
    lock(ring).begin(activation, state, turn, answers.clone());
    chain::records(Some(answers));
    wants_state
}

/// What has sent a message, as far as that is known.
fn sender<R>(reply: &ReplyTo<R>) -> Option<String> {
    if let ReplyTo::Own(own) = reply {
        let by = if own.is_work { "work" } else { "a timer" };
        return Some(format!("itself, by {by}"));
    }
    match reply.own_terms().and_then(|terms| terms.once.as_deref()) {
        Some(OnceTerms::Reminder(reminder)) => Some(format!("reminder `{}`", reminder.name)),
        Some(OnceTerms::Send(_)) => Some("a send".to_owned()),
        None => reply.chain().map(|chain| chain.name()),
    }
}

/// What became of a message.
pub(crate) fn outcome<A: Actor>(handled: &std::thread::Result<Handled<A>>) -> TurnOutcome {
    match handled {
        Ok(Handled::Reply(reply)) => {
            // An error is what its asker, if there is one, is told.
            let bytes = encoded(&mut |out| reply.encode(out).map(|()| ""));
            TurnOutcome::Replied(Noted::of(&bytes.map_or_else(|_| ByteBuf::new(), |it| it.1)))
        }
        Ok(Handled::Later(_)) => TurnOutcome::Deferred,
        Ok(Handled::Unhandled { state, .. }) => TurnOutcome::Unhandled {
            state: (*state).to_owned(),
        },
        Ok(Handled::Stash(_)) => TurnOutcome::Stashed,
        Err(panic) if panic.is::<CutShort>() => TurnOutcome::CutShort,
        Err(panic) => TurnOutcome::Panicked(panic_text(&**panic)),
    }
}

impl<A: Actor> Run<A> {
    #[cold]
    pub(super) fn begin_recorded(
        &self,
        ring: &SharedRing,
        message: &A::Message,
        reply: &ReplyTo<A::Reply>,
    ) {
        let bytes = encoded(&mut |out| {
            *out = stored_bytes(message)?;
            Ok("")
        });
        let bytes = bytes.ok().map(|(_, bytes)| bytes);
        let turn = RecordedTurn {
            at: now(),
            took: 0,
            caller: reply.came_from().caller().clone(),
            sender: sender(reply),
            message: message.name().to_owned(),
            bytes: bytes.filter(|bytes| bytes.len() <= PART_BYTES_MAX),
            due: self.ctx.reminded_millis(),
            outcome: TurnOutcome::Running,
            state: StateAfter::Unknown,
            asks: Vec::new(),
        };
        let activation = self.activation.life.number;
        if begins(ring, activation, turn, &mut || self.frozen_state()) {
            self.cell.runtime().recorder.check_room();
        }
    }

    fn frozen_state(&self) -> Frozen {
        let Some(state) = self.activation.state.as_ref().filter(|it| it.is_whole()) else {
            return Err("a failure has left none".to_owned());
        };
        let (name, bytes) = encoded(&mut |out| self.cell.host.freeze(state, out))?;
        Ok(RecordedState {
            name: name.to_owned(),
            bytes,
        })
    }

    #[cold]
    pub(super) fn end_recorded(
        &self,
        ring: &SharedRing,
        handled: &std::thread::Result<Handled<A>>,
    ) {
        chain::records(None);
        let outcome = outcome(handled);
        let after = handled.is_ok().then(|| self.frozen_state());
        let mut ring = lock(ring);
        let took = ring.begun_at().map_or(0, |at| now().saturating_sub(at));
        ring.end(took, outcome, after);
    }
}
