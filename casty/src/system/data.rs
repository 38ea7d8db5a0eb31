//! The settings of where a node keeps what is stored.

use std::path::PathBuf;

use super::SystemBuilder;

impl SystemBuilder {
    /// A directory in which this node keeps what has to survive it. Default: none. It is made if it
    /// does not exist, and belongs to one node: a second process is refused as long as the first
    /// runs.
    ///
    /// - The entities of stored types, unless there is a [`journal`](Self::journal): in a log of
    ///   the node's own, with an `fsync` before each answer. No database is needed. The nodes of a
    ///   cluster keep copies of each other's shards: what an entity does gets out once
    ///   [`Settings::copies_min`](crate::Settings::copies_min) nodes at least have stored it. All
    ///   nodes that host a stored type need a directory then, or all of them one journal that they
    ///   share. A directory with the entities of a node alone can be taken into a cluster.
    /// - What [`state_dir`](Self::state_dir) keeps, for a node that is started by
    ///   [`start`](Self::start): give it a [`node_id`](Self::node_id), which it keeps over
    ///   restarts. Do not set both. This part is given back once the last handle to the system, and
    ///   the last reference to its entities, is dropped.
    ///
    /// The log takes at most about two and a half times the room of the records and snapshots that
    /// are needed, and 96 MiB besides. If something in it is damaged, the start fails with the name
    /// of the file; a record that is damaged later fails the entity that reads it. A node of a
    /// cluster refuses a directory that is a copy, or was restored from a backup
    /// ([`StartError::DirectoryCopied`](crate::error::StartError::DirectoryCopied)).
    ///
    /// [`start_local`](Self::start_local) reads the log at once, so it may block for some time.
    ///
    /// ```standalone_crate
    /// # use casty::prelude::*;
    /// #[message]
    /// #[derive(Default)]
    /// struct Jar {
    ///     coins: u64,
    /// }
    ///
    /// #[entity(durable)]
    /// impl Jar {
    ///     #[message]
    ///     fn put(&mut self, coins: u64) -> u64 {
    ///         self.coins += coins;
    ///         self.coins
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop");
    /// let node = ActorSystem::builder("shop").data_dir(&path).start_local()?;
    /// assert_eq!(node.entity::<Jar>("kitchen").put(5).await?, 5);
    /// node.shutdown().await?;
    ///
    /// let node = ActorSystem::builder("shop").data_dir(&path).start_local()?;
    /// assert_eq!(node.entity::<Jar>("kitchen").put(2).await?, 7);
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// A folder in which this node writes what its [flight recorder](crate::recorder) has of an
    /// entity that fails, a file for each failure. Default: none, and only the last 16 are kept, in
    /// memory. The folder is made if it does not exist; it has the last 64 files, which only their
    /// owner can read: messages are in them. Nodes may share it.
    ///
    /// That a file cannot be written is logged, and nothing else.
    pub fn recordings(mut self, folder: impl Into<PathBuf>) -> Self {
        self.recordings = Some(folder.into());
        self
    }

    /// Keeps the entities of stored types in memory, in a log like that of a
    /// [directory](Self::data_dir). Default: they need a directory or a [journal](Self::journal).
    ///
    /// The nodes of a cluster keep copies of each other's shards, as with directories: what an
    /// entity does gets out once [`Settings::copies_min`](crate::Settings::copies_min) nodes at
    /// least have it, without a disk. So a stored entity survives the death of any node,
    /// also abrupt; it goes on where a copy is, and a new copy is made elsewhere. It does not
    /// survive its last copy: when all nodes that have one are gone, its shard begins with nothing,
    /// and a warning of the leader says how many shards of which type do. That includes nodes that
    /// the others declare dead while they live, all at once. A process that starts again has
    /// nothing, whatever its name.
    ///
    /// All nodes that host a stored type do the same: a node with a directory does not join nodes
    /// that keep records in memory, nor they it. It cannot be combined with `data_dir` or
    /// `journal`; the start fails with [`StartError::Setting`](crate::error::StartError). It can be
    /// combined with [`state_dir`](Self::state_dir), which keeps the map of the cluster, and no
    /// entities.
    ///
    /// It takes about twice the bytes of the records and snapshots that are needed, 10 MiB besides,
    /// and for each record 32 to 64 bytes more, so that it is found. A record, and the snapshot of
    /// an entity, takes 57 bytes, the id of the entity, and what it says. A record that is
    /// forgotten keeps its 57 bytes and the id.
    ///
    /// A system of one node works as well, for development and tests.
    ///
    /// ```standalone_crate
    /// # use casty::prelude::*;
    /// #[message]
    /// #[derive(Default)]
    /// struct Jar {
    ///     coins: u64,
    /// }
    ///
    /// #[entity(durable)]
    /// impl Jar {
    ///     #[message]
    ///     fn put(&mut self, coins: u64) -> u64 {
    ///         self.coins += coins;
    ///         self.coins
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = ActorSystem::builder("shop").data_in_memory().start_local()?;
    /// assert_eq!(node.entity::<Jar>("kitchen").put(5).await?, 5);
    /// node.shutdown().await?;
    ///
    /// let node = ActorSystem::builder("shop").data_in_memory().start_local()?;
    /// assert_eq!(node.entity::<Jar>("kitchen").put(2).await?, 2);
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn data_in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }
}
