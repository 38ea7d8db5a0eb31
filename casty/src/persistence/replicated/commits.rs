//! The commits of a store that are on their way.

use std::{collections::VecDeque, future::pending};

use casty_log::{CommitError, Done};
use futures_util::future::BoxFuture;

use super::{changes::Written, tidies::TidyAnswer};

/// A commit on its way.
pub(super) struct Commit {
    pub(super) written: Written,
    pub(super) answers: Vec<TidyAnswer>,
    pub(super) running: BoxFuture<'static, Result<Vec<Done>, CommitError>>,
}

/// The commit that was begun first, once it is done.
pub(super) async fn first_done(
    commits: &mut VecDeque<Commit>,
) -> (Commit, Result<Vec<Done>, CommitError>) {
    let done = match commits.front_mut() {
        Some(commit) => (&mut commit.running).await,
        None => pending().await,
    };
    match commits.pop_front() {
        Some(commit) => (commit, done),
        None => pending().await,
    }
}
