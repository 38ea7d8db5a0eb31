use std::{fmt, net::SocketAddr, time::Duration};

use super::{BackupError, DrainProgress, StayingShard};
use crate::{
    error::StoredError,
    id::{MemberId, NodeId},
    protocol::leader_client::LeaderError,
};

/// Why an operation was not done, or not finished.
///
/// Unless a variant says otherwise, nothing has changed in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// No node was named.
    #[error("no node was named to ask")]
    NoNodes,
    /// No node answered. Name other nodes, or check that they run and that the network lets this
    /// process through.
    #[error("none of the nodes answered: {}", Listed(tried))]
    Unreachable {
        /// Each address, or name without an address, with the reason.
        tried: Vec<Unreached>,
    },
    /// The certificate, the key or the authorities of this operator cannot be used.
    #[error("TLS: {reason}")]
    Tls {
        /// What is wrong with which file.
        reason: String,
    },
    /// The nodes belong to a cluster of another name.
    #[error("`{node}` belongs to cluster `{theirs}`, not to `{asked}`")]
    OtherCluster {
        /// The node that said so.
        node: SocketAddr,
        /// The name of the cluster that was asked for.
        asked: String,
        /// The name of the cluster that the node belongs to.
        theirs: String,
    },
    /// The nodes belong to different clusters of the same name: the name was used twice, or one
    /// cluster was founded again. The two never merge. Name the nodes of only one of them.
    #[error("`{first}` and `{second}` belong to two different clusters of the same name")]
    TwoClusters {
        /// One node.
        first: MemberId,
        /// A node of the other cluster.
        second: MemberId,
    },
    /// The nodes that answered know no cluster: they have not joined one yet. Try again later, or
    /// name other nodes.
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
        /// The members of the cluster.
        members: Vec<MemberId>,
    },
    /// The node that should act did not answer.
    #[error("`{node}` does not answer")]
    NoAnswer {
        /// The node.
        node: MemberId,
    },
    /// The cluster has no leader, so it decides nothing. Bring voters back, or recover the cluster.
    /// The request may still have been decided, or may be decided later; it is safe to repeat.
    #[error("nothing was decided: {reason}")]
    NoLeader {
        /// The last failure.
        reason: String,
    },
    /// The cluster has a leader and decides by itself: there is nothing to recover from.
    #[error("`{leader}` leads the cluster, which decides by itself")]
    HasLeader {
        /// The leader.
        leader: MemberId,
    },
    /// Another node knows more than the node that should go on: the last decisions would be lost.
    #[error("`{better}` knows a later state of the cluster than `{node}` does")]
    NotMostAdvanced {
        /// The node that was named.
        node: MemberId,
        /// The node that knows the most.
        better: MemberId,
    },
    /// A promotion is for clusters of two. In a larger cluster other members may be alive and
    /// decide: see [`recover`](super::Admin::recover).
    #[error("the cluster has {} members that are not down: {}", members.len(), Listed(members))]
    TooManyMembers {
        /// All members that are not down.
        members: Vec<MemberId>,
    },
    /// No other member could take the shards, and no other member could decide.
    #[error("no other member is up besides `{node}`")]
    LastMember {
        /// The node.
        node: MemberId,
    },
    /// A member refused the request.
    #[error("the request was refused: {reason}")]
    Refused {
        /// The reason it gave.
        reason: String,
    },
    /// The member was declared down while it was drained. Its shards go to other members, but it
    /// handed none of them over.
    #[error("`{node}` was declared down while it was drained")]
    WentDown {
        /// The node.
        node: MemberId,
    },
    /// The member is leaving, but did not hand over everything in time. The cluster continues the
    /// drain: drain it again to wait on.
    #[error(
        "`{node}` is leaving, but was not drained after {after:?}: {}{}",
        Left(*progress),
        Staying(stays)
    )]
    DrainUnfinished {
        /// The node.
        node: MemberId,
        /// How far the drain came, as far as is known.
        progress: Option<DrainProgress>,
        /// Shards that stayed when they were to move, and why; some of them if there are many.
        stays: Vec<StayingShard>,
        /// How long the operation waited.
        after: Duration,
    },
    /// No entity type of this name is kept in copies on several nodes.
    #[error(
        "no entity type `{kind}` is kept in copies (those that are: {})",
        Listed(kinds)
    )]
    NotInCopies {
        /// The name.
        kind: String,
        /// The types that are kept in copies.
        kinds: Vec<String>,
    },
    /// The type has fewer shards.
    #[error("entity type `{kind}` has {shards} shards, numbered from 0, and no shard {shard}")]
    UnknownShard {
        /// The type.
        kind: String,
        /// The number that was given.
        shard: u32,
        /// How many shards the type has.
        shards: usize,
    },
    /// No shard waits for stores of which none is there: there is nothing to give up.
    #[error("none of these shards has lost all its copies")]
    NothingLost,
    /// There is no copy to begin with. Nothing but an empty log is left.
    #[error(
        "{} no out-of-date copy of any of these shards",
        from.as_ref().map_or_else(|| "the nodes that answer have".to_owned(), |it| format!("`{it}` has"))
    )]
    NoOldCopy {
        /// The node that was named, if one was.
        from: Option<NodeId>,
    },
    /// The entities could not be listed, read or erased. A store that is down may come back, and
    /// nodes that do not answer may do so later: the operation may be repeated.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The backup could not be written.
    #[error(transparent)]
    Backup(BackupError),
    /// Nothing is stored of the entity.
    #[error("nothing is stored of `{kind}/{id}`")]
    NothingStored {
        /// The wire name of its type.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The node was asked to go on alone, and did not serve in time. It may still do so: look at
    /// the members.
    #[error("`{node}` did not serve again within {after:?}")]
    RecoverUnfinished {
        /// The node.
        node: MemberId,
        /// How long the operation waited.
        after: Duration,
    },
}

impl From<LeaderError> for AdminError {
    fn from(error: LeaderError) -> Self {
        match error {
            LeaderError::Refused(refused) => Self::Refused {
                reason: refused.to_string(),
            },
            LeaderError::Unreachable(reason) => Self::NoLeader { reason },
        }
    }
}

/// A node that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreached {
    /// Its address, or the name that has no address.
    pub node: String,
    /// The reason.
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
            return f.write_str("no node reported how far it came");
        };
        let vote = if progress.votes { "a" } else { "no" };
        let shards = progress.shards_left;
        match progress.copies_left {
            0 => write!(f, "{shards} shards are left, and it has {vote} vote"),
            copies => write!(
                f,
                "{shards} shards are left, {copies} copies have yet to be made elsewhere, and it has {vote} vote"
            ),
        }
    }
}

/// Shards that are named in a text.
const NAMED_MAX: usize = 3;

struct Staying<'a>(&'a [StayingShard]);

impl fmt::Display for Staying<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StayingShard {
            kind,
            shard,
            reason,
        } in self.0.iter().take(NAMED_MAX)
        {
            write!(f, "; shard {shard} of `{kind}` stays: {reason}")?;
        }
        match self.0.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more stay"),
        }
    }
}
