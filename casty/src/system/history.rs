//! The records of an entity.

use std::{fmt, marker::PhantomData, sync::Arc};

use crate::{
    actor::{
        effect::{EventSourced, Events},
        runtime::Runtime,
    },
    cluster::{
        peers::reads::{PastBody, PastRecord},
        reading::{answer::LIMIT_MAX, nodes::Nodes, reader::HistoryReader},
    },
    error::StoredError,
    infra::panic,
    message::{changed::ChangedFields, codec::DecodeError, readable},
    persistence::record_body::{RecordBody, WrittenEvent, WrittenState},
};

/// What is stored of one entity, record by record, in the order in which it was written, in pages.
/// Memory is bounded by the size of a page.
///
/// An event-sourced entity has a record for each command that has persisted events; a durable one
/// has a record for each message that has changed its state.
///
/// ```standalone_crate
/// use casty::{history::Recorded, persistence::Memory, prelude::*};
///
/// #[message]
/// #[derive(Default)]
/// struct Account {
///     cents: u64,
/// }
///
/// #[entity(event_sourced, name = "docs/account-with-history")]
/// impl Account {
///     #[message]
///     fn deposit(&self, cents: u64) -> Effect<Self, u64> {
///         Effect::persist(AccountEvent::Deposited { cents }).reply(|account| account.cents)
///     }
///
///     #[event]
///     fn deposited(&mut self, cents: u64) {
///         self.cents += cents;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bank = ActorSystem::builder("bank").journal(Memory::new()).start_local()?;
/// let alice = bank.entity::<Account>("alice");
/// alice.deposit(5).await?;
/// alice.deposit(7).await?;
///
/// let mut history = bank.history::<Account>("alice");
/// while let Some(page) = history.next_page().await? {
///     for record in page {
///         if let Recorded::Events(events) = record.recorded {
///             let event = &events[0];
///             assert_eq!((event.name(), event.version()), ("deposited", 1));
///             assert!(matches!(event.decode()?[..], [AccountEvent::Deposited { .. }]));
///             println!("{}: {} {}", record.seq, event.name(), event.arguments()?);
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is read before the first page is asked for"]
pub struct History<E> {
    nodes: Box<dyn Nodes>,
    runtime: Arc<Runtime>,
    reader: HistoryReader,
    of: PhantomData<fn() -> E>,
}

impl<E> fmt::Debug for History<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").finish_non_exhaustive()
    }
}

impl<E> History<E> {
    pub(super) fn new(nodes: Box<dyn Nodes>, runtime: Arc<Runtime>, reader: HistoryReader) -> Self {
        Self {
            nodes,
            runtime,
            reader,
            of: PhantomData,
        }
    }

    /// Only the records after the one with this number.
    pub fn after(mut self, seq: u64) -> Self {
        self.reader.after = seq;
        self
    }

    /// How many records a page has at most: from 1 to 512, which is the default. A page may have
    /// fewer, also if it is not the last one.
    pub fn page_size(mut self, records: usize) -> Self {
        self.reader.limit = records.clamp(1, LIMIT_MAX);
        self
    }

    /// The next page, which is not empty. `None` after the last one, and for an entity of which
    /// nothing is stored.
    ///
    /// A record that cannot be read is [`Recorded::Unreadable`], and the ones after it follow.
    ///
    /// # Errors
    /// [`StoredError`]. The next call asks for the same page again.
    ///
    /// # Cancel safety
    /// Safe. The next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<HistoryEntry<E>>>, StoredError> {
        let page = self.reader.next_page(&*self.nodes).await?;
        let entry = |record: PastRecord| {
            let OpenedRecord { said, key, erases } = OpenedRecord::of(record.body);
            let recorded = match said {
                Said::Events(events) => {
                    Recorded::Events(events.into_iter().map(|it| self.event(it)).collect())
                }
                Said::State(written) => Recorded::State(RecordedState { written }),
                Said::Fields(written) => Recorded::Changed(RecordedChanges { written }),
                Said::Forgotten => Recorded::Forgotten,
                Said::Unreadable(why) => Recorded::Unreadable(why),
            };
            HistoryEntry {
                seq: record.seq,
                position: record.position,
                at: record.at,
                key,
                erases,
                recorded,
            }
        };
        Ok(page.map(|page| page.into_iter().map(entry).collect()))
    }

    fn event(&self, written: WrittenEvent) -> RecordedEvent<E> {
        RecordedEvent {
            written,
            runtime: self.runtime.clone(),
            of: PhantomData,
        }
    }
}

/// A record, read as far as that needs no type.
pub(crate) struct OpenedRecord {
    pub(crate) said: Said,
    pub(crate) key: Option<String>,
    pub(crate) erases: bool,
}

/// What a record says.
pub(crate) enum Said {
    Events(Vec<WrittenEvent>),
    State(WrittenState),
    Fields(ChangedFields),
    Forgotten,
    Unreadable(Unreadable),
}

impl From<Said> for OpenedRecord {
    fn from(said: Said) -> Self {
        Self {
            said,
            key: None,
            erases: false,
        }
    }
}

impl OpenedRecord {
    pub(crate) fn of(body: PastBody) -> Self {
        let body = match body {
            PastBody::Whole(body) if body.is_empty() => return Said::Forgotten.into(),
            PastBody::Whole(body) => body,
            PastBody::TooLarge(bytes) => {
                let reason = format!("it has {bytes} bytes, which is more than a node sends");
                return Said::Unreadable(Unreadable { reason }).into();
            }
        };
        let body = match RecordBody::decode(&body) {
            Ok(body) => body,
            Err(error) => return Said::Unreadable(error.into()).into(),
        };
        Self {
            said: match (body.state, body.fields) {
                (Some(state), _) => Said::State(state),
                (None, Some(fields)) => Said::Fields(fields),
                (None, None) => Said::Events(body.events),
            },
            key: body.key.map(|keyed| keyed.key),
            erases: body.erases,
        }
    }
}

/// One record of an entity.
#[non_exhaustive]
pub struct HistoryEntry<E> {
    /// Its number among the records of the entity. The first is 1, and there are no gaps.
    pub seq: u64,
    /// Its place in the log of the entity's shard. The first is 1, and there are no gaps.
    pub position: u64,
    /// When it was written: milliseconds since the Unix epoch, by the clock of the node.
    pub at: u64,
    /// The key that the asker gave, by `Call::key`.
    pub key: Option<String>,
    /// Whether the entity was erased by it, and began anew after it.
    pub erases: bool,
    /// What it says.
    pub recorded: Recorded<E>,
}

impl<E> fmt::Debug for HistoryEntry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryEntry")
            .field("seq", &self.seq)
            .field("position", &self.position)
            .field("at", &self.at)
            .field("key", &self.key)
            .field("erases", &self.erases)
            .field("recorded", &self.recorded)
            .finish()
    }
}

/// What a record says.
#[non_exhaustive]
pub enum Recorded<E> {
    /// The events of one command, in order. A record that only erases has
    /// none.
    Events(Vec<RecordedEvent<E>>),
    /// The whole state after a message, of a type that is `#[entity(durable)]`.
    State(RecordedState),
    /// What a message has changed in the state, of such a type.
    Changed(RecordedChanges),
    /// It was forgotten: the entity was erased, or its type does not retain its records.
    Forgotten,
    /// It cannot be read.
    Unreadable(Unreadable),
}

impl<E> fmt::Debug for Recorded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(events) => f.debug_tuple("Events").field(events).finish(),
            Self::State(state) => f.debug_tuple("State").field(state).finish(),
            Self::Changed(changes) => f.debug_tuple("Changed").field(changes).finish(),
            Self::Forgotten => f.write_str("Forgotten"),
            Self::Unreadable(why) => f.debug_tuple("Unreadable").field(why).finish(),
        }
    }
}

/// An event of type `E`, as it is stored.
pub struct RecordedEvent<E> {
    written: WrittenEvent,
    runtime: Arc<Runtime>,
    of: PhantomData<fn() -> E>,
}

impl<E> fmt::Debug for RecordedEvent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrittenEvent { name, version, .. } = &self.written;
        write!(f, "RecordedEvent({name}, version {version})")
    }
}

impl<E> RecordedEvent<E> {
    /// The name under which it is stored.
    pub fn name(&self) -> &str {
        &self.written.name
    }

    /// The version in which it is stored, which may be an old one.
    pub fn version(&self) -> u32 {
        self.written.version
    }

    /// Its arguments as they are stored, by name, as JSON on one line. Bytes are text, `0x0aff`.
    ///
    /// # Errors
    /// [`Unreadable`] if these are no arguments.
    pub fn arguments(&self) -> Result<String, Unreadable> {
        Ok(readable::json(&self.written.bytes)?)
    }
}

impl<E: EventSourced> RecordedEvent<E> {
    /// The event as the present code has it. One of an old version goes through its `#[upcast]`
    /// functions, and may have become several events, or none.
    ///
    /// # Errors
    /// [`Unreadable`] if the present code does not know the event, or not this version of it, or if
    /// its arguments are others.
    pub fn decode(&self) -> Result<Vec<E::Event>, Unreadable> {
        let WrittenEvent {
            name,
            version,
            bytes,
        } = &self.written;
        let read = || E::Event::read(name, *version, bytes);
        // References in it are bound to this system.
        let read = self
            .runtime
            .enter(|| panic::caught(read))
            .unwrap_or_else(|text| Err(DecodeError(format!("reading it panicked: {text}"))));
        read.map_err(|DecodeError(error)| Unreadable {
            reason: format!("event `{name}` of version {version}: {error}"),
        })
    }
}

/// A state, as it is stored.
pub struct RecordedState {
    written: WrittenState,
}

impl fmt::Debug for RecordedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordedState({})", self.written.name)
    }
}

impl RecordedState {
    /// The name of the state, if the type is a state machine; else it is empty.
    pub fn name(&self) -> &str {
        &self.written.name
    }

    /// Its fields, by name, as JSON on one line. Bytes are text, `0x0aff`. Of a machine with common
    /// data these are `common`, and the fields are those of `state`.
    ///
    /// # Errors
    /// [`Unreadable`] if these are no fields.
    pub fn fields(&self) -> Result<String, Unreadable> {
        Ok(readable::state_json(&self.written.bytes)?)
    }
}

/// What has changed in a state, as it is stored.
pub struct RecordedChanges {
    written: ChangedFields,
}

impl fmt::Debug for RecordedChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        write!(f, "RecordedChanges({})", fields.as_deref().unwrap_or("?"))
    }
}

impl RecordedChanges {
    /// The changed fields, by name, with their new values, as JSON on one line. Of a field that is
    /// a map or a struct these are its changed entries; what is gone is `null`. Bytes are text,
    /// `0x0aff`. Of a machine with common data the fields are those of `common` and of `state`.
    ///
    /// # Errors
    /// [`Unreadable`] if these are no fields.
    pub fn fields(&self) -> Result<String, Unreadable> {
        Ok(readable::json(&self.written.to_map())?)
    }
}

/// Why something that is stored cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct Unreadable {
    /// What is wrong with it.
    pub reason: String,
}

impl From<DecodeError> for Unreadable {
    fn from(DecodeError(reason): DecodeError) -> Self {
        Self { reason }
    }
}
