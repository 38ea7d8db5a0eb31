//! How a client goes on when its cluster is gone, and another of the same name is in its place.
//!
//! A member never does so: it may own what the other cluster owns as well. A client owns nothing.

use super::{Membership, MembershipEffect, NodeView, Operation, Sight, Stage};
use crate::id::ClusterIdentity;

impl Membership {
    /// Where a member was, another process answers. It may have been restarted alone, or with all
    /// others: then nothing remembers the cluster.
    pub(super) fn handle_stranger(&mut self, view: &NodeView<'_>) {
        let is_member = matches!(self.stage, Stage::Member { .. });
        if !self.is_client() || !is_member || self.looks_around {
            return;
        }
        self.looks_around = true;
        let members = view.map.into_iter().flat_map(|map| map.members.values());
        let places = self.seeds_and(members.map(|member| member.address.to_string()));
        self.begin_operation(Operation::LookAround(places));
    }

    /// One member of the client's cluster is enough to stay with it. Silence alone decides nothing:
    /// the next stranger has the client look again.
    pub(super) fn handle_seen(&mut self, sights: &[Sight], view: &NodeView<'_>) {
        self.looks_around = false;
        if sights.contains(&Sight::Ours) || !sights.contains(&Sight::Other) {
            return;
        }
        self.end_session();
        self.begin_anew(false, view);
        self.given_up = self.former.take();
    }

    /// Notes that a cluster is met, which may not be the one that was given up.
    pub(super) fn note_met(&mut self, identity: ClusterIdentity) {
        let given_up = self.given_up.take();
        if given_up.is_some_and(|given_up| given_up.uuid != identity.uuid) {
            self.effects.push(MembershipEffect::ClusterReplaced);
        }
    }
}
