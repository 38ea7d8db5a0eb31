//! What the checks of a simulation see of the inside of its nodes: what was decided, by whom, and
//! who may act.
//!
//! Outside of a simulation nothing is seen, and without the feature `sim` nothing of this is
//! compiled.

#[cfg(feature = "sim")]
mod seen {
    use std::cell::RefCell;

    use crate::id::{Epoch, MemberId, ShardId};

    /// Something that a check wants to know of.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    #[doc(hidden)]
    pub enum Sighting {
        /// A cluster was founded, or born again.
        Founded {
            by: MemberId,
            uuid: u128,
            generation: u32,
        },
        /// A process takes part in deciding, under this number.
        Numbered {
            member: MemberId,
            uuid: u128,
            generation: u32,
            number: u32,
            /// It has all that the process before it decided under it.
            kept: bool,
        },
        /// A member takes itself for the leader.
        Leads { member: MemberId, term: u64 },
        /// A member has applied this decision.
        Applied {
            member: MemberId,
            index: u64,
            term: u64,
            decision: String,
        },
        /// The first to apply it sees a shard get an owner, which the owner before it has given up
        /// or not.
        Assigned {
            kind: String,
            shard: ShardId,
            epoch: Epoch,
            to: MemberId,
            from: Option<MemberId>,
        },
        /// A member may act as owner for a while longer.
        Granted {
            leader: MemberId,
            to: MemberId,
            version: u64,
        },
        /// A member has joined that takes over a seat, which votes or not.
        Sat {
            member: MemberId,
            number: u32,
            votes: bool,
        },
        /// A member was declared Down, in the map of this version.
        Down { member: MemberId, version: u64 },
    }

    thread_local! {
        static SEEN: RefCell<Option<Vec<Sighting>>> = const { RefCell::new(None) };
    }

    pub(crate) fn note(sighting: impl FnOnce() -> Sighting) {
        SEEN.with_borrow_mut(|seen| {
            if let Some(seen) = seen {
                seen.push(sighting());
            }
        });
    }

    /// Sees what happens on this thread until the next call, and gives what was seen since the
    /// last.
    pub(crate) fn watch(on: bool) -> Vec<Sighting> {
        SEEN.replace(on.then(Vec::new)).unwrap_or_default()
    }
}

#[cfg(feature = "sim")]
pub use seen::Sighting;
#[cfg(feature = "sim")]
pub(crate) use seen::{note, watch};

/// Notes a sighting, in a simulation.
macro_rules! sighted {
    ($($sighting:tt)*) => {
        #[cfg(feature = "sim")]
        $crate::infra::observe::note(|| $crate::infra::observe::Sighting::$($sighting)*);
    };
}

pub(crate) use sighted;
