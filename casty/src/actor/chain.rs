//! Asks that wait for each other.
//!
//! A handler that awaits the answer to an ask keeps its actor from handling anything else. If the one it asks asks
//! on, and somebody down that chain asks an actor of the chain, all of them wait for each other. So an ask made while
//! an actor handles a message carries the chain of those who wait, and whoever is in it does not take it.
//!
//! An ask made in a task of its own (`ctx.pipe`) carries none: its actor does not wait for it. One that was given up,
//! since its time was up, breaks its chain.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::cell::AnyCell;
use crate::event::ActorPath;

/// Actors that wait, the last one first.
pub(crate) struct Chain {
    waiting: Waiting,
    /// It waits no more.
    over: AtomicBool,
    rest: Option<Arc<Chain>>,
}

enum Waiting {
    Here(Arc<dyn AnyCell>),
    /// On another node: as it calls itself.
    Elsewhere(String),
}

impl Chain {
    /// If the actor with this key is in the chain: the names from the first of the circle to the last.
    pub(crate) fn closed_by(
        &self,
        key: *const (),
        path: impl FnOnce() -> ActorPath,
    ) -> Option<Vec<String>> {
        let mut link = Some(self);
        while let Some(chain) = link.filter(|chain| !chain.over.load(Ordering::Relaxed)) {
            if let Waiting::Here(cell) = &chain.waiting
                && std::ptr::eq(Arc::as_ptr(cell).cast::<()>(), key)
            {
                return Some(Self::names(self, chain, path().to_string()));
            }
            link = chain.rest.as_deref();
        }
        None
    }

    fn names(from: &Self, to: &Self, closing: String) -> Vec<String> {
        let mut names = vec![closing];
        let mut link = Some(from);
        while let Some(chain) = link {
            names.push(chain.name());
            if std::ptr::eq(chain, to) {
                break;
            }
            link = chain.rest.as_deref();
        }
        names.reverse();
        names
    }

    fn name(&self) -> String {
        match &self.waiting {
            Waiting::Here(cell) => cell.path().to_string(),
            Waiting::Elsewhere(name) => name.clone(),
        }
    }
}

/// Held by an ask for as long as it waits.
pub(crate) struct Waits(Option<Arc<Chain>>);

impl Waits {
    pub(crate) fn new(chain: Option<Arc<Chain>>) -> Self {
        Self(chain)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(chain) = &self.0 {
            chain.over.store(true, Ordering::Relaxed);
        }
    }
}

/// Whoever handles a message on this task, and for whom.
pub(crate) struct Asker {
    cell: Arc<dyn AnyCell>,
    cause: RefCell<Option<Arc<Chain>>>,
}

impl Asker {
    pub(crate) fn new(cell: Arc<dyn AnyCell>) -> Self {
        Self {
            cell,
            cause: RefCell::new(None),
        }
    }
}

tokio::task_local! {
    pub(crate) static ASKER: Asker;
}

/// The message handled from here on was asked by the last of `chain`.
pub(crate) fn caused_by(chain: Option<Arc<Chain>>) {
    let _ = ASKER.try_with(|asker| asker.cause.replace(chain));
}

/// The chain of an ask that is made now: `None` outside of actors.
pub(crate) fn here() -> Option<Arc<Chain>> {
    ASKER
        .try_with(|asker| {
            Arc::new(Chain {
                waiting: Waiting::Here(asker.cell.clone()),
                over: AtomicBool::new(false),
                rest: asker.cause.borrow().clone(),
            })
        })
        .ok()
}
