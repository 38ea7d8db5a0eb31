//! Reads the entities of a type, and what is stored of one, from the nodes that have them.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{answer::LIMIT_MAX, ask::InVain, nodes::Nodes};
use crate::{
    cluster::peers::{
        overview::NodeOverview,
        reads::{
            Filter, GivenUpMessage, Newest, OutboxPage, PastRecord, Read, ReadAnswer, ReminderPage,
            Rest, SeenEntity, ShardEntities,
        },
    },
    error::StoredError,
    id::{EntityId, MemberId, NodeId, ShardId},
    protocol::map::ClusterMap,
    transport::link::Peer,
};

/// How long a reader goes on asking without an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a member may take to say what it counts and sees. People look at it who want to know
/// which one does not answer.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// How many shards a reader works on at a time.
const SHARDS_AT_A_TIME: u32 = 256;

/// An entity that a reader has found.
pub(crate) struct FoundEntity {
    pub(crate) id: EntityId,
    pub(crate) shard: ShardId,
    pub(crate) active: bool,
    /// The node that has the shard. `None`: this one.
    pub(crate) node: Option<NodeId>,
    pub(crate) stored: Option<Newest>,
}

/// Tries until there is an answer, or until none came for too long.
pub(super) struct Tries {
    until: Instant,
    count: usize,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            count: 0,
        }
    }

    /// There was no answer. Another try comes after a moment.
    pub(super) async fn again(
        &mut self,
        nodes: &dyn Nodes,
        reason: String,
    ) -> Result<(), StoredError> {
        self.count += 1;
        if Instant::now() >= self.until {
            return Err(StoredError::Unreachable { reason });
        }
        nodes.later().await;
        Ok(())
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// This process.
    Here,
    Member(MemberId),
}

impl Asked {
    fn peer(&self, map: Option<&ClusterMap>) -> Option<Peer> {
        let Self::Member(member) = self else {
            return None;
        };
        Some(Peer {
            address: map?.member(member)?.address,
            member: Some(member.clone()),
        })
    }

    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Here => None,
            Self::Member(member) => Some(member.node.clone()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Here => "this node".to_owned(),
            Self::Member(member) => format!("`{member}`"),
        }
    }
}

/// The members that answer for a shard of a type. Only its owner, if it has one.
struct Answerers<'a> {
    nodes: &'a dyn Nodes,
    map: Option<&'a ClusterMap>,
    kind: &'a str,
}

impl Answerers<'_> {
    fn asked(&self, member: &MemberId) -> Asked {
        if self.nodes.me().as_ref() == Some(member) {
            Asked::Here
        } else {
            Asked::Member(member.clone())
        }
    }

    /// The member to ask about a shard, at this try.
    fn of(&self, shard: ShardId, attempt: usize) -> Option<Asked> {
        let Some(map) = self.map else {
            return Some(Asked::Here);
        };
        match map.owner(self.kind, shard) {
            Some(owner) => Some(self.asked(owner)),
            None => self.any(attempt),
        }
    }

    /// Some member that hosts the type: this process, if it does.
    fn any(&self, attempt: usize) -> Option<Asked> {
        let Some(map) = self.map else {
            return Some(Asked::Here);
        };
        let hosts = map.up().filter(|id| map.hosts(id, self.kind));
        let mut hosts: Vec<Asked> = hosts.map(|id| self.asked(id)).collect();
        hosts.sort();
        let at = attempt.checked_rem(hosts.len())?;
        Some(hosts.swap_remove(at))
    }

    fn unknown(&self) -> StoredError {
        let known = self.map.iter().flat_map(|map| map.kinds.keys());
        StoredError::UnknownEntity {
            name: self.kind.to_owned(),
            known: known.cloned().collect(),
        }
    }
}

/// The entities of a type, page by page.
pub(crate) struct EntityReader {
    kind: String,
    pub(crate) filter: Filter,
    pub(crate) limit: usize,
    /// The number of shards, where there is no map to tell it.
    shards: Option<u32>,
    /// The first shard that was not begun.
    next: u32,
    /// The shards that are worked on, each with the last entity that was read.
    begun: BTreeMap<ShardId, Option<EntityId>>,
}

impl EntityReader {
    pub(crate) fn new(kind: String, shards: Option<u32>) -> Self {
        Self {
            kind,
            filter: Filter::default(),
            limit: LIMIT_MAX,
            shards,
            next: 0,
            begun: BTreeMap::new(),
        }
    }

    /// The next entities, `None` after the last ones. After an error, the same page can be asked
    /// for again.
    ///
    /// # Cancel safety
    /// Safe: the next call begins with the same page.
    pub(crate) async fn next_page(
        &mut self,
        nodes: &dyn Nodes,
    ) -> Result<Option<Vec<FoundEntity>>, StoredError> {
        let mut tries = Tries::new();
        loop {
            let map = nodes.map()?;
            let answerers = Answerers {
                nodes,
                map: map.as_deref(),
                kind: &self.kind,
            };
            let table = answerers.map.and_then(|map| map.kinds.get(&self.kind));
            let shards = table.map_or(self.shards, |table| u32::try_from(table.len()).ok());
            let shards = shards
                .filter(|_| answerers.map.is_none() || table.is_some())
                .ok_or_else(|| answerers.unknown())?;
            if self.begun.is_empty() {
                let end = self.next.saturating_add(SHARDS_AT_A_TIME).min(shards);
                self.begun
                    .extend((self.next..end).map(|shard| (ShardId(shard), None)));
                self.next = end;
            }
            let Some(first) = self.begun.keys().next() else {
                return Ok(None);
            };
            let asked = answerers.of(*first, tries.count);
            let asked = asked.ok_or_else(|| answerers.unknown())?;
            let of_it = self.begun.iter();
            let of_it =
                of_it.filter(|(id, _)| answerers.of(**id, tries.count).as_ref() == Some(&asked));
            let read = Read::Entities {
                kind: self.kind.clone(),
                filter: self.filter.clone(),
                shards: of_it
                    .map(|(shard, after)| (*shard, after.clone()))
                    .collect(),
                limit: u32::try_from(self.limit).unwrap_or(u32::MAX),
            };
            match nodes.ask(asked.peer(map.as_deref()), read).await {
                Ok(ReadAnswer::Entities(answer)) => {
                    let (found, is_further) = self.take(answer, &asked);
                    if !found.is_empty() {
                        return Ok(Some(found));
                    }
                    if is_further {
                        tries = Tries::new();
                    } else {
                        let reason = "the nodes do not agree on the owner of a shard".to_owned();
                        tries.again(nodes, reason).await?;
                    }
                }
                Ok(_) => {
                    let reason = format!("{} gave another answer", asked.name());
                    tries.again(nodes, reason).await?;
                }
                Err(InVain::Refused(error)) => return Err(error),
                Err(InVain::Silent(reason)) => {
                    let reason = format!("{}: {reason}", asked.name());
                    tries.again(nodes, reason).await?;
                }
            }
        }
    }

    /// Takes an answer. Returns the entities, and whether a shard is further than before.
    fn take(&mut self, answer: Vec<ShardEntities>, asked: &Asked) -> (Vec<FoundEntity>, bool) {
        let (mut found, mut is_further) = (Vec::new(), false);
        for ShardEntities {
            shard,
            entities,
            rest,
        } in answer
        {
            let Some(after) = self.begun.get_mut(&shard) else {
                continue;
            };
            match rest {
                Rest::Elsewhere => continue,
                Rest::After(last) => *after = Some(last),
                Rest::Nothing => {
                    self.begun.remove(&shard);
                }
            }
            is_further = true;
            for SeenEntity { id, active, stored } in entities {
                found.push(FoundEntity {
                    id,
                    shard,
                    active,
                    node: asked.node(),
                    stored,
                });
            }
        }
        (found, is_further)
    }
}

/// The records of an entity, page by page.
pub(crate) struct HistoryReader {
    kind: String,
    id: EntityId,
    /// The number of the last record that was read.
    pub(crate) after: u64,
    pub(crate) limit: usize,
}

impl HistoryReader {
    pub(crate) fn new(kind: String, id: EntityId) -> Self {
        Self {
            kind,
            id,
            after: 0,
            limit: LIMIT_MAX,
        }
    }

    /// The next records, `None` after the last ones. After an error, the same page can be asked for
    /// again.
    ///
    /// # Cancel safety
    /// Safe: the next call begins with the same page.
    pub(crate) async fn next_page(
        &mut self,
        nodes: &dyn Nodes,
    ) -> Result<Option<Vec<PastRecord>>, StoredError> {
        self.id.check()?;
        let mut tries = Tries::new();
        loop {
            let map = nodes.map()?;
            let answerers = Answerers {
                nodes,
                map: map.as_deref(),
                kind: &self.kind,
            };
            let asked = answerers.any(tries.count);
            let asked = asked.ok_or_else(|| answerers.unknown())?;
            let read = Read::History {
                kind: self.kind.clone(),
                id: self.id.clone(),
                after: self.after,
                limit: u32::try_from(self.limit).unwrap_or(u32::MAX),
            };
            let reason = match nodes.ask(asked.peer(map.as_deref()), read).await {
                Ok(ReadAnswer::History(records)) => {
                    let Some(last) = records.last() else {
                        return Ok(None);
                    };
                    self.after = last.seq;
                    return Ok(Some(records));
                }
                Ok(_) => "another answer".to_owned(),
                Err(InVain::Refused(error)) => return Err(error),
                Err(InVain::Silent(reason)) => reason,
            };
            let reason = format!("{}: {reason}", asked.name());
            tries.again(nodes, reason).await?;
        }
    }
}

/// What each member counts and sees, or why it does not say.
pub(crate) async fn overviews(
    nodes: &dyn Nodes,
) -> Result<Vec<(MemberId, Result<Box<NodeOverview>, String>)>, StoredError> {
    each_member_within(LOOK_WITHIN, nodes, &Read::Overview, |answer| match answer {
        ReadAnswer::Overview(overview) => Some(overview),
        _ => None,
    })
    .await
}

/// What the outbox of each member has, or why it does not say.
pub(crate) async fn outboxes(
    nodes: &dyn Nodes,
) -> Result<Vec<(MemberId, Result<OutboxPage, String>)>, StoredError> {
    each_member(nodes, &Read::Outbox, |answer| match answer {
        ReadAnswer::Outbox(page) => Some(page),
        _ => None,
    })
    .await
}

/// The pending reminders of each member, or why it does not say.
pub(crate) async fn reminders(
    nodes: &dyn Nodes,
    kind: Option<String>,
    limit: usize,
) -> Result<Vec<(MemberId, Result<ReminderPage, String>)>, StoredError> {
    each_member(
        nodes,
        &Read::Reminders { kind, limit },
        |answer| match answer {
            ReadAnswer::Reminders(page) => Some(page),
            _ => None,
        },
    )
    .await
}

/// What each member gives up, or why it does not say.
pub(crate) async fn given_up(
    nodes: &dyn Nodes,
    read: Read,
) -> Result<Vec<(MemberId, Result<Vec<GivenUpMessage>, String>)>, StoredError> {
    each_member(nodes, &read, |answer| match answer {
        ReadAnswer::GivenUp(messages) => Some(messages),
        _ => None,
    })
    .await
}

/// What each member answers, or why it does not.
async fn each_member<T>(
    nodes: &dyn Nodes,
    read: &Read,
    open: impl Fn(ReadAnswer) -> Option<T>,
) -> Result<Vec<(MemberId, Result<T, String>)>, StoredError> {
    each_member_within(Duration::MAX, nodes, read, open).await
}

/// The same, of those that answer within this time.
async fn each_member_within<T>(
    within: Duration,
    nodes: &dyn Nodes,
    read: &Read,
    open: impl Fn(ReadAnswer) -> Option<T>,
) -> Result<Vec<(MemberId, Result<T, String>)>, StoredError> {
    let map = nodes.map()?;
    let members = map.as_deref().into_iter().flat_map(ClusterMap::up);
    let asking = members.map(|member| async {
        let peer = Asked::Member(member.clone()).peer(map.as_deref());
        let asked = timeout(within, nodes.ask(peer, read.clone())).await;
        let late = |_| Err(InVain::Silent(format!("no answer within {within:?}")));
        let answer = match asked.unwrap_or_else(late) {
            Ok(answer) => open(answer).ok_or_else(|| "it answers something else".to_owned()),
            Err(InVain::Refused(error)) => Err(error.to_string()),
            Err(InVain::Silent(reason)) => Err(reason),
        };
        (member.clone(), answer)
    });
    Ok(join_all(asking).await)
}

/// Erases what is stored of an entity. Returns whether there was anything.
///
/// # Cancel safety
/// Dropped, it may be erased all the same.
pub(crate) async fn erase(
    nodes: &dyn Nodes,
    kind: &str,
    id: &EntityId,
) -> Result<bool, StoredError> {
    id.check()?;
    let mut tries = Tries::new();
    // An erasure whose answer was lost.
    let mut was_asked = false;
    loop {
        let map = nodes.map()?;
        let answerers = Answerers {
            nodes,
            map: map.as_deref(),
            kind,
        };
        let shards = answerers.map.and_then(|map| map.kinds.get(kind));
        let shards = shards.and_then(|table| u32::try_from(table.len()).ok());
        let shard = shards.and_then(NonZeroU32::new).map(|n| id.shard(n));
        let asked = match shard {
            Some(shard) => answerers.of(shard, tries.count),
            None => answerers.any(tries.count),
        };
        let asked = asked.ok_or_else(|| answerers.unknown())?;
        let read = Read::Erase {
            kind: kind.to_owned(),
            id: id.clone(),
        };
        let reason = match nodes.ask(asked.peer(map.as_deref()), read).await {
            // Nothing is left, because an earlier try has erased it.
            Ok(ReadAnswer::Erased(erased)) => return Ok(erased || was_asked),
            Ok(_) => "the shard of the entity has no owner yet".to_owned(),
            Err(InVain::Refused(error)) => return Err(error),
            Err(InVain::Silent(reason)) => {
                was_asked = true;
                reason
            }
        };
        let reason = format!("{}: {reason}", asked.name());
        tries.again(nodes, reason).await?;
    }
}

/// Shards, and the process that answers for all of them.
pub(crate) struct Group {
    /// `None`: this process.
    pub(crate) peer: Option<Peer>,
    pub(crate) name: String,
    pub(crate) shards: Vec<ShardId>,
}

/// Shards by the process that answers for them, at this try.
pub(crate) fn groups(
    nodes: &dyn Nodes,
    kind: &str,
    shards: impl IntoIterator<Item = ShardId>,
    attempt: usize,
) -> Result<Vec<Group>, StoredError> {
    let map = nodes.map()?;
    let answerers = Answerers {
        nodes,
        map: map.as_deref(),
        kind,
    };
    let mut groups: BTreeMap<Asked, Vec<ShardId>> = BTreeMap::new();
    for shard in shards {
        let asked = answerers.of(shard, attempt);
        let asked = asked.ok_or_else(|| answerers.unknown())?;
        groups.entry(asked).or_default().push(shard);
    }
    let group = |(asked, shards): (Asked, Vec<ShardId>)| Group {
        peer: asked.peer(map.as_deref()),
        name: asked.name(),
        shards,
    };
    Ok(groups.into_iter().map(group).collect())
}

/// Asks the owner of a shard for a page of what is stored of it. A shard without an owner gets one.
pub(crate) async fn of_owner(
    nodes: &dyn Nodes,
    kind: &str,
    shard: ShardId,
    read: impl Fn() -> Read,
) -> Result<ReadAnswer, StoredError> {
    let mut tries = Tries::new();
    loop {
        let map = nodes.map()?;
        let answerers = Answerers {
            nodes,
            map: map.as_deref(),
            kind,
        };
        let asked = answerers.of(shard, tries.count);
        let asked = asked.ok_or_else(|| answerers.unknown())?;
        let reason = match nodes.ask(asked.peer(map.as_deref()), read()).await {
            Ok(ReadAnswer::Elsewhere) => format!("shard {} of `{kind}` has no owner yet", shard.0),
            Ok(answer) => return Ok(answer),
            // It may be about to take the shard over.
            Err(InVain::Refused(StoredError::Unavailable { reason }) | InVain::Silent(reason)) => {
                reason
            }
            Err(InVain::Refused(error)) => return Err(error),
        };
        let reason = format!("{}: {reason}", asked.name());
        tries.again(nodes, reason).await?;
    }
}
