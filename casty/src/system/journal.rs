//! The journal of a system: whether the system may use it, and its start.

use std::{fmt, net::SocketAddr, path::Path, sync::Arc};

use futures_util::FutureExt;

use crate::{
    error::StartError,
    persistence::{
        Journal,
        local::Local,
        opened::{Opened, StoredKinds, is_same_host},
        store::Store,
    },
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

    fn failed(&self, source: crate::persistence::JournalError) -> StartError {
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

/// Where in the directory of a node its log is.
const LOG_FOLDER: &str = "log";

/// Opens the log in the directory of a node, on this thread.
pub(super) fn open_directory(path: &Path) -> Result<Chosen, StartError> {
    let local = Local::new(path.join(LOG_FOLDER));
    match local.open_here() {
        Ok(()) => Ok(Chosen::new(local)),
        Err(source) => Err(Chosen::new(local).failed(source)),
    }
}

/// The log in the directory of a node that is the only one of its cluster: it has no other seeds
/// than itself, and waits for no others.
pub(super) async fn directory_of_one(
    path: &Path,
    net: &dyn Net,
    here: SocketAddr,
    (seeds, expected): (&[String], Option<u32>),
) -> Result<Chosen, StartError> {
    let refused = |others| StartError::NotReplicated {
        directory: path.to_owned(),
        others,
    };
    if let Some(expected) = expected.filter(|expected| *expected > 1) {
        return Err(refused(format!("{expected} nodes (`bootstrap_expect`)")));
    }
    for seed in seeds {
        let addresses = net.resolve(seed).await.unwrap_or_default();
        if !addresses.contains(&here) {
            return Err(refused(format!("`{seed}`")));
        }
    }
    Ok(Chosen::new(Local::new(path.join(LOG_FOLDER))))
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
