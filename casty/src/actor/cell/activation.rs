//! An activation, whatever the type of its actor.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        cell::{core::Untyped, hooks::Hook, policy::Policy, settle::Settle},
        context::{activation_scope::ActivationScope, core::ContextCore},
    },
    error::Failure,
    event::TerminatedReason,
    protocol::supervision::Supervisor,
};

/// The part of an activation that does not depend on the actor's type.
pub(super) struct Life {
    /// Whether the start hook has run.
    pub(super) started: bool,
    pub(super) due: Due,
    /// The number of the activation within the cell. Messages scheduled by an earlier activation
    /// are ignored.
    pub(super) number: u32,
    /// Here while the cell is idle, with the context otherwise.
    pub(super) attached: Option<Box<ActivationScope>>,
    /// Present once there was a failure.
    pub(super) supervisor: Option<Box<Supervisor>>,
    /// The activation was told to passivate, and has handled no message since.
    pub(super) sleep_requested: bool,
}

/// What happens to the state without waiting for a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The state is made, and started.
    Start,
    /// The same, after a failure.
    Restart,
}

impl Life {
    pub(super) fn new(due: Due) -> Self {
        Self {
            started: false,
            due,
            number: 0,
            attached: None,
            supervisor: None,
            sleep_requested: false,
        }
    }

    /// Whether the cell has had a failure since it was last idle without an activation.
    pub(super) fn has_failed(&self) -> bool {
        self.supervisor.is_some()
    }
}

/// The activation that a run works for, whatever the type of its actor.
pub(super) trait AnyActivation: Send {
    fn cell(&self) -> Arc<dyn Untyped>;

    fn policy(&self) -> &'static Policy;

    fn life(&mut self) -> &mut Life;

    fn context(&mut self) -> &mut ContextCore;

    fn settle(&mut self) -> &mut Settle;

    fn has_state(&self) -> bool;

    /// The present state's name, for a state machine.
    fn state_name(&self) -> &'static str;

    /// Whether there is a state to go on with: a failure may have left none.
    fn is_whole(&self) -> bool;

    /// Calls a hook of the state; its failure as text.
    fn hook(&mut self, hook: Hook) -> BoxFuture<'_, Result<(), String>>;

    /// Gives the state to the host, which may send it elsewhere, and what goes along with it.
    fn hand_over_state(&mut self, luggage: Vec<u8>);

    /// Puts the state aside if a part of it outlives a failure.
    fn keep_what_survives(&mut self);

    /// Drops the state. Returns whether that panicked.
    fn drop_state(&mut self) -> Result<(), ()>;

    /// Does what was to be done once its record is durable.
    fn run_due(&mut self);

    /// Puts what the handler has raised before everything else.
    fn take_raised(&mut self);

    /// Puts what was stashed before what is still in the batch.
    fn unstash(&mut self);

    /// Fails all messages that wait, and the ones that come within `pause`.
    fn turn_away(&mut self, failure: &Failure, pause: Option<Duration>);

    /// The cell closes, if it is an actor's or no message waits.
    fn close_unless_needed(&mut self) -> ControlFlow<()>;

    /// The cell closes. Messages that wait fail.
    fn finish(&mut self, reason: TerminatedReason) -> ControlFlow<()>;
}
