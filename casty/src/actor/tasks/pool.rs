//! A pool of tasks in which cells run.
//!
//! A message that finds its cell idle needs a task. Spawning a task costs more than handling the
//! message: a task needs aligned memory, which allocators are slow at, and the runtime must
//! register it. So a task whose cell has nothing more to do waits for another cell, of any type.
//! The pool keeps a bounded number of such tasks, and ends those that it did not need for a while.
//!
//! `casty::models` checks this code under a model checker.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::sync::ReusableBoxFuture;

use crate::infra::{
    concurrent::{AtomicBool, Mutex, lock, sleep, spawn_on, thread_local},
    mutants,
};

/// The pool is divided, so that threads seldom wait for the same lock.
const SHARDS: usize = 8;

/// Idle runners in one shard, at most.
const IDLE_MAX: usize = 32;

/// The time between two checks of the idle runners.
const ROUND: Duration = Duration::from_secs(1);

/// The run of a cell, in memory that the runs of other cells use before and after it.
pub(crate) type RunBox = ReusableBoxFuture<'static, ()>;

/// A cell that has something to do.
pub(crate) trait Runs: Send + Sync {
    /// Its next run.
    fn run(self: Arc<Self>) -> RunBox;

    /// The same, in the memory of another run.
    fn run_in(self: Arc<Self>, memory: &mut RunBox);
}

/// The pool of a system.
pub(crate) struct TaskPool {
    handle: Handle,
    upkeep: Handle,
    /// The most recent is used first: its memory is likely to be cached.
    idle: [Mutex<IdleRunners>; SHARDS],
    watched: AtomicBool,
    over: AtomicBool,
}

#[derive(Default)]
struct IdleRunners {
    runners: Vec<(Waker, Arc<Assignment>)>,
    /// The fewest there were since the last check. So many were not needed.
    fewest: usize,
}

/// Where an idle runner finds what to do next.
#[derive(Default)]
struct Assignment(Mutex<Next>);

#[derive(Default)]
enum Next {
    /// The runner runs a cell, or waits.
    #[default]
    Nothing,
    Run(Arc<dyn Runs>),
    End,
}

impl TaskPool {
    /// `handle`: the runtime of the handlers. `upkeep`: the runtime on which idle runners are
    /// checked.
    pub(crate) fn new(handle: Handle, upkeep: Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            upkeep,
            idle: Default::default(),
            watched: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// Runs a cell in a task of the pool, or in a new one.
    pub(crate) fn run(self: &Arc<Self>, cell: Arc<dyn Runs>) {
        let runner = {
            let mut idle = lock(&self.idle[shard()]);
            let runner = idle.runners.pop();
            idle.fewest = idle.fewest.min(idle.runners.len());
            runner
        };
        if let Some((waker, assignment)) = runner {
            if mutants::on("a_runner_is_woken_before_its_work") {
                waker.wake_by_ref();
                *lock(&assignment.0) = Next::Run(cell);
                return;
            }
            *lock(&assignment.0) = Next::Run(cell);
            return waker.wake();
        }
        let runner = Runner {
            run: cell.run(),
            busy: true,
            assignment: Arc::default(),
            pool: self.clone(),
        };
        // Cells are closed by `close_all`, not by a task tracker.
        spawn_on(&self.handle, runner);
    }

    /// Keeps a runner, unless there are enough.
    fn keep(self: &Arc<Self>, waker: &Waker, assignment: &Arc<Assignment>) -> bool {
        {
            let mut idle = lock(&self.idle[shard()]);
            // Checked under the lock, or `end` could miss this runner.
            if idle.runners.len() >= IDLE_MAX || self.over.load(Ordering::Relaxed) {
                return false;
            }
            idle.runners.push((waker.clone(), assignment.clone()));
        }
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            // Ends when no runner is left.
            spawn_on(&self.upkeep, watch(Arc::downgrade(self)));
        }
        true
    }

    /// Ends the runners that were not needed since the last check. Returns how many are left.
    fn check(&self) -> usize {
        let check = |idle: &Mutex<IdleRunners>| {
            let mut idle = lock(idle);
            let unneeded = idle.fewest;
            end(idle.runners.drain(..unneeded));
            idle.fewest = idle.runners.len();
            idle.fewest
        };
        self.idle.iter().map(check).sum()
    }

    /// Ends all idle runners, and keeps none from here on.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        for idle in &self.idle {
            let mut idle = lock(idle);
            idle.fewest = 0;
            end(idle.runners.drain(..));
        }
    }
}

impl Drop for TaskPool {
    fn drop(&mut self) {
        self.end();
    }
}

fn end(runners: impl Iterator<Item = (Waker, Arc<Assignment>)>) {
    for (waker, assignment) in runners {
        *lock(&assignment.0) = Next::End;
        waker.wake();
    }
}

/// Checks the idle runners on a timer, since idleness raises no event.
async fn watch(pool: Weak<TaskPool>) {
    loop {
        sleep(ROUND).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        if pool.check() > 0 {
            continue;
        }
        pool.watched.store(false, Ordering::Relaxed);
        // A runner may have come in between, and found `watched` still set.
        let none = pool.idle.iter().all(|idle| lock(idle).runners.is_empty());
        let none = none || mutants::on("a_late_runner_is_not_watched");
        if none || pool.watched.swap(true, Ordering::Relaxed) {
            return;
        }
    }
}

/// The shard of this thread.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let known = SHARD.try_with(|shard| {
        shard.get().unwrap_or_else(|| {
            let next = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
            shard.set(Some(next));
            next
        })
    });
    if cfg!(feature = "model") {
        // The threads of a model are to meet.
        return 0;
    }
    // `None` while the thread ends.
    known.unwrap_or(0)
}

/// A task that runs one cell after the other.
struct Runner {
    /// The run of the present cell while `busy`, else of the last one.
    run: RunBox,
    busy: bool,
    assignment: Arc<Assignment>,
    /// An idle runner keeps the pool alive until a check ends it.
    pool: Arc<TaskPool>,
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        loop {
            if me.busy {
                ready!(me.run.poll(cx));
                me.busy = false;
                // `TaskPool::run` takes it from there, and wakes it.
                let kept = me.pool.keep(cx.waker(), &me.assignment);
                return if kept { Poll::Pending } else { Poll::Ready(()) };
            }
            match std::mem::take(&mut *lock(&me.assignment.0)) {
                Next::Run(cell) => {
                    cell.run_in(&mut me.run);
                    me.busy = true;
                }
                Next::Nothing => return Poll::Pending,
                Next::End => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::mpsc, task::Id};

    use crate::actor::tasks::pool::*;

    /// Reports the task in which it runs, and waits until it may end.
    struct Job {
        ran: mpsc::UnboundedSender<Id>,
        may_end: tokio::sync::Semaphore,
    }

    impl Job {
        async fn drive(self: Arc<Self>) {
            self.ran.send(tokio::task::id()).unwrap();
            let may_end = self.may_end.acquire().await;
            drop(may_end);
        }
    }

    impl Runs for Job {
        fn run(self: Arc<Self>) -> RunBox {
            RunBox::new(self.drive())
        }

        fn run_in(self: Arc<Self>, memory: &mut RunBox) {
            memory.set(self.drive());
        }
    }

    struct Fixture {
        pool: Arc<TaskPool>,
        ran: mpsc::UnboundedReceiver<Id>,
        says: mpsc::UnboundedSender<Id>,
    }

    impl Fixture {
        fn new() -> Self {
            let (says, ran) = mpsc::unbounded_channel();
            let handle = Handle::current();
            Self {
                pool: TaskPool::new(handle.clone(), handle),
                ran,
                says,
            }
        }

        /// Runs a job that waits for `end`.
        fn begin(&self) -> Arc<Job> {
            let job = Arc::new(Job {
                ran: self.says.clone(),
                may_end: tokio::sync::Semaphore::new(0),
            });
            self.pool.run(job.clone());
            job
        }

        /// Ends a run. When this returns, the runner has dropped its cell.
        async fn end(&self, job: Arc<Job>) {
            job.may_end.add_permits(1);
            while Arc::strong_count(&job) > 1 {
                tokio::task::yield_now().await;
            }
        }

        fn idle(&self) -> usize {
            let idle = self.pool.idle.iter();
            idle.map(|idle| lock(idle).runners.len()).sum()
        }
    }

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    /// Waits until all runners, and the task that checks them, have ended. The clock is paused, and
    /// goes on when there is nothing else to do.
    async fn none_but(before: usize) {
        let ended = async {
            while tasks() > before {
                sleep(ROUND).await;
            }
        };
        tokio::time::timeout(5 * ROUND, ended).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_runs_one_cell_after_the_other() {
        let mut fixture = Fixture::new();
        let first = fixture.begin();
        let second = fixture.begin();
        let one = fixture.ran.recv().await.unwrap();
        let other = fixture.ran.recv().await.unwrap();
        assert_ne!(one, other, "two at a time are in two tasks");
        fixture.end(first).await;
        let third = fixture.begin();
        assert_eq!(fixture.ran.recv().await, Some(one));
        fixture.end(second).await;
        fixture.end(third).await;
        assert_eq!(fixture.idle(), 2);
    }

    #[tokio::test]
    async fn the_number_of_idle_runners_is_bounded() {
        let fixture = Fixture::new();
        let jobs: Vec<_> = (0..2 * IDLE_MAX).map(|_| fixture.begin()).collect();
        for job in jobs {
            fixture.end(job).await;
        }
        assert_eq!(fixture.idle(), IDLE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn runners_that_are_not_needed_end() {
        let fixture = Fixture::new();
        let before = tasks();
        let (first, second) = (fixture.begin(), fixture.begin());
        fixture.end(first).await;
        fixture.end(second).await;
        assert_eq!(fixture.idle(), 2);
        // A runner is needed now and then.
        for _ in 0..4 {
            sleep(ROUND).await;
            let job = fixture.begin();
            fixture.end(job).await;
        }
        assert_eq!(fixture.idle(), 1);
        none_but(before).await;
        assert_eq!(fixture.idle(), 0);
    }

    #[tokio::test]
    async fn runners_end_with_the_system() {
        let fixture = Fixture::new();
        let (first, second) = (fixture.begin(), fixture.begin());
        fixture.end(first).await;
        fixture.pool.end();
        assert_eq!(fixture.idle(), 0);
        fixture.end(second).await;
        assert_eq!(fixture.idle(), 0, "none is kept any more");
    }

    #[tokio::test(start_paused = true)]
    async fn no_runner_outlives_the_last_reference_to_the_pool() {
        let fixture = Fixture::new();
        let before = tasks();
        let job = fixture.begin();
        fixture.end(job).await;
        drop(fixture.pool);
        none_but(before).await;
    }
}
