//! The cells of an entity that a reference remembers.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use arc_swap::ArcSwap;

use crate::{
    actor::{
        Actor, Envelope,
        cell::{Cell, Refusal},
    },
    error::Failure,
};

/// The cells in which the entity was found on this node. A closed cell takes nothing, and then the
/// entity is looked up again. A cell that is open is the only one of its entity, since the cells of
/// a shard close before the shard moves.
pub(crate) struct Found<A: Actor> {
    sightings: AtomicSightings,
    /// Most references know one cell only: to look at it costs no more than to read a pointer.
    first: OnceLock<Arc<Cell<A>>>,
    /// The one after that which closed last. Made only then: to drop an `ArcSwap` is to look at
    /// what every thread reads.
    later: OnceLock<ArcSwap<Cell<A>>>,
}

/// What a reference knows of the cells in which its entity was found on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Sightings {
    /// A reference that never finds a cell here does not pay for the lookup.
    None,
    /// Found once, and not remembered: many references are used once, and to remember a cell costs
    /// as much as to find it.
    Once,
    /// The first cell is remembered.
    First,
    /// A later cell as well.
    Later,
}

/// [`Sightings`] that threads share.
struct AtomicSightings(AtomicU8);

impl AtomicSightings {
    const fn new() -> Self {
        Self(AtomicU8::new(Sightings::None as u8))
    }

    #[inline]
    fn load(&self) -> Sightings {
        match self.0.load(Ordering::Relaxed) {
            0 => Sightings::None,
            1 => Sightings::Once,
            2 => Sightings::First,
            _ => Sightings::Later,
        }
    }

    fn store(&self, sightings: Sightings) {
        self.0.store(sightings as u8, Ordering::Relaxed);
    }
}

impl<A: Actor> Found<A> {
    pub(crate) fn new() -> Self {
        Self {
            sightings: AtomicSightings::new(),
            first: OnceLock::new(),
            later: OnceLock::new(),
        }
    }

    pub(crate) fn remember(&self, cell: &Arc<Cell<A>>) {
        let sightings = match self.sightings.load() {
            Sightings::None => Sightings::Once,
            Sightings::Once if self.first.set(cell.clone()).is_ok() => Sightings::First,
            _ => {
                let later = || ArcSwap::new(cell.clone());
                self.later.get_or_init(later).store(cell.clone());
                Sightings::Later
            }
        };
        self.sightings.store(sightings);
    }

    /// Queues the envelope there. `None` if it is not there any more, and gives it back.
    #[inline]
    pub(super) fn push(
        &self,
        mut envelope: Envelope<A>,
    ) -> Result<(), (Envelope<A>, Option<Failure>)> {
        if let Some(cell) = self.first.get() {
            match cell.push(envelope) {
                Err(Refusal::Closed(back)) => envelope = back,
                pushed => return pushed.map_err(why),
            }
        }
        if self.sightings.load() != Sightings::Later {
            return Err((envelope, None));
        }
        match self.later.get() {
            Some(cell) => cell.load().push(envelope).map_err(why),
            None => Err((envelope, None)),
        }
    }
}

fn why<A: Actor>(refusal: Refusal<A>) -> (Envelope<A>, Option<Failure>) {
    match refusal {
        Refusal::Closed(envelope) => (envelope, None),
        Refusal::Full(envelope) => (envelope, Some(Failure::Full)),
        Refusal::Failing(envelope, failure) => (envelope, Some(failure)),
    }
}
