//! The reason why a process is not in its cluster, once that is certain.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{locks::Rank, map_watch::MapWatch},
    error::JoinError,
    infra::sync::Ranked,
};

/// The reason why a process will never be in its cluster.
pub(crate) struct Failed {
    /// Notified, since callers that wait for members wait on the map.
    map: Arc<MapWatch>,
    ending: CancellationToken,
    error: Ranked<Option<JoinError>>,
}

impl Failed {
    pub(crate) fn new(map: Arc<MapWatch>, ending: CancellationToken) -> Self {
        let error = Rank::Failed.mutex(None);
        Self { map, ending, error }
    }

    /// The first reason counts.
    pub(crate) fn set(&self, error: JoinError) {
        tracing::error!(%error, "not a member of the cluster");
        self.error.lock().get_or_insert(error);
        self.map.notify();
        self.ending.cancel();
    }

    pub(crate) fn get(&self) -> Option<JoinError> {
        self.error.lock().clone()
    }
}
