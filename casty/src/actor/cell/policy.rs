//! The policies that a type declares: failures, mailbox and idleness of its actors.

use std::time::Duration;

use crate::protocol::supervision::Limits;

/// The options of `#[entity(..)]` and `#[actor(..)]` besides the name. Generated as `Policy { ..,
/// ..Policy::DEFAULT }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct Policy {
    /// How many messages wait in the mailbox.
    pub mailbox: usize,
    /// The policy for a message beyond that.
    pub overflow: Overflow,
    /// How many messages are kept for a later state.
    pub stash: usize,
    pub on_failure: OnFailure,
    /// More failures than this within `within` are not met with another restart.
    pub max_restarts: u32,
    pub within: Duration,
    /// The pause before the second restart in a row; doubled with each, up to `backoff_max`, with
    /// jitter.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// The consequence of a child's failure for its siblings.
    pub children: Children,
    /// An entity without messages for so long is put to sleep.
    pub passivate_after: Option<Duration>,
    /// With more entities of the type active on a node, the ones used least recently are put to
    /// sleep.
    pub max_active: Option<usize>,
    /// How many messages the flight recorder keeps of each entity. 0: it records none.
    pub record: u32,
}

impl Policy {
    pub const DEFAULT: Self = Self {
        mailbox: 1024,
        overflow: Overflow::Wait,
        stash: 1024,
        on_failure: OnFailure::Restart,
        max_restarts: 10,
        within: Duration::from_mins(1),
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(10),
        children: Children::OneForOne,
        passivate_after: None,
        max_active: None,
        record: 0,
    };

    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            restarts: self.max_restarts,
            within: self.within,
            backoff: self.backoff,
            backoff_max: self.backoff_max,
        }
    }
}

/// The policy for a message that finds the mailbox full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Overflow {
    /// Its sender waits.
    Wait,
    /// Its sender gets it back, at once.
    Reject,
    /// It becomes a dead letter.
    DropNewest,
    /// The message that waited longest becomes a dead letter.
    DropOldest,
}

/// The policy for an actor whose handler or hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum OnFailure {
    /// It goes on with a fresh state.
    Restart,
    /// It goes on with the state it had, if the failure left one.
    Resume,
    Stop,
    /// It stops, and its parent fails of it.
    Escalate,
}

/// Whom the failure of a child concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Children {
    /// The child alone.
    OneForOne,
    /// All children are restarted.
    AllForOne,
}
