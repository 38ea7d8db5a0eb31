#![doc = include_str!("../../README.md")]
//! # Where to look
//!
//! - Write actors: [`entity`], [`actor`], [`message`], [`Context`]; state machines:
//!   [`mod@behavior`]; timers: [`schedule`]; deferred replies: [`reply`].
//! - Talk to them: the generated proxies, [`call`], [`shards`], [`AskError`], [`TellError`].
//! - Run them: [`ActorSystem`], [`SystemBuilder`], [`ClusterClient`], [`Settings`], [`member`],
//!   [`tie`], [`error`].
//! - Watch them: [`Event`], [`DeadLetter`], [`event`], [`spy`].
//! - Operate them: [`admin`], and the program `casty` of the crate `casty-cli`.
//! - Test them: `testkit`, behind the feature of that name.
//!
//! The root holds what the files of an application import. Every other name stands in the module
//! that says what it belongs to. No name stands in two places, but for those of the [`prelude`].

// Generated code says `::casty`; this crate's own tests use it too.
extern crate self as casty;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod actor;
pub mod admin;
pub mod behavior;
mod cluster;
mod config;
pub mod error;
pub mod event;
pub mod id;
mod infra;
mod message;
#[cfg(feature = "model")]
#[doc(hidden)]
pub mod models;
mod protocol;
mod system;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tie;
mod transport;

pub use actor::{
    Actor, Entity, Init, Message,
    context::Context,
    reference::{ActorRef, EntityRef},
};
pub use casty_macros::{actor, behavior, entity, message, state};
pub use config::Settings;
pub use error::send::{AskError, TellError};
pub use event::kinds::{DeadLetter, Event, Terminated};
pub use message::wire::Wire;
pub use system::{ActorSystem, ClusterClient, SystemBuilder};

/// What a proxy's function returns: a message on its way to an actor.
pub mod call {
    pub use crate::actor::ask::{
        call::{Ask, Call},
        retry::Retry,
    };
}

/// The members of a cluster, and what a node does when the cluster is divided.
pub mod member {
    pub use crate::{
        config::{Availability, OnDown},
        system::{MemberInfo, MemberStatus},
    };
}

/// Replies that are given after the handler has returned.
pub mod reply {
    pub use crate::actor::ask::promise::{Later, Promise};
}

/// Timers of an actor: [`Context::schedule_once`](crate::Context::schedule_once) and
/// [`Context::schedule_every`](crate::Context::schedule_every).
pub mod schedule {
    pub use crate::actor::context::schedule::{Cancellable, Every};
}

/// Entities as receivers of messages that are values, one level below their proxies.
pub mod shards {
    pub use crate::system::{ShardEnvelope, Shards};
}

/// Observers of an actor's messages: [`ActorSystem::spy`](crate::ActorSystem::spy).
pub mod spy {
    pub use crate::actor::spy::{Observation, Observed, Scope, Spy};
}

/// What an application imports: `use casty::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    // Without the module of that name.
    pub use casty_macros::{behavior, state};

    pub use crate::{
        Actor, ActorRef, ActorSystem, AskError, ClusterClient, Context, DeadLetter, Entity,
        EntityRef, Event, TellError, Terminated, Wire, actor,
        behavior::{OneOf, Stay, Stop},
        entity, message,
        shards::ShardEnvelope,
    };
}
