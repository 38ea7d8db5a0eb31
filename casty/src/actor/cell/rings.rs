//! The ring of an entity in the flight recorder, and what becomes of it when the entity fails.

use crate::{
    actor::{cell::host::Host, handle::CellName},
    event::ActorPath,
    recorder::{ring::SharedRing, rings::write_failed},
};

/// Where the messages of an actor are kept, if it is recorded. `declared`: how many its type says.
#[cold]
pub(super) fn of(host: &dyn Host, name: &CellName, declared: u32) -> Option<SharedRing> {
    match name {
        CellName::Entity(id) => host.runtime().recorder.ring(host.kind(), id, declared),
        CellName::Actor(_) => None,
    }
}

/// An entity has failed: what is recorded of it is kept, and written where that is asked for.
#[cold]
pub(super) fn failed(host: &dyn Host, who: &ActorPath, why: &str) {
    let runtime = host.runtime();
    let Some(recording) = runtime.recorder.failed(&runtime.node, who, why) else {
        return;
    };
    let Some(folder) = runtime.recorder.folder().cloned() else {
        return;
    };
    let who = who.clone();
    runtime.spawn_blocking(Box::new(move || match write_failed(&folder, &recording) {
        Ok(file) => {
            tracing::warn!(actor = %who, file = %file.display(), "a recording of an actor that failed is written");
        }
        Err(reason) => {
            tracing::error!(actor = %who, reason, "the recording of an actor that failed cannot be written");
        }
    }));
}
