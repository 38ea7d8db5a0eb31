//! How a stored entity is read: its latest snapshot, then the records after it.

use std::{fmt, future::ready, sync::Arc, task::Poll, time::Duration};

use futures_util::{future::BoxFuture, poll};
use tokio::{task::coop, time::timeout};

use super::host::first_state;
use crate::{
    actor::{
        Entity, FirstState, HookError,
        context::Context,
        runtime::Runtime,
        storage::{Storage, Storing},
    },
    error::Failure,
    id::EntityId,
    infra::panic,
    message::{changed::ChangedFields, codec::DecodeError},
    persistence::{
        JournalError, Page, Record,
        keys::Keys,
        record_body::{RecordBody, WrittenEvent, WrittenState},
        reminders::OwnReminders,
        sends::LastTaken,
        shard_log::ShardLog,
        turns::Turn,
        writer::{Writer, written_state},
    },
};

/// How long a message waits for a store that has just failed.
const MOMENT: Duration = Duration::from_millis(100);

/// Reads an entity. The state of an entity that is not stored yet is made.
pub(super) fn recover<'a, E: Entity>(
    log: Result<Arc<ShardLog>, String>,
    runtime: &Arc<Runtime>,
    ctx: &'a mut Context<E>,
) -> BoxFuture<'a, Result<E, HookError>> {
    let runtime = runtime.clone();
    Box::pin(async move {
        let log = match log {
            Ok(log) => log,
            Err(reason) => return Err(refused(ctx, Failure::StoreUnavailable { reason })),
        };
        let name = ctx.entity_name().clone();
        let mut reader = Reader::new(log, name, runtime.patience());
        let mut restored = Restored {
            state: None,
            ctx,
            runtime: runtime.clone(),
        };
        let read = reader.read(&mut restored).await;
        let Restored { state, ctx, .. } = restored;
        match read {
            Ok(()) => {}
            Err(Unread::Init(error)) => return Err(error),
            Err(Unread::Failed(failure)) => return Err(refused(ctx, failure)),
        }
        let Some(state) = state else {
            return Err(HookError("it has no first state".to_owned()));
        };
        if !reader.is_new {
            ctx.core().set_restored();
        }
        let stored = reader.latest.take().map(|(_, state)| state);
        let mut writer = reader.into_writer(&runtime);
        if E::STORAGE == Storage::State {
            let mut bytes = Vec::new();
            // A state that cannot be written is an error once it has changed.
            if let Ok(name) = state.freeze(&mut bytes) {
                let state = written_state(name, bytes);
                let is_stored = stored.as_ref() == Some(&state);
                writer.set_last(state, is_stored);
            }
        }
        let storing = Storing::new(writer, runtime.handle().clone());
        ctx.core().set_storing(Some(storing));
        Ok(state)
    })
}

fn refused<E: Entity>(ctx: &mut Context<E>, failure: Failure) -> HookError {
    let reason = failure.to_string();
    ctx.core().set_unread(failure);
    HookError(reason)
}

/// The entity that is being read, whatever its type.
trait Restore: Send {
    fn is_made(&self) -> bool;

    /// Makes the first state.
    fn make(&mut self) -> BoxFuture<'_, Result<(), HookError>>;

    /// The entity was erased, and begins anew.
    fn erase(&mut self);

    fn thaw(&mut self, state: &WrittenState) -> Result<(), DecodeError>;

    fn replay(&mut self, event: &WrittenEvent) -> Result<(), DecodeError>;
}

struct Restored<'a, E: Entity> {
    state: Option<E>,
    ctx: &'a mut Context<E>,
    runtime: Arc<Runtime>,
}

impl<E: Entity> Restore for Restored<'_, E> {
    fn is_made(&self) -> bool {
        self.state.is_some()
    }

    fn make(&mut self) -> BoxFuture<'_, Result<(), HookError>> {
        Box::pin(async move {
            self.state = Some(match first_state(self.ctx) {
                FirstState::Now(made) => made?,
                FirstState::Later(made) => made.await?,
            });
            Ok(())
        })
    }

    fn erase(&mut self) {
        self.state = None;
    }

    fn thaw(&mut self, state: &WrittenState) -> Result<(), DecodeError> {
        let thaw = || E::thaw(&state.name, &state.bytes);
        self.state = Some(self.runtime.enter(|| calm(thaw))?);
        Ok(())
    }

    fn replay(&mut self, event: &WrittenEvent) -> Result<(), DecodeError> {
        let Some(state) = &mut self.state else {
            return Err(DecodeError("there is no state to apply it to".to_owned()));
        };
        let replay = || state.replay(&event.name, event.version, &event.bytes);
        self.runtime.enter(|| calm(replay))
    }
}

/// A user's code that reads: a panic is an error.
fn calm<T>(read: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    panic::caught(read)
        .unwrap_or_else(|text| Err(DecodeError(format!("reading it panicked: {text}"))))
}

/// Why an entity was not read.
enum Unread {
    /// Its first state could not be made.
    Init(HookError),
    Failed(Failure),
}

impl Unread {
    fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Failed(Failure::StoreUnavailable {
            reason: reason.to_string(),
        })
    }
}

/// Begins what a future does.
async fn begun<'a, T: Send + 'a>(mut future: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
    match poll!(&mut future) {
        Poll::Ready(value) => Box::pin(ready(value)),
        Poll::Pending => future,
    }
}

/// Reads one entity.
struct Reader {
    log: Arc<ShardLog>,
    name: EntityId,
    /// How long the store may take for each answer.
    patience: Duration,
    /// The number of the last record that was read.
    seq: u64,
    /// The number of the last record that the snapshot contains.
    snapshot: u64,
    /// The number of the last record that is known to be forgotten.
    forgotten: u64,
    /// There was a snapshot at the last look.
    has_snapshot: bool,
    /// The last whole state that was read, and what later records have changed in it.
    latest: Option<(Place, WrittenState)>,
    /// Whether `latest` is of a record, which the entity has not been made of yet.
    is_behind: bool,
    /// Nothing is stored of it.
    is_new: bool,
    /// The last record that erases, and whose own content is not erased yet.
    erases: Option<u64>,
    /// The position of the last record that was read.
    position: u64,
    /// The answers that the entity remembers.
    keys: Keys,
    /// The sends that it has taken.
    taken: LastTaken,
    /// Its reminders.
    reminders: OwnReminders,
}

/// Where something is stored.
#[derive(Clone, Copy)]
enum Place {
    Snapshot { seq: u64 },
    Record { seq: u64, position: u64 },
}

impl Place {
    fn of(record: &Record) -> Self {
        Self::Record {
            seq: record.seq,
            position: record.position,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot { seq } => write!(f, "the snapshot as of record {seq}"),
            Self::Record { seq, position } => {
                write!(f, "record {seq}, at position {position} of its shard")
            }
        }
    }
}

impl Reader {
    fn new(log: Arc<ShardLog>, name: EntityId, patience: Duration) -> Self {
        Self {
            log,
            name,
            patience,
            seq: 0,
            snapshot: 0,
            forgotten: 0,
            has_snapshot: false,
            latest: None,
            is_behind: false,
            is_new: true,
            erases: None,
            position: 0,
            keys: Keys::default(),
            taken: LastTaken::default(),
            reminders: OwnReminders::default(),
        }
    }

    fn into_writer(self, runtime: &Runtime) -> Writer {
        let last = (self.seq, self.position);
        let kept = (self.snapshot, self.forgotten);
        let remembered = (self.keys, self.taken, self.reminders);
        let writer = Writer::new(self.log, self.name, last, kept, remembered);
        if let Some(seq) = self.erases {
            // Its node ended before it was done.
            let erase = writer.upkeep().clone().erase(seq);
            runtime.spawn(Box::pin(async { drop(erase.await) }));
        }
        writer
    }

    async fn read(&mut self, entity: &mut dyn Restore) -> Result<(), Unread> {
        let (log, name) = (self.log.clone(), self.name.clone());
        let journal = log.store().journal();
        let read = |after| journal.read_entity(log.log(), &name, after, Page::default());
        let mut turn = self.turn(&log).await?;
        self.read_snapshot(entity).await?;
        let mut next = None;
        loop {
            let page = next.take().unwrap_or_else(|| read(self.seq));
            let page = self.answer(page).await?;
            let Some(last) = page.last().map(|record| record.seq) else {
                break;
            };
            if page.iter().any(|record| record.body.is_empty()) {
                // Erased, or else contained in a snapshot that was saved after the last look.
                self.read_snapshot(entity).await?;
            }
            let contained = self.seq;
            for record in page.into_iter().filter(|record| record.seq > contained) {
                let body = self.open(&record)?;
                if !body.events.is_empty() && !entity.is_made() {
                    // The first state may need other entities, which have to be read as well. They
                    // may need the connection that the next page has.
                    next = None;
                    drop(turn);
                    entity.make().await.map_err(Unread::Init)?;
                    turn = self.turn(&log).await?;
                }
                self.restore(&record, body, entity)?;
                if next.is_none() {
                    // The store reads the next page while this one is applied.
                    next = Some(begun(read(last)).await);
                }
                coop::consume_budget().await;
            }
        }
        drop(turn);
        if let Some((place, state)) = &self.latest
            && self.is_behind
        {
            let thawed = entity.thaw(state);
            thawed.map_err(|error| self.unreadable(*place, &state.name, &error))?;
        }
        if !entity.is_made() {
            entity.make().await.map_err(Unread::Init)?;
        }
        Ok(())
    }

    /// Waits for the claim, and for a turn.
    async fn turn(&self, log: &ShardLog) -> Result<Turn, Unread> {
        // A store that has failed is tried again in the background. It may also have to tell what
        // became of a commit, which takes a moment.
        if let Some(reason) = log.pending()
            && timeout(MOMENT, log.claimed()).await.is_err()
        {
            return Err(Unread::unavailable(reason));
        }
        let ready = async {
            log.claimed().await.map_err(Unread::unavailable)?;
            Ok(log.store().recovery(log.log()).await)
        };
        let ready = timeout(self.patience, ready).await;
        ready.unwrap_or_else(|_| {
            let pending = log.pending();
            Err(pending.map_or_else(|| self.silent(), Unread::unavailable))
        })
    }

    fn silent(&self) -> Unread {
        Unread::unavailable(format!("it has not answered within {:?}", self.patience))
    }

    /// Waits for an answer of the store.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, Unread> {
        match timeout(self.patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(JournalError::Unavailable { reason })) => Err(Unread::unavailable(reason)),
            Ok(Err(JournalError::Unusable { reason })) => {
                let path = self.path();
                let reason = format!("{path}: {reason}");
                Err(Unread::Failed(Failure::Unreadable { reason }))
            }
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads the snapshot, if it contains more than what was read.
    async fn read_snapshot(&mut self, entity: &mut dyn Restore) -> Result<(), Unread> {
        let log = self.log.clone();
        let load = log.store().journal().load(log.log(), &self.name);
        let snapshot = self.answer(load).await?;
        self.has_snapshot = snapshot.is_some();
        let Some(snapshot) = snapshot.filter(|snapshot| snapshot.seq > self.seq) else {
            return Ok(());
        };
        let place = Place::Snapshot { seq: snapshot.seq };
        let body = RecordBody::decode(&snapshot.body)
            .map_err(|error| self.unreadable(place, "", &error))?;
        let Some(state) = body.state else {
            let error = DecodeError("it has no state".to_owned());
            return Err(self.unreadable(place, "", &error));
        };
        let thawed = entity.thaw(&state);
        thawed.map_err(|error| self.unreadable(place, &state.name, &error))?;
        (self.latest, self.is_behind) = (Some((place, state)), false);
        self.keys.clear();
        self.keys.extend(body.keys);
        self.taken.extend(body.last_taken);
        self.reminders.restore(body.kept_reminders);
        self.position = body.position;
        self.forgotten = body.forgotten;
        (self.seq, self.snapshot) = (snapshot.seq, snapshot.seq);
        self.is_new = false;
        Ok(())
    }

    /// What a record says.
    fn open(&self, record: &Record) -> Result<RecordBody, Unread> {
        let place = Place::of(record);
        let expected = self.seq + 1;
        if record.seq != expected {
            let error = DecodeError(format!("record {expected} is missing before it"));
            return Err(self.unreadable(place, "", &error));
        }
        if record.body.is_empty() {
            return Ok(RecordBody::default());
        }
        RecordBody::decode(&record.body).map_err(|error| self.unreadable(place, "", &error))
    }

    fn restore(
        &mut self,
        record: &Record,
        body: RecordBody,
        entity: &mut dyn Restore,
    ) -> Result<(), Unread> {
        let place = Place::of(record);
        (self.seq, self.position) = (record.seq, record.position);
        self.taken.extend(body.taken);
        if !body.last_taken.is_empty() {
            // It says nothing of the state: the record before it erases.
            self.taken.extend(body.last_taken);
            return Ok(());
        }
        self.is_new = false;
        for event in &body.events {
            entity.replay(event).map_err(|error| {
                let what = format!("event `{}` of version {}", event.name, event.version);
                self.unreadable(place, &what, &error)
            })?;
        }
        self.keys.extend(body.key);
        for change in body.reminders {
            self.reminders.apply(record.seq, change);
        }
        if let Some(state) = body.state {
            (self.latest, self.is_behind) = (Some((place, state)), true);
        } else if let Some(fields) = body.fields {
            let changed = self.changed(&fields);
            let state = changed.map_err(|error| self.unreadable(place, "", &error))?;
            (self.latest, self.is_behind) = (Some((place, state)), true);
        }
        // Of what a snapshot does not contain, only what was erased is forgotten.
        let is_erased = record.body.is_empty();
        if body.erases || is_erased {
            entity.erase();
            (self.latest, self.is_behind) = (None, false);
            self.keys.clear();
            self.reminders.clear();
            self.is_new = true;
            self.snapshot = record.seq;
            if is_erased {
                self.forgotten = record.seq;
            }
            // Also of a snapshot that was saved too late nothing must be left.
            self.erases = (!is_erased || self.has_snapshot).then_some(record.seq);
        }
        Ok(())
    }

    fn changed(&self, fields: &ChangedFields) -> Result<WrittenState, DecodeError> {
        let Some((_, state)) = &self.latest else {
            let error = "it changes fields of a state that is not stored".to_owned();
            return Err(DecodeError(error));
        };
        let bytes = fields.apply(&state.bytes)?;
        Ok(written_state(&state.name, bytes))
    }

    fn path(&self) -> String {
        format!("{}/{}", self.log.log().kind, self.name)
    }

    fn unreadable(&self, place: Place, what: &str, error: &DecodeError) -> Unread {
        let separator = if what.is_empty() { "" } else { ", " };
        let (path, DecodeError(error)) = (self.path(), error);
        let reason = format!("{path}, {place}{separator}{what}: {error}");
        Unread::Failed(Failure::Unreadable { reason })
    }
}
