//! The reminders of stored entities that are pending.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::{Admin, AdminError, SilentNode};
use crate::{
    cluster::{peers::reads::PendingReminder, reading::reader},
    id::{EntityId, NodeId},
    infra::wall_clock::whole_millis,
};

impl Admin {
    /// The reminders that are pending on all nodes that serve, of one type or of all: those of
    /// which a try has failed, then those that are due first, at most `limit` and 512 of each node.
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn reminders(
        &self,
        kind: Option<&str>,
        limit: usize,
    ) -> Result<RemindersReport, AdminError> {
        let nodes = self.nodes().await?;
        let mut report = RemindersReport::default();
        let kind = kind.map(str::to_owned);
        for (member, page) in reader::reminders(&nodes, kind, limit).await? {
            match page {
                Ok(page) => {
                    report.pending += page.pending;
                    let node = member.node;
                    let reminders = page.reminders.into_iter();
                    let reminders = reminders.map(|it| ReminderReport::of(node.clone(), it));
                    report.reminders.extend(reminders);
                }
                Err(reason) => report.silent.push(SilentNode { member, reason }),
            }
        }
        report
            .reminders
            .sort_by_key(|it| (it.failures == 0, it.due));
        report.reminders.truncate(limit);
        Ok(report)
    }
}

/// The reminders of stored entities that are pending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemindersReport {
    /// How many are pending in all.
    pub pending: u64,
    /// Some of them: those of which a try has failed, then those that are due first.
    pub reminders: Vec<ReminderReport>,
    /// The nodes that did not say.
    pub silent: Vec<SilentNode>,
}

/// A reminder that is pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReminderReport {
    /// The wire name of the entity's type.
    pub kind: String,
    /// The id of the entity.
    pub entity: EntityId,
    /// The number of its shard.
    pub shard: u32,
    /// The node that owns that shard.
    pub node: NodeId,
    /// The name of the reminder.
    pub name: String,
    /// The name of its message.
    pub message: String,
    /// When it is due, or was when it should have been handled. In JSON: milliseconds since the
    /// Unix epoch.
    #[serde(serialize_with = "in_millis")]
    pub due: SystemTime,
    /// How often it is due, if not once: `every 60s`, or `0 9 * * * (Europe/Lisbon)`.
    pub repeats: Option<String>,
    /// How many tries have failed since it is due.
    pub failures: u32,
    /// Why the last try failed.
    pub reason: Option<String>,
}

fn in_millis<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    to.serialize_u64(whole_millis(millis))
}

impl ReminderReport {
    fn of(node: NodeId, pending: PendingReminder) -> Self {
        let PendingReminder {
            kind,
            shard,
            entity,
            name,
            message,
            due,
            repeats,
            failures,
            reason,
        } = pending;
        Self {
            kind,
            entity,
            shard: shard.0,
            node,
            name,
            message,
            // Beyond what the clock of this system can show.
            due: UNIX_EPOCH
                .checked_add(Duration::from_millis(due))
                .unwrap_or(UNIX_EPOCH),
            repeats,
            failures,
            reason,
        }
    }
}
