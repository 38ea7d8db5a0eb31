//! The tasks and the randomness of one process in a cluster.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{actor::runtime::Runtime, cluster::locks::Rank, infra::sync::Ranked};

/// The tasks of one process, and its randomness. It lives as long as the system does.
pub(crate) struct Process {
    pub(crate) runtime: Arc<Runtime>,
    /// Ends all tasks.
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the end of this process in its cluster begins, or is certain.
    pub(crate) ending: CancellationToken,
    rng: Ranked<StdRng>,
    leaving: AtomicBool,
}

impl Process {
    pub(crate) fn new(runtime: Arc<Runtime>, cancel: CancellationToken, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            cancel,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            rng: Rank::Random.mutex(StdRng::seed_from_u64(seed)),
            leaving: AtomicBool::new(false),
        })
    }

    /// Runs a task for the cluster, where timers run.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.upkeep().handle());
    }

    /// Serves a connection, where handlers run: most of what arrives is for them.
    pub(crate) fn spawn_connection(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.handle());
    }

    /// A random number, from the one seed of the process.
    pub(crate) fn random(&self) -> u64 {
        self.rng.lock().random()
    }

    /// Marks that the process ends gracefully. A membership that ends from now on is not followed
    /// by another.
    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.ending.cancel();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
