//! What the page is told at one time.

use std::time::Duration;

use casty::admin::{BusyEntity, Finding, NodeOverview, Overview, TypeCounts, TypeSummary};
use serde::Serialize;

/// What the nodes do, as the page draws it. Times are in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// In milliseconds since the Unix epoch.
    at: u64,
    /// The node that was asked.
    here: String,
    nodes: Vec<NodeRow>,
    silent: Vec<SilentRow>,
    types: Vec<TypeRow>,
    entities: Vec<EntityRow>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct NodeRow {
    node: String,
    serves: bool,
    leads: bool,
    uptime: u64,
    shards: u32,
    entities: u64,
    handled_per_second: Option<f64>,
    connections: u64,
    dead_letters: u64,
}

#[derive(Debug, Serialize)]
struct SilentRow {
    node: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct TypeRow {
    kind: String,
    active: u64,
    shards: u32,
    handled_per_second: Option<f64>,
    half_within: Option<u64>,
    most_within: Option<u64>,
    counts: Option<Counts>,
}

#[derive(Debug, Serialize)]
struct Counts {
    failed: u64,
    full: u64,
    unhandled: u64,
    activated: u64,
    passivated: u64,
}

#[derive(Debug, Serialize)]
struct EntityRow {
    kind: String,
    id: String,
    node: String,
    queued: u64,
    handling: Option<Handling>,
    handled_per_second: Option<f64>,
    busy: Option<f64>,
    state: Option<String>,
    waits_for: Option<(String, String)>,
}

/// The message whose handler runs.
#[derive(Debug, Serialize)]
pub(crate) struct Handling {
    pub(crate) message: String,
    pub(crate) micros: u64,
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Sample {
    /// `before`: an earlier look, for what happens in a time.
    pub(crate) fn new(here: String, now: &Overview, before: Option<&Overview>) -> Self {
        let silent = now.silent.iter().map(|it| SilentRow {
            node: it.member.node.to_string(),
            reason: it.reason.clone(),
        });
        let nodes = now.nodes.iter();
        Self {
            at: now.at,
            here,
            nodes: nodes.clone().map(|it| NodeRow::new(it, before)).collect(),
            silent: silent.collect(),
            types: now.types(before).into_iter().map(TypeRow::from).collect(),
            entities: nodes
                .flat_map(|node| node.entities.iter().map(|it| EntityRow::new(node, it)))
                .collect(),
            findings: now.findings(before),
        }
    }

    pub(crate) fn json(&self) -> String {
        // All keys are texts, and no number is without a form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl NodeRow {
    fn new(node: &NodeOverview, before: Option<&Overview>) -> Self {
        Self {
            node: node.node.to_string(),
            serves: node.serves,
            leads: node.leads,
            uptime: micros(node.uptime),
            shards: node.types.iter().map(|it| it.shards).sum(),
            entities: node.types.iter().map(|it| it.active).sum(),
            handled_per_second: before.and_then(|before| node.handled_per_second(before)),
            connections: node.connections,
            dead_letters: node.dead_letters,
        }
    }
}

impl From<TypeSummary> for TypeRow {
    fn from(summary: TypeSummary) -> Self {
        Self {
            kind: summary.kind,
            active: summary.active,
            shards: summary.shards,
            handled_per_second: summary.handled_per_second,
            half_within: summary.half_within.map(micros),
            most_within: summary.most_within.map(micros),
            counts: summary.counts.as_ref().map(Counts::from),
        }
    }
}

impl From<&TypeCounts> for Counts {
    fn from(counts: &TypeCounts) -> Self {
        Self {
            failed: counts.failed,
            full: counts.full,
            unhandled: counts.unhandled,
            activated: counts.activated,
            passivated: counts.passivated,
        }
    }
}

impl EntityRow {
    fn new(node: &NodeOverview, entity: &BusyEntity) -> Self {
        let handling = entity.handling.as_ref();
        Self {
            kind: entity.kind.clone(),
            id: entity.id.to_string(),
            node: node.node.to_string(),
            queued: entity.queued,
            handling: handling.map(|(message, time)| Handling {
                message: message.clone(),
                micros: micros(*time),
            }),
            handled_per_second: entity.handled_per_second,
            busy: entity.busy,
            state: entity.state.clone(),
            waits_for: entity.waits_for.first().cloned(),
        }
    }
}
