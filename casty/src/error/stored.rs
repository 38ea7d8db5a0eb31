//! The errors of a look at the entities of a type, and at what is stored of them.

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;

/// Why the entities of a type could not be listed, or what is stored of one could not be read or
/// erased.
///
/// Each operation may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StoredError {
    /// The id is empty, or too long.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// No member hosts the type.
    #[error("no member hosts an entity type `{name}`{}", Known(known))]
    UnknownEntity {
        /// The wire name that was asked for.
        name: String,
        /// The types that the cluster has.
        known: Vec<String>,
    },
    /// The type is neither `#[entity(event_sourced)]` nor `#[entity(durable)]`: its entities live
    /// in memory alone.
    #[error("the entities of `{name}` are not stored: they live in memory alone")]
    NotStored {
        /// The wire name of the type.
        name: String,
    },
    /// The nodes of the cluster keep no copies of what is stored of the type: its store is another
    /// one, or it has none.
    #[error("the nodes of the cluster keep no copies of the entities of `{name}`")]
    NotInCopies {
        /// The wire name of the type.
        name: String,
    },
    /// The store did not answer, or refuses to work for now.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// The error of the store.
        reason: String,
    },
    /// What is stored does not fit. No further try helps.
    #[error("{reason}")]
    Unusable {
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The certificate of this process does not give it the right: see
    /// [`SystemBuilder::access`](crate::SystemBuilder::access).
    #[error(
        "`{who}` may not do this: what it may read is said on the nodes, by `SystemBuilder::access`"
    )]
    Forbidden {
        /// This process, as its certificate names it: `client/web`.
        who: String,
    },
    /// The nodes that could answer did not, for several seconds. An erasure may have been done all
    /// the same.
    #[error("no answer: {reason}")]
    Unreachable {
        /// The last failure.
        reason: String,
    },
}

struct Known<'a>(&'a [String]);

impl std::fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, "; there are {}", names.join(", ")),
        }
    }
}
