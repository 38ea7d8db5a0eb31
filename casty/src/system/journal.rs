//! The journal of a system: whether the system may use it, and its start.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

use futures_util::FutureExt;

#[cfg(feature = "sim")]
use {
    crate::infra::sync::lock,
    casty_log::disk::SimDisk,
    rand::{RngExt, SeedableRng, rngs::StdRng},
    std::{sync::Mutex, time::Duration},
};

use crate::{
    cluster::copies::NodeCopies,
    error::StartError,
    id::CopySettings,
    persistence::{
        Journal, JournalError,
        local::Local,
        opened::{Opened, StoredKinds, is_same_host},
        store::Store,
    },
    protocol::copies::StoreId,
    transport::net::Net,
};

/// The journal that a builder was given.
#[derive(Clone)]
pub(super) struct Chosen(Arc<dyn Journal>);

/// What a local system has for a journal.
pub(super) enum Choice<'a> {
    /// Stored types cannot be used without one, and the rest of the system can.
    MayLack,
    /// Stored types need one.
    Of(Option<&'a Chosen>),
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.describe())
    }
}

impl Chosen {
    pub(super) fn new(journal: impl Journal) -> Self {
        Self(Arc::new(journal))
    }

    fn failed(&self, source: JournalError) -> StartError {
        StartError::Journal {
            journal: self.0.describe(),
            source,
        }
    }

    /// Refuses a store of one host for a node that others reach from, or seek on, another host.
    pub(super) async fn check_hosts(
        &self,
        net: &dyn Net,
        here: SocketAddr,
        seeds: &[String],
    ) -> Result<(), StartError> {
        let Some(reason) = self.0.only_one_host() else {
            return Ok(());
        };
        for seed in seeds {
            // A name that means nothing yet is no address of another host.
            let addresses = net.resolve(seed).await.unwrap_or_default();
            if let Some(&there) = addresses.iter().find(|there| !is_same_host(here, **there)) {
                return Err(StartError::JournalOfOneHost {
                    journal: self.0.describe(),
                    here,
                    there,
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// Opens the log in the directory of a node, on this thread.
pub(super) fn open_directory(path: &Path) -> Result<Chosen, StartError> {
    let local = Local::of_node(path);
    match local.open_here() {
        Ok(()) => Ok(Chosen::new(local)),
        Err(source) => Err(Chosen::new(local).failed(source)),
    }
}

/// A log in memory.
pub(super) fn open_memory(random: [u8; 16]) -> Result<Chosen, StartError> {
    in_memory(random).map(Chosen::new)
}

/// The same. Other nodes have copies of its shards.
pub(super) async fn open_memory_copies(
    random: [u8; 16],
    settings: CopySettings,
) -> Result<(Chosen, Arc<NodeCopies>), StartError> {
    open_store(in_memory(random)?, settings).await
}

fn in_memory(random: [u8; 16]) -> Result<Local, StartError> {
    let local = Local::in_memory(StoreId::in_memory(random).0);
    local.map_err(|source| StartError::Journal {
        journal: "the store in memory".to_owned(),
        source,
    })
}

/// The log in the directory of a node. Other nodes have copies of its shards.
pub(super) async fn open_copies(
    path: &Path,
    settings: CopySettings,
) -> Result<(Chosen, Arc<NodeCopies>), StartError> {
    let local = Local::of_node(path);
    let failed = |source| StartError::Journal {
        journal: local.describe(),
        source,
    };
    if local.is_copied().await.map_err(failed)? {
        let path = path.to_owned();
        return Err(StartError::DirectoryCopied { path });
    }
    open_store(local, settings).await
}

/// The same on a disk of a simulation.
#[cfg(feature = "sim")]
pub(super) async fn open_simulated(
    disk: SimDisk,
    seed: u64,
    settings: CopySettings,
) -> Result<(Chosen, Arc<NodeCopies>), StartError> {
    /// How long a commit takes at most.
    const COMMIT_MAX: Duration = Duration::from_millis(8);

    let mut random = StdRng::seed_from_u64(seed);
    let identity = uuid::Builder::from_random_bytes(random.random()).into_uuid();
    let random = Mutex::new(random);
    let pace = Box::new(move || lock(&random).random_range(Duration::ZERO..=COMMIT_MAX));
    let local = Local::simulated(Arc::new(disk), identity, pace);
    let local = local.map_err(|source| StartError::Journal {
        journal: "a simulated disk".to_owned(),
        source,
    })?;
    open_store(local, settings).await
}

async fn open_store(
    local: Local,
    settings: CopySettings,
) -> Result<(Chosen, Arc<NodeCopies>), StartError> {
    let journal = local.describe();
    let opened = NodeCopies::open(local, settings).await;
    let copies = opened.map_err(|source| StartError::Journal { journal, source })?;
    Ok((Chosen(copies.journal()), copies))
}

/// The store of a node that hosts these stored types.
pub(super) async fn open(
    journal: Option<&Chosen>,
    kinds: StoredKinds,
    owner: String,
) -> Result<Option<Arc<Store>>, StartError> {
    let Some(chosen) = required(journal, &kinds)? else {
        return Ok(None);
    };
    let opened = Opened::new(chosen.0.clone(), kinds);
    opened.once().await.map_err(|error| chosen.failed(error))?;
    Ok(Some(Store::new(Arc::new(opened), owner)))
}

/// The same for a local system, whose start does not wait: a store that does not answer at once is
/// opened when the first entity is read.
pub(super) fn open_now(
    journal: Choice<'_>,
    kinds: StoredKinds,
    owner: String,
) -> Result<Option<Arc<Store>>, StartError> {
    let journal = match journal {
        Choice::MayLack if kinds.is_empty() => return Ok(None),
        Choice::MayLack => {
            let kinds: Vec<_> = kinds.iter().map(|(kind, _)| &**kind).collect();
            tracing::warn!(
                ?kinds,
                "these entity types are stored, and there is no journal"
            );
            return Ok(None);
        }
        Choice::Of(journal) => journal,
    };
    let Some(chosen) = required(journal, &kinds)? else {
        return Ok(None);
    };
    let opened = Opened::new(chosen.0.clone(), kinds);
    if let Some(Err(error)) = opened.once().now_or_never() {
        return Err(chosen.failed(error));
    }
    Ok(Some(Store::new(Arc::new(opened), owner)))
}

fn required<'a>(
    journal: Option<&'a Chosen>,
    kinds: &StoredKinds,
) -> Result<Option<&'a Chosen>, StartError> {
    if journal.is_none() && !kinds.is_empty() {
        return Err(StartError::NoJournal {
            kinds: kinds.iter().map(|(kind, _)| kind.to_string()).collect(),
        });
    }
    Ok(journal)
}
