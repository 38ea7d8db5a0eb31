//! What the nodes of a cluster count and see, at one time.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use super::{nodes::Nodes, reader};
use crate::{
    cluster::peers::{
        overview::{NodeOverview, TypeCounts},
        reads::{Read, ReadAnswer},
    },
    error::StoredError,
    id::MemberId,
    infra::wall_clock,
};

/// What the nodes of a cluster count and see, at one time.
///
/// ```standalone_crate
/// # use casty::prelude::*;
/// #[derive(Default)]
/// struct Lamp {
///     on: bool,
/// }
///
/// #[entity(name = "docs/overview-lamp")]
/// impl Lamp {
///     #[message]
///     fn switch(&mut self) -> bool {
///         self.on = !self.on;
///         self.on
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("house").start().await?;
/// node.ready().await?;
/// node.entity::<Lamp>("hall").switch().await?;
/// let overview = node.overview().await?;
/// assert!(overview.silent.is_empty());
/// let lamps = overview.nodes[0].types.iter().find(|it| it.kind == "docs/overview-lamp");
/// assert_eq!(lamps.map(|lamps| lamps.active), Some(1));
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Overview {
    /// When it was put together: milliseconds since the Unix epoch, by the clock of the process
    /// that has asked.
    pub at: u64,
    /// The nodes that answered, in the order of their names.
    pub nodes: Vec<NodeOverview>,
    /// The members that did not.
    pub silent: Vec<SilentNode>,
}

/// What is known of an entity type, on all nodes together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TypeSummary {
    /// Its wire name.
    pub kind: String,
    /// How many of its entities are active.
    pub active: u64,
    /// How many of its shards have an owner.
    pub shards: u32,
    /// How many messages were handled a second.
    pub handled_per_second: Option<f64>,
    /// The duration that half of the handlers did not exceed: see [`TypeCounts::within`]. Of a type
    /// that rests, since the nodes have started.
    pub half_within: Option<Duration>,
    /// The duration that 99 of a hundred handlers did not exceed.
    pub most_within: Option<Duration>,
    /// What was counted since the nodes have started.
    pub counts: Option<TypeCounts>,
}

/// A member that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SilentNode {
    /// The member.
    pub member: MemberId,
    /// The reason.
    pub reason: String,
}

impl Overview {
    /// What was counted of a type on all nodes, by its wire name. Without `before`, since their
    /// starts; else since then, without the nodes that were not there or have restarted.
    pub fn counts(&self, kind: &str, before: Option<&Self>) -> TypeCounts {
        let mut sum = TypeCounts::default();
        for node in &self.nodes {
            if let Some(counts) = node.counts(kind, before) {
                sum.add(&counts);
            }
        }
        sum
    }

    /// The entity types that there are, in the order of their names: those of which nothing was
    /// ever anywhere are left out. `before`: an earlier overview, for rates and durations.
    pub fn types(&self, before: Option<&Self>) -> Vec<TypeSummary> {
        let nodes = self.nodes.iter();
        let kinds: BTreeSet<&str> = nodes
            .flat_map(|node| node.types.iter().map(|it| &*it.kind))
            .collect();
        let kinds = kinds.into_iter();
        kinds
            .filter_map(|kind| self.summary(kind, before))
            .collect()
    }

    fn summary(&self, kind: &str, before: Option<&Self>) -> Option<TypeSummary> {
        let of_it = || {
            let types = self.nodes.iter().flat_map(|node| &node.types);
            types.filter(|it| it.kind == kind)
        };
        let (active, shards) = (
            of_it().map(|it| it.active).sum(),
            of_it().map(|it| it.shards).sum(),
        );
        let ever = self.counts(kind, None);
        if active == 0 && shards == 0 && ever == TypeCounts::default() {
            return None;
        }
        let are_counted = of_it().any(|it| it.counts.is_some());
        let recent = self.counts(kind, before);
        let nodes = self.nodes.iter();
        let seconds = nodes.filter_map(|node| node.seconds_since(before?));
        let seconds = seconds.reduce(f64::max).filter(|_| are_counted);
        // A type that rests shows what it took before.
        let timed = if recent.within(0.0).is_some() {
            &recent
        } else {
            &ever
        };
        Some(TypeSummary {
            kind: kind.to_owned(),
            active,
            shards,
            handled_per_second: seconds.map(|seconds| rate(recent.handled_in_all(), seconds)),
            half_within: timed.within(50.0),
            most_within: timed.within(99.0),
            counts: are_counted.then_some(ever),
        })
    }

    /// This node in an earlier overview, unless its process has started since.
    pub(super) fn same_process(&self, node: &NodeOverview) -> Option<&NodeOverview> {
        let mut earlier = self.nodes.iter();
        earlier.find(|it| it.node == node.node && it.uptime <= node.uptime)
    }
}

impl NodeOverview {
    /// What was counted of a type on this node, by its wire name: since its start, or since
    /// `before`. `None` if the node does not count, does not host the type, or was not there before
    /// or has restarted since.
    pub fn counts(&self, kind: &str, before: Option<&Overview>) -> Option<TypeCounts> {
        let counts = self.all_counts(kind)?;
        let Some(before) = before else {
            return Some(counts.clone());
        };
        let known = before.same_process(self)?.all_counts(kind)?;
        Some(counts.since(known))
    }

    /// How many messages its entities have handled a second since `before`. `None` where
    /// [`counts`](Self::counts) has none.
    pub fn handled_per_second(&self, before: &Overview) -> Option<f64> {
        let seconds = self.seconds_since(before)?;
        let types = self.types.iter();
        let mut counts = types
            .filter_map(|it| self.counts(&it.kind, Some(before)))
            .peekable();
        counts.peek()?;
        let handled = counts.map(|counts| counts.handled_in_all()).sum();
        Some(rate(handled, seconds))
    }

    pub(super) fn seconds_since(&self, before: &Overview) -> Option<f64> {
        let time = self.uptime.checked_sub(before.same_process(self)?.uptime)?;
        (!time.is_zero()).then_some(time.as_secs_f64())
    }

    fn all_counts(&self, kind: &str) -> Option<&TypeCounts> {
        let found = self.types.iter().find(|it| it.kind == kind)?;
        found.counts.as_ref()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate need not be exact beyond 2^53"
)]
pub(super) fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// Asks each member that serves.
pub(crate) async fn overview(nodes: &dyn Nodes) -> Result<Overview, StoredError> {
    let mut overview = Overview {
        at: u64::try_from(wall_clock::since_epoch().as_millis()).unwrap_or(u64::MAX),
        ..Overview::default()
    };
    if nodes.map()?.is_none() {
        // It is alone, and no member of a cluster.
        let answer = nodes.ask(None, Read::Overview).await;
        if let Ok(ReadAnswer::Overview(node)) = answer {
            overview.nodes.push(*node);
        }
        return Ok(overview);
    }
    for (member, answer) in reader::overviews(nodes).await? {
        match answer {
            Ok(node) => overview.nodes.push(*node),
            Err(reason) => overview.silent.push(SilentNode { member, reason }),
        }
    }
    overview.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(overview)
}
