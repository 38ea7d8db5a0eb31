//! What a process does that is no member any more although it lives: it was cut off, or stopped,
//! for too long.
//!
//! Down is final for an incarnation. So everything that belongs to it ends, at once, and the
//! process begins anew as another one. What it keeps is what was never the cluster's: its actors,
//! its event stream, whoever holds its `ActorSystem`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{gossip::Input, join, node::Node, tie::Renewing, wire::Call};
use crate::{
    actor::runtime::Myself,
    config::{Availability, OnDown},
    error::JoinError,
    id::{Incarnation, MemberId},
    infra::sync::lock,
    protocol::{
        lease::Lease,
        map::{ClusterMap, Status},
    },
};

impl Node {
    /// This incarnation is over.
    pub(crate) fn handle_down(&self) {
        let Some(me) = self.upgrade() else { return };
        if !self.end_session() {
            return;
        }
        tracing::warn!(member = %self.member(), "this member was declared down");
        self.spawn(async move {
            let known = me.next_incarnation();
            me.forget_seat().await;
            me.join_or_stop(known).await;
        });
    }

    /// Whether it is in a cluster, or has kept a seat in one.
    pub(crate) fn has_a_cluster(&self) -> bool {
        self.map().is_some() || self.kept_seat().is_some()
    }

    /// The cluster has gone on to a later generation without this node.
    pub(crate) fn handle_left_behind(&self) {
        if self.kept_seat().is_some() && !self.is_member(&self.member()) {
            self.handle_seat_gone();
        } else {
            self.handle_down();
        }
    }

    /// Others have gone on without the seat that was kept, while nobody sat there. So this node,
    /// which is no member yet, joins as if it had kept nothing.
    pub(crate) fn handle_seat_gone(&self) {
        let Some(me) = self.upgrade() else { return };
        if !self.end_session() {
            return;
        }
        tracing::warn!(member = %self.member(), "the seat that this node has kept is gone");
        self.spawn(me.join_without_seat());
    }

    // Boxed: it leads back to the one who spawned it.
    fn join_without_seat(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let known = self.next_incarnation();
            self.forget_seat().await;
            let places = self.places(known);
            join::enter(self, places, true).await;
        })
    }

    /// Joins as another member, unless it was told to stay out.
    pub(super) fn join_or_stop(self: Arc<Self>, known: Vec<String>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if self.on_down() == OnDown::Stop {
                for region in self.regions() {
                    region.abandon();
                }
                return self.fail(JoinError::Down);
            }
            let places = self.places(known);
            join::enter(self, places, true).await;
        })
    }

    /// Where the cluster may be: the seeds, and besides them where the others were.
    pub(super) fn places(&self, known: Vec<String>) -> Vec<String> {
        let mut places = self.seeds().to_vec();
        let others = known.into_iter();
        places.extend(others.filter(|known| !self.seeds().contains(known)));
        places
    }

    /// Whether it is this call that ended it: whoever comes later finds that it has begun.
    pub(super) fn end_session(&self) -> bool {
        if self.session().is_cancelled() {
            return false;
        }
        self.renewing().handle_end();
        self.cancel_session();
        let _nobody_opens_it = self.lease();
        self.runtime().close_gate();
        true
    }

    /// Whoever decided is lost: this node goes on from what it knows, as the only member of a new
    /// generation.
    pub(crate) async fn recover(&self, force: bool) -> Result<(), String> {
        let (Some(me), Some(map)) = (self.upgrade(), self.map()) else {
            return Err("it knows no cluster".to_owned());
        };
        if self.address().is_none() || self.is_leaving() {
            return Err("it is no member".to_owned());
        }
        if let Some(told) = self.go_on_by_force(force) {
            return told;
        }
        let renew = Call::Renew {
            member: self.member(),
            passed_on: false,
            report: None,
        };
        let limit = self.settings().decide_timeout;
        if self.ask_leader(&renew, limit).await.is_ok() {
            return Err("the cluster has a leader: there is nothing to recover from".to_owned());
        }
        let dead = self.dead();
        let mine = self.member();
        let alive = map.members.iter().find(|(id, member)| {
            **id != mine && member.status != Status::Down && !dead.contains(id)
        });
        if let Some((alive, _)) = alive.filter(|_| !force) {
            return Err(format!(
                "`{alive}` seems alive; stop it first, or let more of the cluster come back"
            ));
        }
        if !force {
            self.claim_for_recovery(&map).await?;
        }
        if !self.end_session() {
            return Err("it is about to join anew".to_owned());
        }
        tracing::warn!(member = %mine, "recovers the cluster from what it knows");
        self.spawn(me.found_anew(map));
        Ok(())
    }

    /// The survivor of two goes on by itself, if it was told to.
    pub(super) fn look_whether_alone(&self, now: Instant) {
        if self.tie_breaker().is_some() {
            return self.look_whether_second(now);
        }
        if self.availability() != Availability::Prefer {
            return;
        }
        let Some(map) = self.map() else { return };
        let (me, dead) = (self.member(), self.dead());
        let mut others = map
            .members
            .iter()
            .filter(|(id, member)| **id != me && member.status != Status::Down);
        let alone = map.status(&me) == Some(Status::Up)
            && others.next().is_some_and(|(other, _)| dead.contains(other))
            && others.next().is_none()
            && self.runtime().gate().is_some_and(|gate| !gate.is_open());
        let mut since = lock(&self.alone_since);
        if !alone {
            *since = None;
            return;
        }
        let begun = *since.get_or_insert(now);
        if begun + super::lease::times(self.settings()).guard <= now
            && let Some(me) = self.upgrade()
        {
            *since = None;
            tracing::warn!(
                "the other of two nodes seems dead; this one goes on, as it was told to prefer"
            );
            self.spawn(async move {
                if let Err(reason) = me.recover(false).await {
                    tracing::info!(reason, "it does not go on alone");
                }
            });
        }
    }

    // Boxed: what it awaits leads back to the one who answers calls, and so to whoever spawned
    // this.
    fn found_anew(self: Arc<Self>, map: Arc<ClusterMap>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Whoever asked for it is answered first: its connection ends with all others.
            tokio::time::sleep(self.settings().backoff).await;
            let known = self.next_incarnation();
            tokio::time::sleep(self.wait_for_leases()).await;
            self.found_next(map, known).await;
        })
    }

    /// Begins a new generation, once whatever lease there may have been in the last is over.
    pub(super) fn found_next(
        self: Arc<Self>,
        map: Arc<ClusterMap>,
        known: Vec<String>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let session = self.session();
            match join::refound(&self, &map).await {
                Ok(()) => {
                    let (telling, until) = (self.clone(), session.clone());
                    self.spawn(async move {
                        tokio::select! {
                            biased;
                            () = until.cancelled() => {}
                            () = join::tell_of_generation(&telling, known) => {}
                        }
                    });
                    self.keep_lease(session).await;
                }
                Err(reason) => self.fail(JoinError::Engine { reason }),
            }
        })
    }

    /// Makes this process another member. Returns where the others were.
    pub(super) fn next_incarnation(&self) -> Vec<String> {
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
        let known = {
            let mut last_addresses = lock(&self.last_addresses);
            if !known.is_empty() {
                *last_addresses = known;
            }
            last_addresses.clone()
        };
        self.kill_links("this node begins anew");
        self.cut(|_| true);
        self.drop_engine();
        self.set_leader(None);
        self.set_introduced(Vec::new());
        self.follower().reset();
        *self.lease() = Lease::default();
        let before = self.member();
        let incarnation = self.later_incarnation(before.incarnation);
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
        self.forget_identity();
        *self.renewing() = Renewing::default();
        self.new_session();
        known
    }

    /// Greater than the last, whatever the clock says.
    fn later_incarnation(&self, last: Incarnation) -> Incarnation {
        if self.has_given_incarnation() {
            return Incarnation(last.0 + 1);
        }
        Incarnation::now().max(Incarnation(last.0 + 1))
    }
}
