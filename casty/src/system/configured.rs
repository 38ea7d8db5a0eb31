//! What a configuration says, for a builder.

use std::path::PathBuf;

use super::SystemBuilder;
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;
use crate::{
    config::LISTEN,
    config::file::{self, ConfigSource},
    config::given::{Given, TlsPaths},
    error::StartError,
};

impl SystemBuilder {
    /// Reads what the program does not set from a file, and from variables of the environment,
    /// which come before it: addresses, names, directories, the files of TLS, and
    /// [`Settings`](crate::Settings). So the order is: what the program sets, the environment, the
    /// file, the defaults. Of [`settings`](Self::settings), the program sets those that differ from
    /// the defaults.
    ///
    /// `casty config defaults` prints a file with all keys, their variables and meanings, and
    /// `casty config check FILE` says what is wrong with one. A key that is unknown is an error.
    /// The file is read when the system starts, and not again.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("casty.toml");
    /// let text = "node_id = \"node-1\"\n[settings]\nask_timeout = \"20s\"\n";
    /// std::fs::write(&path, text)?;
    /// let node = ActorSystem::builder("shop").config(&path).start().await?;
    /// assert_eq!(node.node_id().as_str(), "node-1");
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(mut self, file: impl Into<PathBuf>) -> Self {
        self.config = Some((ConfigSource::File(file.into()), Self::configure));
        self
    }

    /// The same without a file: the environment alone.
    pub fn config_from_environment(mut self) -> Self {
        self.config = Some((ConfigSource::Environment, Self::configure));
        self
    }

    /// Takes over what the configuration says and the program does not.
    fn configure(&mut self, source: ConfigSource) -> Result<(), StartError> {
        let file = match source {
            ConfigSource::Environment => None,
            ConfigSource::File(file) => Some(file),
        };
        let given = Given::read(file.as_deref(), file::environment())?;
        given.merge_into(&mut self.settings);
        self.registry.sections = given.entities;
        self.node_id = self.node_id.take().or(given.node_id);
        self.advertise = self.advertise.take().or(given.advertise);
        self.bootstrap_expect = self.bootstrap_expect.or(given.bootstrap_expect);
        self.state_dir = self.state_dir.take().or(given.state_dir);
        self.recordings = self.recordings.take().or(given.recordings);
        if self.journal.is_none() && !self.in_memory {
            self.data_dir = self.data_dir.take().or(given.data_dir);
        }
        if self.listen == LISTEN {
            self.listen = given.listen.unwrap_or_else(|| LISTEN.to_owned());
        }
        if self.seeds.is_empty() {
            self.seeds = given.seeds.unwrap_or_default();
        }
        if self.roles.is_empty() {
            self.roles = given.roles.unwrap_or_default().into_iter().collect();
        }
        self.configure_tls(given.tls)
    }

    fn configure_tls(&mut self, paths: TlsPaths) -> Result<(), StartError> {
        let refused = |reason: &str| {
            Err(StartError::Setting {
                setting: "tls",
                reason: reason.to_owned(),
            })
        };
        let files = match paths {
            TlsPaths {
                certificate: None,
                key: None,
                authorities: None,
                revoked: None,
            } => return Ok(()),
            TlsPaths {
                certificate: Some(certificate),
                key: Some(key),
                authorities: Some(authorities),
                revoked,
            } => (certificate, key, authorities, revoked),
            _ => return refused("`cert`, `key` and `ca` are needed together"),
        };
        #[cfg(feature = "tls")]
        if self.tls.is_none() {
            let (certificate, key, authorities, revoked) = files;
            let tls = Tls::from_files(certificate, key, authorities);
            self.tls = Some(match revoked {
                Some(revoked) => tls.revoked(revoked),
                None => tls,
            });
        }
        #[cfg(not(feature = "tls"))]
        {
            drop(files);
            return refused("this program was built without the feature `tls` of `casty`");
        }
        #[cfg(feature = "tls")]
        Ok(())
    }
}
