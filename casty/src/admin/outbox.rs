//! What stored entities have sent to others, and is not known to be taken.

use serde::Serialize;

use super::{Admin, AdminError};
use crate::{
    cluster::{peers::reads::WaitingReceiver, reading::reader},
    id::{EntityId, MemberId, NodeId},
};

impl Admin {
    /// What stored entities have sent to others, and is not known to be taken, of all nodes that
    /// serve.
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn outbox(&self) -> Result<OutboxReport, AdminError> {
        let nodes = self.nodes().await?;
        let mut report = OutboxReport::default();
        for (member, page) in reader::outboxes(&nodes).await? {
            match page {
                Ok(page) => {
                    report.sends += page.sends;
                    let node = member.node;
                    let receivers = page.receivers.into_iter();
                    let receivers = receivers.map(|it| ReceiverReport::of(node.clone(), it));
                    report.receivers.extend(receivers);
                }
                Err(reason) => report.silent.push(SilentNode { member, reason }),
            }
        }
        report
            .receivers
            .sort_by_key(|it| std::cmp::Reverse((it.failures > 0, it.sends)));
        Ok(report)
    }
}

/// What stored entities have sent to others, and is not known to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutboxReport {
    /// How many sends wait in all.
    pub sends: u64,
    /// For which receivers, those of which a try has failed first: at most 512 of each node.
    pub receivers: Vec<ReceiverReport>,
    /// The nodes that did not say.
    pub silent: Vec<SilentNode>,
}

/// A receiver that has not taken what the entities of one shard have sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReceiverReport {
    /// The wire name of the senders' type.
    pub kind: String,
    /// The number of the senders' shard.
    pub shard: u32,
    /// The node that owns that shard.
    pub node: NodeId,
    /// The wire name of the receiver's type.
    pub to_kind: String,
    /// The id of the receiver.
    pub to: EntityId,
    /// How many sends wait.
    pub sends: u64,
    /// How many tries have failed since the receiver has taken one.
    pub failures: u32,
    /// Why the last try failed.
    pub reason: Option<String>,
}

/// A node that did not say what waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SilentNode {
    /// The member.
    pub member: MemberId,
    /// The reason.
    pub reason: String,
}

impl ReceiverReport {
    fn of(node: NodeId, waiting: WaitingReceiver) -> Self {
        let WaitingReceiver {
            kind,
            shard,
            to: (to_kind, to),
            sends,
            failures,
            reason,
        } = waiting;
        Self {
            kind,
            shard: shard.0,
            node,
            to_kind,
            to,
            sends,
            failures,
            reason,
        }
    }
}
