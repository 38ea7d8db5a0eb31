//! How far the projections of a node are, for handles on this node and on others.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    pin::pin,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{infra::sync::lock, persistence::head::Head};

/// A projection. Its next version is another one, which begins at the first event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProjectionId {
    pub(crate) name: String,
    pub(crate) version: u32,
}

/// How far a projection is with one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardProgress {
    /// The position of the last record that it has handled, and stored that it has. `None`: not
    /// known yet.
    pub(crate) position: Option<u64>,
    /// The position of the last durable record.
    pub(crate) head: u64,
    /// When the first record that it has not handled was written, as far as it has read:
    /// milliseconds since the Unix epoch.
    pub(crate) oldest: Option<u64>,
    /// Why it does not go on, or did not at the last try.
    pub(crate) trouble: Option<String>,
    /// How many events it has parked since it began with the shard here.
    pub(crate) parked: u64,
}

/// The projections that run on a node.
#[derive(Default)]
pub(crate) struct Boards(Mutex<BTreeMap<ProjectionId, Arc<Board>>>);

impl Boards {
    /// The board of a projection that begins. `None`: it runs already.
    pub(crate) fn begin(&self, id: &ProjectionId) -> Option<Arc<Board>> {
        match lock(&self.0).entry(id.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => Some(entry.insert(Arc::default()).clone()),
        }
    }

    pub(crate) fn end(&self, id: &ProjectionId) {
        if let Some(board) = lock(&self.0).remove(id) {
            board.changed.notify_waiters();
        }
    }

    /// Each projection that runs here.
    #[cfg(feature = "metrics")]
    pub(crate) fn all(&self) -> Vec<(ProjectionId, Arc<Board>)> {
        let boards = lock(&self.0);
        boards
            .iter()
            .map(|(id, board)| (id.clone(), board.clone()))
            .collect()
    }

    pub(crate) fn get(&self, id: &ProjectionId) -> Option<Arc<Board>> {
        lock(&self.0).get(id).cloned()
    }
}

/// How far a projection is with the shards that this node owns.
#[derive(Default)]
pub(crate) struct Board {
    shards: Mutex<BTreeMap<u32, Noted>>,
    changed: Notify,
}

#[derive(Default)]
struct Noted {
    /// The runner that notes it.
    runner: u64,
    progress: ShardProgress,
    head: Option<Arc<Head>>,
}

impl Board {
    /// The runner of a shard begins. Runners are numbered.
    pub(crate) fn begin(&self, shard: u32, runner: u64) {
        let noted = Noted {
            runner,
            ..Noted::default()
        };
        lock(&self.shards).insert(shard, noted);
        self.changed.notify_waiters();
    }

    /// The runner has ended. A later one may have taken its place.
    pub(crate) fn end(&self, shard: u32, runner: u64) {
        let mut shards = lock(&self.shards);
        if shards.get(&shard).is_some_and(|it| it.runner == runner) {
            shards.remove(&shard);
        }
    }

    /// What the runner has to note.
    pub(crate) fn note(&self, shard: u32, runner: u64, change: impl FnOnce(&mut ShardProgress)) {
        if let Some(noted) = lock(&self.shards).get_mut(&shard)
            && noted.runner == runner
        {
            change(&mut noted.progress);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn set_head(&self, shard: u32, runner: u64, head: &Arc<Head>) {
        if let Some(noted) = lock(&self.shards).get_mut(&shard)
            && noted.runner == runner
        {
            noted.head = Some(head.clone());
        }
    }

    /// How many records it has not handled, and how many events it has parked, of all shards here.
    #[cfg(feature = "metrics")]
    pub(crate) fn behind(&self) -> (u64, u64) {
        let shards: Vec<u32> = lock(&self.shards).keys().copied().collect();
        let progress = shards.into_iter().filter_map(|shard| self.progress(shard));
        progress.fold((0, 0), |(behind, parked), it| {
            let handled = it.position.unwrap_or(it.head);
            (behind + it.head.saturating_sub(handled), parked + it.parked)
        })
    }

    /// `None`: the runner of the shard has not begun.
    pub(crate) fn progress(&self, shard: u32) -> Option<ShardProgress> {
        let shards = lock(&self.shards);
        let noted = shards.get(&shard)?;
        let mut progress = noted.progress.clone();
        let known = noted.head.as_ref().map_or(0, |head| head.position());
        progress.head = progress.head.max(known);
        Some(progress)
    }

    /// Resolves once `look` has something.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn wait<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(self) {
                return found;
            }
            changed.await;
        }
    }
}
