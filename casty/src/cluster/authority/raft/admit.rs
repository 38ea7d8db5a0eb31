//! Looks at processes that want to join, and at those that have their names.
//! [`protocol/admission`](crate::protocol::admission) judges what is seen.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use crate::{
    cluster::peers::Peers,
    id::MemberId,
    protocol::{admission::Holder, map::MapError},
    transport::handshake::HandshakeError,
};

/// The leader's sight of other processes.
pub(super) struct Lookout<'a> {
    pub(super) me: &'a MemberId,
    pub(super) peers: &'a Peers,
    /// How long a process may take to answer.
    pub(super) limit: Duration,
}

impl Lookout<'_> {
    /// Dials the process at the address that it advertises. A member that others cannot reach
    /// would get shards, and no messages for them.
    pub(super) async fn check_reach(
        self,
        member: &MemberId,
        address: SocketAddr,
    ) -> Result<(), MapError> {
        let reason = match self.peers.greet(address, self.limit).await {
            Ok(welcome) if welcome.member == *member => return Ok(()),
            Ok(welcome) => format!("`{}` answers there", welcome.member),
            Err(error) => error.to_string(),
        };
        let member = member.clone();
        tracing::warn!(%member, %address, reason, "a process may not join: it is not reached at its address");
        Err(MapError::NotReached {
            member,
            address,
            reason,
        })
    }

    /// Looks for a member at its address. `None` if nothing is known of it.
    pub(super) async fn look_at(self, member: &MemberId, address: SocketAddr) -> Option<Holder> {
        if member == self.me {
            return Some(Holder::Answers);
        }
        match self.peers.greet(address, self.limit).await {
            Ok(welcome) if welcome.member == *member => Some(Holder::Answers),
            Ok(_) => Some(Holder::Gone),
            Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                Some(Holder::Gone)
            }
            Err(_) => None,
        }
    }
}
