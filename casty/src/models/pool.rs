//! The pool of tasks that cells run in: cells come while tasks begin to wait, and while idle
//! tasks are ended.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use shuttle::{future::block_on, thread};
use tokio::sync::Notify;

use crate::{
    actor::tasks::pool::{RunBox, Runs, TaskPool},
    models::environment,
};

/// Cells that each thread runs, one after the other.
const CELLS: usize = 2;

/// A cell whose run yields once.
#[derive(Default)]
struct Job {
    runs: AtomicUsize,
    done: Notify,
}

impl Job {
    async fn drive(self: Arc<Self>) {
        shuttle::future::yield_now().await;
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.done.notify_one();
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

pub(super) fn program() {
    let handle = environment::handle();
    let pool = TaskPool::new(handle.clone(), handle);
    let cells = |pool: Arc<TaskPool>| {
        thread::spawn(move || {
            for _ in 0..CELLS {
                let job = Arc::new(Job::default());
                pool.run(job.clone());
                block_on(job.done.notified());
                assert_eq!(job.runs.load(Ordering::SeqCst), 1);
            }
        })
    };
    let threads = [cells(pool.clone()), cells(pool.clone())];
    for thread in threads {
        thread.join().expect("it ends");
    }
    // Each task of the pool keeps the pool alive.
    let known = Arc::downgrade(&pool);
    drop(pool);
    environment::until(|| known.strong_count() == 0);
}
