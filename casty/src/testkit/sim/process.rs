//! The process of a node: its own tokio runtime, and the futures that a test runs on it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Runtime,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use super::{clock::Moves, trace::Trace};
use crate::{
    ActorSystem,
    error::StartError,
    infra::sync::lock,
    system::{View, WeakSystem},
};

type Work = Box<dyn FnOnce(ActorSystem) -> BoxFuture<'static, ()> + Send>;

/// A future that runs on a simulated node. See [`Sim::spawn_on`](super::Sim::spawn_on).
#[derive(Debug)]
#[must_use = "`is_done` says when it is done"]
pub struct SimTask<T>(Arc<Mutex<Option<T>>>);

impl<T> SimTask<T> {
    /// Whether the future is done and its output not taken yet.
    pub fn is_done(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// The future's output, once.
    pub fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }
}

/// The futures that a node has not started yet. Outlives the node's processes.
#[derive(Default)]
pub(super) struct Inbox {
    work: Mutex<Vec<Work>>,
    arrived: Notify,
}

impl Inbox {
    pub(super) fn put<T, F>(
        &self,
        work: impl FnOnce(ActorSystem) -> F + Send + 'static,
    ) -> SimTask<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let task = SimTask(output.clone());
        lock(&self.work).push(Box::new(move |system| {
            let working = work(system);
            Box::pin(async move {
                let done = working.await;
                *lock(&output) = Some(done);
            })
        }));
        self.arrived.notify_one();
        task
    }

    pub(super) fn clear(&self) {
        lock(&self.work).clear();
    }
}

/// The process of a node. Dropping it ends all of its tasks.
pub(super) struct Process {
    runtime: Runtime,
    life: JoinHandle<Result<(), StartError>>,
    /// The system has shut down. Futures of the test may still run.
    is_leaving: Arc<AtomicBool>,
    system: Arc<Mutex<Option<WeakSystem>>>,
}

impl Process {
    pub(super) fn start(
        name: &str,
        starting: impl FnOnce() -> BoxFuture<'static, Result<ActorSystem, StartError>>,
        inbox: Arc<Inbox>,
        trace: Arc<Trace>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread needs nothing that could lack");
        let is_leaving = Arc::<AtomicBool>::default();
        let system = Arc::<Mutex<Option<WeakSystem>>>::default();
        let life = {
            let _inside = runtime.enter();
            let (name, seen) = (name.to_owned(), system.clone());
            live(name, starting(), inbox, trace, is_leaving.clone(), seen)
        };
        Self {
            life: runtime.spawn(life),
            runtime,
            is_leaving,
            system,
        }
    }

    /// The present state of the node, by its own clock.
    pub(super) fn view(&self) -> Option<View> {
        let _inside = self.runtime.enter();
        lock(&self.system).as_ref()?.view()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// Advances the clock, and runs the tasks until they wait for a later time or for other nodes.
    /// Returns the outcome once the process has ended.
    pub(super) fn run(&mut self, moves: Moves) -> Option<Result<(), String>> {
        let Moves { jump, run } = moves;
        if jump + run > Duration::ZERO {
            self.runtime.block_on(async {
                if jump > Duration::ZERO {
                    // All at once: what became due in the meantime is late.
                    tokio::time::advance(jump).await;
                }
                // A paused clock advances from timer to timer once all tasks wait. This timer is
                // the last one.
                tokio::time::sleep(run).await;
            });
        }
        if !self.life.is_finished() {
            return None;
        }
        Some(match self.runtime.block_on(&mut self.life) {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }
}

async fn live(
    name: String,
    starting: BoxFuture<'static, Result<ActorSystem, StartError>>,
    inbox: Arc<Inbox>,
    trace: Arc<Trace>,
    is_leaving: Arc<AtomicBool>,
    seen: Arc<Mutex<Option<WeakSystem>>>,
) -> Result<(), StartError> {
    let system = starting.await?;
    *lock(&seen) = Some(system.glance());
    let mut events = system.events();
    let mut works = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = inbox.arrived.notified() => {
                for work in std::mem::take(&mut *lock(&inbox.work)) {
                    works.spawn(work(system.clone()));
                }
            }
            event = events.next() => match event {
                Some(event) => trace.event(&name, &event),
                None => break,
            },
            Some(_) = works.join_next() => {}
        }
    }
    is_leaving.store(true, Ordering::Relaxed);
    drop(system);
    // Futures that wait for the shutdown finish before the process ends.
    while works.join_next().await.is_some() {}
    Ok(())
}
