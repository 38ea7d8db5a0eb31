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
        message::{Message as _, stored_by_user},
    },
    infra::{panic::panic_text, sync::lock},
    message::codec,
    persistence::sends::OnceTerms,
    recorder::{
        answers::Answers,
        recording::{Noted, RecordedState, RecordedTurn, StateAfter, TurnOutcome, now},
        ring::{Frozen, PART_BYTES_MAX, SharedRing},
    },
};

fn begins(ring: &SharedRing, turn: RecordedTurn, freeze: &mut dyn FnMut() -> Frozen) -> bool {
    let wants_state = lock(ring).wants_state();
    // A user's code, so without the lock.
    let state = wants_state.then(freeze);
    let answers = Arc::new(Answers::recorded());
    lock(ring).begin(state, turn, answers.clone());
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
            let encoded = codec::by_user(&mut |out| reply.encode(out).map(|()| ""));
            TurnOutcome::Replied(Noted::of(&encoded.map_or_else(|_| Vec::new(), |it| it.1)))
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
        let bytes = stored_by_user(message);
        let turn = RecordedTurn {
            at: now(),
            took: 0,
            caller: reply.came_from().caller().clone(),
            sender: sender(reply),
            message: message.name().to_owned(),
            bytes: bytes
                .filter(|bytes| bytes.len() <= PART_BYTES_MAX)
                .map(ByteBuf::from),
            due: self.ctx.reminded_millis(),
            outcome: TurnOutcome::Running,
            state: StateAfter::Unknown,
            asks: Vec::new(),
        };
        if begins(ring, turn, &mut || self.frozen_state()) {
            self.cell.runtime().recorder.check_room();
        }
    }

    fn frozen_state(&self) -> Frozen {
        let Some(state) = self.activation.state.as_ref().filter(|it| it.is_whole()) else {
            return Err("a failure has left none".to_owned());
        };
        let frozen = codec::by_user(&mut |out| self.cell.host.freeze(state, out));
        let (name, bytes) = frozen.map_err(|error| error.0)?;
        Ok(RecordedState {
            name: name.to_owned(),
            bytes: ByteBuf::from(bytes),
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
