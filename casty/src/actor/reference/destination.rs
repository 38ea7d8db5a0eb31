//! What stands behind a reference where no cell does.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Envelope, Rejected,
        context::watch::{WatchId, WatchedKey, Watcher},
        runtime::{ActorAddress, Runtime},
    },
    event::ActorPath,
};

/// Where messages go that are for no cell of this node.
pub(crate) trait Destination<A: Actor>: Send + Sync {
    fn runtime(&self) -> &Arc<Runtime>;
    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>>;
    fn send(self: Arc<Self>, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>>;
    /// Stops the actor, and resolves when it has stopped; does nothing for an actor that cannot be
    /// stopped from here.
    fn stop(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn path(&self) -> ActorPath;
    fn key(&self) -> WatchedKey;
    fn watch(&self, watcher: Watcher);
    fn unwatch(&self, watch: WatchId);
    /// The identity by which other nodes know the actor; `None` without a network.
    fn address(&self) -> Option<ActorAddress>;
}
