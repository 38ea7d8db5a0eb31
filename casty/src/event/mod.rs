//! What a system reports to its subscribers: members, actors, dead letters.
//!
//! [`ActorSystem::events`](crate::ActorSystem::events) subscribes to every [`Event`]. The types
//! here are the subscription, and the parts of events.

mod bus;
pub(crate) mod kinds;

pub(crate) use self::{
    bus::EventBus,
    kinds::{Event, Terminated},
};
pub use self::{
    bus::Events,
    kinds::{ActorPath, DeadLetterReason, Emitted, TerminatedReason},
};
