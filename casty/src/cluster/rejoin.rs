//! What a process does that is no member any more although it lives: it was cut off, or stopped, for too long.
//!
//! Down is final for an incarnation. So everything that belongs to it ends, at once, and the process begins anew as
//! another one. What it keeps is what was never the cluster's: its actors, its event stream, whoever holds its
//! `ActorSystem`.

use std::sync::Arc;

use super::{gossip::Input, join, node::Node};
use crate::{
    actor::runtime::Myself,
    config::OnDown,
    error::JoinError,
    id::{Incarnation, MemberId},
    protocol::lease::Lease,
};

impl Node {
    /// This incarnation is over.
    pub(crate) fn handle_down(&self) {
        let Some(me) = self.upgrade() else { return };
        // Whoever comes first; the others find that it has begun.
        if self.session().is_cancelled() {
            return;
        }
        self.runtime().close_gate();
        self.cancel_session();
        tracing::warn!(member = %self.member(), "this member was declared down");
        self.tasks().spawn(me.begin_anew());
    }

    async fn begin_anew(self: Arc<Self>) {
        for region in self.regions() {
            region.sever();
        }
        // Where the others were: they are asked besides the seeds.
        let map = self.map();
        let known = map.iter().flat_map(|map| map.members.values());
        let known: Vec<String> = known
            .map(|member| member.address)
            .filter(|address| Some(*address) != self.address())
            .map(|address| address.to_string())
            .collect();
        self.kill_links("this node begins anew");
        self.cut(|_| true);
        self.drop_engine();
        self.set_leader(None);
        self.set_introduced(Vec::new());
        self.follower().reset();
        *self.lease() = Lease::default();
        if self.on_down() == OnDown::Stop {
            for region in self.regions() {
                region.abandon();
            }
            return self.fail(JoinError::Down);
        }
        let before = self.member();
        let incarnation = self.next_incarnation(before.incarnation);
        let member = MemberId {
            incarnation,
            ..before
        };
        tracing::info!(%member, "begins anew");
        self.set_member(member.clone());
        if let Some(address) = self.address() {
            self.runtime().set_myself(Myself { member, address });
        }
        // Not before it is another member: whoever watches the map would take it for itself.
        self.watch().clear();
        self.gossip(Input::Renew);
        self.new_session();
        let mut seeds = self.seeds().to_vec();
        seeds.extend(known.into_iter().filter(|known| !self.seeds().contains(known)));
        join::enter(self.clone(), seeds, true).await;
    }

    /// Greater than the last, whatever the clock says.
    fn next_incarnation(&self, last: Incarnation) -> Incarnation {
        if self.has_given_incarnation() {
            return Incarnation(last.0 + 1);
        }
        Incarnation::now().max(Incarnation(last.0 + 1))
    }
}
