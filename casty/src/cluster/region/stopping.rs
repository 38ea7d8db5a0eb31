//! How the entities of a shard stop, so that it can move.
//!
//! An entity that never stops must not take its neighbours with it: until all of them have stopped,
//! messages for the shard wait. So there is a bound. What awaits something after it is dropped.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    actor::runtime::Runtime,
    cluster::region::{local::EntityCell, moving},
    id::ShardId,
    infra::backoff::Backoff,
};

/// The first pause between two warnings of one shard that cannot move. Each is twice as long as the
/// one before.
const WARN_AGAIN: Duration = Duration::from_secs(5);

/// The longest such pause.
const WARN_AGAIN_MAX: Duration = Duration::from_mins(5);

/// Entities that have not stopped yet.
type Stopping = Vec<(Arc<dyn EntityCell>, oneshot::Receiver<()>)>;

/// Closes the cells of a shard. Resolves when all of them have closed. `bound`: how long they may
/// take; without one, as long as they like.
pub(super) async fn close_all(
    runtime: &Runtime,
    (kind, shard): (&str, ShardId),
    cells: Vec<Arc<dyn EntityCell>>,
    bound: Option<Duration>,
) {
    let closing = moving::in_turns(&runtime.packing, cells, |cell| {
        (cell.clone(), cell.clone().close())
    })
    .await;
    let mut late = within(closing, bound).await;
    if late.is_empty() {
        return;
    }
    let mut stuck = Vec::new();
    for (cell, _) in &late {
        if cell.clone().hurry() {
            stuck.push(cell.name());
        }
    }
    if let Some((first, others)) = stuck.split_first() {
        tracing::warn!(
            kind,
            %shard,
            entity = %first,
            others = others.len(),
            ?bound,
            "an entity did not stop for the move of its shard: its handler, or hook, is dropped \
             where it awaits something. A handler's state is lost",
        );
    }
    let mut pauses = Backoff::new(WARN_AGAIN, WARN_AGAIN_MAX);
    loop {
        late = within(late, Some(pauses.pause(1.0))).await;
        let Some((first, _)) = late.first() else {
            return;
        };
        tracing::warn!(
            kind,
            %shard,
            entity = %first.name(),
            others = late.len() - 1,
            "a shard cannot move: an entity of it has not stopped. Code that does not await \
             anything cannot be ended",
        );
    }
}

/// Waits until these have stopped, or the time is up. Returns those that have not stopped.
async fn within(stopping: Stopping, bound: Option<Duration>) -> Stopping {
    let mut late = Stopping::new();
    let mut time_is_up = pin!(OptionFuture::from(bound.map(tokio::time::sleep)));
    // One after the other. All must stop anyway, and a set of a million futures costs more than the
    // entities that it waits for.
    for (cell, mut closed) in stopping {
        if late.is_empty() {
            tokio::select! {
                biased;
                _ = &mut closed => continue,
                Some(()) = &mut time_is_up => {}
            }
        }
        if closed.try_recv() == Err(TryRecvError::Empty) {
            late.push((cell, closed));
        }
    }
    late
}
