//! Statements that run to their end.
//!
//! The results of the driver come from a thread of its own. When this thread dies, they end without
//! an error. So each statement has to say that it has ended, before what it returned counts.

use futures_util::{Stream, TryStreamExt};
use sqlx::{
    Either, Error, Executor, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow},
};

/// What the driver says while it runs statements: that one has ended, or a row.
pub(super) type Answer = Result<Either<SqliteQueryResult, SqliteRow>, Error>;

/// Some statements have not ended.
pub(super) struct Unfinished {
    /// How many have.
    pub(super) ended: usize,
    pub(super) error: Error,
}

impl From<Unfinished> for Error {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.error
    }
}

/// Runs a query that has so many statements. Their rows.
pub(super) async fn run(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    statements: usize,
) -> Result<Vec<SqliteRow>, Unfinished> {
    let mut rows = Vec::new();
    let each = |row| {
        rows.push(row);
        Ok(true)
    };
    finish(connection.fetch_many(query), statements, each).await?;
    Ok(rows)
}

/// Takes what so many statements answer, until `each` has enough rows.
pub(super) async fn finish(
    mut answers: impl Stream<Item = Answer> + Unpin,
    statements: usize,
    mut each: impl FnMut(SqliteRow) -> Result<bool, Error>,
) -> Result<(), Unfinished> {
    let mut ended = 0;
    loop {
        match answers.try_next().await {
            Ok(Some(Either::Left(_))) => ended += 1,
            Ok(Some(Either::Right(row))) => {
                let goes_on = each(row).map_err(|error| Unfinished { ended, error })?;
                if !goes_on {
                    return Ok(());
                }
            }
            Ok(None) if ended >= statements => return Ok(()),
            Ok(None) => {
                let error = Error::WorkerCrashed;
                return Err(Unfinished { ended, error });
            }
            Err(error) => return Err(Unfinished { ended, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn after(answers: Vec<Answer>) -> Result<(), (usize, bool)> {
        let finished = finish(stream::iter(answers), 2, |_| Ok(true)).await;
        finished.map_err(|unfinished| {
            let is_crash = matches!(unfinished.error, Error::WorkerCrashed);
            (unfinished.ended, is_crash)
        })
    }

    #[tokio::test]
    async fn answers_that_end_early_are_an_error() {
        let ended = || Ok(Either::Left(SqliteQueryResult::default()));
        assert_eq!(after(vec![]).await, Err((0, true)));
        assert_eq!(after(vec![ended()]).await, Err((1, true)));
        assert_eq!(after(vec![ended(), ended()]).await, Ok(()));
        let failed = vec![ended(), Err(Error::RowNotFound)];
        assert_eq!(after(failed).await, Err((1, false)));
    }
}
