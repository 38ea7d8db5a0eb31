//! The errors of a system as a whole: its start, its membership, its shutdown.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::persistence::JournalError;

/// Why a system did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system cannot listen on the address: it is in use, not of this machine, or not
    /// permitted.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The requested address.
        address: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Others can reach the address, and connections would neither be encrypted nor authenticated:
    /// any process that reaches it could do everything. Give the node a certificate by
    /// `SystemBuilder::tls`; or, in a network where all may do everything, write
    /// [`insecure`](crate::SystemBuilder::insecure).
    #[error(
        "`{address}` can be reached by others, and without TLS they may do everything: write `.tls(..)`, listen on a loopback \
         address, or write `.insecure()` if the network is one that you trust"
    )]
    Insecure {
        /// The address to listen on.
        address: SocketAddr,
    },
    /// The certificate, the key or the authorities of this process cannot be used.
    #[cfg(feature = "tls")]
    #[error("TLS: {0}")]
    Tls(#[from] crate::transport::tls::TlsError),
    /// A setting is missing or out of range.
    #[error("setting `{setting}`: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The configuration cannot be used: see
    /// [`SystemBuilder::config`](crate::SystemBuilder::config).
    #[cfg(feature = "config")]
    #[error("configuration: {0}")]
    Config(#[from] crate::config::file::ConfigError),
    /// Two entity types claim the same wire name. Pin one with `#[entity(name = "...")]`.
    #[error(
        "entity types `{first}` and `{second}` share the wire name `{name}`; pin one with #[entity(name = \"...\")]"
    )]
    DuplicateEntity {
        /// The shared wire name.
        name: String,
        /// One Rust type.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The state directory of this node cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// This node hosts entity types that are stored, and has no journal to store them in. Give it
    /// one by [`SystemBuilder::data_dir`](crate::SystemBuilder::data_dir),
    /// [`SystemBuilder::data_in_memory`](crate::SystemBuilder::data_in_memory) or
    /// [`SystemBuilder::journal`](crate::SystemBuilder::journal).
    #[error(
        "these entity types are stored, and the system has no journal: {}; write \
         `.data_dir(path)`, or `.data_in_memory()` without a disk, `.journal(Sqlite::open(path))` with the crate \
         `casty-sql`, or \
         `.journal(casty::persistence::Memory::new())` in a test",
        kinds.join(", ")
    )]
    NoJournal {
        /// The wire names of the types.
        kinds: Vec<String>,
    },
    /// An entity type says how many nodes keep its shards, or how many of these have to have what
    /// gets out, and what it leaves to the settings of this node contradicts it.
    #[error(
        "entity type `{kind}` would have {copies_min} nodes store what gets out, and {copies} keep it: write `{lacks} = ..` \
         as well in its `#[entity(..)]`, or change `Settings::{lacks}`"
    )]
    Copies {
        /// The wire name of the type.
        kind: String,
        /// How many nodes would keep each of its shards.
        copies: u8,
        /// How many of them would have to have what gets out.
        copies_min: u8,
        /// The option that the type leaves to the settings: `copies` or `copies_min`.
        lacks: &'static str,
    },
    /// The journal cannot be used.
    #[error("{journal}: {source}")]
    Journal {
        /// What it is and where.
        journal: String,
        /// Its error.
        source: JournalError,
    },
    /// The directory is not where it was: it is a copy, or was restored from a backup. Other nodes
    /// count on what it has confirmed, and it may not have all of it any more.
    ///
    /// Start the node with an empty directory: the other nodes fill it. If the directory was moved
    /// while the node was stopped, and nothing is missing, say so by `casty adopt DIRECTORY`
    /// ([`admin::adopt_directory`](crate::admin::adopt_directory)), and start again.
    #[error(
        "`{}` is a copy, or was restored from a backup, so it may lack what the node has confirmed \
         to others; start with an empty directory, which the other nodes fill; or, if it was moved \
         and nothing is missing, run `casty adopt {}`",
        path.display(), path.display()
    )]
    DirectoryCopied {
        /// The directory of the node.
        path: PathBuf,
    },
    /// The nodes of this cluster are on several hosts, and the journal cannot be shared by them.
    #[error("{journal} cannot be used on `{here}` together with `{there}`: {reason}")]
    JournalOfOneHost {
        /// What it is and where.
        journal: String,
        /// The address of this node.
        here: SocketAddr,
        /// The address of a node on another host.
        there: SocketAddr,
        /// Why not, and what to use instead.
        reason: &'static str,
    },
}

/// Why a state directory cannot be used: see
/// [`SystemBuilder::state_dir`](crate::SystemBuilder::state_dir).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// Another system, in this process or another, uses the directory and still runs.
    #[error("`{}` is in use by another system", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another node, or to a node of another cluster. Give each node a
    /// directory of its own.
    #[error("`{}` belongs to {what} `{theirs}`, not to `{ours}`", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What differs: `cluster` or `node`.
        what: &'static str,
        /// The owner of the directory.
        theirs: String,
        /// This node, or its cluster.
        ours: String,
    },
    /// Another version of casty has written the directory, in a format that this version does not
    /// know.
    #[error("`{}` is in format {format}, which this version of casty does not know", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// The number of the format.
        format: u32,
    },
    /// The contents are not what casty wrote. Nothing was changed. If you remove the directory, the
    /// node joins without a kept state. This is safe as long as a majority of the voters has kept
    /// theirs.
    #[error("`{}` is damaged: {reason}", path.display())]
    Corrupted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the contents.
        reason: String,
    },
    /// The operating system does not let this process read or write it.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
}

/// Why a node cannot join its cluster, or is not in it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A seed refused this node and will refuse it again: another cluster name, another protocol
    /// version, or a catalog that contradicts the cluster's.
    #[error("`{seed}` refused this node: {reason}")]
    Refused {
        /// The seed that refused.
        seed: String,
        /// Its reason.
        reason: String,
    },
    /// Another process of this node's name is a member, and answers. A name belongs to one process
    /// at a time: give this node another, or end that process first.
    #[error("another process of this node's name is a member, and answers at `{by}`")]
    NameTaken {
        /// The address of the process that has the name.
        by: SocketAddr,
    },
    /// The cluster declared this incarnation Down, and this node stays out
    /// ([`OnDown::Stop`](crate::member::OnDown::Stop)). A new process may join.
    #[error("the cluster declared this node down")]
    Down,
    /// The Raft engine of the cluster map failed on this node, for good. The node is no longer a
    /// member.
    #[error("the engine of the cluster map failed: {reason}")]
    Engine {
        /// The engine's error.
        reason: String,
    },
    /// The system is shutting down.
    #[error("the system is shutting down")]
    ShutDown,
}

/// Why a shutdown was not entirely graceful. The system has stopped in either case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// When the time was up, handlers were still running, or the cluster had not agreed to the
    /// leave.
    #[error("shutdown was not complete after {after:?}: {waiting_for}")]
    Timeout {
        /// The configured bound.
        after: Duration,
        /// What was still under way.
        waiting_for: &'static str,
    },
    /// The node was shut down because it will never be a member of its cluster again.
    #[error("the node ended: {reason}")]
    NoMember {
        /// Why it will not.
        #[source]
        reason: JoinError,
    },
    /// The operating system cannot report signals. Nothing was shut down.
    #[error("cannot wait for the signal to end: {reason}")]
    Signal {
        /// The operating system's error.
        reason: String,
    },
}

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client could not be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The cluster refuses the client.
    #[error(transparent)]
    Join(#[from] JoinError),
}
