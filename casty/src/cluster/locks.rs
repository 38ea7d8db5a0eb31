//! The order of this layer's locks.

use crate::infra::sync::Ranked;

/// The mutexes of a node, in the order in which one thread may lock them: while it holds one, only
/// those further down. Debug builds check that ([`Ranked`]).
///
/// Locks of other layers (a region's machine, a link's outbox, the gate) come before or after all
/// of these, and never in between: a region calls [`Homes`](super::homes::Homes) while it holds its
/// machine, and nothing here calls a region while it holds a mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rank {
    /// The inputs of a membership, until its task has them.
    Inputs,
    /// The opening and the closing of the gate: a membership that has ended must not open it again.
    Gate,
    /// The version of the map that the regions go by.
    Followed,
    /// A member's report at a renewal: until it has looked at the map.
    Renewing,
    /// The leader's grants: until it has looked at the map, and at the ties.
    Grants,
    /// The leader's knowledge of a tie: until it has looked at the map.
    Ties,
    /// The seats that are about to get a vote, and those that processes have asked for.
    NewVoters,
    /// Rounds of the quorum under way.
    Reads,
    /// The node's engine.
    Engine,
    /// The state stored for the engine.
    StoredState,
    /// The map that the engine has applied: until it is offered to the node.
    Machine,
    /// The engine's last snapshot.
    Snapshot,
    /// The engine's log and vote: until they are handed to the file.
    Log,
    /// The file of what is decided: until it is written.
    WriterFence,
    /// The commit index that is yet to be written.
    Committed,
    /// One change of the node's map at a time.
    MapChange,
    /// The source of the map: until it was asked.
    Source,
    /// Members by slot.
    Slots,
    /// Shards without a home.
    Wanted,
    /// The links: until a new one is started, and while it is decided which may stay.
    Links,
    /// Shards that stayed when they were to move.
    KeptShards,
    /// The accepted connections.
    Inlets,
    /// The calls under way.
    Calls,
    /// The watches of actors elsewhere.
    Watches,
    /// The leader as far as it is known, and the voters that a seed named.
    Known,
    /// Processes that follow others of their nodes.
    Successors,
    /// The rumors, and the members' facts.
    Rumors,
    /// The seekers that this process tells.
    Seeking,
    /// The cluster that this process is in.
    Identity,
    /// Why a process is not in its cluster.
    Failed,
    /// The source of randomness.
    Random,
}

impl Rank {
    pub(crate) const fn mutex<T>(self, value: T) -> Ranked<T> {
        Ranked::new(self as u8, value)
    }
}
