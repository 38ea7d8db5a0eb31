//! Where a system does what has to be done by the clock: keepalives, leases, gossip, the cluster
//! map, deadlines.
//!
//! On a runtime of many threads it has a thread of its own. A worker with a timer that is pending
//! reads the clock twice, and has the kernel set one up, each time that it finds nothing to do;
//! with messages that come one by one that is after each of them. So no timer of casty's is pending
//! where handlers run, unless they ask for one.
//!
//! A runtime of one thread does all of it there: it may have a paused clock, or be a simulation.

use tokio::{
    runtime::{Builder, Handle, RuntimeFlavor},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Ends with its thread, if it has one, when it is dropped.
pub(crate) struct TimerThread {
    handle: Handle,
    end: Option<CancellationToken>,
}

impl TimerThread {
    /// `main`: where handlers run. The thread ends with it.
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
                let tether = end.clone();
                #[expect(clippy::disallowed_methods, reason = "it ends with the upkeep")]
                main.spawn(async move {
                    let main_is_gone = tether.clone().drop_guard();
                    tether.cancelled().await;
                    drop(main_is_gone);
                });
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

    /// Whether it is done by a thread that runs no handlers.
    pub(crate) fn is_own_thread(&self) -> bool {
        self.end.is_some()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "for tasks that whoever spawns them ends"
    )]
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

fn own_thread(end: CancellationToken) -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("casty-upkeep".to_owned());
    thread.spawn(move || {
        runtime.block_on(end.cancelled());
        // Whoever still looks up a name is not waited for.
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
    async fn a_runtime_of_one_thread_does_all_of_it_there() {
        let upkeep = TimerThread::start(&Handle::current());
        assert!(!upkeep.is_own_thread());
        let thread = thread_of(&upkeep).await.unwrap();
        assert_eq!(thread, std::thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_has_a_thread_of_its_own_until_it_is_dropped() {
        let upkeep = TimerThread::start(&Handle::current());
        assert!(upkeep.is_own_thread());
        let first = thread_of(&upkeep).await.unwrap();
        assert_eq!(thread_of(&upkeep).await.unwrap(), first);
        let never = upkeep.spawn(std::future::pending::<()>());
        drop(upkeep);
        assert!(never.await.unwrap_err().is_cancelled());
    }

    #[test]
    fn it_ends_with_the_runtime_of_the_handlers() {
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
