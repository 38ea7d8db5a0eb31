//! Why an entity does not answer: what it does, what its handler waits for, and what that waits
//! for.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{ask::InVain, nodes::Nodes, reader::Tries};
use crate::{
    actor::cell::report::Activity,
    cluster::peers::reads::{ActiveLook, EntityLook, Read, ReadAnswer},
    error::StoredError,
    id::{EntityId, MemberId, NodeId, ShardId, shard_of},
    protocol::map::ClusterMap,
    transport::link::Peer,
};

/// How many entities are looked at, one waiting for the next.
const STEPS_MAX: usize = 32;

/// Why an entity does not answer: see `Admin::why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The entity, then the one that its handler waits for, and so on.
    pub steps: Vec<WhyStep>,
    /// Why there are no more.
    pub end: WhyEnd,
}

/// Why no further entity was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum WhyEnd {
    /// The last one waits for no other.
    NoneAwaited,
    /// It waits for one that was looked at before: they wait for each other.
    Circle {
        /// The one, as `Account/alice`.
        entity: String,
    },
    /// It waits for an actor that is no entity, or that cannot be looked at.
    NotFollowed {
        /// The actor, as `Account/alice`.
        actor: String,
        /// The reason.
        reason: String,
    },
    /// There are too many.
    TooLong,
}

/// What is known of one entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WhyStep {
    /// The wire name of its type.
    pub kind: String,
    /// Its id.
    pub id: EntityId,
    /// The node that owns its shard. `None`: none does.
    pub node: Option<NodeId>,
    /// Its shard.
    pub shard: u32,
    /// For how long that node has owned the shard.
    pub owned_for: Option<Duration>,
    /// What it does. `None`: it is not active, and starts with the next message.
    pub activity: Option<Activity>,
    /// The state of a state machine; while a message is handled, the one before it.
    pub state: Option<String>,
    /// How many messages wait.
    pub queued: u64,
    /// The message whose handler runs.
    pub handling: Option<WhyHandling>,
    /// What that handler has asked, and has no answer to.
    pub waits_for: Vec<WhyAsk>,
    /// Its last failure, as far as its node remembers.
    pub last_failure: Option<WhyFailure>,
    /// The last moves of its shard, the latest first: four at most, of those that the owner has
    /// learned of since it was started.
    pub last_moves: Vec<WhyMove>,
}

/// A message whose handler runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WhyHandling {
    /// Its wire name.
    pub message: String,
    /// For how long the handler has run; of one that has awaited nothing, since it was first looked
    /// at.
    pub running_for: Duration,
}

/// An ask without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WhyAsk {
    /// The wire name of the target's type.
    pub kind: String,
    /// The id of the target.
    pub id: String,
    /// The wire name of the message.
    pub message: String,
    /// How long ago it was sent.
    pub asked_for: Duration,
}

/// A move of the entity's shard, as the owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WhyMove {
    /// How long ago.
    pub ago: Duration,
    /// The node that had the shard.
    pub from: NodeId,
    /// The node that got it.
    pub to: NodeId,
    /// Whether the node that had it was Down. Else it has handed the shard over.
    pub by_failover: bool,
}

/// The last failure of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WhyFailure {
    /// Its reason.
    pub reason: String,
    /// How long ago it was.
    pub ago: Duration,
    /// How many failures the node remembers.
    pub count: u64,
}

impl WhyStep {
    fn new(kind: &str, id: &EntityId, shard: ShardId) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.clone(),
            node: None,
            shard: shard.0,
            owned_for: None,
            activity: None,
            state: None,
            queued: 0,
            handling: None,
            waits_for: Vec::new(),
            last_failure: None,
            last_moves: Vec::new(),
        }
    }

    fn add(&mut self, look: EntityLook) {
        let EntityLook {
            shard,
            owned_for,
            active,
            failure,
            moves,
        } = look;
        (self.shard, self.owned_for) = (shard.0, Some(owned_for));
        self.last_failure = failure.map(|(reason, ago, count)| WhyFailure { reason, ago, count });
        let moves = moves.into_iter();
        let moves = moves.map(|(ago, from, to, by_failover)| WhyMove {
            ago,
            from,
            to,
            by_failover,
        });
        self.last_moves = moves.collect();
        let Some(active) = active else { return };
        let ActiveLook {
            activity,
            state,
            queued,
            handling,
            asks,
        } = active;
        self.activity = Some(activity);
        (self.state, self.queued) = (state, queued);
        self.handling = handling.map(|(message, running_for)| WhyHandling {
            message,
            running_for,
        });
        let asks = asks
            .into_iter()
            .map(|(kind, id, message, asked_for)| WhyAsk {
                kind,
                id,
                message,
                asked_for,
            });
        self.waits_for = asks.collect();
    }
}

fn name(kind: &str, id: &str) -> String {
    format!("{kind}/{id}")
}

/// Looks at an entity, at the one that its handler waits for, and so on.
///
/// # Errors
/// The first entity cannot be looked at.
pub(crate) async fn why(nodes: &dyn Nodes, kind: &str, id: &EntityId) -> Result<Why, StoredError> {
    id.check()?;
    let mut steps = vec![look(nodes, kind, id).await?];
    loop {
        let next = steps.last().and_then(|step| step.waits_for.first());
        let Some(WhyAsk { kind, id, .. }) = next.cloned() else {
            let end = WhyEnd::NoneAwaited;
            return Ok(Why { steps, end });
        };
        let mut before = steps.iter();
        if before.any(|step| step.kind == kind && step.id.as_str() == id) {
            let entity = name(&kind, &id);
            let end = WhyEnd::Circle { entity };
            return Ok(Why { steps, end });
        }
        if steps.len() == STEPS_MAX {
            let end = WhyEnd::TooLong;
            return Ok(Why { steps, end });
        }
        match look(nodes, &kind, &EntityId::new(&id)).await {
            Ok(step) => steps.push(step),
            Err(error) => {
                let end = WhyEnd::NotFollowed {
                    actor: name(&kind, &id),
                    reason: error.to_string(),
                };
                return Ok(Why { steps, end });
            }
        }
    }
}

async fn look(nodes: &dyn Nodes, kind: &str, id: &EntityId) -> Result<WhyStep, StoredError> {
    let mut tries = Tries::new();
    loop {
        let map = nodes.map()?;
        let (shard, owner) = match map.as_deref() {
            Some(map) => owner_of(map, kind, id)?,
            None => (ShardId(0), None),
        };
        let mut step = WhyStep::new(kind, id, shard);
        if map.is_some() && owner.is_none() {
            return Ok(step);
        }
        step.node = owner.as_ref().map(|(member, _)| member.node.clone());
        let elsewhere = owner.filter(|(member, _)| Some(member) != nodes.me().as_ref());
        let read = Read::Look {
            kind: kind.to_owned(),
            id: id.clone(),
        };
        let asked = elsewhere.map(|(_, peer)| peer);
        let reason = match nodes.ask(asked, read).await {
            Ok(ReadAnswer::Look(look)) => {
                step.add(*look);
                return Ok(step);
            }
            Ok(_) => "its shard moves".to_owned(),
            Err(InVain::Refused(StoredError::Unavailable { reason }) | InVain::Silent(reason)) => {
                reason
            }
            Err(InVain::Refused(error)) => return Err(error),
        };
        tries.again(nodes, reason).await?;
    }
}

/// The shard of an entity, and its owner.
pub(super) fn owner_of(
    map: &ClusterMap,
    kind: &str,
    id: &EntityId,
) -> Result<(ShardId, Option<(MemberId, Peer)>), StoredError> {
    let unknown = || StoredError::UnknownEntity {
        name: kind.to_owned(),
        known: map.kinds.keys().cloned().collect(),
    };
    let table = map.kinds.get(kind).ok_or_else(unknown)?;
    let shards = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let shards = std::num::NonZeroU32::new(shards).ok_or_else(unknown)?;
    let shard = shard_of(id.as_str(), shards);
    let owner = map.owner(kind, shard).and_then(|member| {
        let peer = Peer {
            address: map.member(member)?.address,
            member: Some(member.clone()),
        };
        Some((member.clone(), peer))
    });
    Ok((shard, owner))
}

impl fmt::Display for WhyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneAwaited => f.write_str("It waits for no other actor."),
            Self::Circle { entity } => write!(
                f,
                "These wait for each other, for ever: {entity} is where the circle closes."
            ),
            Self::NotFollowed { actor, reason } => {
                write!(f, "{actor} cannot be looked at: {reason}")
            }
            Self::TooLong => f.write_str("There are more, which are not shown."),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitsMessage => "waits for a message",
            Self::AtWork => "is at work",
            Self::InPause => "pauses, after a failure or for its lease",
            Self::AwaitsStore => "waits for its store",
            Self::HasEnded => "has ended",
        })
    }
}
