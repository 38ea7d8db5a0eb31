//! What the handlers of a stored type change, and how it gets into the store.
//!
//! A handler runs at once, on the state as earlier handlers have left it. What it has changed
//! becomes one record, which the store's committer writes, while the run goes on with the next
//! message. What the handler let out is held until the record is durable, see
//! [`settle`](super::settle). If a record is not stored, the activation
//! [ends](super::permission), and the next one begins with what is stored.

use std::{
    any::Any,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use futures_util::{FutureExt, future::BoxFuture, poll};

use crate::{
    actor::{
        Actor, Handled,
        ask::reply::ReplyTo,
        cell::{
            core::Core,
            hooks::{Hook, guarded},
            leased::{ActingLease, CutShort},
            run::Run,
            settle::Settle,
            taken::Received,
            turn::{Begun, leave_span},
        },
        context::written::{DueFollowUps, FollowUp, Written},
        handle::Signal,
        hold::Leave,
        runtime::Runtime,
        storage::{Retain, Storage},
    },
    error::Failure,
    infra::panic::{self, panic_text},
    message::codec::{self, EncodeError},
    persistence::{
        keys::KeyedReply,
        record_body::{RecordBody, Unwritable, WrittenState},
        upkeep::{Keep, Upkeep},
        writer::written_state,
    },
    trace,
};

/// Whether the type is stored. A constant: other types pay nothing for what depends on it.
#[inline]
pub(super) const fn stores<A: Actor>() -> bool {
    A::STORAGE.is_stored()
}

/// What is recorded of a message besides what it has changed.
#[derive(Default)]
struct Besides {
    key: Option<KeyedReply>,
    received: Option<Received>,
}

/// What a handler, or a hook, has let out.
type Outputs = Vec<Box<dyn Leave>>;

/// Awaits a handler, or a hook. What earlier ones have let out leaves meanwhile, if it may; what
/// this one lets out is returned.
async fn attend<T>(
    settle: &mut Settle,
    core: &Core,
    call: Pin<&mut (dyn Future<Output = T> + Send + '_)>,
) -> (T, Outputs) {
    let Some(holding) = settle.holding() else {
        return (call.await, Outputs::new());
    };
    let done = release_while(settle, core, holding.lets(call)).await;
    (done, holding.take())
}

async fn release_while<T>(
    settle: &mut Settle,
    core: &Core,
    mut call: impl Future<Output = T> + Unpin,
) -> T {
    if let Poll::Ready(done) = poll!(&mut call) {
        return done;
    }
    loop {
        let Some(progress) = settle.writer().map(|writer| writer.progress().clone()) else {
            return call.await;
        };
        // From here on a change is not missed.
        let changed = pin!(progress.changed().notified());
        settle.release(core);
        tokio::select! {
            biased;
            done = &mut call => return done,
            () = changed => {}
        }
    }
}

/// The turn that let these out has failed, or what it changed cannot be written.
fn lose(outputs: Outputs) {
    for output in outputs {
        output.lose(&Failure::Stopped);
    }
}

/// A state, and how it is encoded.
fn frozen(
    freeze: &mut dyn FnMut(&mut Vec<u8>) -> Result<&'static str, EncodeError>,
) -> Result<WrittenState, String> {
    match codec::by_user(freeze) {
        Ok((name, bytes)) => Ok(written_state(name, bytes)),
        Err(EncodeError(reason)) => Err(format!("its state cannot be stored: {reason}")),
    }
}

impl<A: Actor> Run<A> {
    /// Handles a message, and records what that changes.
    ///
    /// Boxed by a function that is not `async`: the compiler leaves out what a constant rules out
    /// there, and so generates nothing for types that are not stored.
    pub(super) fn stored_turn<'a>(
        &'a mut self,
        begun: &'a Begun,
        message: A::Message,
        reply: &'a mut ReplyTo<A::Reply>,
    ) -> BoxFuture<'a, std::thread::Result<Handled<A>>> {
        if const { !stores::<A>() } {
            return Box::pin(pending());
        }
        Box::pin(async move {
            let Some(state) = self.activation.state.as_mut() else {
                return Err(Box::new(CutShort) as Box<dyn Any + Send>);
            };
            let lease = ActingLease::since(&*self.cell, self.settle.since());
            let (mut handled, outputs) = {
                let handling = AssertUnwindSafe(state.handle(message, &mut self.ctx));
                let handling = pin!(lease.lets(handling.catch_unwind()));
                attend(&mut self.settle, &self.cell.core, handling).await
            };
            self.end_turn(begun, &mut handled);
            let later = matches!(handled, Ok(Handled::Later(_)));
            let besides = Besides {
                key: Self::remembered(begun.name, reply, &mut handled),
                received: self.received(begun.name, reply, &mut handled),
            };
            self.record_turn(&mut handled, outputs, besides);
            if self.observers.is_some() {
                leave_span(handled.as_ref().err().map(|panic| &**panic));
            }
            // Not before: what earlier messages have asked for is no part of this one's trace.
            if handled.is_ok() {
                self.any().release();
            }
            self.place(reply, later);
            handled
        })
    }

    /// Writes what the handler has changed, and holds what it let out. A handler whose changes
    /// cannot be written has failed.
    fn record_turn(
        &mut self,
        handled: &mut std::thread::Result<Handled<A>>,
        outputs: Outputs,
        besides: Besides,
    ) {
        if handled.is_err() {
            self.ctx.forget_written();
            lose(outputs);
        } else if let Err(why) = self.record(outputs, besides) {
            *handled = Err(match why {
                Unwritable::Encode(reason) => Box::new(reason),
                Unwritable::TooLarge(too_large) => Box::new(too_large),
                Unwritable::OutboxFull(full) => Box::new(full),
            });
        }
    }

    /// Writes what a handler, or a hook, has changed, and holds what it let out. An error says why
    /// it cannot be written: then the state must not be used any more.
    fn record(&mut self, outputs: Outputs, besides: Besides) -> Result<(), Unwritable> {
        let written = self.write(besides);
        if written.is_err() {
            lose(outputs);
            return written;
        }
        self.hold_all(outputs);
        Ok(())
    }

    fn hold_all(&mut self, outputs: Outputs) {
        for output in outputs {
            self.settle.hold(output, false, &self.cell.core);
        }
    }

    fn write(&mut self, besides: Besides) -> Result<(), Unwritable> {
        let Besides { key, received } = besides;
        let written = self.ctx.take_written();
        let Some(written) = written.or_else(|| received.is_some().then(Written::default)) else {
            return Ok(());
        };
        let Written {
            events,
            changes,
            erases,
            then,
            mut sends,
            reminders: wishes,
            ..
        } = written;
        let Received {
            taken,
            answer,
            reminder,
        } = received.unwrap_or_default();
        sends.extend(answer);
        let state = if changes { self.changed_state()? } else { None };
        if let Some(writer) = self.settle.writer() {
            let mut reminders = writer.reminders().changed(reminder, wishes)?;
            if erases {
                reminders.clear();
            }
            let body = RecordBody {
                events,
                key,
                erases,
                sends,
                taken,
                reminders,
                trace: trace::here().map(Box::new),
                ..RecordBody::default()
            };
            self.settle.write(body, state)?;
        } else {
            self.cell.host.unstored(sends, wishes, erases)?;
        }
        for then in then {
            let due = self.ctx.due();
            let then = Box::new(HeldThen { then, due });
            self.settle.hold(then, false, &self.cell.core);
        }
        if erases {
            self.hold_erasure();
            self.settle.keep_taken()?;
        } else {
            self.hold_snapshot();
        }
        Ok(())
    }

    fn freeze(&self) -> Result<Option<WrittenState>, String> {
        let Some(state) = self
            .activation
            .state
            .as_ref()
            .filter(|state| state.is_whole())
        else {
            return Ok(None);
        };
        frozen(&mut |out| self.cell.host.freeze(state, out)).map(Some)
    }

    /// The state, if it is stored as it is and has changed.
    fn changed_state(&mut self) -> Result<Option<WrittenState>, String> {
        // A `testkit::Machine` has no store.
        if A::STORAGE != Storage::State || self.settle.writer().is_none() {
            return Ok(None);
        }
        let Some(state) = self.freeze()? else {
            return Ok(None);
        };
        let writer = self.settle.writer();
        let is_new = writer.is_some_and(|writer| writer.last() != Some(&state));
        Ok(is_new.then_some(state))
    }

    /// A hook of a stored type, or `#[on_start]`, and what it has changed.
    pub(super) fn stored_hook(&mut self, hook: Option<Hook>) -> BoxFuture<'_, Result<(), String>> {
        if const { !stores::<A>() } {
            return Box::pin(pending());
        }
        Box::pin(async move {
            let Some(state) = self.activation.state.as_mut() else {
                return Ok(());
            };
            let (name, ctx) = (hook.as_ref().map_or("on_start", Hook::name), &mut self.ctx);
            let lease = ActingLease::since(&*self.cell, self.settle.since());
            let call = async {
                match hook {
                    None => state.on_start(ctx).await,
                    Some(Hook::Restart) => state.on_restart(ctx).await,
                    Some(Hook::Stop) => state.on_stop(ctx).await,
                    Some(Hook::Terminated(who)) => state.on_terminated(who, ctx).await,
                }
            };
            let (called, outputs) = {
                let call = pin!(guarded(name, lease, call));
                attend(&mut self.settle, &self.cell.core, call).await
            };
            if called.is_err() {
                self.ctx.forget_written();
                lose(outputs);
                return called;
            }
            self.record(outputs, Besides::default())
                .map_err(|why| why.to_string())?;
            self.any().release();
            Ok(())
        })
    }

    /// Has a snapshot saved, if there should be one, once all that it contains is durable.
    fn hold_snapshot(&mut self) {
        let needs = |writer: &mut crate::persistence::writer::Writer| {
            writer.needs_snapshot(A::SNAPSHOT_EVERY.max(1))
        };
        if !self.settle.writer().is_some_and(needs) {
            return;
        }
        let state = match self.freeze() {
            Ok(Some(state)) => state,
            Ok(None) => return,
            Err(reason) => {
                tracing::warn!(actor = %self.cell.path(), reason, "no snapshot is saved");
                return;
            }
        };
        let keep = match A::RETAIN {
            Retain::All => Keep::All,
            Retain::Snapshot => Keep::Nothing,
            Retain::For(age) => Keep::Recent(age),
        };
        let runtime = self.cell.runtime().clone();
        self.settle
            .hold_snapshot(runtime, state, keep, &self.cell.core);
    }

    /// Has what is stored of the entity erased, once it is durable that it is.
    fn hold_erasure(&mut self) {
        let runtime = self.cell.runtime().clone();
        self.settle.hold_erasure(runtime, &self.cell.core);
    }

    /// Does what was to be done once its record is durable. Without a state there is nothing to do
    /// it with.
    pub(super) fn run_due(&mut self) {
        for then in self.ctx.take_due() {
            let Some(state) = self
                .activation
                .state
                .as_ref()
                .filter(|state| state.is_whole())
            else {
                panic::contained("what was to be done", || drop(then));
                continue;
            };
            let ctx = &mut self.ctx;
            let call = || catch_unwind(AssertUnwindSafe(|| then(state, ctx)));
            // It may see what later handlers have changed.
            let (called, outputs) = match self.settle.holding() {
                Some(holding) => {
                    let called = holding.lets(async { call() }).now_or_never();
                    (called, holding.take())
                }
                None => (Some(call()), Outputs::new()),
            };
            self.hold_all(outputs);
            if let Some(Err(panic)) = called {
                let reason = format!(
                    "what was to be done once its events are durable panicked: {}",
                    panic_text(&*panic)
                );
                panic::forget(panic);
                let activation = self.activation.life.number;
                self.cell.signal(Signal::WorkFailed(activation, reason));
            }
        }
    }
}

impl Settle {
    /// An entity that begins anew goes on taking each send once.
    fn keep_taken(&mut self) -> Result<(), Unwritable> {
        match self.writer() {
            Some(writer) => writer.keep_taken(),
            None => Ok(()),
        }
    }

    /// Writes a record, if it says something. Of a `state` it says what has changed, if that is
    /// less.
    pub(super) fn write(
        &mut self,
        mut body: RecordBody,
        mut state: Option<WrittenState>,
    ) -> Result<(), Unwritable> {
        let Some(writer) = self.writer() else {
            return Ok(());
        };
        let changes = !body.events.is_empty() || state.is_some() || body.erases;
        let says = !body.sends.is_empty() || body.taken.is_some() || !body.reminders.is_empty();
        if !changes && !says {
            return Ok(());
        }
        body.fields = state.as_ref().and_then(|state| writer.changed(state));
        if body.fields.is_none() {
            body.state = state.take();
        }
        writer.append(&mut body).map_err(|why| match why {
            Unwritable::Encode(reason) => {
                Unwritable::Encode(format!("its record cannot be encoded: {reason}"))
            }
            other => other,
        })?;
        if let Some(state) = state.or(body.state) {
            writer.set_last(state, true);
        }
        if let Some(key) = body.key {
            writer.remember(key);
        }
        if let Some(taken) = body.taken {
            writer.take_send(taken);
        }
        writer.change_reminders(body.reminders);
        Ok(())
    }

    fn hold_snapshot(
        &mut self,
        runtime: Arc<Runtime>,
        state: WrittenState,
        keep: Keep,
        core: &Core,
    ) {
        let Some(writer) = self.writer() else { return };
        let body = RecordBody {
            state: Some(state),
            keys: writer.keys().all(),
            last_taken: writer.taken().all(),
            kept_reminders: writer.reminders().all(),
            ..RecordBody::default()
        };
        let seq = writer.begin_snapshot();
        let snapshot = HeldSnapshot {
            seq,
            position: writer.progress().mark(seq),
            upkeep: writer.upkeep().clone(),
            runtime,
            body,
            keep,
        };
        self.hold(Box::new(snapshot), false, core);
    }

    fn hold_erasure(&mut self, runtime: Arc<Runtime>, core: &Core) {
        let Some(writer) = self.writer() else { return };
        let erasure = HeldErasure {
            seq: writer.erased(),
            upkeep: writer.upkeep().clone(),
            runtime,
        };
        self.hold(Box::new(erasure), false, core);
    }
}

/// What is done once its record is durable.
struct HeldThen<A: Actor> {
    then: FollowUp<A>,
    due: Arc<DueFollowUps<A>>,
}

impl<A: Actor> Leave for HeldThen<A> {
    fn leave(self: Box<Self>) {
        self.due.add(self.then);
    }

    fn lose(self: Box<Self>, _: &Failure) {
        panic::contained("what was to be done", || drop(self));
    }
}

/// A snapshot of what is not durable yet.
struct HeldSnapshot {
    runtime: Arc<Runtime>,
    upkeep: Arc<Upkeep>,
    seq: u64,
    /// That of the last record, once it is durable.
    position: Arc<AtomicU64>,
    body: RecordBody,
    keep: Keep,
}

impl Leave for HeldSnapshot {
    fn leave(mut self: Box<Self>) {
        self.body.position = self.position.load(Ordering::Acquire);
        let save = self.upkeep.save(self.seq, self.body, self.keep);
        self.runtime.spawn(Box::pin(save));
    }

    fn lose(self: Box<Self>, _: &Failure) {
        self.upkeep.done();
    }
}

/// The end of what is stored of an entity.
struct HeldErasure {
    runtime: Arc<Runtime>,
    upkeep: Arc<Upkeep>,
    seq: u64,
}

impl Leave for HeldErasure {
    fn leave(self: Box<Self>) {
        let erase = self.upkeep.erase(self.seq);
        // That it has failed is logged.
        self.runtime.spawn(Box::pin(async { drop(erase.await) }));
    }

    fn lose(self: Box<Self>, _: &Failure) {}
}
