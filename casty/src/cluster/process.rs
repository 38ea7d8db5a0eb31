//! The tasks and the randomness of one process in a cluster.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{actor::runtime::Runtime, cluster::locks::Rank, infra::sync::Ranked};

/// What a task of a process does. A shutdown that some task outlasts names it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Job {
    Connections,
    /// Calls of peers.
    Calls,
    /// What happens by the clock or with each map.
    Upkeep,
    /// The search for homes of shards.
    Homes,
    Membership,
    Gossip,
    /// The engine of the cluster map.
    Engine,
    /// The moves of shards to other nodes.
    Moves,
    /// Watches of actors on other nodes.
    Watches,
}

impl Job {
    const ALL: [Self; 9] = [
        Self::Connections,
        Self::Calls,
        Self::Upkeep,
        Self::Homes,
        Self::Membership,
        Self::Gossip,
        Self::Engine,
        Self::Moves,
        Self::Watches,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Calls => "calls of other nodes",
            Self::Upkeep => "upkeep",
            Self::Homes => "the search for homes of shards",
            Self::Membership => "the membership",
            Self::Gossip => "gossip",
            Self::Engine => "the engine of the cluster map",
            Self::Moves => "moves of shards",
            Self::Watches => "watches of actors on other nodes",
        }
    }
}

/// The tasks of one process, and its randomness. It lives as long as the system does.
pub(crate) struct Process {
    pub(crate) runtime: Arc<Runtime>,
    /// Ends all tasks.
    pub(crate) cancel: CancellationToken,
    /// The tasks of each [`Job`].
    tasks: [TaskTracker; Job::ALL.len()],
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
            tasks: Job::ALL.map(|_| TaskTracker::new()),
            ending: CancellationToken::new(),
            rng: Rank::Random.mutex(StdRng::seed_from_u64(seed)),
            leaving: AtomicBool::new(false),
        })
    }

    /// Runs a task for the cluster, where timers run.
    pub(crate) fn spawn(&self, job: Job, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks[job as usize].spawn_on(task, self.runtime.upkeep().handle());
    }

    /// Serves a connection, where handlers run: most of what arrives is for them.
    pub(crate) fn spawn_connection(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks[Job::Connections as usize].spawn_on(task, self.runtime.handle());
    }

    /// Ends all tasks, and waits until they have ended, or until `deadline`.
    ///
    /// # Errors
    /// The name of a job that goes on. The log names each.
    pub(crate) async fn end_tasks(&self, deadline: Instant) -> Result<(), &'static str> {
        self.cancel.cancel();
        let all_ended = async {
            for tasks in &self.tasks {
                tasks.close();
                tasks.wait().await;
            }
        };
        if tokio::time::timeout_at(deadline, all_ended).await.is_ok() {
            return Ok(());
        }
        let mut late = Ok(());
        for (job, tasks) in Job::ALL.into_iter().zip(&self.tasks) {
            if !tasks.is_empty() {
                let (job, tasks) = (job.name(), tasks.len());
                tracing::warn!(job, tasks, "work goes on although its node has ended");
                late = late.and(Err(job));
            }
        }
        late
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
