//! What is not as it should be in a cluster, each with its cause and a cure: read from what the
//! nodes count and see, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::overview::{Overview, rate};
use crate::{
    actor::cell::report::Activity,
    cluster::peers::overview::{BusyEntity, NodeOverview, TypeCounts},
    id::EntityId,
};

/// From when on a handler that keeps a thread for itself is told of.
const BLOCKS: Duration = Duration::from_millis(40);

/// From when on a handler that awaits something is told of.
const LONG: Duration = Duration::from_secs(1);

/// How many messages in one mailbox are told of.
const QUEUED: u64 = 1000;

/// Which share of the time an entity is at work, from when on that is told of.
const BUSY: f64 = 0.7;

/// From how many messages a second on the share of one entity is looked at, and which share is
/// told of.
const HOT: f64 = 1000.0;
const HOT_SHARE: f64 = 0.3;

/// How long before its end a certificate is told of.
const CERTIFICATE: Duration = Duration::from_hours(14 * 24);

/// How long a node may take from its start until it serves.
const STARTS: Duration = Duration::from_secs(10);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is, a name for programs: such as `circle` or `full-mailbox`.
    pub name: &'static str,
    /// What it is about: a node, an entity type, or an entity as `TYPE/ID`.
    pub about: String,
    /// The wire name of the entity's type and its id, if it is about an entity.
    pub entity: Option<(String, EntityId)>,
    /// What is the case, as a sentence.
    pub cause: String,
    /// What helps, as a sentence.
    pub cure: String,
}

/// How bad a finding is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum Severity {
    /// Messages are not handled.
    Alarm,
    /// Messages are lost, fail or wait long, or soon will.
    Warning,
    /// It may be meant.
    Hint,
}

impl Overview {
    /// What is not as it should be, the worst first. `before`: what was seen some seconds earlier,
    /// for what happens in a time, such as messages that find a mailbox full.
    pub fn findings(&self, before: Option<&Self>) -> Vec<Finding> {
        let mut found = Findings {
            now: self,
            before,
            found: Vec::new(),
        };
        found.of_nodes();
        found.of_types();
        found.of_entities();
        let mut found = found.found;
        found.sort_by(|a, b| (a.severity, a.name, &a.about).cmp(&(b.severity, b.name, &b.about)));
        found
    }
}

/// The wire name of an entity's type, and the entity's id.
type Name = (String, EntityId);

struct Findings<'a> {
    now: &'a Overview,
    before: Option<&'a Overview>,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        (severity, name): (Severity, &'static str),
        about: impl ToString,
        cause: String,
        cure: &str,
    ) {
        self.found.push(Finding {
            severity,
            name,
            about: about.to_string(),
            entity: None,
            cause,
            cure: cure.to_owned(),
        });
    }

    /// The same, about an entity.
    fn add_of(&mut self, kind: (Severity, &'static str), entity: &Name, cause: String, cure: &str) {
        self.add(kind, name_of(entity), cause, cure);
        if let Some(finding) = self.found.last_mut() {
            finding.entity = Some(entity.clone());
        }
    }

    fn of_nodes(&mut self) {
        for silent in &self.now.silent {
            self.add(
                (Severity::Alarm, "silent-node"),
                &silent.member.node,
                format!("`{}` does not answer: {}.", silent.member.node, silent.reason),
                "See whether its process runs, has processor time, and can be reached: `casty members` says what the others think of it.",
            );
        }
        let leads = |node: &NodeOverview| node.leads;
        let nodes = self.now.nodes.iter();
        if self.now.silent.is_empty() && !self.now.nodes.iter().any(leads) {
            self.add(
                (Severity::Alarm, "no-leader"),
                "the cluster",
                "No node leads: fewer than a majority of the voters reach each other, or an election is under way. Shards do not move, and leases end.".to_owned(),
                "Start the missing nodes again. Where they are lost for good, `casty recover` begins anew from the nodes that are left.",
            );
        }
        let latest = self.now.nodes.iter().max_by_key(|node| node.map_version);
        if let Some(lacking) = latest.map(|it| it.lacking_copies).filter(|it| *it > 0) {
            self.add(
                (Severity::Warning, "copies"),
                "the cluster",
                format!("{lacking} stored shards have fewer copies in sync than they could have."),
                "They are copied again by themselves; take no node away until they are. If the number stays, see the logs of their owners, and the disks.",
            );
        }
        for node in nodes {
            self.of_node(node);
        }
    }

    fn of_node(&mut self, node: &NodeOverview) {
        let name = &node.node;
        if !node.serves && node.uptime >= STARTS {
            self.add(
                (Severity::Alarm, "no-lease"),
                name,
                format!("`{name}` serves no entities: it holds no lease, or is about to end."),
                "It serves again by itself once it reaches the leader. See its log, and the network between the two.",
            );
        }
        if !node.unreachable.is_empty() {
            let others: Vec<_> = node
                .unreachable
                .iter()
                .map(|it| format!("`{it}`"))
                .collect();
            self.add(
                (Severity::Warning, "unreachable"),
                name,
                format!("`{name}` does not reach {}.", others.join(", ")),
                "See whether their processes run, and whether a firewall lets both directions through.",
            );
        }
        if let Some(until) = node.certificate_until {
            let now = Duration::from_millis(self.now.at);
            let left = Duration::from_secs(until).saturating_sub(now);
            if left < CERTIFICATE {
                let severity = if left.is_zero() {
                    Severity::Alarm
                } else {
                    Severity::Warning
                };
                self.add(
                    (severity, "certificate"),
                    name,
                    format!(
                        "The certificate of `{name}` ends in {} days.",
                        left.as_secs() / (24 * 3600)
                    ),
                    "Put a new one in its place (`casty cert create-node`): the node takes it without a restart.",
                );
            }
        }
        let earlier = self.before.and_then(|before| before.same_process(node));
        let letters = earlier.map_or(0, |it| node.dead_letters.saturating_sub(it.dead_letters));
        if letters > 0 {
            self.add(
                (Severity::Warning, "dead-letters"),
                name,
                match letters {
                    1 => format!("A message has become a dead letter on `{name}`."),
                    _ => format!("{letters} messages have become dead letters on `{name}`."),
                },
                "The events of the node (`ActorSystem::events`), and its log, say which and why.",
            );
        }
    }

    fn of_types(&mut self) {
        let nodes = self.now.nodes.iter();
        let kinds: BTreeSet<&str> = nodes
            .flat_map(|node| node.types.iter().map(|it| &*it.kind))
            .collect();
        let Some(before) = self.before else { return };
        for kind in kinds {
            let counts = self.now.counts(kind, Some(before));
            self.of_type(kind, &counts);
        }
    }

    fn of_type(&mut self, kind: &str, counts: &TypeCounts) {
        let TypeCounts {
            failed,
            refusing,
            unhandled,
            full,
            ..
        } = *counts;
        if full > 0 {
            self.add(
                (Severity::Warning, "full-mailbox"),
                kind,
                match full {
                    1 => format!("A message to an entity of `{kind}` found the mailbox full."),
                    _ => format!("{full} messages to entities of `{kind}` found the mailbox full."),
                },
                "Find the entities with long queues, and make their handlers shorter or share their work. A larger `mailbox` helps against bursts alone.",
            );
        }
        if failed > 0 {
            self.add(
                (Severity::Warning, "failures"),
                kind,
                match failed {
                    1 => format!("A handler of `{kind}` has failed."),
                    _ => format!("Handlers of `{kind}` have failed {failed} times."),
                },
                "The log says each reason; `casty why TYPE/ID` the last one of an entity.",
            );
        }
        if refusing > 0 {
            self.add(
                (Severity::Alarm, "quarantine"),
                kind,
                format!("Entities of `{kind}` have begun to refuse messages for a while, after failures in a row: {refusing} in all."),
                "The log says which and why. It is tried again by itself, after longer and longer pauses.",
            );
        }
        if unhandled > 0 {
            self.add(
                (Severity::Hint, "unhandled"),
                kind,
                format!(
                    "States of `{kind}` had no handler for messages that came: {unhandled} in all."
                ),
                "Handle them there, or have the senders ask for the state first.",
            );
        }
    }

    fn of_entities(&mut self) {
        let mut circles = circles(self.now);
        circles.retain(|circle| circle.iter().all(|it| self.still_waits(it)));
        for circle in &circles {
            let names: Vec<_> = circle
                .iter()
                .map(|it| format!("`{}`", name_of(it)))
                .collect();
            if let Some(first) = circle.first() {
                self.add_of(
                    (Severity::Alarm, "circle"),
                    first,
                    format!("{} wait for each other until their asks time out.", names.join(", ")),
                    "Let one of them tell instead of ask, or pipe the answer to itself (`ctx.pipe`).",
                );
            }
        }
        for node in &self.now.nodes {
            for entity in &node.entities {
                let it = (entity.kind.clone(), entity.id.clone());
                if !circles.iter().any(|circle| circle.contains(&it)) {
                    self.of_handler(&it, node, entity);
                }
                self.of_queue(&it, node, entity);
            }
        }
    }

    /// Whether an entity waited before for what it waits for, in the same call of its handler:
    /// nodes are looked at one after another, and two that ask each other now and then are no
    /// circle.
    fn still_waits(&self, name: &Name) -> bool {
        let earlier = self.before.and_then(|it| find(&it.nodes, name));
        let pair = earlier.zip(find(&self.now.nodes, name));
        pair.is_some_and(|(earlier, now)| {
            is_same_call(earlier, now) && earlier.waits_for.first() == now.waits_for.first()
        })
    }

    /// What an entity's handler does, which is in no circle.
    fn of_handler(&mut self, it: &Name, node: &NodeOverview, entity: &BusyEntity) {
        let name = name_of(it);
        let waiting = match entity.queued {
            0 => String::new(),
            1 => " A message waits behind it.".to_owned(),
            queued => format!(" {queued} messages wait behind it."),
        };
        let before = self.before.and_then(|before| before.same_process(node));
        let earlier = before.and_then(|before| find([before], it));
        match &entity.handling {
            // One that awaits something runs for a moment now and then. Seen twice, it runs on.
            Some((message, time))
                if *time >= BLOCKS
                    && blocks(entity)
                    && earlier.is_some_and(|it| blocks(it) && is_same_call(it, entity)) =>
            {
                self.add_of(
                    (Severity::Warning, "blocked-worker"),
                    it,
                    format!(
                        "Handler `{message}` of `{name}` has kept a thread of `{}` for itself for {}.{waiting}",
                        node.node,
                        shown(*time)
                    ),
                    "Other entities wait for the thread. Put what computes or blocks into `tokio::task::spawn_blocking`, and await that.",
                );
            }
            // What waits for another entity is told of there.
            Some((message, time)) if *time >= LONG && entity.waits_for.is_empty() => self.add_of(
                (Severity::Hint, "slow-handler"),
                it,
                format!("Handler `{message}` of `{name}` runs for {}.{waiting}", shown(*time)),
                "It awaits something that is no entity, such as a database. Give that a timeout, or do it in the background (`ctx.pipe`).",
            ),
            _ => {}
        }
        let stores = |entity: &BusyEntity| entity.activity == Some(Activity::AwaitsStore);
        let stored_before = earlier.is_some_and(stores);
        if stores(entity) && stored_before && entity.queued > 0 {
            self.add_of(
                (Severity::Warning, "slow-store"),
                it,
                format!("`{name}` waits for its store, and has done so before.{waiting}"),
                "The disk or the database of the journal is slow or away: see the log of the node.",
            );
        }
    }

    fn of_queue(&mut self, it: &Name, node: &NodeOverview, entity: &BusyEntity) {
        let name = name_of(it);
        if entity.queued >= QUEUED {
            self.add_of(
                (Severity::Warning, "long-queue"),
                it,
                format!("{} messages wait in the mailbox of `{name}`.", entity.queued),
                "`casty why` says what it does. One entity handles one message at a time: give the work to several.",
            );
        }
        let busy = entity.busy.filter(|busy| *busy >= BUSY);
        let rate = entity.handled_per_second.filter(|rate| *rate >= HOT);
        let of_type = self.rate_of_type(node, &entity.kind);
        let share = rate.zip(of_type).map(|(rate, all)| rate / all);
        let share = share.filter(|share| *share >= HOT_SHARE);
        let cause = match (busy, share) {
            (Some(busy), _) => format!(
                "`{name}` is at work for {:.0} % of the time.",
                busy.min(1.0) * 100.0
            ),
            (None, Some(share)) => format!(
                "`{name}` handles {:.0} % of the messages of its type on `{}`.",
                share.min(1.0) * 100.0,
                node.node
            ),
            (None, None) => return,
        };
        self.add_of(
            (Severity::Hint, "hot-entity"),
            it,
            cause,
            "It is as fast as one entity can be. Split it, or give its readers a projection.",
        );
    }

    /// How many messages entities of a type handle on a node in a second.
    fn rate_of_type(&self, node: &NodeOverview, kind: &str) -> Option<f64> {
        let before = self.before?;
        let handled = node.counts(kind, Some(before))?.handled_in_all();
        let rate = rate(handled, node.seconds_since(before)?);
        Some(rate.max(1.0))
    }
}

/// An entity, if it is one of the busiest of a node.
fn find<'a>(
    nodes: impl IntoIterator<Item = &'a NodeOverview>,
    (kind, id): &Name,
) -> Option<&'a BusyEntity> {
    let mut entities = nodes.into_iter().flat_map(|node| &node.entities);
    entities.find(|it| it.kind == *kind && it.id == *id)
}

fn blocks(entity: &BusyEntity) -> bool {
    entity.handling.is_some() && !entity.awaits
}

/// Whether two looks have seen one call of a handler.
fn is_same_call(earlier: &BusyEntity, later: &BusyEntity) -> bool {
    let (Some(earlier), Some(later)) = (&earlier.handling, &later.handling) else {
        return false;
    };
    earlier.0 == later.0 && earlier.1 < later.1
}

fn name_of((kind, id): &Name) -> String {
    format!("{kind}/{id}")
}

/// A time for people, to a tenth of a second.
fn shown(time: Duration) -> String {
    if time < LONG {
        return format!("{} ms", time.as_millis());
    }
    let tenths = time.as_millis() / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// The entities that wait for each other, in order. Each waits for the first that it has asked, so
/// each is in one circle at most.
fn circles(overview: &Overview) -> Vec<Vec<Name>> {
    let entities = overview.nodes.iter().flat_map(|node| &node.entities);
    let next: BTreeMap<Name, Name> = entities
        .filter_map(|entity| {
            let (kind, id) = entity.waits_for.first()?;
            let asked = (kind.clone(), EntityId::new(id));
            Some(((entity.kind.clone(), entity.id.clone()), asked))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in next.keys() {
        let mut way = Vec::new();
        let mut at = start;
        while seen.insert(at) {
            way.push(at);
            match next.get(at) {
                Some(after) => at = after,
                None => break,
            }
        }
        // It has come back to a place of this very way.
        if let Some(begin) = way.iter().position(|it| *it == at)
            && next.contains_key(at)
        {
            circles.push(way[begin..].iter().map(|it| (*it).clone()).collect());
        }
    }
    circles
}

#[cfg(test)]
mod tests;
