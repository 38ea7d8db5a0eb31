//! Whether and how a type is stored.

use std::{sync::Arc, time::Duration};

use crate::{actor::hold::Outlet, persistence::writer::Writer};

/// How the state of a type is stored.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// It is not.
    None,
    /// As it is after each handler that has changed it.
    State,
    /// As the events that made it.
    Events,
}

/// What is kept of the records that a snapshot contains.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    All,
    /// Nothing.
    Snapshot,
    /// The records of so long.
    For(Duration),
}

impl Storage {
    /// Whether it is stored at all.
    #[inline]
    pub(crate) const fn is_stored(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// What one activation of a stored type writes, and what it lets out.
pub(crate) struct Storing {
    pub(crate) writer: Writer,
    pub(crate) outlet: Arc<Outlet>,
}

impl Storing {
    /// `handle`: of the runtime of handlers.
    pub(crate) fn new(writer: Writer, handle: tokio::runtime::Handle) -> Box<Self> {
        let outlet = Outlet::new(writer.progress().clone(), handle);
        Box::new(Self { writer, outlet })
    }
}
