//! The requests of peers on the control lane, and their answers.

use std::sync::Arc;

use crate::{
    cluster::{
        authority::Authority as _,
        gossip::Input,
        handoff::receive_part,
        node::Node,
        peers::wire::{Answer, Call, Inspection, ProposalError, Request, Response, respond},
        process::Job,
        reading::answer::answer_of,
    },
    infra::cancel::unless,
    transport::connection::Inlet,
};

/// A request of `bytes` on the control lane of a connection from a peer.
pub(crate) fn handle_request(node: &Arc<Node>, inlet: &Arc<Inlet>, request: Request, bytes: usize) {
    match request {
        Request::Gossip(datagram) => {
            let from = inlet.peer.clone();
            gossip(node, inlet, bytes, Input::Datagram { from, datagram });
        }
        Request::Digest { from, digest } if from == inlet.peer => {
            gossip(node, inlet, bytes, Input::Digest { from, digest });
        }
        Request::Digest { .. } => {}
        Request::Facts(records) => gossip(node, inlet, bytes, Input::Facts(records)),
        Request::Watch { version } => {
            // A node without an engine does not answer, and the watcher looks for another.
            if let Some(engine) = node.current_membership().voter.engine() {
                engine.add_watcher(inlet, version);
            }
        }
        Request::Has { version } => {
            if let Some(engine) = node.current_membership().voter.engine() {
                engine.handle_has(&inlet.peer, version);
            }
        }
        Request::Call { id, call } => handle_call(node, inlet, id, call),
    }
}

/// Gossip is sent again, so an input that finds no room is not missed. Only a member's is taken: a
/// stranger could say anything, and of anybody.
fn gossip(node: &Node, inlet: &Inlet, bytes: usize, input: Input) {
    if node.has_member(&inlet.peer) && !node.gossip.try_send(bytes, input) {
        tracing::debug!(peer = %inlet.peer, "gossip finds no room");
    }
}

fn handle_call(node: &Arc<Node>, inlet: &Arc<Inlet>, id: u64, call: Call) {
    let Some(place) = node.peers.begin_answer(inlet) else {
        let reason = "too many calls at a time".to_owned();
        let answer = match call {
            Call::Raft(_) => Answer::Raft(Err(reason)),
            _ => Answer::Decided(Err(ProposalError::Undecided(reason))),
        };
        return respond(inlet, &Response::Answer { id, answer });
    };
    let (me, inlet) = (node.clone(), inlet.clone());
    node.process.spawn(Job::Calls, async move {
        let answer = unless(&inlet.cancel, answer(&me, call)).await;
        drop(place);
        if let Some(answer) = answer {
            respond(&inlet, &Response::Answer { id, answer });
        }
    });
}

async fn answer(node: &Node, call: Call) -> Answer {
    match call {
        Call::Inspect => Answer::Inspected(Box::new(inspect(node))),
        Call::Recover { force } => {
            let membership = node.current_membership();
            Answer::Recovered(membership.contact.tenure.inputs.recover(force).await)
        }
        Call::Receive {
            kind,
            shard,
            epoch,
            first,
            part,
        } => Answer::Received(receive_part(node, &kind, shard, epoch, first, part)),
        Call::Read(read) => Answer::Read(answer_of(node, *read).await),
        Call::Held { kind, shards } => {
            let held = match node.setup.copies.as_ref() {
                Some(copies) => copies.held(&kind, shards).await,
                None => Ok(Vec::new()),
            };
            Answer::Held(held.map_err(|error| error.to_string()))
        }
        call => node.current_membership().voter.answer(call).await,
    }
}

/// This node's knowledge, for the operator of the cluster.
fn inspect(node: &Node) -> Inspection {
    let membership = node.current_membership();
    let contact = &membership.contact;
    let member = contact.local.member.clone();
    let engine = membership.voter.engine();
    let leads = engine.as_ref().is_some_and(|e| e.leads_in().is_some());
    let leader = engine.and_then(|engine| engine.leader());
    let leader = leader.or_else(|| contact.voters.leader());
    let mut said = membership.rumors.said();
    said.insert(member.clone(), node.says());
    let map = node.map.latest();
    let kept = map.as_ref().and_then(|map| {
        let slot = map.member(&member)?.slot;
        Some(node.kept_shards.of(map, slot))
    });
    Inspection {
        leader: if leads {
            Some(member.clone())
        } else {
            leader.map(|leader| leader.member)
        },
        member,
        map: map.map(|map| (*map).clone()),
        entities: said
            .iter()
            .map(|(id, said)| (id.clone(), said.load))
            .collect(),
        roles: said
            .into_iter()
            .map(|(id, said)| (id, said.roles))
            .collect(),
        dead: membership.rumors.dead(),
        serves: contact.tenure.may_act(),
        kept: kept.unwrap_or_default(),
        gone: node.map.gone(),
        certificate_until: node.peers.certificate_until(),
    }
}
