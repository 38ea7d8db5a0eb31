use std::{fmt, net::SocketAddr, time::Duration};

use super::DrainProgress;
use crate::id::MemberId;

/// Why an operation was not done, or not finished.
///
/// Unless a variant says otherwise nothing has changed in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// No node was named.
    #[error("no node was named to ask")]
    NoNodes,
    /// No node answered. Name others, or look whether they run and whether the network lets this
    /// process through.
    #[error("none of the nodes answered: {}", Listed(tried))]
    NobodyReachable {
        /// Each address, or name without one, and what failed there.
        tried: Vec<Unreached>,
    },
    /// The nodes belong to a cluster of another name.
    #[error("`{node}` belongs to cluster `{theirs}`, not to `{asked}`")]
    OtherCluster {
        /// The node that said so.
        node: SocketAddr,
        /// The name that was asked for.
        asked: String,
        /// The name of the cluster it belongs to.
        theirs: String,
    },
    /// The nodes belong to different clusters, which have the same name by chance, or because one
    /// was founded anew. They never merge: name the nodes of one of them only.
    #[error("`{first}` and `{second}` belong to two different clusters of the same name")]
    TwoClusters {
        /// One node.
        first: MemberId,
        /// A node of the other cluster.
        second: MemberId,
    },
    /// The nodes that answered know no cluster: they have not joined one yet. Try again later, or
    /// name others.
    #[error("the nodes that answered know no cluster yet")]
    NoMap,
    /// No member has this name.
    #[error(
        "`{node}` is not a member of the cluster (its members are {})",
        Listed(members)
    )]
    UnknownMember {
        /// The name.
        node: String,
        /// Those that there are.
        members: Vec<MemberId>,
    },
    /// The node that should do something did not answer.
    #[error("`{node}` does not answer")]
    NoAnswer {
        /// The node.
        node: MemberId,
    },
    /// Nobody leads the cluster, so it decides nothing. Bring voters back, or recover it. What was
    /// asked may have been decided all the same, or may be later; it may be asked twice.
    #[error("nothing was decided: {reason}")]
    NoLeader {
        /// What failed last.
        reason: String,
    },
    /// The cluster has a leader, and decides: there is nothing to recover from.
    #[error("`{leader}` leads the cluster, which decides without help")]
    HasLeader {
        /// The leader.
        leader: MemberId,
    },
    /// Another node knows more than the one that should go on: what was decided last would be lost.
    #[error("`{better}` knows a later state of the cluster than `{node}` does")]
    NotMostAdvanced {
        /// The node that was named.
        node: MemberId,
        /// The one that knows the most.
        better: MemberId,
    },
    /// A promotion is for clusters of two. In a larger one others may be alive and decide: see
    /// [`recover`](super::Admin::recover).
    #[error("the cluster has {} members that are not down: {}", members.len(), Listed(members))]
    TooManyMembers {
        /// All that are not down.
        members: Vec<MemberId>,
    },
    /// Nobody else could take the shards, and nobody would be left to decide.
    #[error("no other member is up than `{node}`")]
    LastMember {
        /// The node.
        node: MemberId,
    },
    /// A member decided not to do it.
    #[error("it was refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The member was declared down while it was drained. Its shards go to others, but nothing was
    /// handed over.
    #[error("`{node}` was declared down while it was drained")]
    WentDown {
        /// The node.
        node: MemberId,
    },
    /// The member is leaving, but was not rid of everything in time. The cluster goes on with that:
    /// drain it again to wait on.
    #[error("`{node}` is leaving, but was not done after {after:?}: {}", Left(*progress))]
    DrainUnfinished {
        /// The node.
        node: MemberId,
        /// How far it came, as far as is known.
        progress: Option<DrainProgress>,
        /// How long it was waited for.
        after: Duration,
    },
    /// The node was asked to go on alone, and did not serve in time. It may yet: look at the
    /// members.
    #[error("`{node}` did not serve again within {after:?}")]
    RecoverUnfinished {
        /// The node.
        node: MemberId,
        /// How long it was waited for.
        after: Duration,
    },
}

/// A node that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreached {
    /// Its address, or the name that has none.
    pub node: String,
    /// What failed.
    pub reason: String,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.node, self.reason)
    }
}

struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

struct Left(Option<DrainProgress>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(progress) = self.0 else {
            return f.write_str("nobody has said how far it came");
        };
        let vote = if progress.votes { "a" } else { "no" };
        let shards = progress.shards_left;
        write!(f, "{shards} shards are still there, and it has {vote} vote")
    }
}
