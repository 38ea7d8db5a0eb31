//! What holds an ask up whose time is up.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{ShardRegion, local::Looked};
use crate::{
    actor::ask::chain::PendingAsk,
    error::Delay,
    id::{EntityId, NodeId},
    infra::sync::lock,
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
            let delay = delay_of(self.runtime.node.clone(), looked);
            return Some(Box::pin(std::future::ready(delay)));
        }
        let Home::There(owner, _) = lock(&self.machine).home(shard) else {
            return None;
        };
        let mesh = self.mesh.as_ref()?.upgrade()?;
        mesh.delay(owner, &self.name, id, within?)
    }
}

fn delay_of(node: NodeId, looked: Looked) -> Option<Delay> {
    let cell = looked.cell?;
    let (handler, running_for) = cell.handling.unzip();
    let waits_for = cell
        .asks
        .first()
        .map(|PendingAsk { to, .. }| to.to_string());
    Some(Delay {
        node,
        waiting: cell.queued as u64,
        handler: handler.map(str::to_owned),
        running_for: running_for.unwrap_or_default(),
        waits_for,
    })
}
