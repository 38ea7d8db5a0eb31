//! Connections, and the tasks that use them.
//!
//! A future of sqlx that is dropped leaves its work half done: a transaction is rolled back later,
//! or stays open. So each job runs in a task of its own, which nobody cancels. A caller that is
//! dropped while it waits for a connection starts nothing; afterwards its job ends by itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

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
    Lost,
}

impl NoResult {
    pub(crate) fn reason(self) -> String {
        match self {
            Self::NotConnected(reason) => reason,
            Self::Lost => "the tokio runtime in which the store was opened has ended".to_owned(),
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
    ///
    /// The job gives the connection back with its result.
    pub(crate) async fn run<R, J, F>(self: &Arc<Self>, job: J) -> Result<R, NoResult>
    where
        R: Send + 'static,
        J: FnOnce(D::Connection) -> F + Send + 'static,
        F: Future<Output = (D::Connection, Verdict, R)> + Send + 'static,
    {
        let permits = self.permits.clone();
        let Ok(permit) = permits.acquire_owned().await else {
            return Err(NoResult::Lost);
        };
        let pool = self.clone();
        let task = async move {
            let _permit = permit;
            let connection = pool.take().await.map_err(NoResult::NotConnected)?;
            let (connection, verdict, result) = job(connection).await;
            pool.put_back(connection, verdict).await;
            Ok(result)
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "a job must outlive the caller and its node: it ends by itself"
        )]
        let task = self.runtime.spawn(task);
        task.await.unwrap_or(Err(NoResult::Lost))
    }

    async fn take(&self) -> Result<D::Connection, String> {
        let suspect = {
            let mut state = self.state();
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            if let Some((next, _, reason)) = &state.failed
                && Instant::now() < *next
            {
                return Err(reason.clone());
            }
            state.suspect
        };
        let dialed = self.dial.dial(suspect).await;
        let mut state = self.state();
        match dialed {
            Ok(connection) => {
                state.failed = None;
                state.suspect = false;
                Ok(connection)
            }
            Err(error) => {
                let last = state.failed.as_ref().map(|(_, pause, _)| *pause * 2);
                let pause = last.unwrap_or(PAUSE_MIN).min(PAUSE_MAX);
                let reason = D::reason(&error);
                state.failed = Some((Instant::now() + pause, pause, reason.clone()));
                Err(reason)
            }
        }
    }

    async fn put_back(&self, connection: D::Connection, verdict: Verdict) {
        let idle = {
            let mut state = self.state();
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

    fn state(&self) -> std::sync::MutexGuard<'_, State<D::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
