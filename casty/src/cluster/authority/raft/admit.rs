//! Admits processes to the cluster. What the leader sees of them is judged by
//! [`protocol/admission`](crate::protocol::admission).

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::{RaftEngine, types::Decision};
use crate::{
    cluster::peers::wire::ProposalError,
    id::MemberId,
    protocol::{
        admission::{Admission, Holder, admission, holder},
        map::{Command, MapError, Status},
    },
    tie::Verdict,
    transport::handshake::HandshakeError,
};

impl RaftEngine {
    /// Admits a member that the leader reaches, and whose name no other process has. If it replaces
    /// an incarnation that could still go on by itself, that pair is claimed first.
    pub(super) async fn admit(&self, join: Command) -> Result<u64, ProposalError> {
        if let Command::Join {
            member, address, ..
        } = &join
            && *member != self.member()
        {
            if self.leads_in().is_none() {
                return Err(self.not_the_leader());
            }
            let (reached, free) = tokio::join!(
                self.check_reach(member, *address),
                self.check_name(member, *address)
            );
            free.and(reached)?;
        }
        for older in self.unclaimed(&join) {
            let now = Instant::now();
            let claims = self
                .ties()
                .is_some_and(|mut ties| ties.claim_now(&older, now));
            let won = claims
                && self.claim(&older).await.map_err(ProposalError::Undecided)? == Verdict::Won;
            if !won {
                let reason = format!("the tie-breaker may have decided for `{older}`");
                return Err(ProposalError::Undecided(reason));
            }
        }
        let version = {
            let _alone = self.alone().await;
            if let Some(older) = self.unclaimed(&join).first() {
                let reason = format!("`{older}` has just joined");
                return Err(ProposalError::Undecided(reason));
            }
            self.decide(Decision::Change(join)).await?
        };
        self.keep(version).await;
        Ok(version)
    }

    /// The members that this node, as sole voter, has to claim before they may be replaced.
    fn unclaimed(&self, join: &Command) -> Vec<MemberId> {
        let Some(ties) = self.ties() else {
            return Vec::new();
        };
        match (join, self.machine.map()) {
            (Command::Join { member, since, .. }, Some(map)) if self.is_sole() => {
                ties.unclaimed(&map, member, *since)
            }
            _ => Vec::new(),
        }
    }

    /// How long a process may take to answer. The process that wants to join waits meanwhile.
    fn look_limit(&self) -> Duration {
        (self.limit / 4).min(self.settings().connect_timeout)
    }

    /// Dials the process at the address that it advertises. A member that others cannot reach
    /// would get shards, and no messages for them.
    async fn check_reach(
        &self,
        member: &MemberId,
        address: SocketAddr,
    ) -> Result<(), ProposalError> {
        let greeting = self.parts.peers.greet(address, self.look_limit());
        let reason = match greeting.await {
            Ok(welcome) if welcome.member == *member => return Ok(()),
            Ok(welcome) => format!("`{}` answers there", welcome.member),
            Err(error) => error.to_string(),
        };
        let member = member.clone();
        tracing::warn!(%member, %address, reason, "a process may not join: it is not reached at its address");
        Err(ProposalError::Refused(MapError::NotReached {
            member,
            address,
            reason,
        }))
    }

    /// Checks that no other process has the name.
    async fn check_name(
        &self,
        member: &MemberId,
        address: SocketAddr,
    ) -> Result<(), ProposalError> {
        let Some(map) = self.machine.map() else {
            return Ok(());
        };
        let Some((other, at)) = holder(&map, member, address) else {
            return Ok(());
        };
        let sight = self.look_at(other, at.address).await;
        // It may have begun to leave since.
        let status = self.machine.map().and_then(|map| map.status(other));
        match admission(status.unwrap_or(Status::Down), sight) {
            Admission::Admit => Ok(()),
            Admission::Taken => {
                let (member, by) = (member.clone(), at.address);
                tracing::warn!(
                    name = %member.node, %address, %by,
                    "a second process under the name of a member may not join"
                );
                Err(ProposalError::Refused(MapError::NameTaken { member, by }))
            }
            Admission::Later => {
                let reason = format!("`{other}` may still be running at {}", at.address);
                Err(ProposalError::Undecided(reason))
            }
        }
    }

    async fn look_at(&self, member: &MemberId, address: SocketAddr) -> Holder {
        if *member == self.member() {
            return Holder::Answers;
        }
        let asked = Instant::now();
        match self.parts.peers.greet(address, self.look_limit()).await {
            Ok(welcome) if welcome.member == *member => Holder::Answers,
            Ok(_) => Holder::Gone,
            Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                Holder::Gone
            }
            Err(_) => {
                let grants = self.grants();
                Holder::Silent {
                    renewed: grants.until(member) > Some(asked + self.times.guard),
                    over: grants.is_over(member, Instant::now()),
                }
            }
        }
    }
}
