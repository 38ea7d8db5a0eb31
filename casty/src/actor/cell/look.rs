//! What a test sees of a cell from outside.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    actor::{
        Actor,
        cell::{Cell, core::Phase},
        tasks::lingering::Lingers,
    },
    infra::concurrent::lock,
};

/// A cell, as it is now.
pub(crate) enum Look {
    AtRest {
        /// The name of the present state.
        state: &'static str,
        /// The timers of the present state that are still to come: the message of each, and the
        /// time that is left.
        timers: Vec<(&'static str, Duration)>,
    },
    /// A handler or a hook runs, or is about to.
    AtWork,
    /// There is no state.
    Ended,
}

impl<A: Actor> Cell<A> {
    /// Looks at a cell. A run that only waits for the next message is ended, so that the next look
    /// finds the state.
    pub(crate) fn look(self: &Arc<Self>) -> Look {
        let waits = {
            let inner = lock(&self.inner);
            match inner.status.phase {
                Phase::Closed => return Look::Ended,
                Phase::Idle => {
                    let activation = inner.activation.as_ref();
                    let Some(state) = activation.and_then(|it| it.state.as_ref()) else {
                        return Look::Ended;
                    };
                    let attached = activation.and_then(|it| it.life.attached.as_ref());
                    let timers = attached.map(|scope| scope.state_timers(Instant::now()));
                    return Look::AtRest {
                        state: state.state_name(),
                        timers: timers.unwrap_or_default(),
                    };
                }
                Phase::Waiting => true,
                _ => false,
            }
        };
        if waits {
            self.end_wait(true);
        }
        Look::AtWork
    }
}
