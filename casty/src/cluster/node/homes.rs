//! Follows the map: homes, links, members; and has homes given to shards that somebody waits for.

use std::{collections::BTreeMap, sync::Arc};

use super::{Node, TICK};
use crate::{
    cluster::wire::Proposal,
    error::Failure,
    event::Event,
    id::{MemberId, ShardId},
    infra::{mutants, sync::lock},
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, MapError, Status},
        membership::{MembershipInput, is_over},
    },
    transport::link::Peer,
};

impl Node {
    /// Follows the map: homes, links, events.
    pub(crate) async fn follow_map(self: Arc<Self>) {
        let mut seen: Option<Arc<ClusterMap>> = None;
        loop {
            let age = seen.as_ref().map_or((0, 0), |map| map.age());
            let next = self
                .watch
                .wait(|map| map.filter(|map| map.age() > age).cloned());
            let map = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                map = next => map,
            };
            self.confirm(&map);
            self.handle_map(seen.as_deref(), &map);
            *lock(&self.followed) = map.age();
            self.membership.tell_of_map();
            seen = Some(map);
        }
    }

    fn handle_map(&self, before: Option<&ClusterMap>, map: &ClusterMap) {
        let peer = |id: &MemberId, address| Peer {
            address,
            member: Some(id.clone()),
        };
        *lock(&self.slots) = map
            .members
            .iter()
            .filter(|(_, m)| m.status != Status::Down)
            .map(|(id, m)| (m.slot, peer(id, m.address)))
            .collect();
        let me = self.member();
        let mine = map.member(&me).filter(|m| m.status != Status::Down);
        let was_member = before.is_some_and(|before| before.member(&me).is_some());
        let is_over = is_over(map, &me, was_member);
        if is_over {
            // Before anything else: what is here may be somewhere else already.
            self.runtime.close_gate();
            if !self.is_leaving() {
                self.end_session();
            }
        }
        let slot = mine.map(|member| member.slot);
        for region in self.regions() {
            region.handle_map(map, slot);
        }
        self.drop_links(map);
        self.tell_of_members(before, map);
        if is_over {
            self.membership.tell(MembershipInput::Down(me));
        }
        self.hand_over(map, slot);
    }

    /// Ends the links to processes that are no members any more.
    fn drop_links(&self, map: &ClusterMap) {
        let gone = |member: &MemberId| map.status(member).is_none_or(|s| s == Status::Down);
        let mut dropped = Vec::new();
        lock(&self.links).retain(|(peer, _), link| {
            let keep = |member| !gone(member) || self.is_awaited(member, map);
            let keep = peer.member.as_ref().is_none_or(keep);
            if !keep {
                dropped.push(link.clone());
            }
            keep
        });
        // Nor is anything heard from who is Down.
        let is_down = |peer: &MemberId| map.status(peer) == Some(Status::Down);
        self.cut(|peer| is_down(peer) && !mutants::on("the_dead_may_renew"));
        for link in dropped {
            let down = link
                .peer
                .member
                .as_ref()
                .and_then(|member| map.status(member));
            let reason = "it is no member of the cluster any more";
            match down {
                Some(_) => link.kill(reason),
                None => link.retire(reason),
            }
        }
    }

    fn tell_of_members(&self, before: Option<&ClusterMap>, map: &ClusterMap) {
        let was = |id: &MemberId| before.and_then(|before| before.status(id));
        for id in map.up().filter(|id| was(id) != Some(Status::Up)) {
            tracing::info!(member = %id, "up");
            self.runtime.publish(|| Event::MemberUp(id.clone()));
        }
        let present = before.into_iter().flat_map(|before| before.members.iter());
        for (id, member) in present.filter(|(_, member)| member.status != Status::Down) {
            if member.status != Status::Joining
                && map.status(id).is_none_or(|status| status == Status::Down)
            {
                tracing::info!(member = %id, "left");
                self.runtime.publish(|| Event::MemberLeft(id.clone()));
            }
        }
    }

    /// Finds homes for shards that somebody waits for.
    pub(crate) async fn resolve_shards(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = self.wanted_work.notified() => {}
            }
            let wanted = std::mem::take(&mut *lock(&self.wanted));
            let mut by_kind = BTreeMap::<u16, Vec<ShardId>>::new();
            for (kind, shard) in wanted {
                by_kind.entry(kind).or_default().push(shard);
            }
            let mut failed = false;
            for (kind, shards) in by_kind {
                let Some(region) = self.regions().get(usize::from(kind)) else {
                    continue;
                };
                let proposal = Proposal::Allocate {
                    kind: region.name().to_owned(),
                    shards: shards.clone(),
                };
                match self.propose(proposal).await {
                    Ok(version) => self.follower.handle_version(version),
                    Err(LeaderError::Refused(MapError::UnknownKind(name))) => {
                        let role = region.role().map(ToOwned::to_owned);
                        region.handle_no_home(&shards, &Failure::UnknownEntity { name, role });
                    }
                    Err(error) => {
                        tracing::debug!(kind = region.name(), %error, "no home yet");
                        failed = true;
                    }
                }
            }
            if failed || self.anybody_waits() {
                // Not decided, or decided and not heard of yet, or still owned by somebody who is
                // leaving. What waits has a deadline of its own; until then it is asked for again.
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                self.want_again();
            }
        }
    }

    fn anybody_waits(&self) -> bool {
        self.regions()
            .iter()
            .any(|region| !region.waiting().is_empty())
    }

    fn want_again(&self) {
        // Before the lock: a region asks for homes, which takes it, while it holds what `waiting`
        // looks at.
        let mut waiting = Vec::new();
        for (kind, region) in (0..).zip(self.regions()) {
            waiting.extend(region.waiting().into_iter().map(|shard| (kind, shard)));
        }
        let mut wanted = lock(&self.wanted);
        wanted.extend(waiting);
        if !wanted.is_empty() {
            self.wanted_work.notify_one();
        }
    }
}
