//! Where a member keeps what has to survive it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::SystemBuilder;
use crate::{
    cluster::copies::NodeCopies,
    error::StartError,
    id::{CopySettings, MemberId},
    persistence::store::Store,
    system::journal::{self, Chosen},
};

/// Where in its directory a node keeps what it knows of the map.
const MAP_FOLDER: &str = "map";

impl SystemBuilder {
    /// The directory in which this node keeps what it knows of the map.
    pub(super) fn map_dir(&self) -> Result<Option<PathBuf>, StartError> {
        if self.state_dir.is_some() && self.data_dir.is_some() {
            let reason = "is a part of `data_dir`; set only that one";
            return Err(StartError::Setting {
                setting: "state_dir",
                reason: reason.to_owned(),
            });
        }
        let map_dir = self.data_dir.as_deref().map(|path| path.join(MAP_FOLDER));
        let map_dir = map_dir.or_else(|| self.state_dir.clone());
        if map_dir.is_some() && self.tie_breaker.is_some() {
            // The decision of a tie-breaker holds for ever, and the stored state would not know of
            // it.
            let reason = "cannot be combined with a tie-breaker; choose one of them";
            return Err(StartError::Setting {
                setting: match self.data_dir {
                    Some(_) => "data_dir",
                    None => "state_dir",
                },
                reason: reason.to_owned(),
            });
        }
        Ok(map_dir)
    }

    /// The log in the directory of this node, if its entities are stored there.
    pub(super) async fn own_log(&self) -> Result<Option<(Chosen, Arc<NodeCopies>)>, StartError> {
        if self.journal.is_some() || self.registry.stored(Some(&self.roles))?.is_empty() {
            return Ok(None);
        }
        let settings = CopySettings {
            copies: self.settings.copies,
            copies_min: self.settings.copies_min,
        };
        #[cfg(feature = "sim")]
        if let Some(disk) = &self.simulated_disk {
            let seed = self.seed.unwrap_or_default();
            let opened = journal::open_simulated(disk.clone(), seed, settings);
            return opened.await.map(Some);
        }
        let Some(path) = &self.data_dir else {
            return Ok(None);
        };
        journal::open_copies(path, settings).await.map(Some)
    }

    /// The store of this node's entities.
    pub(super) async fn open_store(
        &self,
        member: &MemberId,
        address: SocketAddr,
        own_log: Option<Chosen>,
    ) -> Result<Option<Arc<Store>>, StartError> {
        let kinds = self.registry.stored(Some(&self.roles))?;
        let for_tests = self.journal_for_tests.as_ref();
        let for_tests = for_tests.filter(|_| !kinds.is_empty());
        let journal = self.journal.as_ref().or(own_log.as_ref()).or(for_tests);
        if let Some(journal) = journal {
            journal
                .check_hosts(&*self.net, address, &self.seeds)
                .await?;
        }
        journal::open(journal, kinds, member.to_string()).await
    }
}
