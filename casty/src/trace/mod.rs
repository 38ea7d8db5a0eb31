//! Traces: which message was sent because of which, from the request that came to one node to the
//! entity on another.
//!
//! casty makes spans of the crate [`tracing`] around its messages, once a [`Tracer`] is installed
//! and as far as the trace is sampled; the crate `casty-otel` has one for OpenTelemetry. Where
//! nothing is sampled there is no span, and nothing travels.
//!
//! - An *ask* has a span of kind `client` from the message to its answer. Its handler has one of
//!   kind `server`, in the same trace, whichever node it runs on. Both are called `Counter/value`.
//! - A message that is *told* begins a trace of its own, which has a link to the span that told
//!   it: no asker waits for its end, and entities that tell each other would make a trace that
//!   never ends. Its handler has a span of kind `consumer`.
//! - The message of a [timer](crate::schedule) that comes once, and the result of a
//!   [pipe](crate::Context::pipe), have a link to what began them. Repeated timers have none, or
//!   one request that is sampled would be followed by spans for as long as the actor lives.
//! - A [send](crate::send), a [reminder](crate::remind) that comes once, and the record that a
//!   [projection](crate::projection) reads keep their cause in the log, and have a link to it after
//!   a restart and on another node as well.
//!
//! Two things are in no trace: what follows a record (`Effect::then`), and the answer to a send. A
//! timer that moves with its shard loses its cause.
//!
//! While a handler runs, its span is the current one: what it logs, and spans of its own, are in
//! it. The names of messages and types are names of spans; the id of an entity is a field
//! (`casty.entity.id`), and what a message contains is never there. All spans are of level INFO
//! and target `casty::trace`.

mod context;
mod span;

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tracing::Span;

pub use self::context::{InvalidTraceContext, TraceContext};
pub(crate) use self::{
    context::written,
    span::{Asking, ends, handles, projects, works},
};

/// What relates the spans of casty to traces.
///
/// Called for messages of traces that are sampled, and, by [`context`](Self::context), for each
/// message that is sent. An implementation has to be quick, and must not send messages.
pub trait Tracer: Send + Sync + 'static {
    /// The place of a span in its trace. `None` if it is in no trace, or in one that is not
    /// sampled: then nothing goes along with the message.
    fn context(&self, span: &Span) -> Option<TraceContext>;

    /// Makes a span the child of a span of another process, or of another task. Called before the
    /// span is entered.
    fn set_parent(&self, span: &Span, parent: TraceContext);

    /// Makes a span the first of a trace of its own, with a link to its cause. It is sampled, as
    /// its cause is, unless the [generation](TraceContext::generation) is too high. Called before
    /// the span is entered.
    fn set_cause(&self, span: &Span, cause: TraceContext);
}

/// How the span of a handler is related to that of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// An asker waits in it.
    Parent(TraceContext),
    /// No asker waits.
    Cause(TraceContext),
}

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// As [`TRACER`], to be looked at for each message.
static ON: AtomicBool = AtomicBool::new(false);

/// This process has a tracer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process has a tracer already")]
pub struct AlreadyInstalled;

/// Gives all systems and clients of this process a tracer, once, as the subscriber of `tracing` is
/// that of the whole process.
///
/// # Errors
/// [`AlreadyInstalled`] if there is one.
pub fn install(tracer: impl Tracer) -> Result<(), AlreadyInstalled> {
    TRACER.set(Box::new(tracer)).map_err(|_| AlreadyInstalled)?;
    ON.store(true, Ordering::Release);
    Ok(())
}

/// Whether messages may be part of traces.
#[inline]
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

fn tracer() -> Option<&'static dyn Tracer> {
    TRACER.get().map(|tracer| &**tracer)
}

/// The place in its trace of what runs here, if it is sampled.
#[inline]
pub(crate) fn here() -> Option<TraceContext> {
    if is_on() { sampled_here() } else { None }
}

#[cold]
fn sampled_here() -> Option<TraceContext> {
    tracer()?.context(&Span::current())
}
