//! The start of a projection on a node, and its end with the node.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actor::{Actor, runtime::Runtime, storage::Retain},
    cluster::{reading::nodes::Nodes, region::AnyRegion},
    id::ShardId,
    persistence::projected::ProjectionId,
    projection::{
        contract::Projection,
        runner::Shared,
        running::{Handle, RunningProjection},
        store::{ProjectedShard, ProjectionStore as _, ViewError},
        supervisor::{Homeless, Supervisor},
        typed::{Typed, Work},
    },
};

/// How long the transactions of projections may take when their node ends.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Why a projection does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// The records of the type are not all kept, so the projection would miss events.
    #[error(
        "`{kind}` does not keep all its records, so a projection would miss events: write \
         `retain = \"all\"` in its `#[entity(..)]`"
    )]
    NotRetained {
        /// The wire name of the type.
        kind: String,
    },
    /// The system has no journal, so there are no events.
    #[error("there is no journal: use `ActorSystem::builder(..).journal(..)`")]
    NoJournal,
    /// The projection runs on this node already.
    #[error("projection `{name}` of version {version} runs on this node already")]
    Twice {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// The store of the view cannot be used.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The projections of a node. They end with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projections {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Projections {
    /// Ends all of them, after the transactions that they have begun.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(END_WITHIN, self.tasks.wait()).await.is_err() {
            let tasks = self.tasks.len();
            tracing::warn!(tasks, "transactions of projections go on after their node");
        }
    }

    /// The same, without waiting.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }
}

/// What a node gives a projection.
pub(crate) struct Place {
    pub(crate) runtime: Arc<Runtime>,
    /// `None`: this node does not host the type.
    pub(crate) region: Option<Arc<dyn AnyRegion>>,
    pub(crate) kind: String,
    pub(crate) shards: u32,
    pub(crate) nodes: Arc<dyn Nodes>,
    pub(crate) homeless: Homeless,
    pub(crate) projections: Projections,
}

/// Starts a projection.
pub(crate) async fn start<P: Projection>(
    projection: P,
    place: Place,
) -> Result<RunningProjection, ProjectError> {
    if <P::Of as Actor>::RETAIN != Retain::All {
        return Err(ProjectError::NotRetained { kind: place.kind });
    }
    projection.store().open().await?;
    let lanes = projection.store().lanes().max(1);
    let (runtime, kind) = (place.runtime.clone(), place.kind.clone());
    let make = move |shard: ShardId| {
        let shard = ProjectedShard {
            projection: P::NAME.to_owned(),
            version: P::VERSION,
            kind: kind.clone(),
            shard: shard.0,
        };
        let work = Typed::new(shard, projection.clone(), runtime.clone());
        Box::new(work) as Box<dyn Work>
    };
    let id = ProjectionId {
        name: P::NAME.to_owned(),
        version: P::VERSION,
    };
    begin(id, lanes, Box::new(make), place)
}

/// The part that does not depend on the type.
fn begin(
    id: ProjectionId,
    lanes: usize,
    make: Box<dyn Fn(ShardId) -> Box<dyn Work> + Send + Sync>,
    place: Place,
) -> Result<RunningProjection, ProjectError> {
    let Place {
        runtime,
        region,
        kind,
        shards,
        nodes,
        homeless,
        projections,
    } = place;
    let stop = projections.stop.child_token();
    let tasks = TaskTracker::new();
    let store = runtime.store().cloned().filter(|_| region.is_some());
    if region.is_some() && store.is_none() {
        return Err(ProjectError::NoJournal);
    }
    if let Some((region, store)) = region.zip(store.clone()) {
        let board = store.boards.begin(&id).ok_or(ProjectError::Twice {
            name: id.name.clone(),
            version: id.version,
        })?;
        let shared = Shared {
            name: id.name.clone(),
            runtime: runtime.clone(),
            region,
            store,
            board,
            lanes: Semaphore::new(lanes),
        };
        let supervisor = Supervisor {
            shared: Arc::new(shared),
            make,
            homeless,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        tasks.spawn_on(supervisor.run(), runtime.handle());
    }
    // Tasks of its own are all begun by the supervisor, which is one of them.
    tasks.close();
    let of_it = tasks.clone();
    let all = async move { of_it.wait().await };
    projections.tasks.spawn_on(all, runtime.handle());
    Ok(RunningProjection::new(Handle {
        id,
        kind,
        shards,
        nodes,
        store,
        tasks,
        stop,
    }))
}
