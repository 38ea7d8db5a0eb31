//! The engine's own log, which casty keeps to itself.
//!
//! The engine prints its state at each start, and warns many times a second of a slow voter, and of
//! each ordinary end. casty says the same in its own words, once ([`Silences`](super::silence), the
//! leader's loop). So all code of the engine runs under a subscriber that passes everything on but
//! what comes from the engine. `CASTY_ENGINE_LOG`, set to anything, lets the engine's log through.

use openraft::OptionalSend;
use tracing::{
    Dispatch, Event, Metadata, Subscriber, dispatcher,
    instrument::WithSubscriber as _,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// The subscriber under which an engine that starts now runs. `None`: the engine needs none, since
/// there is no log, or its log is wanted.
pub(super) fn subscriber() -> Option<Dispatch> {
    let present = dispatcher::get_default(Dispatch::clone);
    let is_heard = std::env::var_os("CASTY_ENGINE_LOG").is_some();
    if is_heard || present.is::<tracing::subscriber::NoSubscriber>() {
        return None;
    }
    Some(Dispatch::new(Quiet {
        level: LevelFilter::current(),
        to: present,
    }))
}

/// Runs a call of the engine.
pub(super) async fn under<F: Future>(subscriber: Option<Dispatch>, call: F) -> F::Output {
    match subscriber {
        Some(subscriber) => call.with_subscriber(subscriber).await,
        None => call.await,
    }
}

/// Starts a task of the engine, under the subscriber of the code that starts it.
#[expect(
    clippy::disallowed_methods,
    reason = "the engine's own tasks, which end with its shutdown"
)]
pub(super) fn spawn<T>(task: T) -> tokio::task::JoinHandle<T::Output>
where
    T: Future + OptionalSend + 'static,
    T::Output: OptionalSend + 'static,
{
    let quiet = dispatcher::get_default(|present| present.is::<Quiet>().then(|| present.clone()));
    match quiet {
        Some(quiet) => tokio::spawn(task.with_subscriber(quiet)),
        None => tokio::spawn(task),
    }
}

/// Passes on what does not come from the engine.
struct Quiet {
    to: Dispatch,
    level: LevelFilter,
}

fn is_engine(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("openraft")
}

impl Subscriber for Quiet {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_engine(metadata) {
            Interest::never()
        } else {
            self.to.register_callsite(metadata)
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_engine(metadata) && self.to.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.to.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.to.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.to.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.to.event(event);
    }

    fn enter(&self, span: &Id) {
        self.to.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.to.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.to.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.to.try_close(id)
    }
}
