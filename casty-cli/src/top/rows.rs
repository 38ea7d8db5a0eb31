//! What two looks at a cluster have shown, as rows of tables.

use std::{cmp::Reverse, time::Duration};

use casty::admin::{BusyEntity, NodeOverview, Overview, Severity, TypeCounts, TypeSummary};

use crate::stored;

pub(super) const NODE: [&str; 9] = [
    "NODE", "SERVES", "LEADS", "UP", "SHARDS", "ENTITIES", "MSG/S", "CONNS", "DEAD",
];

pub(super) const TYPE: [&str; 9] = [
    "TYPE",
    "ENTITIES",
    "SHARDS",
    "MSG/S",
    "P50",
    "P99",
    "FAILED",
    "FULL",
    "UNHANDLED",
];

pub(super) const ENTITY: [&str; 8] = [
    "ENTITY",
    "NODE",
    "QUEUE",
    "HANDLES",
    "FOR",
    "MSG/S",
    "BUSY",
    "WAITS FOR",
];

/// What entities are sorted by, the greatest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sorting {
    #[default]
    Queue,
    Time,
    Rate,
    Busy,
}

impl Sorting {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Queue => Self::Time,
            Self::Time => Self::Rate,
            Self::Rate => Self::Busy,
            Self::Busy => Self::Queue,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Time => "time of the handler",
            Self::Rate => "messages a second",
            Self::Busy => "share of the time",
        }
    }

    /// In thousandths, so that it can be sorted by.
    fn value(self, entity: &BusyEntity) -> u128 {
        let thousandths = |value: Option<f64>| {
            let value = Duration::try_from_secs_f64(value.unwrap_or_default());
            value.unwrap_or_default().as_millis()
        };
        match self {
            Self::Queue => u128::from(entity.queued),
            Self::Time => entity.handling.as_ref().map_or(0, |it| it.1.as_millis()),
            Self::Rate => thousandths(entity.handled_per_second),
            Self::Busy => thousandths(entity.busy),
        }
    }
}

/// The rows of the tables.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) nodes: Vec<[String; NODE.len()]>,
    pub(super) types: Vec<[String; TYPE.len()]>,
    pub(super) entities: Vec<[String; ENTITY.len()]>,
}

impl Rows {
    /// `before`: an earlier look, for what happens in a time.
    pub(super) fn new(now: &Overview, before: Option<&Overview>, sorting: Sorting) -> Self {
        Self {
            nodes: now.nodes.iter().map(|node| of_node(node, before)).collect(),
            types: now.types(before).iter().map(of_type).collect(),
            entities: entities(now, sorting),
        }
    }
}

fn of_node(node: &NodeOverview, before: Option<&Overview>) -> [String; NODE.len()] {
    [
        node.node.to_string(),
        yes(node.serves),
        yes(node.leads),
        time(Some(Duration::from_secs(node.uptime.as_secs()))),
        node.types
            .iter()
            .map(|it| it.shards)
            .sum::<u32>()
            .to_string(),
        node.types
            .iter()
            .map(|it| it.active)
            .sum::<u64>()
            .to_string(),
        rate(before.and_then(|before| node.handled_per_second(before))),
        node.connections.to_string(),
        node.dead_letters.to_string(),
    ]
}

fn of_type(summary: &TypeSummary) -> [String; TYPE.len()] {
    let count = |count: fn(&TypeCounts) -> u64| {
        let counts = summary.counts.as_ref();
        counts.map_or_else(String::new, |counts| count(counts).to_string())
    };
    [
        stored::shown(&summary.kind),
        summary.active.to_string(),
        summary.shards.to_string(),
        rate(summary.handled_per_second),
        time(summary.half_within),
        time(summary.most_within),
        count(|counts| counts.failed),
        count(|counts| counts.full),
        count(|counts| counts.unhandled),
    ]
}

fn entities(now: &Overview, sorting: Sorting) -> Vec<[String; ENTITY.len()]> {
    let nodes = now.nodes.iter();
    let mut entities: Vec<_> = nodes
        .flat_map(|node| node.entities.iter().map(move |entity| (node, entity)))
        .collect();
    // By the other values where this one is the same, and at the end by name.
    entities.sort_by_key(|(_, entity)| {
        let values = [
            sorting,
            Sorting::Queue,
            Sorting::Time,
            Sorting::Busy,
            Sorting::Rate,
        ];
        let values = values.map(|sorting| Reverse(sorting.value(entity)));
        (values, &entity.kind, &entity.id)
    });
    let row = |(node, entity): (&NodeOverview, &BusyEntity)| {
        let (handles, since) = entity.handling.clone().unzip();
        let waits_for = entity.waits_for.first();
        [
            stored::shown(&format!("{}/{}", entity.kind, entity.id)),
            node.node.to_string(),
            entity.queued.to_string(),
            stored::shown(&handles.unwrap_or_default()),
            time(since),
            rate(entity.handled_per_second),
            entity.busy.map_or_else(String::new, |busy| {
                format!("{:.0} %", busy.min(1.0) * 100.0)
            }),
            waits_for.map_or_else(String::new, |(kind, id)| {
                stored::shown(&format!("{kind}/{id}"))
            }),
        ]
    };
    entities.into_iter().map(row).collect()
}

/// A severity, as it stands before its finding.
pub(super) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Alarm => "alarm",
        Severity::Warning => "warning",
        _ => "hint",
    }
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// A rate with about three digits.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => String::new(),
        Some(rate) if rate >= 999_950.0 => format!("{:.1}M", rate / 1e6),
        Some(rate) if rate >= 9_995.0 => format!("{:.1}k", rate / 1e3),
        Some(rate) if rate >= 10.0 || rate == 0.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

/// A time with one unit or two.
fn time(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return String::new();
    };
    let (micros, seconds) = (time.as_micros(), time.as_secs());
    match seconds {
        0 if micros < 1_000 => format!("{micros} µs"),
        0 if micros < 10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (12.4, "12"),
            (9_994.0, "9994"),
            (12_345.0, "12.3k"),
            (1_234_567.0, "1.2M"),
        ] {
            assert_eq!(rate(Some(value)), shown);
        }
        assert_eq!(rate(None), "");
        for (micros, shown) in [
            (3, "3 µs"),
            (4_096, "4.0 ms"),
            (65_536, "65 ms"),
            (4_876_543, "4.8 s"),
            (61_000_000, "1m 1s"),
            (7_260_000_000, "2h 1m"),
            (100_000_000_000, "1d 3h"),
        ] {
            assert_eq!(time(Some(Duration::from_micros(micros))), shown);
        }
        assert_eq!(time(None), "");
    }

    #[test]
    fn sortings_take_turns() {
        let mut sorting = Sorting::default();
        let turns = std::iter::repeat_with(|| {
            sorting = sorting.next();
            sorting
        });
        let turns: Vec<_> = turns.take(4).collect();
        assert_eq!(turns.last(), Some(&Sorting::Queue));
        assert!(turns[..3].iter().all(|it| *it != Sorting::Queue));
    }
}
