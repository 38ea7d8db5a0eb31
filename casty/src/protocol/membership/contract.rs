//! The inputs and effects of a membership's machine.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    config::{Availability, OnDown},
    error::JoinError,
    id::{ClusterIdentity, Generation, Incarnation, MemberId, SeekerState},
    protocol::{
        bootstrap::SeedAnswer, leader_client::LeaderError, lease::LeaseTimes, map::ClusterMap,
    },
    tie::{TieError, Verdict},
};

/// The facts that do not change while the process lives.
#[derive(Clone, Debug)]
pub(crate) struct MembershipConfig {
    pub(crate) seeds: Vec<String>,
    /// How many nodes found the cluster. Without it, all seeds have to answer.
    pub(crate) expect: Option<u32>,
    /// `None` for a client, which hosts nothing and is no member.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) on_down: OnDown,
    pub(crate) availability: Availability,
    pub(crate) has_tie_breaker: bool,
    /// Incarnations are counted from the first, and do not come from the clock.
    pub(crate) counts_incarnations: bool,
    pub(crate) lease: LeaseTimes,
    /// How long a change of the map may take to arrive after it was decided.
    pub(crate) map_within: Duration,
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
}

/// The node's state when an input arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeView<'a> {
    pub(crate) now: Instant,
    /// The incarnation that the wall clock gives now.
    pub(crate) clock: Incarnation,
    /// In 0..1, for pauses.
    pub(crate) jitter: f64,
    pub(crate) map: Option<&'a Arc<ClusterMap>>,
    /// The version of the map that the regions go by.
    pub(crate) followed: u64,
    pub(crate) identity: Option<ClusterIdentity>,
    /// The node has kept its seat from the process before it.
    pub(crate) keeps_seat: bool,
    /// Members that gossip takes for dead.
    pub(crate) dead: &'a BTreeSet<MemberId>,
    /// Whether the gate is open: entities may act.
    pub(crate) serves: bool,
}

/// Numbers the time between two ends of a membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session(pub(super) u64);

/// An operator's command, to be answered under this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandId(pub(crate) u64);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MembershipInput {
    /// The time of [`Membership::deadline`](super::Membership::deadline) has come.
    Tick,
    /// The regions follow a newer map.
    Map,
    /// A peer, or the leader, says that this member is Down.
    Down(MemberId),
    /// The process at this address, which this one has asked, is in this generation of the same
    /// cluster.
    Generation(Generation, SocketAddr),
    /// A process that has dialed this one says that it is in this generation of the same cluster,
    /// and can be asked at this address. Anything may be said by a dialer.
    GenerationClaimed(Generation, Option<SocketAddr>),
    /// The tie-breaker has decided against this node, which decides alone: the other may have begun
    /// a new generation.
    Outclaimed,
    /// Another process answers where a member was.
    Stranger,
    /// The engine of the cluster map has failed for good.
    EngineFailed(JoinError),
    /// Go on without the leader. Without a [`CommandId`] the node itself wants it.
    Recover {
        command: Option<CommandId>,
        /// Recover even if others seem alive, and whatever the tie-breaker says.
        force: bool,
    },
    Leave,
    Done(Session, Outcome),
}

/// Something that takes time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Start the engine from what the process before this one has kept, if anything.
    SitAgain,
    /// Remove what is kept on disk.
    ForgetSeat,
    /// Ask each of these places which cluster it is in.
    Greet(Vec<String>),
    /// Found a cluster of one.
    Found,
    /// Found a new generation from the last map.
    FoundGeneration(ClusterIdentity, Arc<ClusterMap>),
    /// Propose that this member joins.
    Join,
    /// Propose that this member is Up.
    Up,
    /// Renew the lease, once handlers make progress.
    Renew,
    /// Ask each of these members which generation it is in, before the end of the lease that is to
    /// be used.
    AskOthers(Asking, Vec<String>),
    /// Look for this cluster, and for another of its name, at each of these places.
    LookAround(Vec<String>),
    /// Look for a leader.
    AskLeader,
    /// Ask the tie-breaker whether this member may go on without the other.
    Claim(ClusterIdentity, MemberId),
}

/// The result of an [`Operation`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The outcome of `SitAgain`: the addresses of the voters.
    Sat(Result<Vec<SocketAddr>, String>),
    Forgotten,
    /// The outcome of `Greet`: an answer at least of each place.
    Greeted(Vec<Greeted>),
    /// The outcome of `Found` and `FoundGeneration`.
    Founded(Result<(), String>),
    /// The outcome of `Join` and `Up`: the version of the map.
    Decided(Result<u64, LeaderError>),
    /// The outcome of `Renew`.
    Renewed {
        sent: Instant,
        result: Result<u64, LeaderError>,
    },
    /// The outcome of `AskOthers`.
    OthersAsked(Asking, Vec<Greeted>),
    /// The outcome of `LookAround`, in the order of the places.
    Seen(Vec<Sight>),
    /// The outcome of `AskLeader`.
    HasLeader(bool),
    /// The outcome of `Claim`.
    Claimed(Result<Verdict, TieError>),
}

/// Why other members are asked which generation they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// A sole voter wants to use its lease.
    Renewal,
    /// An operator wants this node to go on, whatever the others are.
    Recovery,
    /// A dialer claims a later generation. A process in that generation refuses this one, and
    /// this ends the membership.
    Claim,
}

/// The cluster at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// This process's own.
    Ours,
    /// Another cluster of the same name.
    Other,
    /// Nothing answers, or a process in no cluster.
    Nothing,
}

/// The answer of one process. A place whose name has several addresses has several answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeted {
    /// The place that was to be asked.
    pub(crate) place: String,
    /// The address, if that is not what the place says.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) answer: SeedAnswer,
    pub(crate) cluster: Option<Introduction>,
}

/// A cluster, as one of its members introduces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    pub(crate) by: MemberId,
    pub(crate) identity: ClusterIdentity,
    pub(crate) voters: Vec<(MemberId, SocketAddr)>,
}

/// The effects for the shell, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MembershipEffect {
    /// End this membership before the input returns: close the gate, renew no more, cancel
    /// everything that runs for it.
    EndSession,
    /// End the entities and all links, forget the map, the leader and the engine. The process is
    /// this member from now on.
    Begin(MemberId),
    /// Tell each process that asks that this process may found a cluster, and this; with `None`,
    /// that it will found none.
    TellSeekers(Option<SeekerState>),
    /// The process is in no cluster yet, because of these answers.
    Wait(Vec<Greeted>),
    /// Take this cluster for the node's own.
    Meet(Introduction),
    /// The cluster that this client was in is gone. The next one it meets is another: its epochs
    /// may be smaller.
    ClusterReplaced,
    /// Say in each handshake that the node is in this generation, which it is about to found.
    Announce(ClusterIdentity),
    Start(Session, Operation),
    /// A map of this version exists.
    Heard(u64),
    OpenGate(Instant),
    /// Fail everything that waits for an entity.
    Abandon,
    /// Tell gossip that this member goes.
    SayGoodbye,
    /// The process will never be a member.
    Fail(JoinError),
    /// The answer to an operator.
    Reply(CommandId, Result<(), String>),
}
