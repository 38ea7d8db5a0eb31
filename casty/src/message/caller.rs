//! The process that a message came from.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// The process that sent a message, as the network has verified it: see
/// [`Context::caller`](crate::Context::caller).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Caller {
    /// This process: the program itself, another actor of the node, a timer.
    Local,
    /// Another process, in a cluster without TLS: nothing is known of it.
    Unverified,
    /// Another node of the cluster: one of its actors, or its program.
    Member(NodeId),
    /// A [client](crate::ClusterClient), by the name in its certificate.
    Client(String),
    /// The program of an operator, by the name in its certificate.
    Operator(String),
}

impl fmt::Display for Caller {
    /// As a certificate names it: `member/node-1`, `client/web`, `operator/ada`; else `local` or
    /// `unverified`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Unverified => f.write_str("unverified"),
            Self::Member(node) => write!(f, "member/{node}"),
            Self::Client(name) => write!(f, "client/{name}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

/// Where a message came from. Cheaper to clone than a [`Caller`].
#[derive(Clone, Debug, Default)]
pub(crate) enum CameFrom {
    #[default]
    Here,
    /// A connection. `None`: of a process of which nothing is verified.
    Peer(Option<Arc<Caller>>),
}

impl CameFrom {
    #[inline]
    pub(crate) const fn is_here(&self) -> bool {
        matches!(self, Self::Here)
    }

    pub(crate) fn caller(&self) -> &Caller {
        match self {
            Self::Here => &Caller::Local,
            Self::Peer(None) => &Caller::Unverified,
            Self::Peer(Some(caller)) => caller,
        }
    }
}
