//! Keeps this node's lease, by which its entities may act.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{authority::leader_client::AuthorityError, node::Node, wire::Call},
    config::Settings,
    protocol::{lease::LeaseTimes, map::MapError},
};

/// How long leases are.
pub(super) fn times(settings: &Settings) -> LeaseTimes {
    LeaseTimes::new(settings.lease, settings.clock_drift)
}

impl Node {
    /// Renews the lease until this membership ends.
    pub(crate) async fn keep_lease(self: Arc<Self>, session: CancellationToken) {
        let times = times(self.settings());
        let call = Call::Renew {
            member: self.member(),
            passed_on: false,
            report: None,
        };
        loop {
            // Whoever cannot run handlers lets others do it: while it is stuck, its lease runs out.
            tokio::select! {
                biased;
                () = session.cancelled() => return,
                () = self.runtime().turn() => {}
            }
            // Before it is sent: the lease counts from here.
            let sent = Instant::now();
            let renewed = tokio::select! {
                biased;
                () = session.cancelled() => return,
                renewed = self.ask_leader(&call, times.lease / 2) => renewed,
            };
            match renewed {
                Ok(version) => {
                    {
                        let mut lease = self.lease();
                        // Under the lock, or what was granted to this membership would be the next
                        // one's.
                        if session.is_cancelled() {
                            return;
                        }
                        lease.handle_granted(sent, version, times);
                    }
                    self.follower().handle_version(version);
                    self.look_at_lease();
                }
                Err(AuthorityError::Refused(
                    MapError::Superseded(_) | MapError::UnknownMember(_),
                )) => {
                    if !self.is_leaving() {
                        self.handle_down();
                    }
                    return;
                }
                Err(error) => tracing::debug!(%error, "no lease"),
            }
            tokio::select! {
                biased;
                () = session.cancelled() => return,
                () = tokio::time::sleep_until(sent + times.lease / 3) => {}
            }
        }
    }

    /// Lets entities act as long as the lease says, if the regions know the map that it was granted
    /// by.
    pub(super) fn look_at_lease(&self) {
        let mut lease = self.lease();
        // Under the lock: a membership that has ended is not to have its gate opened again, nor is
        // the next.
        if self.session().is_cancelled() {
            return;
        }
        let deadline = lease.handle_map(self.followed());
        if let (Some(deadline), Some(gate)) = (deadline, self.runtime().gate()) {
            gate.open_until(deadline);
        }
    }
}
