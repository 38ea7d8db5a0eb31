//! Actors, complete on one node: mailbox, cell, context, references, asks.
//!
//! Nothing here knows of a cluster. How a message reaches an entity is the [`Route`]'s business,
//! how it reaches an actor on another node the [`Carrier`](runtime::Carrier)'s; `cluster`
//! implements both.

pub(crate) mod ask;
pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod contract;
pub(crate) mod handle;
pub(crate) mod message;
pub(crate) mod observer;
pub(crate) mod reference;
pub(crate) mod resources;
pub(crate) mod runtime;
pub(crate) mod spy;
#[cfg(feature = "testkit")]
pub(crate) mod tap;
pub(crate) mod tasks;

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    actor::runtime::Runtime,
    id::{EntityId, ShardId},
    message::codec::{DecodeError, EncodeError},
};

pub use cell::hooks::HookError;
pub use contract::{Actor, FirstState, Handled, Init};
pub(crate) use contract::{Address, Envelope, Rejected};
pub use message::{Message, Reply};

/// An actor that is addressed by type and id, and lives on the node that owns its shard.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entity",
    label = "cannot be addressed by an id",
    note = "write `#[entity]` above an `impl {Self}` block with `#[message]` functions"
)]
pub trait Entity: Init<Address = reference::EntityRef<Self>> {
    /// Into how many shards the entities of this type are divided. The same on every node.
    const SHARDS: NonZeroU32;

    /// Whether the state moves with its shard.
    const MIGRATES: bool = false;

    /// The role of the nodes that host this type. `None`: every member that knows the type does.
    const ROLE: Option<&'static str> = None;

    /// Appends the state, to leave this node; its name, if there are several.
    #[doc(hidden)]
    fn freeze(&self, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        let _ = out;
        Err(EncodeError("it does not migrate".to_owned()))
    }

    /// The state that left another node.
    #[doc(hidden)]
    fn thaw(name: &str, state: &[u8]) -> Result<Self, DecodeError> {
        let _ = (name, state);
        Err(DecodeError("it does not migrate".to_owned()))
    }
}

/// How envelopes reach the entities of one type, wherever they live.
#[doc(hidden)]
pub(crate) trait Route<E: Entity>: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The name this type is registered under.
    fn name(&self) -> &str;

    fn shards(&self) -> NonZeroU32;

    /// Queues now, or gives it back. Where the entity is here, `found` remembers its cell.
    fn try_send(
        &self,
        to: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
        found: &reference::Found<E>,
    ) -> Result<(), Rejected<E>>;

    /// Waits for room, then queues.
    fn send(
        self: Arc<Self>,
        to: EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>>;
}
