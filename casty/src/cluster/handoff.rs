//! Planned moves: this node gives shards up that the map says are to move.

use std::sync::Arc;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{authority::way::AuthorityError, node::Node, region::AnyRegion, wire::Proposal};
use crate::{
    id::{Epoch, ShardId},
    protocol::map::{ClusterMap, Command, Slot},
};

/// Resolves, with a shard and its epoch, when everything in it has stopped.
pub(crate) type Draining = BoxFuture<'static, (ShardId, Epoch)>;

impl Node {
    /// Begins to hand over what is to move and is not on its way yet.
    pub(super) fn hand_over(&self, map: &ClusterMap, me: Option<Slot>) {
        let (Some(me), Some(node)) = (me, self.upgrade()) else {
            return;
        };
        for region in self.regions() {
            let Some(table) = map.kinds.get(region.name()) else {
                continue;
            };
            let homes = (0..).map(ShardId).zip(table.iter());
            let moving: Vec<(ShardId, Epoch)> = homes
                .filter(|(_, home)| home.owner == Some(me) && home.moving.is_some())
                .map(|(shard, home)| (shard, home.epoch))
                .collect();
            if moving.is_empty() {
                continue;
            }
            let draining = region.drain(&moving);
            if !draining.is_empty() {
                let region = region.clone();
                self.tasks().spawn(node.clone().release(region, draining));
            }
        }
    }

    /// Tells of each shard that has stopped, as many at a time as there are.
    async fn release(self: Arc<Self>, region: Arc<dyn AnyRegion>, draining: Vec<Draining>) {
        let session = self.session();
        let mut draining: FuturesUnordered<Draining> = draining.into_iter().collect();
        loop {
            let first = tokio::select! {
                biased;
                () = session.cancelled() => return,
                first = draining.next() => first,
            };
            let Some(first) = first else { return };
            let mut shards = vec![first];
            while let Some(Some(next)) = futures_util::FutureExt::now_or_never(draining.next()) {
                shards.push(next);
            }
            // The order is that of hashes and wakers otherwise.
            shards.sort_unstable();
            let release = Proposal::Apply(Command::Release {
                member: self.member(),
                kind: region.name().to_owned(),
                shards,
            });
            loop {
                let told = tokio::select! {
                    biased;
                    () = session.cancelled() => return,
                    told = self.propose(release.clone()) => told,
                };
                match told {
                    Ok(version) => self.follower().handle_version(version),
                    // Given up before: the first answer was lost.
                    Err(AuthorityError::Refused(_)) => {}
                    // They have stopped, and are of no use here. Nobody but the leader can give them to another.
                    Err(AuthorityError::Unreachable(_)) => continue,
                }
                break;
            }
        }
    }
}
