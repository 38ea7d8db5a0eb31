//! What a store has to do, as tests that an implementation of [`Journal`] runs.
//!
//! [`Suite`] is given a function that connects to one store. Each test uses entity types of its
//! own, so the store may keep what earlier tests left, but no type of an earlier run.
//!
//! ```
//! use std::sync::Arc;
//!
//! use casty::persistence::{Journal, Memory, suite::Suite};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let memory = Memory::new();
//! // Each connection is to the same store.
//! let suite = Suite::new(move || {
//!     let connection: Arc<dyn Journal> = Arc::new(memory.clone());
//!     async { connection }
//! });
//! suite.check().await;
//! # }
//! ```

#[cfg(test)]
mod broken;
mod claims;
mod fixture;
mod records;
mod snapshots;
mod takeovers;
#[cfg(test)]
mod tests;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use self::fixture::{Fixture, Outcome};
use crate::{infra::panic::panic_text, persistence::Journal};

/// How long one test may take.
const TEST_MAX: Duration = Duration::from_mins(2);

type Test = for<'a> fn(&'a Fixture) -> BoxFuture<'a, Outcome>;

/// The tests, with their names.
const TESTS: &[(&str, Test)] = &[
    ("types", |fixture| Box::pin(claims::types(fixture))),
    ("claims", |fixture| Box::pin(claims::claims(fixture))),
    ("fencing", |fixture| Box::pin(claims::fencing(fixture))),
    ("epochs", |fixture| Box::pin(claims::epochs(fixture))),
    ("dense positions", |fixture| {
        Box::pin(records::dense_positions(fixture))
    }),
    ("batches", |fixture| Box::pin(records::batches(fixture))),
    ("reads", |fixture| Box::pin(records::reads(fixture))),
    ("pages", |fixture| Box::pin(records::pages(fixture))),
    ("bodies", |fixture| Box::pin(records::bodies(fixture))),
    ("ids", |fixture| Box::pin(records::ids(fixture))),
    ("of the shard", |fixture| {
        Box::pin(records::of_the_shard(fixture))
    }),
    ("snapshots", |fixture| {
        Box::pin(snapshots::snapshots(fixture))
    }),
    ("forget", |fixture| Box::pin(snapshots::forget(fixture))),
    ("entities", |fixture| Box::pin(snapshots::entities(fixture))),
    ("dropped", |fixture| Box::pin(takeovers::dropped(fixture))),
    ("takeovers", |fixture| {
        Box::pin(takeovers::takeovers(fixture))
    }),
];

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the test.
    pub test: &'static str,
    /// What the store did, and what it should have done.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.test, self.what)
    }
}

/// The tests of a store.
pub struct Suite(Fixture);

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").finish_non_exhaustive()
    }
}

impl Suite {
    /// `connect` makes a connection to the store. Each one is another process of a cluster: what it
    /// knows is in the store only.
    pub fn new<F, C>(connect: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Arc<dyn Journal>> + Send + 'static,
    {
        Self(Fixture {
            connect: Box::new(move || Box::pin(connect())),
        })
    }

    /// Runs all tests, one after the other.
    ///
    /// # Panics
    /// If a test fails, with what all tests found.
    pub async fn check(&self) {
        let violations = self.violations().await;
        let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert!(
            texts.is_empty(),
            "{} of {} tests of a store fail:\n{}",
            texts.len(),
            TESTS.len(),
            texts.join("\n")
        );
    }

    /// Runs all tests, and returns those that fail. A test that panics, or does not end within two
    /// minutes, is one of them.
    pub async fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (test, run) in TESTS {
            let running = AssertUnwindSafe(run(&self.0)).catch_unwind();
            let what = match tokio::time::timeout(TEST_MAX, running).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(what))) => what,
                Ok(Err(panic)) => format!("a panic: {}", panic_text(&*panic)),
                Err(_) => format!("it does not end within {TEST_MAX:?}"),
            };
            violations.push(Violation { test, what });
        }
        violations
    }
}
