#![doc = include_str!("../../README.md")]
//! # Where to look
//!
//! - Write actors: [`entity`], [`actor`], [`message`], [`Context`]; state machines:
//!   [`mod@behavior`].
//! - Talk to them: the generated proxies, [`Call`], [`Shards`], [`AskError`], [`TellError`].
//! - Run them: [`ActorSystem`], [`SystemBuilder`], [`ClusterClient`], [`Settings`], [`TieBreaker`].
//! - Watch them: [`Events`], [`Event`], [`DeadLetter`], [`Spy`].
//! - Operate them: [`mod@admin`], and the program `casty` of the crate `casty-cli`.
//! - Test them: `testkit`, behind the feature of that name.

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
mod tie;
mod transport;

pub use actor::{
    Actor, Entity, Init, Message,
    ask::{
        call::{Ask, Call},
        promise::{Later, Promise},
    },
    context::{
        Context,
        schedule::{Cancellable, Every},
    },
    reference::{ActorRef, EntityRef},
    spy::{Observation, Observed, Scope, Spy},
};
pub use behavior::{Behavior, OneOf, Stay, Stop};
pub use casty_macros::{actor, behavior, entity, message, state};
pub use config::{Availability, OnDown, Settings};
pub use error::{
    AskError, JoinError, ShutdownError, StartError, StateDirError, TellError, TieError,
};
pub use event::{
    ActorPath, DeadLetter, DeadLetterReason, Emitted, Event, Events, Terminated, TerminatedReason,
};
pub use message::wire::Wire;
pub use system::{
    ActorSystem, ClusterClient, ConnectError, MemberInfo, MemberStatus, ShardEnvelope, Shards,
    SystemBuilder,
};
pub use tie::{Claim, TieBreaker, Verdict};

/// What an application imports: `use casty::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    // Without the module of that name.
    pub use casty_macros::{behavior, state};

    pub use crate::{
        Actor, ActorRef, ActorSystem, AskError, ClusterClient, Context, DeadLetter, Entity,
        EntityRef, Event, OneOf, ShardEnvelope, Stay, Stop, TellError, Terminated, Wire, actor,
        entity, message,
    };
}
