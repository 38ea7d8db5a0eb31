//! Spies: observers of what actors receive and handle.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::cell::AnyCell;
use crate::event::ActorPath;

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
    /// What happened to it.
    pub what: Observed,
}

/// What happened to a message.
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

/// An observer of one actor, or of a subtree. Dropped, it stops observing.
///
/// It is lossy and bounded: an actor never waits for its spies. What was lost is
/// [counted](Self::missed).
#[derive(Debug)]
pub struct Spy {
    id: u64,
    observations: mpsc::Receiver<Observation>,
    missed: Arc<AtomicU64>,
    spies: Arc<Spies>,
}

impl Spy {
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
        self.spies.remove(self.id);
    }
}

/// All spies of a system. Without any, an actor pays one atomic load a batch of messages.
#[derive(Default)]
pub(crate) struct Spies {
    count: AtomicUsize,
    next: AtomicU64,
    posts: ArcSwap<Vec<Arc<Post>>>,
}

/// Where a spy listens.
struct Post {
    id: u64,
    who: ActorPath,
    scope: Scope,
    observations: mpsc::Sender<Observation>,
    missed: Arc<AtomicU64>,
}

impl Spies {
    pub(crate) fn add(self: &Arc<Self>, who: ActorPath, scope: Scope) -> Spy {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, observations) = mpsc::channel(KEPT);
        let missed = Arc::new(AtomicU64::new(0));
        let post = Arc::new(Post {
            id,
            who,
            scope,
            observations: sender,
            missed: missed.clone(),
        });
        self.posts.rcu(|posts| {
            let mut posts = (**posts).clone();
            posts.push(post.clone());
            posts
        });
        self.count.fetch_add(1, Ordering::Release);
        Spy {
            id,
            observations,
            missed,
            spies: self.clone(),
        }
    }

    fn remove(&self, id: u64) {
        self.count.fetch_sub(1, Ordering::Release);
        self.posts.rcu(|posts| {
            let left = posts.iter().filter(|post| post.id != id);
            left.cloned().collect::<Vec<_>>()
        });
    }

    /// Whether anybody observes anything.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn observe(
        &self,
        who: &ActorPath,
        parent: Option<Arc<dyn AnyCell>>,
        message: &'static str,
        what: &Observed,
    ) {
        let ancestors: Vec<ActorPath> = std::iter::successors(parent, |ancestor| ancestor.parent())
            .map(|ancestor| ancestor.path())
            .collect();
        for post in self.posts.load().iter() {
            let covers =
                post.who == *who || post.scope == Scope::Subtree && ancestors.contains(&post.who);
            if !covers {
                continue;
            }
            let observation = Observation {
                who: who.clone(),
                message,
                what: what.clone(),
            };
            if post.observations.try_send(observation).is_err() {
                post.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for Spies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spies")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
