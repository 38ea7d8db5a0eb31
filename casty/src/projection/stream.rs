//! The events of a type as a stream.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::{
    actor::{effect::EventSourced, runtime::Runtime},
    cluster::{
        peers::reads::{PastBody, SeenRecord},
        reading::nodes::Nodes,
    },
    error::StoredError,
    id::{EntityId, ShardId},
    message::codec::DecodeError,
    persistence::{Position, record_body::RecordBody},
    projection::{
        contract::Occurrence,
        follow::{Follow, NoRecord, heads},
        typed::read_events,
    },
};

/// Where a stream of events begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the first event.
    Start,
    /// With the first event after the ones that are durable now.
    Now,
    /// With the first event that another stream has not handed out.
    Cursor(Cursor),
}

/// How far a stream of events is: which events of each shard it has handed out. A program stores it
/// to go on later: [`EventStream::cursor`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    kind: String,
    shards: BTreeMap<u32, Handed>,
}

/// What was handed out of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Handed {
    /// All events of the records up to this position.
    position: u64,
    /// So many of the record after it.
    events: u32,
}

/// An event of a stream.
#[non_exhaustive]
pub struct StreamedEvent<E: EventSourced> {
    /// The entity.
    pub of: EntityId,
    /// The place of its record. The events of one command have one record.
    pub position: Position,
    /// When it was written, by the clock of the node that wrote it.
    pub at: SystemTime,
    /// The event as the present code has it.
    pub event: E::Event,
}

impl<E: EventSourced<Event: fmt::Debug>> fmt::Debug for StreamedEvent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamedEvent")
            .field("of", &self.of)
            .field("position", &self.position)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// Why a stream of events has no event to hand out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventStreamError {
    /// The record cannot be read. The stream goes on with the one after it.
    #[error("the record of `{of}` at {position}: {reason}")]
    Unreadable {
        /// The entity.
        of: EntityId,
        /// Its place.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// A shard has lost records. The stream goes on with the others.
    #[error("shard {shard} has lost records: {reason}")]
    Lost {
        /// The shard.
        shard: u32,
        /// What is missing.
        reason: String,
    },
    /// A shard does not answer for twenty seconds. The stream goes on asking for it.
    #[error("shard {shard} does not answer: {reason}")]
    Silent {
        /// The shard.
        shard: u32,
        /// The last failure.
        reason: String,
    },
}

/// The events of all entities of a type, and those that come: in order within a shard, from
/// whichever nodes own the shards, while these move and fail. See
/// [`ActorSystem::events_of`](crate::ActorSystem::events_of).
///
/// The stream has no end. It reads ahead a page of each node, and no more is read while the program
/// does not take the events.
#[must_use = "nothing is read before the first event is asked for"]
pub struct EventStream<E: EventSourced> {
    follow: Follow,
    runtime: Arc<Runtime>,
    cursor: Cursor,
    /// Of the record that is being handed out.
    ready: VecDeque<StreamedEvent<E>>,
    of: PhantomData<fn() -> E>,
}

impl<E: EventSourced> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

// What is pinned in it is pinned in a box.
impl<E: EventSourced> Unpin for EventStream<E> {}

/// What a stream is opened with.
pub(crate) struct Opening {
    pub(crate) nodes: Arc<dyn Nodes>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) kind: String,
    pub(crate) shards: u32,
}

/// Where to begin in each shard.
async fn begin(opening: &Opening, since: Since) -> Result<Cursor, StoredError> {
    let Opening {
        nodes,
        kind,
        shards,
        ..
    } = opening;
    let mut cursor = match since {
        Since::Start => Cursor {
            kind: kind.clone(),
            shards: BTreeMap::new(),
        },
        Since::Now => {
            let heads = heads(&**nodes, kind, *shards).await?;
            let handed = |(shard, position): (ShardId, u64)| {
                let handed = Handed {
                    position,
                    events: 0,
                };
                (shard.0, handed)
            };
            Cursor {
                kind: kind.clone(),
                shards: heads.into_iter().map(handed).collect(),
            }
        }
        Since::Cursor(cursor) if cursor.kind == *kind => cursor,
        Since::Cursor(cursor) => {
            let other = cursor.kind;
            let reason = format!("the cursor is of `{other}`, and the stream of `{kind}`");
            return Err(StoredError::Unusable { reason });
        }
    };
    for shard in 0..*shards {
        cursor.shards.entry(shard).or_default();
    }
    Ok(cursor)
}

impl<E: EventSourced> EventStream<E> {
    pub(crate) async fn open(opening: Opening, since: Since) -> Result<Self, StoredError> {
        let cursor = begin(&opening, since).await?;
        let Opening {
            nodes,
            runtime,
            kind,
            ..
        } = opening;
        let after = cursor.shards.iter();
        let after = after.map(|(shard, handed)| (ShardId(*shard), handed.position));
        Ok(Self {
            follow: Follow::new(nodes, kind, after),
            runtime,
            cursor,
            ready: VecDeque::new(),
            of: PhantomData,
        })
    }

    /// How far it is. A stream that begins with it hands out what this one has not.
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    /// The next event.
    ///
    /// # Errors
    /// [`EventStreamError`]. The stream can be asked on.
    ///
    /// # Cancel safety
    /// Safe: an event that was not returned comes with the next call.
    pub async fn next(&mut self) -> Option<Result<StreamedEvent<E>, EventStreamError>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamedEvent<E>, EventStreamError>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                let handed = self.cursor.shards.entry(event.position.shard).or_default();
                if self.ready.is_empty() {
                    *handed = Handed {
                        position: event.position.position,
                        events: 0,
                    };
                } else {
                    handed.events += 1;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            let Some((shard, record)) = std::task::ready!(self.follow.poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let error = match record {
                Ok(record) => self.take(shard, record),
                Err(NoRecord::Silent(reason)) => Err(EventStreamError::Silent {
                    shard: shard.0,
                    reason,
                }),
                Err(NoRecord::Astray(astray)) => Err(EventStreamError::Lost {
                    shard: shard.0,
                    reason: astray.to_string(),
                }),
            };
            if let Err(error) = error {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn take(&mut self, shard: ShardId, record: SeenRecord) -> Result<(), EventStreamError> {
        let position = Position {
            kind: self.cursor.kind.clone(),
            shard: shard.0,
            position: record.position,
        };
        let handed = self.cursor.shards.entry(shard.0).or_default();
        let taken = usize::try_from(handed.events).unwrap_or(usize::MAX);
        let passed = Handed {
            position: record.position,
            events: 0,
        };
        let Occurrence { of, position, at } = Occurrence::new(record.entity, position, record.at);
        let events = match record.body {
            // What the shard itself keeps has no entity, and what is forgotten has no events.
            _ if of.as_str().is_empty() => Ok(Vec::new()),
            PastBody::Whole(body) if body.is_empty() => Ok(Vec::new()),
            PastBody::Whole(body) => RecordBody::decode(&body)
                .map_err(|DecodeError(error)| error)
                .and_then(|body| read_events::<E::Event>(&self.runtime, &body)),
            PastBody::TooLarge(bytes) => Err(format!(
                "it has {bytes} bytes, which is more than a node sends"
            )),
        };
        let events = match events {
            Ok(events) => events.into_iter().skip(taken),
            Err(reason) => {
                *handed = passed;
                return Err(EventStreamError::Unreadable {
                    of,
                    position,
                    reason,
                });
            }
        };
        self.ready.extend(events.map(|event| StreamedEvent {
            of: of.clone(),
            position: position.clone(),
            at,
            event,
        }));
        if self.ready.is_empty() {
            *handed = passed;
        }
        Ok(())
    }
}

impl<E: EventSourced> Stream for EventStream<E> {
    type Item = Result<StreamedEvent<E>, EventStreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}
