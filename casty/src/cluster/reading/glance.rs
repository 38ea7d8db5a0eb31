//! What a node tells of itself: a glance at all its entities, a look at the busiest.

#[cfg(feature = "metrics")]
use std::cmp::Reverse;
use std::{collections::BTreeMap, sync::Arc};

use crate::{
    actor::{cell::report::CellReport, runtime::Runtime},
    cluster::{
        node::Node,
        peers::overview::{BusyEntity, NodeOverview, TypeCounts, TypeOverview},
        region::{AnyRegion, Busiest},
    },
    id::{EntityId, ShardId},
};
#[cfg(feature = "metrics")]
use crate::{
    actor::{
        hot::HotEntity,
        meter::{SAMPLED, TypeMeter},
        tally::Tally,
    },
    cluster::peers::overview::DurationRange,
};

/// After how many shards other tasks run.
const SHARDS_AT_ONCE: usize = 16;

/// How many of the entities that have handled most are told, of each type.
#[cfg(feature = "metrics")]
const HOTTEST: usize = 8;

/// How many handlers of an entity have to be timed before that says something of it.
#[cfg(feature = "metrics")]
const TIMED: u64 = 4;

/// What this node counts and sees.
pub(super) async fn overview(
    runtime: &Runtime,
    node: Option<&Node>,
    hosted: impl Iterator<Item = &Arc<dyn AnyRegion>>,
) -> NodeOverview {
    let (mut types, mut entities) = (Vec::new(), Vec::new());
    for region in hosted {
        let (overview, busiest) = look_at(&**region, runtime).await;
        types.push(overview);
        entities.extend(busiest);
    }
    let map = node.and_then(|node| node.map.get());
    NodeOverview {
        node: runtime.node.clone(),
        uptime: runtime.uptime(),
        serves: node.is_none_or(Node::is_ready),
        leads: node.is_none_or(|node| {
            let engine = node.current_membership().voter.engine();
            engine.is_some_and(|engine| engine.leads_in().is_some())
        }),
        lacking_copies: map.as_ref().map_or(0, |map| map.lacking_copies() as u64),
        map_version: map.map(|map| map.version),
        unreachable: node.map_or_else(Vec::new, |node| {
            let dead = node.current_membership().rumors.dead();
            dead.into_iter().map(|member| member.node).collect()
        }),
        connections: node.map_or(0, |node| node.limiter.accepted() as u64),
        dead_letters: runtime.events.dead_letters(),
        certificate_until: node
            .and_then(|node| node.peers.certificate_until())
            .map(|until| until.as_secs()),
        types,
        entities,
    }
}

/// What this node counts of one type, and the busiest of its entities.
async fn look_at(region: &dyn AnyRegion, runtime: &Runtime) -> (TypeOverview, Vec<BusyEntity>) {
    let mut busiest = Busiest::new();
    let mut owned = 0;
    for (shard, number) in (0..region.shards().get()).map(ShardId).zip(1..) {
        owned += u32::from(region.owns(shard));
        busiest.set_now(runtime.coarse_millis());
        region.look_for(shard, &mut busiest);
        if number % SHARDS_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let reports = busiest
        .reports()
        .into_iter()
        .map(|(id, report)| (id, Some(report)));
    let entities: BTreeMap<EntityId, BusyEntity> = reports
        .map(|(id, report)| (id.clone(), entity(region.name(), id, report)))
        .collect();
    #[cfg(feature = "metrics")]
    let entities = with_hottest(region, runtime.coarse_millis(), entities);
    // Some have come to rest since they were seen.
    let is_busy =
        |it: &BusyEntity| it.queued > 0 || it.handling.is_some() || it.handled_per_second.is_some();
    let entities = entities.into_values().filter(is_busy).collect();
    let overview = TypeOverview {
        kind: region.name().to_owned(),
        active: region.active(),
        shards: owned,
        counts: counts(region),
    };
    (overview, entities)
}

fn entity(kind: &str, id: EntityId, report: Option<CellReport>) -> BusyEntity {
    let kind = kind.to_owned();
    let Some(report) = report else {
        return BusyEntity {
            kind,
            id,
            activity: None,
            state: None,
            queued: 0,
            handling: None,
            awaits: false,
            waits_for: Vec::new(),
            handled_per_second: None,
            busy: None,
        };
    };
    let asks = report.asks.into_iter();
    BusyEntity {
        kind,
        id,
        activity: Some(report.activity),
        state: report.state.map(str::to_owned),
        queued: report.queued as u64,
        awaits: report.awaits,
        handling: report
            .handling
            .map(|(message, since)| (message.to_owned(), since)),
        waits_for: asks.map(|ask| (ask.to.kind, ask.to.id)).collect(),
        handled_per_second: None,
        busy: None,
    }
}

#[cfg(feature = "metrics")]
fn with_hottest(
    region: &dyn AnyRegion,
    now: u32,
    mut entities: BTreeMap<EntityId, BusyEntity>,
) -> BTreeMap<EntityId, BusyEntity> {
    let (time, mut hottest) = region.meter().hottest(now);
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return entities;
    }
    hottest.retain(|it| it.handlers >= TIMED);
    hottest.sort_by_key(|it| Reverse(it.handlers));
    let by_time = {
        let mut by_time = hottest.clone();
        by_time.sort_by_key(|it| Reverse(it.took));
        by_time.truncate(HOTTEST);
        by_time
    };
    hottest.truncate(HOTTEST);
    for HotEntity { id, handlers, took } in hottest.into_iter().chain(by_time) {
        let hot = entities.entry(id.clone()).or_insert_with(|| {
            let cell = region.look(&id).and_then(|looked| looked.cell);
            entity(region.name(), id, cell)
        });
        #[expect(
            clippy::cast_precision_loss,
            reason = "an estimate from one of many handlers"
        )]
        let [handled, each] = [handlers * SAMPLED, SAMPLED].map(|count| count as f64);
        hot.handled_per_second = Some(handled / seconds);
        hot.busy = Some(took.as_secs_f64() * each / seconds);
    }
    entities
}

#[cfg(not(feature = "metrics"))]
fn counts(_: &dyn AnyRegion) -> Option<TypeCounts> {
    None
}

#[cfg(feature = "metrics")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature there are none"
)]
fn counts(region: &dyn AnyRegion) -> Option<TypeCounts> {
    let meter: &TypeMeter = region.meter();
    let handled = meter.handled();
    let durations = meter.durations();
    let ranges = durations.ranges();
    let ranges = ranges.map(|(up_to, count)| DurationRange { up_to, count });
    Some(TypeCounts {
        handled: handled
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        activated: meter.tallied(Tally::Activated),
        passivated: meter.tallied(Tally::Passivated),
        failed: meter.tallied(Tally::Failed),
        restarted: meter.tallied(Tally::Restarted),
        refusing: meter.tallied(Tally::Refusing),
        unhandled: meter.tallied(Tally::Unhandled),
        full: meter.tallied(Tally::Full),
        durations: ranges.collect(),
    })
}
