//! What holds an ask up whose time is up.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::ShardRegion;
use crate::{
    cluster::peers::reads::ActiveLook, error::Delay, id::EntityId, infra::sync::lock,
    protocol::region::Home,
};

impl ShardRegion {
    /// See [`Address::explain`](crate::actor::Address::explain).
    pub(super) fn delay(
        &self,
        id: &EntityId,
        within: Option<Duration>,
    ) -> Option<BoxFuture<'static, Option<Delay>>> {
        let shard = id.shard(self.shards);
        if let Some(looked) = self.local.look(shard, id.as_str()) {
            let node = self.runtime.node.clone();
            let delay = looked.cell.map(|cell| ActiveLook::from(cell).delay(node));
            return Some(Box::pin(std::future::ready(delay)));
        }
        let Home::There(owner, _) = lock(&self.machine).home(shard) else {
            return None;
        };
        let mesh = self.mesh.as_ref()?.upgrade()?;
        mesh.delay(owner, &self.name, id, within?)
    }
}
