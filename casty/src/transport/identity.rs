//! Who a peer is, as the network has verified it: its cluster, its part in it, its name.

#![cfg_attr(
    not(feature = "tls"),
    allow(unreachable_pub, reason = "the feature makes it public")
)]

use std::{fmt, str::FromStr, time::Duration};

use crate::{id::NodeId, infra::printable::Printable};

/// The part of a process in a cluster, as its certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PeerRole {
    /// A node: it may do everything.
    Member,
    /// A [client](crate::ClusterClient): it sends messages, and follows the map to find their
    /// receivers.
    Client,
    /// An operator's program, such as `casty`: it asks for the state of the cluster, and changes
    /// it.
    Operator,
}

impl PeerRole {
    /// The word for it in a certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Client => "client",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for PeerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`PeerRole`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is none of `member`, `client`, `operator`", Printable(.0))]
pub struct UnknownRole(String);

impl FromStr for PeerRole {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let all = [Self::Member, Self::Client, Self::Operator];
        let role = all.into_iter().find(|role| role.as_str() == word);
        role.ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

/// The verified identity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// `None` on a network that verifies names alone, as a simulated one.
    pub(crate) cluster: Option<String>,
    pub(crate) role: PeerRole,
    pub(crate) name: NodeId,
    /// When its certificate ends, since the Unix epoch.
    pub(crate) until: Option<Duration>,
}

impl PeerIdentity {
    /// A node, on a network that verifies names alone.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn member(name: NodeId) -> Self {
        Self {
            cluster: None,
            role: PeerRole::Member,
            name,
            until: None,
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}
