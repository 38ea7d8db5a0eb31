//! What a configuration says.

use std::path::PathBuf;

use super::{Settings, entity::EntitySections};

/// What a configuration says.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) node_id: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) seeds: Option<Vec<String>>,
    pub(crate) bootstrap_expect: Option<u32>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) recordings: Option<PathBuf>,
    pub(crate) tls: TlsPaths,
    pub(crate) entities: EntitySections,
    pub(super) settings: Settings,
    /// How each setting that is given gets into those of the program.
    pub(super) merges: Vec<fn(&mut Settings, &Settings)>,
}

/// The files of a certificate.
#[derive(Debug, Default)]
pub(crate) struct TlsPaths {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) revoked: Option<PathBuf>,
}

impl Given {
    /// Puts what is said of settings into those that the program has left as they were.
    pub(crate) fn merge_into(&self, settings: &mut Settings) {
        for merge in &self.merges {
            merge(settings, &self.settings);
        }
    }
}
