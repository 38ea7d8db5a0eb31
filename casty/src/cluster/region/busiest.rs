//! The entities of one type on one node that have most to do.

use std::{collections::BTreeMap, sync::Arc};

use super::local::{EntityCell, address};
use crate::{
    actor::{
        cell::report::{CellReport, Glance},
        handle::CellName,
    },
    id::EntityId,
};

/// How many entities of each kind of business are kept.
const KEPT: usize = 16;

/// Finds the busiest among all cells: those with the longest queues, and those whose handlers run
/// longest. Each cell is looked at for a moment, and none is kept from its work.
pub(crate) struct Busiest {
    /// On the runtime's coarse clock.
    now: u32,
    by_queue: Longest,
    by_time: Longest,
}

/// The cells with the greatest of some value that have been seen, the greatest first.
#[derive(Default)]
struct Longest(Vec<(usize, Arc<dyn EntityCell>)>);

impl Longest {
    fn look(&mut self, value: usize, cell: &Arc<dyn EntityCell>) {
        let place = self.0.partition_point(|(other, _)| *other >= value);
        if place < KEPT {
            self.0.truncate(KEPT - 1);
            self.0.insert(place, (value, cell.clone()));
        }
    }
}

impl Busiest {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            by_queue: Longest::default(),
            by_time: Longest::default(),
        }
    }

    /// The next cells are looked at now, on the runtime's coarse clock.
    pub(crate) fn set_now(&mut self, now: u32) {
        self.now = now;
    }

    /// Called with the cell's shard locked.
    pub(super) fn look(&mut self, cell: &Arc<dyn EntityCell>) {
        let Glance {
            queued,
            handling_for,
            ..
        } = cell.glance(self.now);
        if queued > 0 {
            self.by_queue.look(queued, cell);
        }
        if let Some(millis) = handling_for {
            let millis = usize::try_from(millis).unwrap_or(usize::MAX);
            self.by_time.look(millis, cell);
        }
    }

    /// What they do, in the order of their ids.
    pub(crate) fn reports(self) -> Vec<(EntityId, CellReport)> {
        let both = [self.by_queue, self.by_time];
        let cells = both.into_iter().flat_map(|longest| longest.0);
        let cells = cells.map(|(_, cell)| (address(&*cell), cell));
        let reports = cells.collect::<BTreeMap<_, _>>().into_values();
        let reports = reports.filter_map(|cell| match cell.name() {
            CellName::Entity(id) => Some((id.clone(), cell.report())),
            CellName::Actor(_) => None,
        });
        let mut reports: Vec<_> = reports.collect();
        reports.sort_by(|a, b| a.0.cmp(&b.0));
        reports
    }
}
