//! Observers of the messages that actors handle: spies, and what counts.
//!
//! [`turn`](crate::actor::cell::turn) calls them, and no other place does. Without an observer an
//! actor pays one atomic load for each batch of messages: no clock is read and no path is built.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::{
    event::ActorPath,
    infra::{panic::panic_text, sync::lock},
    recorder::ring::SharedRing,
    trace,
};

/// An actor as its observers see it.
pub(crate) trait Subject {
    /// The wire name of the actor's type, as registered.
    fn kind(&self) -> &str;

    /// The actor's name. It is built at each call, as it contains the actor's id.
    fn path(&self) -> ActorPath;

    /// The names of the actors that spawned it, the nearest first.
    fn ancestors(&self) -> Vec<ActorPath>;
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended<'a> {
    /// The handler returned, or the present state has no handler for the message.
    Handled,
    /// The handler panicked, for this reason.
    Panicked(&'a str),
}

/// Told of each message that an actor of this system handles. Called by the actor's run, which
/// waits for it: an observer must be quick.
pub(crate) trait Observer: Send + Sync {
    /// A handler begins.
    fn begins(&self, subject: &dyn Subject, message: &'static str);

    /// The handler has ended, `took` after it began, waits included.
    fn ends(
        &self,
        subject: &dyn Subject,
        message: &'static str,
        outcome: Ended<'_>,
        took: Duration,
    );
}

/// The observers of a system.
#[derive(Default)]
pub(crate) struct Observers {
    count: AtomicUsize,
    all: ArcSwap<Vec<Arc<dyn Observer>>>,
}

impl Observers {
    pub(crate) fn add(&self, observer: &Arc<dyn Observer>) {
        self.all.rcu(|all| {
            let mut all = (**all).clone();
            all.push(observer.clone());
            all
        });
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Has [`turn`](crate::actor::cell::turn) take each message as observed from here on, also
    /// where there is no observer.
    pub(crate) fn observe_always(&self) {
        self.count.fetch_add(1, Ordering::Release);
    }

    /// The opposite of one [`observe_always`](Self::observe_always).
    pub(crate) fn observe_no_more(&self) {
        self.count.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn remove(&self, observer: &Arc<dyn Observer>) {
        self.count.fetch_sub(1, Ordering::Release);
        self.all.rcu(|all| {
            let left = all.iter().filter(|one| !Arc::ptr_eq(one, observer));
            left.cloned().collect::<Vec<_>>()
        });
    }

    /// The observers there are now; `None` if there are none, and messages are part of no trace.
    /// `always`: not `None` in any case.
    #[inline]
    pub(crate) fn present(&self, always: bool) -> Option<Observing> {
        if !always && self.count.load(Ordering::Relaxed) == 0 && !trace::is_on() {
            return None;
        }
        Some(self.load())
    }

    #[cold]
    fn load(&self) -> Observing {
        Observing {
            all: self.all.load_full(),
            ring: None,
        }
    }
}

/// The observers of one batch of messages.
pub(crate) struct Observing {
    all: Arc<Vec<Arc<dyn Observer>>>,
    /// Where the flight recorder keeps the actor's messages.
    pub(crate) ring: Option<SharedRing>,
}

impl Observing {
    /// The actor's state may change otherwise than by a message.
    #[cold]
    pub(crate) fn state_changes(&self) {
        if let Some(ring) = &self.ring {
            lock(ring).breaks();
        }
    }

    /// A handler begins. Returns the time, for [`end`](Self::end), if it is observed.
    pub(crate) fn begin(&self, subject: &dyn Subject, message: &'static str) -> Option<Instant> {
        for observer in self.all.iter() {
            observer.begins(subject, message);
        }
        (!self.all.is_empty()).then(Instant::now)
    }

    pub(crate) fn end(
        &self,
        subject: &dyn Subject,
        message: &'static str,
        begun: Instant,
        panic: Option<&(dyn Any + Send)>,
    ) {
        let took = begun.elapsed();
        let reason = panic.map(panic_text);
        let outcome = match &reason {
            Some(reason) => Ended::Panicked(reason),
            None => Ended::Handled,
        };
        for observer in self.all.iter() {
            observer.ends(subject, message, outcome, took);
        }
    }
}
