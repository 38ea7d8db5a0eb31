//! casty
extern crate self as casty;

mod actor;
mod cluster;
mod config;
pub mod error;
pub mod event;
pub mod id;
mod message;
#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod protocol;
mod sync;
mod system;
mod transport;

pub use actor::{
    Actor, Entity, Init, Message,
    call::{Ask, Call},
    context::Context,
    reference::{ActorRef, EntityRef},
};
pub use casty_macros::{actor, entity, message};
pub use config::Settings;
pub use error::{AskError, JoinError, ShutdownError, StartError, TellError};
pub use event::{DeadLetter, DeadLetterReason, Event, Events};
pub use message::wire::Wire;
pub use system::{ActorSystem, ClusterClient, ConnectError, MemberInfo, MemberStatus, ShardEnvelope, Shards, SystemBuilder};

/// prelude
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{
        ActorRef, ActorSystem, AskError, ClusterClient, Context, DeadLetter, Entity, EntityRef, Event, ShardEnvelope, TellError, Wire,
        actor, entity, message,
    };
}
