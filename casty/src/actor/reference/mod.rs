//! References: values that name the target of a message.

mod actor;
pub(crate) mod destination;
mod entity;
mod found;
pub(crate) mod protocol;
mod remote;
mod strict;

pub use actor::ActorRef;
pub(crate) use actor::{Spawned, watch};
pub(crate) use entity::Route;
pub use entity::{Entity, EntityRef, Hosted, Hosts, ProtocolRegistration, Stored};
pub(crate) use found::Found;
pub(crate) use strict::StrictRoute;
#[cfg(feature = "testkit")]
pub(crate) use strict::travelled;

const OUTSIDE: &str = "a reference can only be decoded by a running system";
