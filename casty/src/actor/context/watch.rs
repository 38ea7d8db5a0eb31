//! Watching: to be told when another actor ends.

use crate::{
    event::{ActorPath, TerminatedReason},
    id::MemberId,
};

/// One actor's watch on another; unique on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(pub(crate) u64);

/// The watchers of a cell.
pub(crate) struct Watcher {
    pub(crate) id: WatchId,
    tell: Box<dyn FnOnce(ActorPath, TerminatedReason) + Send>,
    wanted: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Watcher {
    pub(crate) fn new(
        id: WatchId,
        tell: impl FnOnce(ActorPath, TerminatedReason) + Send + 'static,
    ) -> Self {
        Self {
            id,
            tell: Box::new(tell),
            wanted: None,
        }
    }

    /// Forgotten once `wanted` says no.
    pub(crate) fn while_(mut self, wanted: impl Fn() -> bool + Send + 'static) -> Self {
        self.wanted = Some(Box::new(wanted));
        self
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted())
    }

    pub(crate) fn tell(self, who: ActorPath, reason: TerminatedReason) {
        (self.tell)(who, reason);
    }
}

/// Which actor is watched: its member, unless it is of this node, and its number there.
pub(crate) type WatchedKey = (Option<MemberId>, u64);

/// A watch, as the watching activation keeps it.
pub(crate) struct Watch {
    pub(crate) key: WatchedKey,
    cancel: Box<dyn FnOnce() + Send>,
}

impl Watch {
    pub(crate) fn new(key: WatchedKey, cancel: impl FnOnce() + Send + 'static) -> Self {
        Self {
            key,
            cancel: Box::new(cancel),
        }
    }

    pub(crate) fn cancel(self) {
        (self.cancel)();
    }
}
