//! What a node counts and measures: for Prometheus as text, and for others through the facade
//! `metrics`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    actor::{runtime::Runtime, tally::Tally},
    cluster::{limiter::Refusals, node::Node, region::AnyRegion},
    id::ShardId,
    infra::histogram::Durations,
    persistence::{commit_meter::AppendOutcome, store::Store},
    protocol::map::{ClusterMap, Status},
};

/// How often the facade is told.
const PUBLISHED_EVERY: Duration = Duration::from_secs(5);

/// A label and its value.
type Label = (&'static str, String);

/// A family of figures.
#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    figures: Vec<(Vec<Label>, Figure)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It only grows.
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Debug)]
enum Figure {
    Count(u64),
    Value(f64),
    Durations(Durations),
}

/// The figures of a system, while they are read one after another.
#[derive(Clone, Debug, Default)]
struct Figures(Vec<Family>);

impl Figures {
    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: Vec<Label>,
        figure: Figure,
    ) {
        let known = self.0.iter_mut().find(|family| family.name == name);
        if let Some(family) = known {
            family.figures.push((labels, figure));
            return;
        }
        self.0.push(Family {
            name,
            help,
            kind,
            figures: vec![(labels, figure)],
        });
    }

    fn count(&mut self, name: &'static str, help: &'static str, labels: Vec<Label>, count: u64) {
        self.add(name, help, Kind::Counter, labels, Figure::Count(count));
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: Vec<Label>, value: f64) {
        self.add(name, help, Kind::Gauge, labels, Figure::Value(value));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge need not be exact beyond 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}

fn size(count: usize) -> f64 {
    float(count as u64)
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// What is measured.
#[derive(Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) regions: &'a [Arc<dyn AnyRegion>],
    /// `None` in a system without a network.
    pub(super) node: Option<&'a Node>,
}

impl Measured<'_> {
    /// As text for Prometheus.
    pub(super) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.figures()));
        let mut text = String::new();
        // A text takes everything.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    fn figures(self) -> Figures {
        let mut figures = Figures::default();
        for region in self.regions {
            of_type(&mut figures, &**region);
        }
        figures.count(
            "casty_dead_letters",
            "Messages that could not be delivered, or whose handling failed while no sender waited.",
            Vec::new(),
            self.runtime.events.dead_letters(),
        );
        of_runtime(&mut figures, self.runtime);
        if let Some(store) = self.runtime.store() {
            of_store(&mut figures, store, self.regions);
        }
        if let Some(node) = self.node {
            of_node(&mut figures, node);
            let serving = truth(node.is_ready());
            let help = "Whether the node is a member, holds a lease and serves its entities.";
            figures.gauge("casty_ready", help, Vec::new(), serving);
            of_limits(&mut figures, &node.limiter.refused.read());
        }
        figures
    }

    /// Tells the facade.
    fn publish(self, told: &mut Told) {
        for family in self.figures().0 {
            for (labels, figure) in family.figures {
                let labels: Vec<metrics::Label> = labels
                    .into_iter()
                    .map(|(name, value)| metrics::Label::new(name, value))
                    .collect();
                match figure {
                    Figure::Count(count) => {
                        metrics::counter!(facade_name(family.name), labels).absolute(count);
                    }
                    Figure::Value(value) => metrics::gauge!(family.name, labels).set(value),
                    Figure::Durations(durations) => {
                        told.tell(family.name, labels, &durations);
                    }
                }
            }
        }
    }
}

/// Tells the facade, every now and then, for as long as there is the system.
pub(super) fn begin_publishing(
    runtime: &Arc<Runtime>,
    regions: &[Arc<dyn AnyRegion>],
    node: Option<&Arc<Node>>,
) {
    let regions: Vec<_> = regions.iter().map(Arc::downgrade).collect();
    let node = node.map(Arc::downgrade);
    let weak = Arc::downgrade(runtime);
    runtime.upkeep().spawn(async move {
        let mut told = Told::default();
        loop {
            // A rate, not a condition: exporters are scraped about as often.
            tokio::time::sleep(PUBLISHED_EVERY).await;
            let Some(runtime) = weak.upgrade().filter(|runtime| !runtime.is_stopped()) else {
                return;
            };
            let regions: Vec<_> = regions.iter().filter_map(Weak::upgrade).collect();
            let node = node.as_ref().and_then(Weak::upgrade);
            let measured = Measured {
                runtime: &runtime,
                regions: &regions,
                node: node.as_deref(),
            };
            measured.publish(&mut told);
        }
    });
}

/// How many durations of each range the facade has been told of, by the labels.
#[derive(Default)]
struct Told(HashMap<Vec<metrics::Label>, Vec<u64>>);

impl Told {
    /// Tells of those that are new, each as the end of its range.
    fn tell(&mut self, name: &'static str, labels: Vec<metrics::Label>, durations: &Durations) {
        let told = self.0.entry(labels.clone()).or_default();
        told.resize(durations.ranges().count(), 0);
        let mut last_end = 0.0;
        for ((end, count), told) in durations.ranges().zip(told) {
            if let Some(end) = end {
                last_end = end.as_secs_f64();
            }
            let new = count.saturating_sub(std::mem::replace(told, count));
            if let Ok(new @ 1..) = usize::try_from(new) {
                metrics::histogram!(name, labels.clone()).record_many(last_end, new);
            }
        }
    }
}

/// The facade's exporters do not change names; the text for Prometheus has the ending by itself.
fn facade_name(name: &str) -> String {
    format!("{name}_total")
}

fn of_type(figures: &mut Figures, region: &dyn AnyRegion) {
    let meter = region.meter();
    let entity = || ("entity", region.name().to_owned());
    for (message, count) in meter.handled() {
        figures.count(
            "casty_messages_handled",
            "Messages that were handled.",
            vec![entity(), ("message", message.to_owned())],
            count,
        );
    }
    for (what, name) in Tally::ALL {
        let (family, help) = match what {
            Tally::Unhandled | Tally::Full => (
                "casty_messages_refused",
                "Messages that the present state has no handler for, and those that found the mailbox full.",
            ),
            _ => (
                "casty_entities",
                "How often entities were activated and passivated, have failed, were restarted, and have begun to refuse messages for a while after failures.",
            ),
        };
        let label = match what {
            Tally::Unhandled | Tally::Full => "reason",
            _ => "event",
        };
        let labels = vec![entity(), (label, name.to_owned())];
        figures.count(family, help, labels, meter.tallied(what));
    }
    figures.add(
        "casty_handler_duration_seconds",
        "How long handlers took, waits included: one of 64 is measured.",
        Kind::Histogram,
        vec![entity()],
        Figure::Durations(meter.durations()),
    );
    figures.add(
        "casty_shard_move_duration_seconds",
        "How long the shards took that this node has given to others, from when their entities were to stop to when the next owner was decided.",
        Kind::Histogram,
        vec![entity()],
        Figure::Durations(meter.moves.read()),
    );
    figures.count(
        "casty_shard_move_bytes",
        "Bytes of states that went along with these shards.",
        vec![entity()],
        meter.moved_bytes.load(Ordering::Relaxed),
    );
    figures.gauge(
        "casty_entities_active",
        "Entities that are active on this node.",
        vec![entity()],
        float(region.active()),
    );
    let shards = (0..region.shards().get()).map(ShardId);
    let owned = shards.filter(|shard| region.owns(*shard)).count();
    figures.gauge(
        "casty_shards_owned",
        "Shards that this node owns.",
        vec![entity()],
        size(owned),
    );
}

/// Whether the process gets to run what it has to.
fn of_runtime(figures: &mut Figures, runtime: &Runtime) {
    let delays = [
        (
            "casty_task_delay_seconds",
            "How long a task waited for a worker of tokio: four times a second.",
            &runtime.pulse.tasks,
        ),
        (
            "casty_timer_delay_seconds",
            "How late a timer was on the thread of leases, gossip and deadlines: four times a second.",
            &runtime.pulse.timers,
        ),
    ];
    for (name, help, delays) in delays {
        let delays = Figure::Durations(delays.read());
        figures.add(name, help, Kind::Histogram, Vec::new(), delays);
    }
    for (kind, durations) in runtime.asks.read() {
        figures.add(
            "casty_ask_duration_seconds",
            "How long asks of this process waited for an answer, by the type of what was asked: one of 64 is measured.",
            Kind::Histogram,
            vec![("entity", kind.to_owned())],
            Figure::Durations(durations),
        );
    }
}

/// What is stored of entities: appends, sends and reminders that wait, projections.
fn of_store(figures: &mut Figures, store: &Store, regions: &[Arc<dyn AnyRegion>]) {
    let commits = store.commits();
    figures.add(
        "casty_journal_append_duration_seconds",
        "How long appends to the journal took, each with records of many entities.",
        Kind::Histogram,
        Vec::new(),
        Figure::Durations(commits.took.read()),
    );
    for (outcome, name) in AppendOutcome::ALL {
        figures.count(
            "casty_journal_appends",
            "Appends to the journal, by how they have ended.",
            vec![("outcome", name.to_owned())],
            commits.ended_as(outcome),
        );
    }
    figures.count(
        "casty_journal_records",
        "Records that were written.",
        Vec::new(),
        commits.records(),
    );
    for region in regions.iter().filter(|region| region.is_stored()) {
        let logs = region.logs_in_use().into_iter();
        let waiting = logs.map(|(_, log)| log.outbox().waiting());
        let (sends, reminders) = waiting.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        let entity = || vec![("entity", region.name().to_owned())];
        figures.gauge(
            "casty_sends_waiting",
            "What entities of this node have sent, and is not known to be taken.",
            entity(),
            size(sends),
        );
        figures.gauge(
            "casty_reminders_pending",
            "Reminders of entities of this node that are not due, or not handled.",
            entity(),
            size(reminders),
        );
    }
    for (projection, board) in store.boards.all() {
        let (behind, parked) = board.behind();
        let label = || {
            let version = projection.version.to_string();
            vec![
                ("projection", projection.name.clone()),
                ("version", version),
            ]
        };
        figures.gauge(
            "casty_projection_behind",
            "Records of this node's shards that a projection has not handled.",
            label(),
            float(behind),
        );
        figures.gauge(
            "casty_projection_parked",
            "Events that a projection has parked since it began with its shards here.",
            label(),
            float(parked),
        );
    }
}

fn of_links(figures: &mut Figures, node: &Node) {
    for (lane, [written, connections, ended]) in node.peers.lanes() {
        let label = || vec![("lane", lane.to_owned())];
        figures.count(
            "casty_link_written_bytes",
            "Bytes that were written to other nodes on connections of this node.",
            label(),
            written,
        );
        figures.count(
            "casty_link_connections",
            "Connections that this node has made.",
            label(),
            connections,
        );
        figures.count(
            "casty_link_connections_ended",
            "Connections of this node that have ended, or were replaced by others.",
            label(),
            ended,
        );
    }
}

fn of_node(figures: &mut Figures, node: &Node) {
    let map = node.map.get();
    if let Some(map) = map.as_deref() {
        of_map(figures, map);
    }
    of_links(figures, node);
    let membership = node.current_membership();
    let engine = membership.voter.engine();
    let leads = engine.is_some_and(|engine| engine.leads_in().is_some());
    figures.gauge(
        "casty_leader",
        "Whether this node leads the cluster map.",
        Vec::new(),
        truth(leads),
    );
    figures.gauge(
        "casty_lease_held",
        "Whether this node holds a lease, without which its entities do nothing.",
        Vec::new(),
        truth(membership.contact.tenure.may_act()),
    );
    figures.gauge(
        "casty_members_unreachable",
        "Members that gossip does not reach.",
        Vec::new(),
        size(membership.rumors.dead().len()),
    );
    figures.gauge(
        "casty_connections_accepted",
        "Connections from other processes, those in their handshake included.",
        Vec::new(),
        size(node.limiter.accepted()),
    );
    if let Some(until) = node.peers.certificate_until() {
        figures.gauge(
            "casty_certificate_expiry_timestamp_seconds",
            "When the certificate of this node ends, since the Unix epoch.",
            Vec::new(),
            until.as_secs_f64(),
        );
    }
}

fn of_map(figures: &mut Figures, map: &ClusterMap) {
    figures.gauge(
        "casty_shards_lacking_copies",
        "Stored shards of the cluster that have fewer copies in sync than they could have.",
        Vec::new(),
        size(map.lacking_copies()),
    );
    figures.gauge(
        "casty_map_version",
        "The version of the cluster map that this node knows.",
        Vec::new(),
        float(map.version),
    );
    for status in [Status::Joining, Status::Up, Status::Leaving, Status::Down] {
        let of_status = map.members.values().filter(|it| it.status == status);
        let name = format!("{status:?}").to_lowercase();
        figures.gauge(
            "casty_members",
            "Members of the cluster, as this node knows them.",
            vec![("status", name)],
            size(of_status.count()),
        );
    }
    for (kind, table) in &map.kinds {
        let moving = table.iter().filter(|home| home.moving.is_some());
        figures.gauge(
            "casty_shards_moving",
            "Shards of the cluster that move to another node now.",
            vec![("entity", kind.clone())],
            size(moving.count()),
        );
        let unowned = table.iter().filter(|home| home.owner.is_none());
        figures.gauge(
            "casty_shards_unowned",
            "Shards that no node owns. A shard gets its first owner when a message needs it.",
            vec![("entity", kind.clone())],
            size(unowned.count()),
        );
    }
}

fn of_limits(figures: &mut Figures, refusals: &Refusals) {
    for (reason, count) in refusals.named() {
        figures.count(
            "casty_refused",
            "What was refused of other processes, by the limits and rights that they are kept to.",
            vec![("reason", reason.to_owned())],
            count,
        );
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let help = family.help.trim_end_matches('.');
            let mut metric = encoder.encode_descriptor(family.name, help, None, kind)?;
            if let [(labels, figure)] = &*family.figures
                && labels.is_empty()
            {
                figure.encode(metric)?;
                continue;
            }
            for (labels, figure) in &family.figures {
                figure.encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl EncodeMetric for Figure {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => encoder.encode_counter::<[Label; 0], _, u64>(count, None),
            Self::Value(value) => encoder.encode_gauge(value),
            Self::Durations(durations) => {
                // The text has infinity for this number, and not for infinity.
                let end = |end: Option<Duration>| end.map_or(f64::MAX, |end| end.as_secs_f64());
                let ranges = durations.ranges();
                let ranges: Vec<_> = ranges.map(|it| (end(it.0), it.1)).collect();
                let (sum, count) = (durations.sum(), durations.count());
                encoder.encode_histogram::<[Label; 0]>(sum, count, &ranges, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Count(_) => MetricType::Counter,
            Self::Value(_) => MetricType::Gauge,
            Self::Durations(_) => MetricType::Histogram,
        }
    }
}
