//! A projection's type as its runners see it: what does not depend on the type is compiled once.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tracing::{Instrument as _, Span};

use crate::{
    actor::{effect::Events, runtime::Runtime},
    event::ActorPath,
    id::Epoch,
    infra::panic,
    message::codec::DecodeError,
    persistence::{Position, Record, record_body::RecordBody},
    projection::{
        contract::{EventsOf, Occurrence, Poisoned, Projection, TransactionOf},
        store::{ParkedEvent, ProjectedShard, ProjectionStore as _, ViewError},
    },
    trace,
};

/// Why records were not handled. Nothing of them was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unhandled {
    /// The record at this position cannot be handled.
    Record { position: u64, reason: String },
    /// The store failed.
    Store(ViewError),
}

/// A projection of any type, for one shard.
pub(super) trait Work: Send + Sync {
    fn parks(&self) -> bool;

    /// Claims the offset.
    fn claim(&mut self, epoch: Epoch) -> BoxFuture<'_, Result<u64, ViewError>>;

    /// Handles records that follow the position `from`, in one transaction.
    fn handle<'a>(
        &'a mut self,
        epoch: Epoch,
        from: u64,
        records: &'a [Record],
    ) -> BoxFuture<'a, Result<(), Unhandled>>;

    /// Parks the record that follows the position `from`.
    fn park<'a>(
        &'a mut self,
        epoch: Epoch,
        from: u64,
        record: &'a Record,
        reason: String,
    ) -> BoxFuture<'a, Result<(), ViewError>>;
}

/// A projection, for one shard.
pub(super) struct Typed<P> {
    shard: ProjectedShard,
    /// As the user gave it.
    first: P,
    /// With what it has changed in itself.
    present: Option<P>,
    runtime: Arc<Runtime>,
}

impl<P: Projection> Typed<P> {
    pub(super) fn new(shard: ProjectedShard, first: P, runtime: Arc<Runtime>) -> Self {
        Self {
            shard,
            first,
            present: None,
            runtime,
        }
    }

    fn occurrence(&self, record: &Record) -> Occurrence {
        let position = Position {
            kind: self.shard.kind.clone(),
            shard: self.shard.shard,
            position: record.position,
        };
        Occurrence::new(record.entity.clone(), position, record.at)
    }

    /// The span of a record's events, if what has made the record was part of a trace.
    fn span(&self, record: &Record, body: &RecordBody) -> Span {
        let cause = body.trace.as_deref().filter(|_| trace::is_on());
        let span = cause.and_then(|cause| {
            let actor = ActorPath {
                kind: self.shard.kind.clone(),
                id: record.entity.to_string(),
            };
            trace::projects(&self.shard.projection, &actor, *cause)
        });
        span.unwrap_or_else(Span::none)
    }

    async fn apply(
        &self,
        projection: &mut P,
        record: &Record,
        transaction: &mut TransactionOf<P>,
    ) -> Result<(), String> {
        // What the shard itself keeps has no entity.
        if record.entity.as_str().is_empty() {
            return Ok(());
        }
        let occurrence = self.occurrence(record);
        let mut erases = true;
        if !record.body.is_empty() {
            let body = RecordBody::decode(&record.body).map_err(|DecodeError(error)| error)?;
            erases = body.erases;
            let span = self.span(record, &body);
            for event in read_events::<EventsOf<P>>(&self.runtime, &body)? {
                let handling = projection.handle(event, &occurrence, transaction);
                done(handling.instrument(span.clone())).await?;
            }
        }
        if erases {
            done(projection.erased(&occurrence, transaction)).await?;
        }
        Ok(())
    }
}

/// The events of a record, as the present code has them.
pub(super) fn read_events<E: Events>(
    runtime: &Arc<Runtime>,
    body: &RecordBody,
) -> Result<Vec<E>, String> {
    let mut events = Vec::with_capacity(body.events.len());
    for written in &body.events {
        let read = || E::read(&written.name, written.version, &written.bytes);
        // References in it are bound to this system.
        let read = runtime
            .enter(|| panic::caught(read))
            .unwrap_or_else(|text| Err(DecodeError(format!("reading it panicked: {text}"))));
        let read = read.map_err(|DecodeError(error)| {
            let (name, version) = (&written.name, written.version);
            format!("event `{name}` of version {version}: {error}")
        });
        events.extend(read?);
    }
    Ok(events)
}

/// What a handler of the user came to.
async fn done(
    handling: impl Future<Output = Result<(), super::contract::HandlerError>>,
) -> Result<(), String> {
    match AssertUnwindSafe(handling).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(payload) => {
            let text = panic::panic_text(&*payload);
            panic::forget(payload);
            Err(format!("its handler panicked: {text}"))
        }
    }
}

impl<P: Projection> Work for Typed<P> {
    fn parks(&self) -> bool {
        P::POISONED == Poisoned::Park
    }

    fn claim(&mut self, epoch: Epoch) -> BoxFuture<'_, Result<u64, ViewError>> {
        // What it had changed in itself may not have been stored.
        self.present = None;
        self.first.store().claim(&self.shard, epoch)
    }

    fn handle<'a>(
        &'a mut self,
        epoch: Epoch,
        from: u64,
        records: &'a [Record],
    ) -> BoxFuture<'a, Result<(), Unhandled>> {
        Box::pin(async move {
            let to = records.last().map_or(from, |record| record.position);
            let mut projection = self.present.take().unwrap_or_else(|| self.first.clone());
            let mut transaction = self.first.store().begin().await.map_err(Unhandled::Store)?;
            for record in records {
                let applied = self.apply(&mut projection, record, &mut transaction).await;
                if let Err(reason) = applied {
                    self.first.store().roll_back(transaction).await;
                    let position = record.position;
                    return Err(Unhandled::Record { position, reason });
                }
            }
            let store = self.first.store();
            let committed = store
                .commit(transaction, &self.shard, epoch, from, to)
                .await;
            committed.map_err(Unhandled::Store)?;
            self.present = Some(projection);
            Ok(())
        })
    }

    fn park<'a>(
        &'a mut self,
        epoch: Epoch,
        from: u64,
        record: &'a Record,
        reason: String,
    ) -> BoxFuture<'a, Result<(), ViewError>> {
        Box::pin(async move {
            let parked = ParkedEvent {
                entity: record.entity.clone(),
                position: record.position,
                at: record.at,
                body: record.body.clone(),
                reason,
            };
            let store = self.first.store();
            let mut transaction = store.begin().await?;
            if let Err(error) = store.park(&mut transaction, &self.shard, &parked).await {
                store.roll_back(transaction).await;
                return Err(error);
            }
            let to = record.position;
            store
                .commit(transaction, &self.shard, epoch, from, to)
                .await
        })
    }
}
