//! Spies: [observers](crate::actor::observer) that report what actors receive and handle.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    actor::observer::{Ended, Observer, Observers, Subject},
    event::ActorPath,
};

/// Observations kept for a spy that is slow to read.
const KEPT: usize = 1024;

/// Something that happened to a message of an actor that is spied on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// Whose message.
    pub who: ActorPath,
    /// The message's wire name.
    pub message: &'static str,
    /// The outcome of the message.
    pub what: Observed,
}

/// The outcome of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// It is its turn: the handler begins.
    Received,
    /// Its handler has returned, or its state does not handle it.
    Handled {
        /// How long the handler took, waits included.
        took: Duration,
    },
    /// Its handler panicked.
    Failed {
        /// The text of the panic.
        reason: String,
        /// How long the handler took until then.
        took: Duration,
    },
}

/// Whom a spy observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The actor alone.
    Actor,
    /// The actor, its children, their children, and so on.
    Subtree,
}

/// An observer of one actor, or of a subtree. Dropping it stops the observation.
///
/// It is lossy and bounded: an actor never waits for its spies. Lost observations are
/// [counted](Self::missed).
pub struct Spy {
    observations: mpsc::Receiver<Observation>,
    missed: Arc<AtomicU64>,
    // Weak, so that the channel closes with the system.
    post: Weak<dyn Observer>,
    observers: Weak<Observers>,
}

impl Spy {
    pub(crate) fn new(observers: &Arc<Observers>, who: ActorPath, scope: Scope) -> Self {
        let (sender, observations) = mpsc::channel(KEPT);
        let missed = Arc::new(AtomicU64::new(0));
        let post: Arc<dyn Observer> = Arc::new(Post {
            who,
            scope,
            observations: sender,
            missed: missed.clone(),
        });
        observers.add(&post);
        Self {
            observations,
            missed,
            post: Arc::downgrade(&post),
            observers: Arc::downgrade(observers),
        }
    }

    /// The next observation; `None` once the system is gone.
    ///
    /// # Cancel safety
    /// Safe: an observation is either returned or still to come.
    pub async fn next(&mut self) -> Option<Observation> {
        self.observations.recv().await
    }

    /// The next observation if there is one already.
    pub fn try_next(&mut self) -> Option<Observation> {
        self.observations.try_recv().ok()
    }

    /// How many observations were lost, because they were not read in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        if let (Some(observers), Some(post)) = (self.observers.upgrade(), self.post.upgrade()) {
            observers.remove(&post);
        }
    }
}

impl fmt::Debug for Spy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spy")
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

/// The side of a spy that the observed actors call.
struct Post {
    who: ActorPath,
    scope: Scope,
    observations: mpsc::Sender<Observation>,
    missed: Arc<AtomicU64>,
}

impl Post {
    fn note(&self, subject: &dyn Subject, message: &'static str, what: Observed) {
        if self.who.kind != subject.kind() && self.scope == Scope::Actor {
            return;
        }
        let who = subject.path();
        let covers = self.who == who
            || self.scope == Scope::Subtree && subject.ancestors().contains(&self.who);
        if !covers {
            return;
        }
        let observation = Observation { who, message, what };
        if self.observations.try_send(observation).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for Post {
    fn begins(&self, subject: &dyn Subject, message: &'static str) {
        self.note(subject, message, Observed::Received);
    }

    fn ends(
        &self,
        subject: &dyn Subject,
        message: &'static str,
        outcome: Ended<'_>,
        took: Duration,
    ) {
        let what = match outcome {
            Ended::Handled => Observed::Handled { took },
            Ended::Panicked(reason) => Observed::Failed {
                reason: reason.to_owned(),
                took,
            },
        };
        self.note(subject, message, what);
    }
}
