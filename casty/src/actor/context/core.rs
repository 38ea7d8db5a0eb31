//! The part of a context that does not depend on the actor's type.

use std::sync::Arc;

use crate::{
    actor::{
        cell::gate::Lapses,
        context::{activation_scope::ActivationScope, luggage::Luggage},
        runtime::Runtime,
        storage::Storing,
    },
    error::Failure,
    message::caller::CameFrom,
};

/// What a handler asks for, to be done after it.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) stop: bool,
    pub(super) transition: Option<Transition>,
    pub(super) passivate: bool,
    /// Whether there are raised messages.
    pub(super) raised: bool,
}

/// A transition that a handler made.
pub(crate) struct Transition {
    /// The name of the state that was left.
    pub(crate) from: &'static str,
    /// The name of the message that was handled.
    pub(crate) message: &'static str,
}

/// What an activation has begun, and what it asked for.
#[derive(Default)]
pub(crate) struct ContextCore {
    /// Which activation of the cell this is.
    pub(super) activation: u32,
    /// The gate's, when the run began what it does now.
    pub(super) since: Lapses,
    attached: Option<Box<ActivationScope>>,
    /// Where the message came from that is handled.
    pub(super) came_from: CameFrom,
    pub(super) requests: Requests,
    /// The state is being made, or `#[on_start]` runs.
    starting: bool,
    /// While it starts, after a move: how many timers and pieces of work the move has ended.
    pub(super) ended_by_move: Option<usize>,
    /// While it starts: the state was read from the store.
    pub(super) is_restored: bool,
}

impl ContextCore {
    pub(crate) fn take_transition(&mut self) -> Option<Transition> {
        self.requests.transition.take()
    }

    pub(crate) fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.requests.raised)
    }

    /// The state machine has changed its state. The timers of the last one are over.
    pub(super) fn transition(&mut self, transition: Transition) {
        self.requests.transition = Some(transition);
        if let Some(attached) = &mut self.attached {
            attached.end_state_timers();
        }
    }

    /// Where the message comes from that is handled next.
    #[inline]
    pub(crate) fn comes_from(&mut self, from: impl FnOnce() -> CameFrom, is_here: bool) {
        if !is_here || !self.came_from.is_here() {
            self.came_from = from();
        }
    }

    pub(crate) fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.requests.stop)
    }

    /// Whether the handler asked for what happens right after it.
    #[inline]
    pub(crate) fn has_requests(&self) -> bool {
        self.requests.stop || self.requests.raised || self.requests.transition.is_some()
    }

    #[inline]
    pub(crate) fn passivates(&self) -> bool {
        self.requests.passivate
    }

    pub(crate) fn forget_requests(&mut self) {
        self.requests = Requests::default();
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.starting
    }

    /// Returns what was the case before.
    pub(crate) fn set_starting(&mut self, starting: bool) -> bool {
        std::mem::replace(&mut self.starting, starting)
    }

    /// The activation has started, or failed to.
    pub(crate) fn has_started(&mut self) {
        self.starting = false;
        self.ended_by_move = None;
        self.is_restored = false;
    }

    /// The state was read from the store, and not just made.
    pub(crate) fn set_restored(&mut self) {
        self.is_restored = true;
    }

    /// What goes along if the actor moves now.
    pub(crate) fn pack(&mut self, runtime: &Arc<Runtime>) -> Luggage {
        let attached = self.attached.as_mut();
        attached.map_or_else(Luggage::default, |scope| scope.pack(runtime))
    }

    #[inline]
    pub(crate) fn acts_since(&mut self, since: Lapses) {
        self.since = since;
    }

    #[inline]
    pub(crate) fn attach(&mut self, activation: u32, attached: Option<Box<ActivationScope>>) {
        self.activation = activation;
        self.attached = attached;
    }

    #[inline]
    pub(crate) fn detach(&mut self) -> Option<Box<ActivationScope>> {
        self.attached.take()
    }

    pub(crate) fn attached(&mut self) -> &mut ActivationScope {
        self.attached.get_or_insert_default()
    }

    /// What the activation of a stored entity writes.
    pub(crate) fn take_storing(&mut self) -> Option<Box<Storing>> {
        self.attached.as_mut()?.storing.take()
    }

    pub(crate) fn set_storing(&mut self, storing: Option<Box<Storing>>) {
        if storing.is_some() {
            self.attached().storing = storing;
        }
    }

    /// Why the stored entity could not be read.
    pub(crate) fn take_unread(&mut self) -> Option<Box<Failure>> {
        self.attached.as_mut()?.unread.take()
    }

    pub(crate) fn set_unread(&mut self, failure: Failure) {
        self.attached().unread = Some(Box::new(failure));
    }

    pub(crate) fn is_working(&mut self) -> bool {
        self.attached
            .as_mut()
            .is_some_and(|attached| attached.is_working())
    }
}
