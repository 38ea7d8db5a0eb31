//! How an entity is erased that an operator wants to be gone.
//!
//! `Effect::erase` erases by the record of a command. Here the activation ends first, and then a
//! record is written that only erases, so that no state is needed: an entity that cannot be read
//! any more is erased likewise.

use std::ops::ControlFlow;

use crate::{
    actor::{
        cell::{activation::AnyActivation, core::Untyped, life::Ending},
        handle::ErasureReply,
        storage::Storing,
    },
    error::{Failure, StoredError},
    infra::boxed::{Boxed, boxed},
    persistence::{record_body::RecordBody, writer::Writer},
};

impl dyn AnyActivation + '_ {
    /// Ends the activation, if there is one, and erases what is stored. The entity begins anew with
    /// its next message.
    pub(super) fn erase(&mut self, erased: ErasureReply) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            self.settled().await;
            self.end(Ending::Stop).await;
            let cell = self.cell();
            let outcome = self.write_erasure(&*cell).await;
            let seq = self.settle().writer().map(Writer::erased);
            let storing = self.settle().take_storing();
            match (outcome, seq.zip(storing)) {
                (Ok(true), Some((seq, storing))) => {
                    cell.with_status(&mut |status, _| status.refuse_no_more());
                    let upkeep = storing.writer.upkeep().clone();
                    // The next activation need not wait for it: it finds the record.
                    cell.host().runtime().spawn(Box::pin(async move {
                        let done = upkeep.erase(seq).await;
                        let _ = erased.send(done.map(|()| true).map_err(StoredError::from));
                    }));
                }
                (outcome, _) => {
                    let _ = erased.send(outcome);
                }
            }
            self.close_unless_needed()
        })
    }

    /// Writes the record that erases, and waits until it is durable.
    async fn write_erasure(&mut self, cell: &dyn Untyped) -> Result<bool, StoredError> {
        if cell.core().ends_calls() {
            // A record that was given up may still be in flight.
            let reason = "the entity had to stop".to_owned();
            return Err(StoredError::Unreachable { reason });
        }
        let id = cell.core().name.entity_id();
        let Some(mut writer) = cell.host().eraser(&id).await? else {
            return Ok(false);
        };
        let mut body = RecordBody {
            erases: true,
            ..RecordBody::default()
        };
        let written = writer.append(&mut body).and_then(|()| writer.keep_taken());
        written.map_err(|error| StoredError::Unusable {
            reason: error.to_string(),
        })?;
        let handle = cell.host().runtime().handle().clone();
        self.settle()
            .set_storing(Some(Storing::new(writer, handle)));
        self.written().await;
        if let Some(failed) = self.settle().failed() {
            let reason = match failed {
                Failure::NotStored { reason, .. } => reason,
                other => other.to_string(),
            };
            return Err(StoredError::Unavailable { reason });
        }
        if self.settle().is_writing() {
            let reason = "the entity had to stop before the store had confirmed it".to_owned();
            return Err(StoredError::Unreachable { reason });
        }
        Ok(true)
    }
}
