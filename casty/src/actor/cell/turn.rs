//! The handling of one message, from the batch to the handler's output.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    actor::{
        Actor, Envelope, Handled, Message as _, Reply,
        ask::{chain, promise::Deferred, reply::ReplyTo},
        cell::{
            Cell, keyed,
            leased::CutShort,
            metered,
            run::Run,
            stored::stores,
            taken::{self, Came, Received, Unhandled},
        },
        hold::Leave,
        message::discard,
        observer::Observing,
        runtime::Runtime,
        tally::Tally,
    },
    error::Failure,
    event::DeadLetterReason,
    infra::panic::{self, panic_text},
    message::answer::RawAnswer,
    persistence::{
        BODY_BYTES_MAX,
        keys::KeyedReply,
        record_body::{OutboxFull, RecordTooLarge},
        sends::{OnceTerms, SendTerms},
    },
    trace,
};

/// The result of handling one message.
pub(super) enum Turn<R> {
    /// The handler returned. The output is to be [settled](super::settle).
    Done(Output<R>),
    /// Nothing leaves: the message was stashed, or its loss is meant.
    Silent,
    /// The handler panicked, for this reason.
    Panicked(Output<R>, String),
    /// The handler was dropped where it awaited something.
    CutShort(Output<R>),
    /// What the handler has changed cannot be stored now. That is no failure of its code.
    NoRoom(Output<R>),
}

/// The output of a handled message.
pub(super) struct Output<R> {
    /// The message's name.
    name: &'static str,
    reply: ReplyTo<R>,
    what: What<R>,
}

enum What<R> {
    Answer(R),
    /// A promise will answer.
    Deferred(Deferred<R>),
    /// The message was not handled, or not to its end.
    Failure(Failure),
}

impl<R: Reply> Output<R> {
    /// Whether it says that the message was not handled, and nothing of the actor's state.
    fn fails(&self) -> bool {
        matches!(self.what, What::Failure(_))
    }

    /// Whether it says something of the actor's state.
    fn shows_the_state(&self) -> bool {
        match &self.what {
            What::Failure(failure) => matches!(
                failure,
                Failure::Unhandled { .. }
                    | Failure::Panicked { .. }
                    | Failure::RecordTooLarge { .. }
                    | Failure::OutboxFull { .. }
            ),
            _ => true,
        }
    }

    fn leave<A: Actor<Reply = R>>(self, cell: &Arc<Cell<A>>, is_guarded: bool) {
        match self.what {
            What::Answer(answer) => self.reply.answer(answer),
            What::Deferred(deferred) if is_guarded => {
                (deferred.0)(self.reply.guarded(cell.clone()));
            }
            What::Deferred(deferred) => (deferred.0)(self.reply),
            What::Failure(failure) => {
                let path = || cell.path();
                self.reply
                    .undelivered(cell.runtime(), &path, self.name, failure);
            }
        }
    }
}

/// The handler has returned, or panicked with this, and what it has changed is on its way. Its span
/// ends, if it has one.
pub(super) fn leave_span(panic: Option<&(dyn Any + Send)>) {
    let Some(span) = chain::exit_span() else {
        return;
    };
    let reason = panic.map(|panic| {
        let too_large = panic.downcast_ref().map(RecordTooLarge::to_string);
        let full = || panic.downcast_ref().map(OutboxFull::to_string);
        let cut = || {
            panic
                .is::<CutShort>()
                .then(|| "it was cut short".to_owned())
        };
        let known = too_large.or_else(full).or_else(cut);
        known.unwrap_or_else(|| panic_text(panic))
    });
    trace::ends(&span, reason.as_deref());
}

/// An output that waits, and the cell that it leaves.
struct HeldOutput<A: Actor> {
    output: Output<A::Reply>,
    cell: Arc<Cell<A>>,
    is_guarded: bool,
}

impl<A: Actor> Leave for HeldOutput<A> {
    fn leave(self: Box<Self>) {
        self.output.leave(&self.cell, self.is_guarded);
    }

    fn lose(self: Box<Self>, why: &Failure) {
        let Self {
            mut output, cell, ..
        } = *self;
        let is_wrong = matches!(
            why,
            Failure::NotStored { .. } | Failure::NotEnoughCopies { .. }
        ) && output.shows_the_state();
        if !output.fails() || is_wrong {
            output.what = What::Failure(why.clone());
        }
        output.leave(&cell, false);
    }
}

/// A message whose handler runs.
pub(super) struct Begun {
    /// The message's name.
    pub(super) name: &'static str,
    /// Whether an actor waits for the answer.
    is_caused: bool,
    /// When the handler began, if there are observers.
    observed: Option<Instant>,
    /// When the handler began, if it is timed.
    #[cfg(feature = "metrics")]
    timed: Option<Instant>,
}

/// A turn is a call of [`begin_turn`](Run::begin_turn), the handler, and a call of
/// [`end_turn`](Run::end_turn). The run awaits the handler itself: a future between them would move
/// each message twice more.
impl<A: Actor> Run<A> {
    #[inline]
    pub(super) fn begin_turn(&mut self, message: &A::Message, reply: &ReplyTo<A::Reply>) -> Begun {
        self.ctx
            .core()
            .comes_from(|| reply.came_from(), reply.is_from_here());
        #[cfg(feature = "testkit")]
        if !matches!(reply, ReplyTo::Own(_)) && reply.came_from().is_here() {
            let sender = self.cell.host.sender();
            self.ctx.core().comes_from(|| sender, false);
        }
        let chain = reply.chain().cloned();
        let is_caused = chain.is_some();
        if is_caused {
            chain::caused_by(chain);
        }
        let index = message.index();
        let name = A::Message::NAMES.get(index).copied().unwrap_or("?");
        self.cell.core.present.begin(index, self.batch.len());
        #[cfg(feature = "metrics")]
        let timed = self.uncounted.add(index, &*self.cell.host);
        let observed = self.observers.as_ref();
        let observed =
            observed.and_then(|observers| self.begin_observed(observers, message, reply));
        Begun {
            name,
            is_caused,
            observed,
            #[cfg(feature = "metrics")]
            timed,
        }
    }

    #[inline]
    pub(super) fn end_turn(&self, begun: &Begun, handled: &mut std::thread::Result<Handled<A>>) {
        #[cfg(feature = "metrics")]
        if let Some(since) = begun.timed {
            metered::timed(&*self.cell.host, &self.cell.core.name, since.elapsed());
        }
        if begun.is_caused {
            // No asker waits for the hooks that run later.
            chain::caused_by(None);
        }
        if let Some(observers) = &self.observers {
            self.end_observed(observers, begun, handled);
        }
    }

    /// Returns the time, if it is needed.
    #[cold]
    fn begin_observed(
        &self,
        observers: &Observing,
        message: &A::Message,
        reply: &ReplyTo<A::Reply>,
    ) -> Option<Instant> {
        let name = message.name();
        if let Some(ring) = &observers.ring {
            self.begin_recorded(ring, message, reply);
        }
        if trace::is_on()
            && let Some(relation) = reply.relation()
        {
            self.cell.enter_span(name, relation);
        }
        observers.begin(&*self.cell, name)
    }

    #[cold]
    fn end_observed(
        &self,
        observers: &Observing,
        begun: &Begun,
        handled: &mut std::thread::Result<Handled<A>>,
    ) {
        self.check_state(handled);
        if let Some(ring) = &observers.ring {
            self.end_recorded(ring, handled);
        }
        let panic = handled.as_ref().err().map(|panic| &**panic);
        if let Some(since) = begun.observed {
            observers.end(&*self.cell, begun.name, since, panic);
        }
        // The record of the turn is still part of its trace.
        if !const { stores::<A>() } {
            leave_span(panic);
        }
    }

    /// Turns a handler that has left a state which could not move into one that has failed, where
    /// that is asked for.
    fn check_state(&self, handled: &mut std::thread::Result<Handled<A>>) {
        let state = self.activation.state.as_ref();
        let Some(state) = state.filter(|state| handled.is_ok() && state.is_whole()) else {
            return;
        };
        let checking = AssertUnwindSafe(|| self.cell.host.can_move(state));
        match catch_unwind(checking) {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                *handled = Err(Box::new(format!(
                    "its state cannot move to another node: {reason}"
                )));
            }
            Err(panic) => *handled = Err(panic),
        }
    }

    /// The output of a handler that did not answer at once.
    #[cold]
    pub(super) fn conclude(
        &mut self,
        name: &'static str,
        handled: std::thread::Result<Handled<A>>,
        reply: ReplyTo<A::Reply>,
    ) -> Turn<A::Reply> {
        match handled {
            Ok(handled) => self.conclude_handled(name, handled, reply),
            Err(panic) if panic.is::<CutShort>() => {
                let what = What::Failure(cut_short(
                    self.cell.runtime(),
                    self.cell.core.why_cut_short(),
                ));
                Turn::CutShort(Output { name, reply, what })
            }
            Err(panic) => match panic.downcast::<RecordTooLarge>() {
                Ok(too_large) => {
                    let what = What::Failure(Failure::RecordTooLarge {
                        bytes: too_large.bytes,
                        bytes_max: BODY_BYTES_MAX,
                    });
                    let reason = format!("what it has changed is not stored: {too_large}");
                    Turn::Panicked(Output { name, reply, what }, reason)
                }
                Err(panic) => match panic.downcast::<OutboxFull>() {
                    Ok(full) => {
                        let waiting = full.waiting;
                        let what = What::Failure(Failure::OutboxFull { waiting });
                        Turn::NoRoom(Output { name, reply, what })
                    }
                    Err(panic) => panicked(name, reply, panic),
                },
            },
        }
    }

    fn conclude_handled(
        &mut self,
        name: &'static str,
        handled: Handled<A>,
        reply: ReplyTo<A::Reply>,
    ) -> Turn<A::Reply> {
        let what = match handled {
            Handled::Reply(answer) => What::Answer(answer),
            Handled::Later(deferred) => What::Deferred(deferred),
            Handled::Unhandled { silent: true, .. } if reply.is_nobody() => return Turn::Silent,
            Handled::Unhandled { state, .. } => {
                metered::tally(&*self.cell.host, Tally::Unhandled);
                What::Failure(Failure::Unhandled {
                    state: state.to_owned(),
                    message: name.to_owned(),
                })
            }
            Handled::Stash(message) if A::IS_MACHINE => {
                let stash = self.activation.stash.get_or_insert_default();
                if stash.len() >= A::POLICY.stash {
                    drop_given_up(stash);
                }
                if stash.len() < A::POLICY.stash {
                    stash.push_back(Envelope { message, reply });
                    return Turn::Silent;
                }
                if matches!(reply, ReplyTo::Own(_)) {
                    return Turn::Silent;
                }
                What::Failure(Failure::MailboxFull)
            }
            // No macro writes it: only a machine has a next state that could handle it.
            Handled::Stash(_) => What::Failure(Failure::MailboxFull),
        };
        Turn::Done(Output { name, reply, what })
    }

    /// Lets an answer leave, or holds it until it may. Returns whether another message may be
    /// handled. The usual case of [`settle`](Self::settle), without an [`Output`] that is moved.
    #[inline]
    pub(super) fn settle_answer(
        &mut self,
        name: &'static str,
        answer: A::Reply,
        reply: ReplyTo<A::Reply>,
    ) -> bool {
        if self
            .settle
            .are_met(&self.cell.core, const { stores::<A>() })
            && !self.settle.holds()
        {
            reply.answer(answer);
            return true;
        }
        self.settle(Output {
            name,
            reply,
            what: What::Answer(answer),
        })
    }

    /// Lets an output leave, or holds it until it may. Returns whether another message may be
    /// handled.
    #[cold]
    pub(super) fn settle(&mut self, output: Output<A::Reply>) -> bool {
        let may_leave = self
            .settle
            .are_met(&self.cell.core, const { stores::<A>() });
        if may_leave && !self.settle.holds() {
            output.leave(&self.cell, self.settle.guards());
            return true;
        }
        self.hold(output);
        if const { stores::<A>() } {
            return self.settle.may_handle(&self.cell.core, true);
        }
        may_leave && self.settle.has_room()
    }

    #[cold]
    fn hold(&mut self, output: Output<A::Reply>) {
        let is_guarded = self.settle.guards();
        // A failure that shows what is not stored yet waits as well.
        let fails = output.fails() && !(const { stores::<A>() } && output.shows_the_state());
        // That a message was not stored is news, also where no sender waits.
        let is_news = const { stores::<A>() } && !matches!(output.reply, ReplyTo::Own(_));
        if output.reply.is_nobody() && !output.fails() && !is_news {
            return output.leave(&self.cell, is_guarded);
        }
        let output = Box::new(HeldOutput {
            output,
            cell: self.cell.clone(),
            is_guarded,
        });
        self.settle.hold(output, fails, &self.cell.core);
        self.any().release();
    }
}

/// Asks with terms.
impl<A: Actor> Run<A> {
    /// Answers an ask whose key is remembered. Any other envelope comes back.
    #[inline]
    pub(super) fn recall(&mut self, envelope: Envelope<A>) -> Option<Envelope<A>> {
        if const { stores::<A>() } && matches!(envelope.reply, ReplyTo::OnTerms(_)) {
            self.recall_by_key(envelope)
        } else {
            Some(envelope)
        }
    }

    #[cold]
    fn recall_by_key(&mut self, mut envelope: Envelope<A>) -> Option<Envelope<A>> {
        let name = envelope.message.name();
        let Some(terms) = envelope.reply.terms() else {
            return Some(envelope);
        };
        let Some(writer) = self.settle.writer() else {
            if let Some(OnceTerms::Reminder(reminder)) = terms.once.as_deref() {
                let at = self.cell.host.unstored_due(&reminder.name);
                self.ctx.is_reminded(at);
            }
            return Some(envelope);
        };
        let known = match terms.once.as_deref() {
            Some(once) => match taken::judged(once, writer) {
                Came::New(at) => {
                    match once {
                        OnceTerms::Send(terms) => self.ctx.is_sent(terms.waiting_sender()),
                        OnceTerms::Reminder(_) => self.ctx.is_reminded(at),
                    }
                    return Some(envelope);
                }
                Came::Unhandled(unhandled) => {
                    self.pass_over(name, envelope.reply, *unhandled);
                    return None;
                }
            },
            None => keyed::recalled(terms, writer, name),
        };
        let Some(answer) = known else {
            return Some(envelope);
        };
        terms.heed(writer.progress(), writer.applied(), false);
        let answer = Deferred(Box::new(|reply: ReplyTo<_>| reply.answer_encoded(answer)));
        // It waits for all that is written, and so for the record that holds it.
        self.settle(Output {
            name,
            reply: envelope.reply,
            what: What::Deferred(answer),
        });
        None
    }

    /// Answers a send, or a reminder, that is not handled now, and records what there is to record
    /// of it.
    fn pass_over(
        &mut self,
        name: &'static str,
        mut reply: ReplyTo<A::Reply>,
        unhandled: Unhandled,
    ) {
        let Unhandled {
            mut answer,
            says,
            mut is_given_up,
        } = unhandled;
        if let Err(why) = self.settle.write(says, None) {
            let reason = why.to_string();
            answer = RawAnswer::Failed(Failure::Unreadable { reason });
            is_given_up = false;
        }
        self.place(&mut reply, false);
        let given_up = is_given_up.then(|| self.cell.clone());
        let answer = move |reply: ReplyTo<_>| {
            if let Some(cell) = given_up {
                let runtime = cell.runtime();
                runtime.dead_letter(cell.path(), name, DeadLetterReason::GivenUp);
            }
            reply.answer_encoded(answer);
        };
        // It waits for all that is written, and so for the record that says so.
        self.settle(Output {
            name,
            reply,
            what: What::Deferred(Deferred(Box::new(answer))),
        });
    }

    /// What is to be remembered of an ask with a key. Its answer, if it has one, is encoded.
    #[inline]
    pub(super) fn remembered(
        name: &'static str,
        reply: &mut ReplyTo<A::Reply>,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<KeyedReply> {
        let key = reply.terms()?.key.clone()?;
        Self::encode_answer(name, key, handled)
    }

    #[cold]
    fn encode_answer(
        name: &'static str,
        key: String,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<KeyedReply> {
        let slot = match handled {
            Ok(slot @ Handled::Reply(_)) => slot,
            Ok(Handled::Later(_)) => return Some(keyed::remembered(key, name, None)),
            // It was not handled.
            _ => return None,
        };
        let nothing = Handled::Unhandled {
            state: A::NAME,
            silent: true,
        };
        let Handled::Reply(answer) = std::mem::replace(slot, nothing) else {
            return None;
        };
        let answer = keyed::encoded(answer);
        let remembered = keyed::remembered(key, name, Some(&answer));
        let answer = |reply: ReplyTo<_>| reply.answer_encoded(answer);
        *slot = Handled::Later(Deferred(Box::new(answer)));
        Some(remembered)
    }

    /// What is to be recorded of a send, or a reminder, that was handled. Its sender is answered
    /// that it was taken.
    #[inline]
    pub(super) fn received(
        &mut self,
        name: &'static str,
        reply: &mut ReplyTo<A::Reply>,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<Received> {
        let once = reply.terms()?.once.as_deref()?;
        let handled = self.take(name, once, handled)?;
        match once {
            OnceTerms::Send(terms) => match handled {
                Handled::Later(_) if self.ctx.is_promised() => Some(taken::promised(terms)),
                handled => Self::take_send(terms, handled),
            },
            OnceTerms::Reminder(terms) => {
                if let Handled::Reply(reply) = handled {
                    discard(reply);
                }
                taken::reminded(terms, self.settle.writer()?)
            }
        }
    }

    /// What the handler has returned. The answer, which says that the message was taken, stands in
    /// its place. `None`: it is not taken, or only in a later state.
    #[cold]
    fn take(
        &self,
        name: &'static str,
        once: &OnceTerms,
        handled: &mut std::thread::Result<Handled<A>>,
    ) -> Option<Handled<A>> {
        let slot = handled.as_mut().ok()?;
        let lost = match slot {
            Handled::Stash(_) => return None,
            // There is no later word of it: it is gone once that is stored.
            Handled::Unhandled { state, silent } if !*silent && !once.wants_answer() => {
                Some((*state, self.cell.clone()))
            }
            _ => None,
        };
        let taken = move |reply: ReplyTo<_>| {
            if let Some((state, cell)) = lost {
                let unhandled = Failure::Unhandled {
                    state: state.to_owned(),
                    message: name.to_owned(),
                };
                cell.runtime()
                    .dead_letter(cell.path(), name, unhandled.into());
            }
            reply.answer_encoded(taken::taken());
        };
        Some(std::mem::replace(
            slot,
            Handled::Later(Deferred(Box::new(taken))),
        ))
    }

    #[cold]
    fn take_send(terms: &SendTerms, handled: Handled<A>) -> Option<Received> {
        let outcome = match handled {
            Handled::Reply(reply) if terms.answer.is_some() => match keyed::encoded(reply) {
                RawAnswer::Encoded(bytes) => Ok(bytes),
                RawAnswer::Failed(failure) => Err(failure.to_string()),
            },
            Handled::Reply(reply) => {
                discard(reply);
                Ok(Bytes::new())
            }
            Handled::Later(_) => Err("its reply comes from a promise".to_owned()),
            Handled::Unhandled { state, .. } => {
                Err(format!("state `{state}` has no handler for it"))
            }
            Handled::Stash(_) => return None,
        };
        taken::received(terms, outcome.as_deref().map_err(String::clone))
    }

    /// What the handler has changed is written: its answer has seen that. `later`: it comes from a
    /// promise.
    #[inline]
    pub(super) fn place(&mut self, reply: &mut ReplyTo<A::Reply>, later: bool) {
        if let Some((terms, writer)) = reply.terms().zip(self.settle.writer()) {
            terms.heed(writer.progress(), writer.applied(), later);
        }
    }
}

#[cold]
fn panicked<R>(name: &'static str, reply: ReplyTo<R>, panic: Box<dyn Any + Send>) -> Turn<R> {
    let reason = panic_text(&*panic);
    panic::forget(panic);
    let what = What::Failure(Failure::Panicked {
        message: reason.clone(),
    });
    Turn::Panicked(Output { name, reply, what }, reason)
}

/// The error that an asker gets if the handler was dropped where it awaited something.
#[cold]
fn cut_short(runtime: &Runtime, why: &str) -> Failure {
    Failure::Unreachable {
        node: runtime.node.to_string(),
        reason: format!("{why}, and the handler was dropped"),
        maybe_handled: true,
    }
}

/// What was asked, and kept for a later state, is not handled for an asker that waits no more.
pub(super) fn drop_given_up<A: Actor>(stash: &mut VecDeque<Envelope<A>>) {
    panic::contained("a message that was given up", || {
        stash.retain(|envelope| !envelope.reply.is_given_up());
    });
}

/// The error that an asker gets if the answer may not leave.
pub(super) fn lost_lease(runtime: &Runtime) -> Failure {
    Failure::Unreachable {
        node: runtime.node.to_string(),
        reason: "it lost its lease while it handled the message".to_owned(),
        maybe_handled: true,
    }
}
