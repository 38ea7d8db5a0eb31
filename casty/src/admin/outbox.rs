//! What stored entities have sent to others, and is not known to be taken.

use serde::Serialize;

use super::{Admin, AdminError, SilentNode};
use crate::{
    cluster::{
        peers::reads::{Read, WaitingReceiver},
        reading::reader,
    },
    id::{EntityId, NodeId},
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

impl Admin {
    /// Gives up what stored entities have sent to this one and has failed: of each shard of
    /// senders, the first message that waits. The receiver takes it without handling it, and what
    /// was sent after it goes on. It becomes a dead letter on the receiver's node, and a sender
    /// that wants the outcome is told that there is none.
    ///
    /// This is for a message whose handler fails each time, until code that handles it runs. It is
    /// answered once the owners of the senders know; [`outbox`](Self::outbox) shows when it is
    /// taken. An owner that is replaced before does not know it any more.
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, messages may be given up all the same.
    pub async fn give_up_sends(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<GivenUpReport, AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        self.give_up(Read::GiveUpSends { kind, id }).await
    }

    /// Gives up what a reminder of an entity is due for, and has failed: the entity moves it on, to
    /// the next time that it is due if there is one, without handling it. Otherwise as
    /// [`give_up_sends`](Self::give_up_sends).
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, it may be given up all the same.
    pub async fn give_up_reminder(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
        name: impl Into<String>,
    ) -> Result<GivenUpReport, AdminError> {
        let (kind, id, name) = (kind.into(), EntityId::new(id), name.into());
        self.give_up(Read::GiveUpReminder { kind, id, name }).await
    }

    async fn give_up(&self, read: Read) -> Result<GivenUpReport, AdminError> {
        let nodes = self.nodes().await?;
        let mut report = GivenUpReport::default();
        for (member, messages) in reader::given_up(&nodes, read).await? {
            match messages {
                Ok(messages) => {
                    let node = member.node;
                    let messages = messages.into_iter().map(|it| GivenUp {
                        kind: it.from.0,
                        from: it.from.1,
                        node: node.clone(),
                        message: it.message,
                    });
                    report.messages.extend(messages);
                }
                Err(reason) => report.silent.push(SilentNode { member, reason }),
            }
        }
        Ok(report)
    }
}

/// What an operator has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GivenUpReport {
    /// The messages.
    pub messages: Vec<GivenUp>,
    /// The nodes that did not say.
    pub silent: Vec<SilentNode>,
}

/// A message that an operator has given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GivenUp {
    /// The wire name of the sender's type.
    pub kind: String,
    /// The sender. Of a reminder: the entity that has set it.
    pub from: EntityId,
    /// The node that owns the sender's shard.
    pub node: NodeId,
    /// The name of the message.
    pub message: String,
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
