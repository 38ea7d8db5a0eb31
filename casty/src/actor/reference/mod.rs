//! References: values that name the target of a message.

mod actor;
pub(crate) mod destination;
mod entity;
mod found;
mod remote;

pub use actor::ActorRef;
pub(crate) use actor::watch;
pub(crate) use entity::Route;
pub use entity::{Entity, EntityRef};
pub(crate) use found::Found;

const OUTSIDE: &str = "a reference can only be decoded by a running system";
