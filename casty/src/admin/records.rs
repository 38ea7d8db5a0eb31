//! Entities and what is stored of them, for operators, whose programs do not know the types.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;

use super::{Admin, AdminError, PAUSE, ROUND};
use crate::{
    cluster::{
        peers::reads::{PastRecord, Read, ReadAnswer},
        reading::{
            ask::{InVain, ask_peer},
            nodes::Nodes,
            reader::{self, EntityReader, HistoryReader},
        },
    },
    error::StoredError,
    id::{EntityId, MemberId},
    infra::sync::lock,
    message::readable,
    protocol::map::ClusterMap,
    system::{Entities, OpenedRecord, Said, Unreadable},
    transport::link::Peer,
};

impl Admin {
    /// The entities of a type, in pages: those that are active on some node, and those that are
    /// stored. `kind` is the wire name of the type.
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn entities(&self, kind: impl Into<String>) -> Result<Entities<'_>, AdminError> {
        let nodes = Box::new(self.nodes().await?);
        let reader = EntityReader::new(kind.into(), None);
        Ok(Entities::new(
            nodes,
            self.peers.local().member.node.clone(),
            reader,
        ))
    }

    /// What is stored of an entity, record by record, in pages. `kind` is the wire name of its
    /// type.
    ///
    /// # Errors
    /// Those of [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn history(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<RecordPages<'_>, AdminError> {
        let nodes = self.nodes().await?;
        let reader = HistoryReader::new(kind.into(), EntityId::new(id));
        Ok(RecordPages::new(Box::new(nodes), reader))
    }

    /// Erases what is stored of an entity, as
    /// [`ActorSystem::erase`](crate::ActorSystem::erase) does: its activation ends, its records are
    /// forgotten, and it begins anew with its next message. `kind` is the wire name of its type.
    ///
    /// # Errors
    /// [`AdminError::NothingStored`], [`AdminError::Stored`], and those of
    /// [`members`](Self::members). To erase twice is to erase once.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entity may be erased all the same.
    pub async fn erase(
        &self,
        kind: impl Into<String>,
        id: impl AsRef<str>,
    ) -> Result<(), AdminError> {
        let (kind, id) = (kind.into(), EntityId::new(id));
        let nodes = self.nodes().await?;
        if reader::erase(&nodes, &kind, &id).await? {
            return Ok(());
        }
        let id = id.to_string();
        Err(AdminError::NothingStored { kind, id })
    }

    pub(super) async fn nodes(&self) -> Result<Outside<'_>, AdminError> {
        let map = self.look(self.timeout).await?.map().clone();
        Ok(Outside {
            admin: self,
            map: Mutex::new(Arc::new(map)),
        })
    }
}

/// The records of an entity, in pages. Memory is bounded by the size of a page.
#[must_use = "nothing is read before the first page is asked for"]
pub struct RecordPages<'a> {
    nodes: Box<dyn Nodes + 'a>,
    reader: HistoryReader,
}

impl fmt::Debug for RecordPages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordPages").finish_non_exhaustive()
    }
}

impl<'a> RecordPages<'a> {
    pub(crate) fn new(nodes: Box<dyn Nodes + 'a>, reader: HistoryReader) -> Self {
        Self { nodes, reader }
    }

    /// Only the records after the one with this number.
    pub fn after(mut self, seq: u64) -> Self {
        self.reader.after = seq;
        self
    }

    /// The next page, which is not empty. `None` after the last one, and for an entity of which
    /// nothing is stored.
    ///
    /// # Errors
    /// [`AdminError::Stored`]. The next call asks for the same page again.
    ///
    /// # Cancel safety
    /// Safe. The next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<RecordReport>>, AdminError> {
        let page = self.reader.next_page(&*self.nodes).await?;
        Ok(page.map(|page| page.into_iter().map(RecordReport::of).collect()))
    }
}

/// One record of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordReport {
    /// Its number among the records of the entity. The first is 1, and there are no gaps.
    pub seq: u64,
    /// Its place in the log of the entity's shard. The first is 1, and there are no gaps.
    pub position: u64,
    /// When it was written: milliseconds since the Unix epoch, by the clock of the node.
    pub at: u64,
    /// The key that the asker gave, by `Call::key`.
    pub key: Option<String>,
    /// The events of one command, in order, of an event-sourced type.
    pub events: Vec<EventReport>,
    /// The whole state after a message, of a durable type.
    pub state: Option<StateReport>,
    /// What a message has changed in the state, of a durable type: the changed fields by name, as
    /// JSON on one line. Empty if they cannot be read. What is gone is `null`.
    pub changed: Option<String>,
    /// Whether it was forgotten: the entity was erased, or its type does not retain its records.
    pub forgotten: bool,
    /// Whether the entity was erased by it, and began anew after it.
    pub erases: bool,
    /// Why it cannot be read, or a part of it. `None`: it can.
    pub unreadable: Option<String>,
}

/// An event, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Its arguments by name, as JSON on one line. Empty if they cannot be read.
    pub arguments: String,
}

/// A state, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StateReport {
    /// The name of the state, if the type is a state machine; else it is empty.
    pub name: String,
    /// Its fields by name, as JSON on one line. Empty if they cannot be read.
    pub fields: String,
}

impl RecordReport {
    fn of(record: PastRecord) -> Self {
        let OpenedRecord { said, key, erases } = OpenedRecord::of(record.body);
        let mut report = Self {
            seq: record.seq,
            position: record.position,
            at: record.at,
            key,
            events: Vec::new(),
            state: None,
            changed: None,
            forgotten: false,
            erases,
            unreadable: None,
        };
        match said {
            Said::Events(events) => {
                for event in events {
                    let arguments = report.readable(readable::json(&event.bytes));
                    report.events.push(EventReport {
                        name: event.name,
                        version: event.version,
                        arguments,
                    });
                }
            }
            Said::State(state) => {
                let fields = report.readable(readable::state_json(&state.bytes));
                report.state = Some(StateReport {
                    name: state.name,
                    fields,
                });
            }
            Said::Fields(fields) => {
                report.changed = Some(report.readable(readable::json(&fields.to_map())));
            }
            Said::Forgotten => report.forgotten = true,
            Said::Unreadable(Unreadable { reason }) => report.unreadable = Some(reason),
        }
        report
    }

    fn readable(&mut self, json: Result<String, impl Into<Unreadable>>) -> String {
        json.unwrap_or_else(|why| {
            let Unreadable { reason } = why.into();
            self.unreadable = Some(reason);
            String::new()
        })
    }
}

/// The nodes, for a process outside of the cluster.
pub(super) struct Outside<'a> {
    admin: &'a Admin,
    /// As of the last look.
    map: Mutex<Arc<ClusterMap>>,
}

impl Nodes for Outside<'_> {
    fn map(&self) -> Result<Option<Arc<ClusterMap>>, StoredError> {
        Ok(Some(lock(&self.map).clone()))
    }

    fn me(&self) -> Option<MemberId> {
        None
    }

    fn ask(&self, asked: Option<Peer>, read: Read) -> BoxFuture<'_, Result<ReadAnswer, InVain>> {
        Box::pin(async move {
            let Some(peer) = asked else {
                return Err(InVain::Silent("it is no member any more".to_owned()));
            };
            ask_peer(&self.admin.peers, &peer, read).await
        })
    }

    fn later(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let until = Instant::now() + PAUSE;
            let round = ROUND.min(self.admin.timeout).max(Duration::from_millis(1));
            // Without an answer the map stays as it was, and the reader gives up in time.
            if let Ok(view) = self.admin.look(round).await {
                *lock(&self.map) = Arc::new(view.map().clone());
            }
            tokio::time::sleep_until(until).await;
        })
    }
}
