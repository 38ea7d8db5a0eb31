//! What a node counts and sees, as it tells others.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    actor::cell::report::Activity,
    id::{EntityId, NodeId},
};

/// What one node counts and sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeOverview {
    /// Its name.
    pub node: NodeId,
    /// Since its system was started. All counts are since then.
    pub uptime: Duration,
    /// Whether it serves: see [`ActorSystem::is_ready`](crate::ActorSystem::is_ready).
    pub serves: bool,
    /// Whether it leads the cluster map. A system without a network does.
    pub leads: bool,
    /// The version of the cluster map that it knows.
    pub map_version: Option<u64>,
    /// How many stored shards have fewer copies in sync than they could have, by the cluster map
    /// that it knows.
    pub lacking_copies: u64,
    /// The members that its gossip does not reach.
    pub unreachable: Vec<NodeId>,
    /// How many connections of other processes it has.
    pub connections: u64,
    /// How many messages became dead letters.
    pub dead_letters: u64,
    /// When its certificate ends, in seconds since the Unix epoch. `None`: it has none.
    pub certificate_until: Option<u64>,
    /// The entity types that it hosts.
    pub types: Vec<TypeOverview>,
    /// The entities that have most to do: of each type, those with the longest queues, those whose
    /// handlers run longest, and, where the node counts
    /// ([feature](crate#features) `metrics`), those that have handled most in the last seconds.
    pub entities: Vec<BusyEntity>,
}

/// What a node counts of one entity type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TypeOverview {
    /// Its wire name.
    pub kind: String,
    /// How many of its entities are active there.
    pub active: u64,
    /// How many of its shards the node owns.
    pub shards: u32,
    /// `None`: the node was built without the [feature](crate#features) `metrics`.
    pub counts: Option<TypeCounts>,
}

/// What has happened to the entities of one type on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TypeCounts {
    /// How many messages were handled, by name.
    pub handled: Vec<(String, u64)>,
    /// How often entities were activated.
    pub activated: u64,
    /// How often entities were passivated.
    pub passivated: u64,
    /// How often entities have failed.
    pub failed: u64,
    /// How often entities were restarted after a failure.
    pub restarted: u64,
    /// How often entities have begun to refuse messages for a while, after failures.
    pub refusing: u64,
    /// How many messages the present state of their entity had no handler for.
    pub unhandled: u64,
    /// How many messages found the mailbox full.
    pub full: u64,
    /// How long handlers took, waits included: one of 64 is measured.
    pub durations: Vec<DurationRange>,
}

/// How many durations fell into one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DurationRange {
    /// The longest of the range. `None`: there is no longest.
    pub up_to: Option<Duration>,
    /// How many were measured.
    pub count: u64,
}

impl TypeCounts {
    /// How many messages were handled.
    pub fn handled_in_all(&self) -> u64 {
        self.handled.iter().map(|(_, count)| count).sum()
    }

    /// What has happened since `before`, which is of the same process.
    pub(crate) fn since(&self, before: &Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        *self = self.with(other, u64::saturating_add);
    }

    /// Each count put together with its like, which is 0 where `other` has none.
    fn with(&self, other: &Self, put: fn(u64, u64) -> u64) -> Self {
        let names = self.handled.iter().chain(&other.handled);
        let names: BTreeSet<&String> = names.map(|(name, _)| name).collect();
        let of = |counts: &Self, name: &String| {
            let mut handled = counts.handled.iter();
            handled.find(|it| it.0 == *name).map_or(0, |it| it.1)
        };
        let handled = names.into_iter().map(|name| {
            let count = put(of(self, name), of(other, name));
            (name.clone(), count)
        });
        let ranges = self.durations.len().max(other.durations.len());
        let ranges = (0..ranges).filter_map(|at| {
            let (mine, others) = (self.durations.get(at), other.durations.get(at));
            let count = |range: Option<&DurationRange>| range.map_or(0, |range| range.count);
            Some(DurationRange {
                up_to: mine.or(others)?.up_to,
                count: put(count(mine), count(others)),
            })
        });
        Self {
            handled: handled.collect(),
            activated: put(self.activated, other.activated),
            passivated: put(self.passivated, other.passivated),
            failed: put(self.failed, other.failed),
            restarted: put(self.restarted, other.restarted),
            refusing: put(self.refusing, other.refusing),
            unhandled: put(self.unhandled, other.unhandled),
            full: put(self.full, other.full),
            durations: ranges.collect(),
        }
    }

    /// The duration that so many of a hundred handlers did not exceed: the end of its range, each
    /// of which is four times as long as the one before. `None` if none was measured, or if it is
    /// longer than the longest range.
    pub fn within(&self, percent: f64) -> Option<Duration> {
        let all: u64 = self.durations.iter().map(|range| range.count).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share need not be exact beyond 2^53"
        )]
        let least = all as f64 * percent / 100.0;
        let mut sum = 0;
        let found = self.durations.iter().find(|range| {
            sum += range.count;
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let reached = sum as f64 >= least;
            range.count > 0 && reached
        });
        found?.up_to
    }
}

/// An entity that has much to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BusyEntity {
    /// The wire name of its type.
    pub kind: String,
    /// Its id.
    pub id: EntityId,
    /// What it does. `None`: it is not active any more.
    pub activity: Option<Activity>,
    /// The state of a state machine.
    pub state: Option<String>,
    /// How many messages wait.
    pub queued: u64,
    /// The message whose handler runs, and for how long, to a few milliseconds.
    pub handling: Option<(String, Duration)>,
    /// Whether that handler awaits something. Else it keeps a thread for itself.
    pub awaits: bool,
    /// The actors that the handler has asked, and that have not answered: their types and ids.
    pub waits_for: Vec<(String, String)>,
    /// How many messages it has handled a second, lately, about. `None`: it has not handled enough
    /// to tell, or the node does not count.
    pub handled_per_second: Option<f64>,
    /// The share of the time, lately, for which its handlers ran, waits included: 1 is all of it.
    pub busy: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(counts: [u64; 3]) -> Vec<DurationRange> {
        let ends = [Some(1), Some(4), None];
        let range = |(end, count): (Option<u64>, u64)| DurationRange {
            up_to: end.map(Duration::from_millis),
            count,
        };
        ends.into_iter().zip(counts).map(range).collect()
    }

    #[test]
    fn counts_of_a_time_and_of_several_nodes() {
        let counts = |adds, gets, ranges| TypeCounts {
            handled: vec![("add".to_owned(), adds), ("get".to_owned(), gets)],
            failed: adds / 10,
            durations: durations(ranges),
            ..TypeCounts::default()
        };
        let (before, now) = (counts(10, 5, [5, 0, 0]), counts(110, 5, [5, 90, 10]));
        let mut since = now.since(&before);
        assert_eq!(since, counts(100, 0, [0, 90, 10]));
        assert_eq!(since.handled_in_all(), 100);
        since.add(&before);
        assert_eq!(since, now);
        let mut none = TypeCounts::default();
        none.add(&now);
        assert_eq!(none, now);
    }

    #[test]
    fn a_share_of_the_durations() {
        let counts = |ranges| TypeCounts {
            durations: durations(ranges),
            ..TypeCounts::default()
        };
        let within = |ranges, percent| counts(ranges).within(percent);
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(within([0, 0, 0], 50.0), None);
        assert_eq!(within([50, 50, 0], 50.0), millis(1));
        assert_eq!(within([50, 50, 0], 51.0), millis(4));
        assert_eq!(within([0, 1, 0], 0.0), millis(4));
        assert_eq!(within([1, 1, 8], 99.0), None);
    }
}
