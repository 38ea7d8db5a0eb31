//! Watching: to be told when another actor ends.

use std::sync::Weak;

use crate::{
    actor::{
        Actor,
        cell::{AnyCell, CellName, Signal},
        reference::ActorRef,
    },
    event::{ActorPath, Terminated, TerminatedReason},
    id::MemberId,
};

/// One actor's wish to hear of the end of another; unique on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WatchId(pub(crate) u64);

/// Who is told of a cell's end.
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
    pub(crate) id: WatchId,
    pub(crate) key: WatchedKey,
    cancel: Box<dyn FnOnce() + Send>,
}

impl Watch {
    pub(crate) fn cancel(self) {
        (self.cancel)();
    }
}

/// Watches `who` for `watcher`.
pub(crate) fn watch<B: Actor>(id: WatchId, who: &ActorRef<B>, watcher: Weak<dyn AnyCell>) -> Watch {
    let key = who.key();
    let member = key.0.clone();
    let tell = Watcher::new(id, move |who, reason| {
        if let Some(watcher) = watcher.upgrade() {
            let who = Terminated {
                who,
                reason,
                number: key.1,
                member,
            };
            watcher.signal(Signal::Terminated(id, who));
        }
    });
    let key = who.key();
    who.watch(tell);
    let who = who.clone();
    Watch {
        id,
        key,
        cancel: Box::new(move || who.unwatch(id)),
    }
}

impl Terminated {
    /// Whether this is the end of the actor behind `other`.
    pub fn is<B: Actor>(&self, other: &impl AsRef<ActorRef<B>>) -> bool {
        let (member, number) = other.as_ref().key();
        self.number == number && self.member == member
    }
}

/// An actor's number on its node.
pub(crate) fn number(name: &CellName) -> u64 {
    match name {
        CellName::Actor(number) => *number,
        // No actor has it. Entities are not watched: they have no end, only pauses.
        CellName::Entity(_) => 0,
    }
}
