//! What a tie-breaker changes for a node: what it reports when it renews, and how the second of two
//! goes on. Why that is safe: [`protocol::tie`](crate::protocol::tie).

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::oneshot, time::Instant};

use super::{join, lease, node::Node};
use crate::{
    error::TieError,
    id::{ClusterIdentity, MemberId},
    protocol::{
        map::{ClusterMap, Status},
        tie::{self, Report, Stamp},
    },
    tie::{Claim, Verdict},
};

/// What a member says when it renews, as far as it does not follow from the map.
#[derive(Debug, Default)]
pub(crate) struct Renewing {
    echo: Option<Stamp>,
    /// This membership has ended: nothing is said any more that a leader could take for a sign of
    /// life.
    over: bool,
}

impl Renewing {
    /// A leader wants to hear this.
    pub(crate) fn handle_stamp(&mut self, stamp: Stamp) {
        self.echo = Some(stamp);
    }

    pub(super) fn handle_end(&mut self) {
        self.over = true;
    }
}

impl Node {
    /// What a member has to say now; `None` if this process is not it any more.
    pub(super) fn report(&self, member: &MemberId) -> Option<Report> {
        let renewing = self.renewing();
        // Under the lock: what is reported is not newer than the map that is looked at after the
        // end.
        (!renewing.over && self.is_me(member)).then(|| Report {
            version: self.map().map_or(0, |map| map.version),
            echo: renewing.echo,
        })
    }

    /// Asks the tie-breaker whether `claimant` may go on without `other`.
    pub(super) async fn claim(
        &self,
        cluster: ClusterIdentity,
        claimant: &MemberId,
        other: &MemberId,
    ) -> Result<Verdict, TieError> {
        let Some(breaker) = self.tie_breaker() else {
            let reason = "this node has none".to_owned();
            return Err(TieError::Unreachable { reason });
        };
        let claim = Claim::new(cluster, claimant.clone(), other.clone());
        breaker.claim(claim, self.settings().decide_timeout).await
    }

    /// Ends this membership once the one who decides, the other of two, seems lost; and goes on
    /// alone if the tie-breaker lets it.
    pub(super) fn look_whether_second(&self, now: Instant) {
        let Some(map) = self.map() else { return };
        let rival = tie::rival(&map, &self.member());
        let lost = rival.is_some_and(|rival| self.dead().contains(&rival))
            && !self.is_leaving()
            && self.runtime().gate().is_some_and(|gate| !gate.is_open());
        // Its entities have paused, and could go on as they were if the other came back soon.
        let patience = self.settings().lease / 2;
        let over = self.second().handle_tick(lost, patience, now);
        if over
            && let Some(me) = self.upgrade()
            && self.end_session()
        {
            self.spawn(me.go_on_or_join());
        }
    }

    // Boxed: it leads back to the one who spawned it.
    fn go_on_or_join(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let member = self.member();
            // Anew: the session has ended, and what is reported has an end. It may be later than
            // what led here.
            let map = self.map();
            let rival = map.as_ref().and_then(|map| tie::rival(map, &member));
            let goes_on = match (&map, &rival) {
                (Some(map), Some(rival)) => self.whether_to_go_on(map, rival).await,
                _ => false,
            };
            if self.is_leaving() || self.cancel().is_cancelled() {
                return;
            }
            let known = self.next_incarnation();
            match map.filter(|_| goes_on) {
                Some(map) => self.found_next(map, known).await,
                None => self.join_or_stop(known).await,
            }
        })
    }

    async fn whether_to_go_on(&self, map: &ClusterMap, rival: &MemberId) -> bool {
        tracing::warn!(%rival, "the one who decides seems lost: the tie-breaker will be asked who goes on");
        let over = Instant::now() + tie::wait_before_claim(lease::times(self.settings()).guard);
        let (force, forced) = oneshot::channel();
        *self.claiming() = Some(force);
        let addresses = map.members.values();
        let places = self.places(addresses.map(|member| member.address.to_string()).collect());
        let goes_on = tokio::select! {
            biased;
            () = self.cancel().cancelled() => false,
            // Nobody has to go on without the other then: it takes this node in as a new member.
            () = join::until_reached(self, &places, rival, map.identity) => false,
            Ok(()) = forced => {
                tokio::time::sleep_until(over).await;
                true
            }
            verdict = self.until_decided(map.identity, rival, over) => verdict == Verdict::Won,
        };
        *self.claiming() = None;
        tracing::warn!(%rival, goes_on, "whether this node goes on alone is decided");
        goes_on
    }

    /// Claims until there is a verdict, but not before the other can serve no more.
    async fn until_decided(
        &self,
        cluster: ClusterIdentity,
        other: &MemberId,
        over: Instant,
    ) -> Verdict {
        let (settings, me) = (self.settings(), self.member());
        tokio::time::sleep_until(over).await;
        let mut rng = StdRng::seed_from_u64(self.random());
        let mut pause = settings.backoff;
        loop {
            match self.claim(cluster, &me, other).await {
                Ok(verdict) => return verdict,
                Err(error) => tracing::info!(%error, "it is not known who goes on"),
            }
            tokio::time::sleep(pause.mul_f64(rng.random_range(0.5..1.0))).await;
            pause = (pause * 2).min(settings.backoff_max);
        }
    }

    /// An operator has this node go on, while it waits for the tie-breaker. `None` if it does not.
    pub(super) fn go_on_by_force(&self, force: bool) -> Option<Result<(), String>> {
        let mut claiming = self.claiming();
        if !force && claiming.is_some() {
            return Some(Err(
                "it waits until the tie-breaker says which of the two goes on".to_owned(),
            ));
        }
        // Whoever waits may have just been told otherwise.
        let told = claiming.take()?.send(());
        Some(told.map_err(|()| "it has just been decided".to_owned()))
    }

    /// Claims what this node needs for a new generation, before it begins one: that the one who
    /// decides is lost, or, where that is this node, all others are. With more than one that decide
    /// there is no tie.
    pub(super) async fn claim_for_recovery(&self, map: &ClusterMap) -> Result<(), String> {
        let me = self.member();
        let mut voters = map.voters.keys();
        let others: Vec<&MemberId> = match (self.tie_breaker(), voters.next(), voters.next()) {
            (Some(_), Some(voter), None) if *voter == me => {
                let others = map.members.iter().filter(|(id, member)| {
                    **id != me && !matches!(member.status, Status::Down | Status::Joining)
                });
                others.map(|(id, _)| id).collect()
            }
            (Some(_), Some(voter), None) => vec![voter],
            _ => Vec::new(),
        };
        for other in others {
            match self.claim(map.identity, &me, other).await {
                Ok(Verdict::Won) => {}
                Ok(Verdict::Lost) => {
                    return Err(format!("the tie-breaker has decided for `{other}`"));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// How long after the end of this node's session every lease is over that there may be.
    pub(super) fn wait_for_leases(&self) -> Duration {
        let guard = lease::times(self.settings()).guard;
        match self.tie_breaker() {
            // The one who decided may have granted them for as long as it had heard this node.
            Some(_) => guard * 2,
            None => guard,
        }
    }
}

/// Asks everybody who may know whether the cluster was born again, until it says so.
pub(super) async fn look_for_generation(node: Arc<Node>) {
    let session = node.session();
    let known = node.map();
    let known = known.iter().flat_map(|map| map.members.values());
    let mut places: Vec<String> = known.map(|member| member.address.to_string()).collect();
    places.extend(node.seeds().iter().cloned());
    loop {
        tokio::select! {
            biased;
            () = session.cancelled() => return,
            _ = join_all(places.iter().map(|place| join::ask(&node, place))) => {}
        }
        tokio::select! {
            biased;
            () = session.cancelled() => return,
            () = tokio::time::sleep(node.settings().backoff_max) => {}
        }
    }
}
