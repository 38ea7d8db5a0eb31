//! Sightings: what the checks of a simulation see inside its nodes, such as decisions and leases.
//!
//! Outside a simulation there are none, and without the feature `sim` none of this is compiled.

#[cfg(feature = "sim")]
mod seen {
    use std::cell::RefCell;

    use crate::id::{Epoch, MemberId, ShardId};

    /// An event inside a node that a check needs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    #[doc(hidden)]
    pub enum Sighting {
        /// A cluster was founded, or a new generation of it.
        Founded {
            by: MemberId,
            uuid: u128,
            generation: u32,
            /// The number by which the generation names its founder.
            founder: u16,
        },
        /// A process takes part in consensus, under this number.
        Numbered {
            member: MemberId,
            uuid: u128,
            generation: u32,
            number: u32,
            /// Whether it has everything that the earlier process with this number has stored.
            kept: bool,
        },
        /// A member considers itself the leader.
        Leads { member: MemberId, term: u64 },
        /// A member has applied this decision.
        Applied {
            member: MemberId,
            index: u64,
            term: u64,
            decision: String,
        },
        /// A shard got an owner, as seen by the first member that applied this decision. `from` is
        /// the owner before it, unless that owner has given the shard up.
        Assigned {
            kind: String,
            shard: ShardId,
            epoch: Epoch,
            to: MemberId,
            from: Option<MemberId>,
        },
        /// A member's lease was renewed.
        Granted {
            leader: MemberId,
            to: MemberId,
            version: u64,
        },
        /// A member has joined and taken over a seat, which votes or not.
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

    /// Switches observation on this thread on or off. Returns the sightings since the last call.
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
