//! Clustered actors: annotate the functions of a struct, and macros derive its messages, their wire
//! format, a typed proxy, and the registration as a sharded entity.
//!
//! ```standalone_crate
//! use casty::prelude::*;
//!
//! /// A bell. One lives per id, on whichever node of the cluster owns its shard.
//! #[derive(Default)]
//! struct Bell {
//!     rung: u64,
//! }
//!
//! #[entity]
//! impl Bell {
//!     #[message]
//!     fn ring(&mut self) -> u64 {
//!         self.rung += 1;
//!         self.rung
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = ActorSystem::builder("my-cluster").start().await?;
//! let bell: BellRef = node.entity::<Bell>("front door");
//! bell.ring().tell().await?; // waits for room, not for the handler
//! assert_eq!(bell.ring().await?, 2);
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The [README](https://github.com/casty-rs/casty#readme) has the guarantees, the limits, how to
//! run a cluster, and the examples.
//!
//! # Where to look
//!
//! An entity `Bell` is sent to by its proxy, `BellRef`, which has a function for each message; the
//! messages are the enum `BellMsg`.
//!
//! - Write actors: [`entity`], [`actor`], [`message`], [`Context`]; state machines:
//!   [`mod@behavior`]; timers: [`schedule`], and those that outlive a node: [`remind`]; deferred
//!   replies: [`reply`].
//! - Talk to them: the generated proxies, [`call`], [`shards`], [`AskError`], [`TellError`].
//! - Read what they have done: [`mod@projection`], [`history`], [`listing`].
//! - Run them: [`ActorSystem`], [`SystemBuilder`], [`ClusterClient`], [`Settings`], [`member`],
//!   [`tie`], [`error`].
//! - Watch them: [`Event`], [`DeadLetter`], [`event`], [`spy`], [`trace`].
//! - Operate them: [`admin`], and the program `casty` of the crate `casty-cli`.
//! - Test them: `testkit`, behind the feature of that name.
//!
//! The root holds what the files of an application import. Every other name stands in the module
//! that says what it belongs to. No name stands in two places, but for those of the [`prelude`].

// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

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
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
mod infra;
mod message;
#[cfg(feature = "model")]
#[doc(hidden)]
pub mod models;
pub mod persistence;
pub mod projection;
mod protocol;
pub mod recorder;
mod system;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod tie;
pub mod trace;
mod transport;

pub use actor::{
    Actor, Entity, Init, Message,
    context::Context,
    effect::Effect,
    reference::{ActorRef, EntityRef},
};
pub use casty_macros::{actor, behavior, entity, host, message, protocol, state};
pub use config::Settings;
pub use error::send::{AskError, TellError};
pub use event::kinds::{DeadLetter, Event, Terminated};
pub use message::wire::Wire;
pub use system::{ActorSystem, ClusterClient, SystemBuilder};

#[cfg(feature = "tls")]
pub mod tls {
    //! Connections that are encrypted, and authenticated on both sides.
    //!
    //! Each process of a cluster has a certificate that says which one it is:
    //! `casty://shop/member/node-1` is the node `node-1` of the cluster `shop`. A node talks only to
    //! processes whose certificates are signed by an authority that it trusts, are valid now, are
    //! not revoked, and are of its cluster; a node has to have the name in its certificate. Clients
    //! may send messages and nothing more, operators may ask for the state of the cluster and
    //! change it.
    //!
    //! ```no_run
    //! # use casty::{prelude::*, tls::Tls};
    //! # #[tokio::main]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! let node = ActorSystem::builder("shop")
    //!     .tls(Tls::from_files("node-1.pem", "node-1.key", "ca.pem"))
    //!     .listen("0.0.0.0:25520")
    //!     .advertise("node-1.example.org:25520")
    //!     .start()
    //!     .await?;
    //! # Ok(())
    //! # }
    //! ```
    //!
    //! `casty cert` makes certificates; the example `tls` goes from there to nodes that talk.

    pub use crate::transport::{
        identity::{PeerRole, UnknownRole},
        tls::{CertificateInfo, Identity, NoIdentity, Tls, TlsError},
    };
}

/// What a proxy's function returns: a message on its way to an actor.
pub mod call {
    pub use crate::actor::ask::{
        any_call::AnyCall,
        call::{Ask, Call},
        if_active::IfActive,
        keyed::{Keyed, Positioned},
        retry::Retry,
    };
}

/// What is stored of one entity, record by record:
/// [`ActorSystem::history`](crate::ActorSystem::history).
pub mod history {
    pub use crate::system::{
        History, HistoryEntry, Recorded, RecordedChanges, RecordedEvent, RecordedState, Unreadable,
    };
}

/// The entities of a type: [`ActorSystem::entities`](crate::ActorSystem::entities).
pub mod listing {
    pub use crate::system::{Entities, LastRecord, ListedEntity};
}

/// The members of a cluster, and what a node does when the cluster is divided.
pub mod member {
    pub use crate::{
        config::{Availability, OnDown},
        system::{MemberInfo, MemberStatus},
    };
}

/// Configuration by a file and by the environment:
/// [`SystemBuilder::config`](crate::SystemBuilder::config).
#[cfg(feature = "config")]
pub mod configuration {
    pub use crate::config::file::{ConfigError, check, defaults};
}

/// What clients and operators may do, by the names in their certificates:
/// [`SystemBuilder::access`](crate::SystemBuilder::access).
pub mod access {
    pub use crate::{
        cluster::{
            limiter::Refusals,
            peers::access::{Access, Permit},
        },
        config::Limits,
        message::caller::Caller,
    };
}

/// Replies that are given after the handler has returned.
pub mod reply {
    pub use crate::actor::{
        ask::promise::{Later, Promise},
        stored_promise::StoredPromise,
    };
}

/// Timers of an actor: [`Context::schedule_once`](crate::Context::schedule_once) and
/// [`Context::schedule_every`](crate::Context::schedule_every).
pub mod schedule {
    pub use crate::actor::context::schedule::{Cancellable, Every};
}

/// Messages from one stored entity to another, effectively once:
/// [`Effect::send`](crate::Effect::send), and [`Context::send`](crate::Context::send) of durable
/// entities.
pub mod send {
    pub use crate::actor::outcome::{AnswerOf, Outcome, Unanswered};
}

/// Messages of a stored entity to itself, at a later time, that outlive its node:
/// [`Context::remind`](crate::Context::remind), and [`Effect::remind`](crate::Effect::remind).
pub mod remind {
    pub use crate::{
        actor::remind::Remind,
        protocol::reminders::timetable::{InvalidCron, Missed},
    };
}

/// Entities as receivers of messages that are values, one level below their proxies.
pub mod shards {
    pub use crate::{
        actor::reference::{Hosted, Stored},
        system::{ShardEnvelope, Shards},
    };
}

/// Observers of an actor's messages: [`ActorSystem::spy`](crate::ActorSystem::spy).
pub mod spy {
    pub use crate::actor::spy::{Observation, Observed, Scope, Spy};
}

/// What an application imports: `use casty::prelude::*;`.
pub mod prelude {
    pub use std::time::Duration;

    // Without the modules of these names.
    pub use casty_macros::{behavior, projection, state};

    pub use crate::{
        Actor, ActorRef, ActorSystem, AskError, ClusterClient, Context, DeadLetter, Effect, Entity,
        EntityRef, Event, TellError, Terminated, Wire, actor,
        behavior::{OneOf, OrStay, StateName, Stay, Stop, Widen, states},
        entity, message,
        send::Outcome,
        shards::ShardEnvelope,
    };
}
