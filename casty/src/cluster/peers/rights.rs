//! What a peer may ask for on the control lane, by the part in the cluster that its certificate
//! gives it.

use super::wire::{Call, Proposal, Request};
use crate::{protocol::map::Command, transport::identity::PeerRole};

/// Whether a peer of this role may say this.
///
/// A client asks for what it needs to find receivers, and for what is stored. An operator asks for
/// everything that a node knows, and for the changes that its commands are for. The rest is said
/// between members: gossip, the log of the map, leases, moves.
pub(crate) fn permits(role: PeerRole, request: &Request) -> bool {
    let call = match (role, request) {
        (PeerRole::Member, _) | (_, Request::Watch { .. }) => return true,
        // What a client has is no second copy of the map.
        (
            _,
            Request::Gossip(_) | Request::Digest { .. } | Request::Facts(_) | Request::Has { .. },
        ) => return false,
        (_, Request::Call { call, .. }) => call,
    };
    match call {
        Call::Read(_) | Call::Propose(Proposal::Allocate { .. }) => true,
        Call::Inspect
        | Call::Recover { .. }
        | Call::Held { .. }
        | Call::Propose(Proposal::Apply(Command::Leave { .. } | Command::BeginAnew { .. })) => {
            role == PeerRole::Operator
        }
        Call::Propose(Proposal::Apply(_))
        | Call::Renew { .. }
        | Call::Raft(_)
        | Call::Receive { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_bytes::ByteBuf;

    use super::*;
    use crate::{
        id::{Epoch, ShardId},
        protocol::map::tests::member,
    };

    /// By whom each may be said: client, operator, member.
    fn said_by(request: &Request) -> [bool; 3] {
        [PeerRole::Client, PeerRole::Operator, PeerRole::Member].map(|role| permits(role, request))
    }

    fn call(call: Call) -> Request {
        Request::Call { id: 1, call }
    }

    #[test]
    fn members_alone_say_what_the_cluster_rests_on() {
        let from = member("a", 1);
        for request in [
            Request::Gossip(ByteBuf::new()),
            Request::Facts(BTreeMap::new()),
            Request::Has { version: 1 },
            Request::Digest {
                from: from.clone(),
                digest: BTreeMap::new(),
            },
            call(Call::Renew {
                member: from.clone(),
                passed_on: false,
                report: None,
            }),
            call(Call::Receive {
                kind: "Cart".to_owned(),
                shard: ShardId(1),
                epoch: Epoch(1),
                first: true,
                part: Vec::new(),
            }),
            call(Call::Propose(Proposal::Apply(Command::Down {
                member: from.clone(),
            }))),
        ] {
            assert_eq!(said_by(&request), [false, false, true], "{request:?}");
        }
    }

    #[test]
    fn operators_ask_and_change_and_clients_do_not() {
        for request in [
            call(Call::Inspect),
            call(Call::Recover { force: true }),
            call(Call::Held {
                kind: "Cart".to_owned(),
                shards: Vec::new(),
            }),
        ] {
            assert_eq!(said_by(&request), [false, true, true], "{request:?}");
        }
    }

    #[test]
    fn clients_find_receivers() {
        for request in [
            Request::Watch { version: 0 },
            call(Call::Propose(Proposal::Allocate {
                kind: "Cart".to_owned(),
                shards: Vec::new(),
            })),
        ] {
            assert_eq!(said_by(&request), [true, true, true], "{request:?}");
        }
    }
}
