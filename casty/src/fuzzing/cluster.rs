//! What nodes of a cluster say to each other about it.

use std::sync::Arc;

use foca::{AccumulatingRuntime, Foca, Header, Member, NoCustomBroadcast};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    check::{decoded, is_kept, is_same, is_short, sparing},
    seeds,
};
use crate::{
    cluster::{
        authority::raft::types::{Decision, RaftAnswer, RaftCall},
        gossip::{
            codec::{GossipId, MessagePack},
            config,
        },
        map_watch::MapWatch,
        peers::wire::{Request, Response},
    },
    config::Settings,
    message::codec,
    protocol::{
        facts::{Digest, Facts, FactsTable},
        map::ClusterMap,
    },
};

/// The most decisions of one input.
const DECISIONS_MAX: usize = 64;

/// The commands of the map, one after the other as the engine's log has them, and the calls of the
/// engine that carry them.
pub fn map_command(bytes: &[u8]) {
    decoded::<RaftCall>(bytes);
    decoded::<RaftAnswer>(bytes);
    decoded::<ClusterMap>(bytes);
    let mut map = seeds::map();
    let mut rest = bytes;
    for _ in 0..DECISIONS_MAX {
        match sparing(rest.len(), || codec::decode_first::<Decision>(rest)) {
            Ok((decision, after)) => {
                rest = after;
                is_kept(&decision);
                decided(&mut map, &decision, bytes.len());
            }
            Err(error) => return is_short(&error),
        }
    }
}

/// A map that a log would lead to is a map, and a decision that is refused changes nothing.
fn decided(map: &mut ClusterMap, decision: &Decision, length: usize) {
    let Decision::Change(command) = decision else {
        // A cluster is founded once.
        return;
    };
    let before = map.clone();
    match sparing(length, || map.apply(command)) {
        Ok(()) => is_kept(map),
        Err(error) => {
            is_short(&error);
            is_kept(&error);
            assert_eq!(*map, before, "{error}");
        }
    }
}

/// The datagrams of gossip, and what else is sent on the lane of control.
pub fn gossip(bytes: &[u8]) {
    match decoded::<Request>(bytes) {
        Some(Request::Gossip(datagram)) => told(&datagram),
        Some(Request::Digest { digest, .. }) => compared(&digest),
        Some(Request::Facts(facts)) => {
            let mut table = table();
            table.merge(facts);
            is_kept(&table.digest());
        }
        _ => {}
    }
    decoded::<Response>(bytes);
    if let Some(digest) = decoded::<Digest>(bytes) {
        compared(&digest);
    }
    decoded::<Facts>(bytes);
    datagram(bytes);
    told(bytes);
}

fn table() -> FactsTable {
    FactsTable::new(seeds::member("a"), seeds::facts())
}

fn compared(digest: &Digest) {
    let (newer, is_behind) = table().compare(digest);
    let ours = seeds::member("a");
    assert!(newer.len() <= 1 && newer.keys().all(|member| *member == ours));
    assert!(!is_behind || digest.keys().any(|member| *member != ours));
}

/// Header and updates are read as they are written.
fn datagram(bytes: &[u8]) {
    let mut rest = bytes;
    let read = sparing(bytes.len(), || {
        MessagePack::take::<Header<GossipId>>(&mut rest)
    });
    match read {
        Ok(header) => {
            let mut out = Vec::new();
            MessagePack::put(&header, &mut out).expect("what was read can be written");
            let again: Header<GossipId> =
                MessagePack::take(&out[..]).expect("what was written can be read");
            is_same(&header, &again);
        }
        Err(error) => return is_short(&error),
    }
    while !rest.is_empty() {
        match MessagePack::take::<Member<GossipId>>(&mut rest) {
            Ok(update) => {
                let mut out = Vec::new();
                MessagePack::put(&update, &mut out).expect("what was read can be written");
                let again: Member<GossipId> =
                    MessagePack::take(&out[..]).expect("what was written can be read");
                is_same(&update, &again);
            }
            Err(error) => return is_short(&error),
        }
    }
}

/// A node takes whatever it is told without harm, and goes on to talk.
fn told(bytes: &[u8]) {
    let map = seeds::map();
    let peer = seeds::member("b");
    MessagePack::is_from(bytes, &peer, &map);
    let watch = Arc::new(MapWatch::default());
    watch.offer(map);
    let me = seeds::gossip_id("a");
    let codec = MessagePack::new(me.member.clone(), watch);
    let (settings, rng) = (Settings::default(), StdRng::seed_from_u64(1));
    let mut swim: Foca<GossipId, MessagePack, StdRng, NoCustomBroadcast> =
        Foca::new(me, config(&settings), rng, codec);
    let mut effects = AccumulatingRuntime::new();
    if let Err(error) = swim.handle_data(bytes, &mut effects) {
        is_short(&error);
    }
    while let Some((_, answer)) = effects.to_send() {
        datagram(&answer);
    }
    let _ = swim.gossip(&mut effects);
}
