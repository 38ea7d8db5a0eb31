//! Connections, and the tasks that use them.
//!
//! A future of sqlx that is dropped leaves its work half done: a transaction is rolled back later,
//! or stays open. So each job runs in a task of its own, which is never cancelled. A caller that
//! is dropped while it waits for a connection starts nothing; afterwards its job ends by itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use casty::persistence::{AppendError, JournalError};
use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinError, time::Instant};

use crate::sync::lock;

/// The first pause after a failed attempt to connect. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Makes connections.
pub(crate) trait Dial: Send + Sync + 'static {
    /// What it makes.
    type Connection: Send + 'static;

    /// Connects. After an error that may have left the store in doubt, `suspect` is set until it
    /// has connected.
    fn dial(&self, suspect: bool) -> BoxFuture<'_, Result<Self::Connection, sqlx::Error>>;

    /// Ends a connection that is not used again.
    fn close(connection: Self::Connection) -> BoxFuture<'static, ()>;

    /// The error of an attempt to connect, with what to do about it.
    fn reason(error: &sqlx::Error) -> String;
}

/// What becomes of a connection after a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Close,
    /// It is closed, and so are the others that are idle.
    Suspect,
}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// It has not begun, since there is no connection.
    NotConnected(String),
    /// It may have run. The runtime has ended, or the job has panicked.
    Lost(String),
}

impl From<JoinError> for NoResult {
    fn from(error: JoinError) -> Self {
        Self::Lost(if error.is_panic() {
            format!("a job of the store has ended: {error}")
        } else {
            "the tokio runtime in which the store was opened has ended".to_owned()
        })
    }
}

impl From<NoResult> for JournalError {
    fn from(why: NoResult) -> Self {
        let (NoResult::NotConnected(reason) | NoResult::Lost(reason)) = why;
        Self::Unavailable { reason }
    }
}

impl From<NoResult> for AppendError {
    fn from(why: NoResult) -> Self {
        match why {
            NoResult::NotConnected(reason) => Self::NotWritten { reason },
            NoResult::Lost(reason) => Self::Unknown { reason },
        }
    }
}

pub(crate) struct Pool<D: Dial> {
    dial: D,
    state: Mutex<State<D::Connection>>,
    permits: Arc<Semaphore>,
    runtime: Handle,
}

struct State<C> {
    idle: Vec<C>,
    suspect: bool,
    /// After a failed attempt: when the next one may be made, the pause before it, and the error.
    failed: Option<(Instant, Duration, String)>,
}

impl<D: Dial> Pool<D> {
    /// At most `size` connections, which are made when they are needed. The jobs run in the present
    /// tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(dial: D, size: usize, idle: Vec<D::Connection>) -> Arc<Self> {
        let state = State {
            idle,
            suspect: false,
            failed: None,
        };
        Arc::new(Self {
            dial,
            state: Mutex::new(state),
            permits: Arc::new(Semaphore::new(size)),
            runtime: Handle::current(),
        })
    }

    /// Runs a job with a connection, once one is free. Jobs are started in the order of the calls.
    pub(crate) async fn run<R, J>(self: &Arc<Self>, job: J) -> Result<R, NoResult>
    where
        R: Send + 'static,
        J: for<'c> FnOnce(&'c mut D::Connection) -> BoxFuture<'c, (Verdict, R)> + Send + 'static,
    {
        // It is never closed.
        let permit = self.permits.clone().acquire_owned().await.ok();
        let pool = self.clone();
        let task = async move {
            let _permit = permit;
            let mut connection = pool.take().await.map_err(NoResult::NotConnected)?;
            let (verdict, result) = job(&mut connection).await;
            pool.put_back(connection, verdict).await;
            Ok(result)
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "a job must outlive the caller and its node: it ends by itself"
        )]
        let task = self.runtime.spawn(task);
        task.await?
    }

    async fn take(&self) -> Result<D::Connection, String> {
        let begun = Instant::now();
        let suspect = {
            let mut state = lock(&self.state);
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            if let Some((next, _, reason)) = &state.failed
                && begun < *next
            {
                return Err(reason.clone());
            }
            state.suspect
        };
        let dialed = self.dial.dial(suspect).await;
        let mut state = lock(&self.state);
        match dialed {
            Ok(connection) => {
                state.failed = None;
                state.suspect = false;
                Ok(connection)
            }
            Err(error) => {
                let reason = D::reason(&error);
                let pause = match &state.failed {
                    // It had begun before another one failed: the two count once.
                    Some((next, _, _)) if begun < *next => return Err(reason),
                    Some((_, pause, _)) => (*pause * 2).min(PAUSE_MAX),
                    None => PAUSE_MIN,
                };
                state.failed = Some((Instant::now() + pause, pause, reason.clone()));
                Err(reason)
            }
        }
    }

    async fn put_back(&self, connection: D::Connection, verdict: Verdict) {
        let idle = {
            let mut state = lock(&self.state);
            match verdict {
                Verdict::Keep => {
                    state.idle.push(connection);
                    return;
                }
                Verdict::Close => Vec::new(),
                Verdict::Suspect => {
                    state.suspect = true;
                    std::mem::take(&mut state.idle)
                }
            }
        };
        D::close(connection).await;
        for connection in idle {
            D::close(connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use sqlx::Error;
    use tokio::sync::Barrier;

    use super::*;

    /// A store that cannot be reached. So many attempts fail together.
    struct Away {
        together: Barrier,
        attempts: AtomicUsize,
    }

    impl Dial for Away {
        type Connection = ();

        fn dial(&self, _: bool) -> BoxFuture<'_, Result<(), Error>> {
            Box::pin(async {
                self.attempts.fetch_add(1, Ordering::Relaxed);
                self.together.wait().await;
                Err(Error::PoolClosed)
            })
        }

        fn close((): ()) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn reason(error: &Error) -> String {
            error.to_string()
        }
    }

    async fn job(pool: &Arc<Pool<Away>>) {
        let job = pool.run(|()| Box::pin(std::future::ready((Verdict::Keep, ()))));
        let result = tokio::time::timeout(Duration::from_secs(1), job).await;
        let result = result.expect("eight attempts together, or none");
        assert!(matches!(result, Err(NoResult::NotConnected(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_fail_together_count_once() {
        let together = Barrier::new(8);
        let attempts = AtomicUsize::new(0);
        let away = Away { together, attempts };
        let pool = Pool::new(away, 8, Vec::new());
        let mut pause = PAUSE_MIN;
        for round in 1..=9 {
            join_all((0..8).map(|_| job(&pool))).await;
            let attempts = || pool.dial.attempts.load(Ordering::Relaxed);
            assert_eq!(attempts(), 8 * round);
            tokio::time::sleep(pause.saturating_sub(Duration::from_millis(1))).await;
            job(&pool).await;
            assert_eq!(attempts(), 8 * round, "no attempt within {pause:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
