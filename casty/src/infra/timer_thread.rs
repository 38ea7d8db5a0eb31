//! The timer thread: where a system does periodic work, such as keepalives, leases, gossip, the
//! cluster map and deadlines.
//!
//! On a runtime of several threads, casty has a thread of its own for this. A tokio worker with a
//! pending timer reads the clock twice and arms a kernel timer each time that it becomes idle;
//! where messages come one by one, that is after each message. So casty has no pending timer on the
//! runtime of the handlers, unless a handler asks for one.
//!
//! A runtime of one thread does all of it itself: its clock may be paused, or simulated.

use tokio::{
    runtime::{Builder, Handle, RuntimeFlavor},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A handle of the timer thread. Dropped, it ends the thread, if there is one.
pub(crate) struct TimerThread {
    handle: Handle,
    end: Option<CancellationToken>,
}

impl TimerThread {
    /// `main`: the runtime of the handlers. The thread ends with that runtime.
    pub(crate) fn start(main: &Handle) -> Self {
        let here = Self {
            handle: main.clone(),
            end: None,
        };
        if main.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return here;
        }
        let end = CancellationToken::new();
        match own_thread(end.clone()) {
            Ok(handle) => {
                #[expect(clippy::disallowed_methods, reason = "it ends with the timer thread")]
                main.spawn(tether(end.clone()));
                Self {
                    handle,
                    end: Some(end),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no thread for upkeep: it is done where handlers run");
                here
            }
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether there is a thread of its own, which runs no handlers.
    pub(crate) fn is_own_thread(&self) -> bool {
        self.end.is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "each caller ends its tasks")]
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(task)
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            end.cancel();
        }
    }
}

/// Cancels `end` when it is dropped, and so when the runtime is that it was given to. That may be
/// before the task is polled at all, so the guard is made here and not by the task.
fn tether(end: CancellationToken) -> impl Future<Output = ()> + Send {
    let runtime_is_gone = end.clone().drop_guard();
    async move {
        end.cancelled().await;
        drop(runtime_is_gone);
    }
}

fn own_thread(end: CancellationToken) -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("casty-upkeep".to_owned());
    thread.spawn(move || {
        runtime.block_on(end.cancelled());
        // Does not wait for name lookups that are under way.
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use crate::infra::timer_thread::*;

    fn thread_of(upkeep: &TimerThread) -> JoinHandle<std::thread::ThreadId> {
        upkeep.spawn(async { std::thread::current().id() })
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_is_its_own_timer_thread() {
        let upkeep = TimerThread::start(&Handle::current());
        assert!(!upkeep.is_own_thread());
        let thread = thread_of(&upkeep).await.unwrap();
        assert_eq!(thread, std::thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_thread_ends_when_its_handle_is_dropped() {
        let upkeep = TimerThread::start(&Handle::current());
        assert!(upkeep.is_own_thread());
        let first = thread_of(&upkeep).await.unwrap();
        assert_eq!(thread_of(&upkeep).await.unwrap(), first);
        let never = upkeep.spawn(std::future::pending::<()>());
        drop(upkeep);
        assert!(never.await.unwrap_err().is_cancelled());
    }

    #[test]
    fn a_runtime_that_ends_at_once_ends_the_thread() {
        let end = CancellationToken::new();
        drop(tether(end.clone()));
        assert!(end.is_cancelled());
    }

    #[test]
    fn the_thread_ends_with_the_runtime_of_the_handlers() {
        let runtime = |threads| {
            let mut builder = Builder::new_multi_thread();
            builder
                .worker_threads(threads)
                .enable_all()
                .build()
                .unwrap()
        };
        let main = runtime(1);
        let upkeep = TimerThread::start(main.handle());
        let never = upkeep.spawn(std::future::pending::<()>());
        drop(main);
        assert!(runtime(1).block_on(never).unwrap_err().is_cancelled());
    }
}
