//! The tasks that cells run in, each kept for the next cell that has something to do.
//!
//! A message that finds its cell idle needs a task. To make one costs more than to handle the
//! message: its memory is aligned, which allocators are slow at, and the runtime has to know it. So
//! a task whose cell has nothing more to do waits for another cell, of whatever type. There are a
//! few at most, and those that nobody needed for a while end.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::sync::ReusableBoxFuture;

use crate::infra::sync::lock;

/// Runners are kept in so many places, so that threads seldom meet.
const SHARDS: usize = 8;

/// That wait in one place.
const WAITING_MAX: usize = 32;

/// Between two looks at those that wait.
const ROUND: Duration = Duration::from_secs(1);

/// The run of a cell, in memory that it shares with other cells' one after the other.
pub(crate) type RunBox = ReusableBoxFuture<'static, ()>;

/// What has something to do.
pub(crate) trait Runs: Send + Sync {
    /// Its run, which is about to begin.
    fn run(self: Arc<Self>) -> RunBox;

    /// The same, in the place of another.
    fn run_in(self: Arc<Self>, place: &mut RunBox);
}

/// The runners of a system.
pub(crate) struct TaskPool {
    handle: Handle,
    upkeep: Handle,
    /// Those that wait for a cell, the last one first: its memory is still at hand.
    waiting: [Mutex<Waiting>; SHARDS],
    watched: AtomicBool,
    over: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    runners: Vec<(Waker, Arc<Place>)>,
    /// The fewest there were since the last look: nobody needed them.
    fewest: usize,
}

/// Where a runner that waits finds what it is to do.
#[derive(Default)]
struct Place(Mutex<Next>);

#[derive(Default)]
enum Next {
    /// It runs a cell, or waits.
    #[default]
    Nothing,
    Run(Arc<dyn Runs>),
    End,
}

impl TaskPool {
    /// `handle`: where handlers run. `upkeep`: where those that wait are looked after.
    pub(crate) fn new(handle: Handle, upkeep: Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            upkeep,
            waiting: Default::default(),
            watched: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// Runs a cell, in a task of its own.
    pub(crate) fn run(self: &Arc<Self>, cell: Arc<dyn Runs>) {
        let waiter = {
            let mut waiting = lock(&self.waiting[shard()]);
            let waiter = waiting.runners.pop();
            waiting.fewest = waiting.fewest.min(waiting.runners.len());
            waiter
        };
        if let Some((waker, place)) = waiter {
            *lock(&place.0) = Next::Run(cell);
            return waker.wake();
        }
        let runner = Runner {
            run: cell.run(),
            busy: true,
            place: Arc::default(),
            runners: self.clone(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "cells are closed by `close_all`, not by a task tracker"
        )]
        self.handle.spawn(runner);
    }

    /// Keeps a runner, unless there are enough.
    fn keep(self: &Arc<Self>, waker: &Waker, place: &Arc<Place>) -> bool {
        {
            let mut waiting = lock(&self.waiting[shard()]);
            // Under the lock, or `end` could miss it.
            if waiting.runners.len() >= WAITING_MAX || self.over.load(Ordering::Relaxed) {
                return false;
            }
            waiting.runners.push((waker.clone(), place.clone()));
        }
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends when there is nobody to look after"
            )]
            self.upkeep.spawn(watch(Arc::downgrade(self)));
        }
        true
    }

    /// Ends those that nobody needed since the last look. Returns how many are left.
    fn look(&self) -> usize {
        let look = |waiting: &Mutex<Waiting>| {
            let mut waiting = lock(waiting);
            let idle = waiting.fewest;
            end(waiting.runners.drain(..idle));
            waiting.fewest = waiting.runners.len();
            waiting.fewest
        };
        self.waiting.iter().map(look).sum()
    }

    /// Ends all that wait, and keeps none from here on.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        for waiting in &self.waiting {
            let mut waiting = lock(waiting);
            waiting.fewest = 0;
            end(waiting.runners.drain(..));
        }
    }
}

impl Drop for TaskPool {
    fn drop(&mut self) {
        self.end();
    }
}

fn end(runners: impl Iterator<Item = (Waker, Arc<Place>)>) {
    for (waker, place) in runners {
        *lock(&place.0) = Next::End;
        waker.wake();
    }
}

/// By the clock: that nobody needs a runner is nothing that happens.
async fn watch(runners: Weak<TaskPool>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(runners) = runners.upgrade() else {
            return;
        };
        if runners.look() > 0 {
            continue;
        }
        runners.watched.store(false, Ordering::Relaxed);
        // One may have come in between, and found itself watched.
        let none = runners
            .waiting
            .iter()
            .all(|waiting| lock(waiting).runners.is_empty());
        if none || runners.watched.swap(true, Ordering::Relaxed) {
            return;
        }
    }
}

/// Where this thread keeps runners.
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
    // The thread ends.
    known.unwrap_or(0)
}

/// The task of one cell after the other.
struct Runner {
    /// Of the present cell, if it is `busy`, or of the last one.
    run: RunBox,
    busy: bool,
    place: Arc<Place>,
    /// Those that wait keep this alive, and are ended when nobody has needed them for a while.
    runners: Arc<TaskPool>,
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        loop {
            if me.busy {
                ready!(me.run.poll(cx));
                me.busy = false;
                // Whoever takes it from there wakes it.
                let kept = me.runners.keep(cx.waker(), &me.place);
                return if kept { Poll::Pending } else { Poll::Ready(()) };
            }
            match std::mem::take(&mut *lock(&me.place.0)) {
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

    /// Tells what task it runs in, and waits until it may end.
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

        fn run_in(self: Arc<Self>, place: &mut RunBox) {
            place.set(self.drive());
        }
    }

    struct Fixture {
        runners: Arc<TaskPool>,
        ran: mpsc::UnboundedReceiver<Id>,
        says: mpsc::UnboundedSender<Id>,
    }

    impl Fixture {
        fn new() -> Self {
            let (says, ran) = mpsc::unbounded_channel();
            let handle = Handle::current();
            Self {
                runners: TaskPool::new(handle.clone(), handle),
                ran,
                says,
            }
        }

        /// Runs one that waits for `end`.
        fn begin(&self) -> Arc<Job> {
            let job = Arc::new(Job {
                ran: self.says.clone(),
                may_end: tokio::sync::Semaphore::new(0),
            });
            self.runners.run(job.clone());
            job
        }

        /// Ends a run. The runner has let go of its cell when this returns.
        async fn end(&self, job: Arc<Job>) {
            job.may_end.add_permits(1);
            while Arc::strong_count(&job) > 1 {
                tokio::task::yield_now().await;
            }
        }

        fn waiting(&self) -> usize {
            let waiting = self.runners.waiting.iter();
            waiting.map(|waiting| lock(waiting).runners.len()).sum()
        }
    }

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    /// Neither runners nor who looks after them. The clock is paused: it goes on when there is
    /// nothing else to do.
    async fn none_but(before: usize) {
        let ended = async {
            while tasks() > before {
                tokio::time::sleep(ROUND).await;
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
        assert_eq!(fixture.waiting(), 2);
    }

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for() {
        let fixture = Fixture::new();
        let jobs: Vec<_> = (0..2 * WAITING_MAX).map(|_| fixture.begin()).collect();
        for job in jobs {
            fixture.end(job).await;
        }
        assert_eq!(fixture.waiting(), WAITING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_nobody_needs_end() {
        let fixture = Fixture::new();
        let before = tasks();
        let (first, second) = (fixture.begin(), fixture.begin());
        fixture.end(first).await;
        fixture.end(second).await;
        assert_eq!(fixture.waiting(), 2);
        // One is needed now and then.
        for _ in 0..4 {
            tokio::time::sleep(ROUND).await;
            let job = fixture.begin();
            fixture.end(job).await;
        }
        assert_eq!(fixture.waiting(), 1);
        none_but(before).await;
        assert_eq!(fixture.waiting(), 0);
    }

    #[tokio::test]
    async fn with_the_system_they_end_as_well() {
        let fixture = Fixture::new();
        let (first, second) = (fixture.begin(), fixture.begin());
        fixture.end(first).await;
        fixture.runners.end();
        assert_eq!(fixture.waiting(), 0);
        fixture.end(second).await;
        assert_eq!(fixture.waiting(), 0, "none is kept any more");
    }

    #[tokio::test(start_paused = true)]
    async fn none_outlives_those_who_know_it() {
        let fixture = Fixture::new();
        let before = tasks();
        let job = fixture.begin();
        fixture.end(job).await;
        drop(fixture.runners);
        none_but(before).await;
    }
}
