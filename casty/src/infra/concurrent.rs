//! Locks, atomics, thread locals and tasks of the primitives that are model-checked.
//!
//! These are the standard library's and tokio's. With the feature `model` they are shuttle's, which
//! runs a model again and again and decides at each lock, atomic and poll which task goes on. So
//! the models (see `casty::models`) check the code that programs run, and no copy of it.
//!
//! Shuttle takes every atomic for sequentially consistent. What relies on a weaker order needs a
//! lock, or a comment that says why it holds.

#[cfg(not(feature = "model"))]
mod real {
    pub(crate) use std::{
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU32},
        },
        thread_local,
    };

    pub(crate) use arc_swap::ArcSwap;
    pub(crate) use tokio::time::sleep;

    pub(crate) use crate::infra::sync::lock;

    /// Spawns a task that its maker ends, and no task tracker.
    #[expect(clippy::disallowed_methods, reason = "each caller says how it ends")]
    pub(crate) fn spawn_on(
        handle: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        handle.spawn(task);
    }

    /// Lets other threads go on.
    pub(crate) fn yield_thread() {
        std::thread::yield_now();
    }
}

#[cfg(feature = "model")]
mod real {
    use std::{
        ops::Deref,
        pin::Pin,
        sync::{Arc, PoisonError, atomic::Ordering},
        task::{Context, Poll, Wake, Waker},
        time::Duration,
    };

    pub(crate) use shuttle::{
        sync::{
            Mutex, MutexGuard,
            atomic::{AtomicBool, AtomicU32},
        },
        thread_local,
    };

    pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spawn_on(
        _: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let waker = Arc::new(TaskWaker {
            notified: std::sync::atomic::AtomicBool::new(true),
            outer: std::sync::OnceLock::new(),
        });
        let run = Box::pin(task);
        // Dropping the handle detaches the task.
        drop(shuttle::future::spawn(Task { run, waker }));
    }

    /// A task that is polled as tokio does it: a wake-up of a task that is about to be polled is
    /// part of that poll. Shuttle would poll the task once more after it, which hides a wake-up
    /// that was lost.
    struct Task<F> {
        run: Pin<Box<F>>,
        waker: Arc<TaskWaker>,
    }

    struct TaskWaker {
        /// Woken since the last poll began.
        notified: std::sync::atomic::AtomicBool,
        /// Shuttle's waker of the task.
        outer: std::sync::OnceLock<Waker>,
    }

    impl Wake for TaskWaker {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            if !self.notified.swap(true, Ordering::SeqCst)
                && let Some(outer) = self.outer.get()
            {
                outer.wake_by_ref();
            }
        }
    }

    impl<F: Future<Output = ()>> Future for Task<F> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.waker.outer.get_or_init(|| cx.waker().clone());
            if !self.waker.notified.swap(false, Ordering::SeqCst) {
                return Poll::Pending;
            }
            let waker = Waker::from(self.waker.clone());
            self.run.as_mut().poll(&mut Context::from_waker(&waker))
        }
    }

    /// What `arc_swap` promises, with a lock: a reader keeps the value that it has loaded alive,
    /// and the count of references says so.
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Loaded<T> {
            Loaded(lock(&self.0).clone())
        }

        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            std::mem::replace(&mut lock(&self.0), value)
        }
    }

    /// A value that a reader has loaded.
    pub(crate) struct Loaded<T>(Arc<T>);

    impl<T> Deref for Loaded<T> {
        type Target = Arc<T>;

        fn deref(&self) -> &Arc<T> {
            &self.0
        }
    }

    pub(crate) fn yield_thread() {
        shuttle::thread::yield_now();
    }

    /// Time has no length in a model: it may pass at any moment, before or after anything else.
    pub(crate) async fn sleep(_: Duration) {
        shuttle::future::yield_now().await;
    }
}

pub(crate) use real::*;
