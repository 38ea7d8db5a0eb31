//! Real encodings, with which the corpora begin, and the cluster that the targets judge by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use foca::{Header, Message, State};
use openraft::{
    EntryPayload, alias::EntryOf, impls::leader_id_std::LeaderId, vote::RaftLeaderIdExt,
};
use serde::Serialize;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use crate::{
    cluster::{
        authority::raft::types::{Decision, RaftAsk, RaftCall, Types},
        gossip::codec::{GossipId, MessagePack},
        peers::wire::{Call, Proposal, Request, Response},
    },
    config::Settings,
    id::{
        CatalogEntry, ClusterIdentity, CopySettings, Epoch, Generation, Incarnation, MemberId,
        NodeId, Seeker, ShardId,
    },
    message::{changed::ChangedFields, codec},
    persistence::{
        keys::KeyedReply,
        record_body::{RecordBody, WrittenEvent, WrittenState},
        reminders::{ReminderChange, WrittenReminder},
        replicated::{
            CopyEnvelope, Tidy,
            body::{CopiedBody, Forgotten},
            message::StoreMessage,
            wire,
        },
        sends::{Ledger, OnceTerms, SendTerms, TakenSend, WrittenSend},
    },
    protocol::{
        copies::{Append, CopiedRecord, CopyMessage, LogPoint, StoreId},
        facts::Facts,
        lease::LeaseTimes,
        map::{Assignment, ClusterMap, Command, Seat, Site},
        outbox::SendMark,
        reminders::timetable::{Missed, Timetable},
    },
    trace::TraceContext,
    transport::{
        check,
        frame::{EntityFrame, Frame},
        handshake::{self, HandshakeRefusal, Hello, Lane, SharedSettings, Welcome},
    },
};

/// What a corpus begins with.
///
/// # Panics
/// If there is no such target, or it needs types of a program.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(),
        "handshake" => handshakes(),
        "map_command" => commands(),
        "gossip" => gossip(),
        "journal_record" => records(),
        "segment" => casty_log::fuzzing::seeds(),
        "replicated" => stores(),
        "identity" => [
            "casty://shop/member/node-1",
            "casty://shop/client/web",
            "casty://caf%C3%A9/operator/10.0.0.1%3A25520",
            "spiffe://example.org/shop/client/web",
            "member",
        ]
        .map(|uri| uri.as_bytes().to_vec())
        .into(),
        #[cfg(feature = "config")]
        "config" => vec![
            crate::config::file::defaults()[..3000].into(),
            crate::config::file::written(&Settings::default()).into(),
            b"listen = \"0.0.0.0:1\"\nseeds = [\"a:1\", \"b:2\"]\n[settings]\nlease = \"2s\"\n"
                .into(),
            b"#\nCASTY_LEASE=3s\nCASTY_COPIES=5\nCASTY_ROLES=web, zone:eu\n".into(),
            b"listn = 1\n[tls]\nkey = \"a\"\n[setings]\n[settings]\nclock_drift = 0.1\n".into(),
        ],
        other => panic!("no target `{other}` without types"),
    }
}

/// What waits for an answer that was sent once, before a chain.
pub fn terms() -> Vec<u8> {
    let once = OnceTerms::Send(SendTerms {
        kind: "Account".into(),
        shard: 3,
        mark: mark(7),
        after: Some(mark(6)),
        from: "ada".into(),
        answer: None,
        is_given_up: false,
    });
    crate::actor::ask::terms::Terms::once(once).encoded(chain())
}

/// Terms with a key, before a chain.
pub fn keyed_terms() -> Vec<u8> {
    let terms = crate::actor::ask::terms::Terms::new(Some("order-17".to_owned()), true);
    terms.encoded(chain())
}

/// The actors that wait.
pub fn chain() -> Vec<u8> {
    written(&[
        ("Account/ada", member("b"), 3_u64),
        ("Bank/1", member("a"), 1),
    ])
}

/// An entity frame without its kind.
pub fn entity_frame(id: &str, chain: &[u8], payload: &[u8]) -> Vec<u8> {
    framed(&Frame::Entity(entity(id, chain, payload)))[crate::transport::frame::PREFIX_BYTES + 1..]
        .to_vec()
}

/// An event as a record has it.
pub fn stored_event(name: &str, version: u32, arguments: &[u8]) -> Vec<u8> {
    written(&event(name, version, arguments))
}

/// A value, written as casty writes it.
///
/// # Panics
/// If it cannot be written.
pub fn written<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    codec::to_vec(value).expect("it can be written")
}

pub(super) fn member(name: &str) -> MemberId {
    MemberId {
        node: NodeId::new(name),
        incarnation: Incarnation(1),
    }
}

fn address(name: &str) -> SocketAddr {
    let port = name.bytes().fold(0, |sum, byte| sum + u16::from(byte));
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(super) fn gossip_id(name: &str) -> GossipId {
    GossipId {
        member: member(name),
        address: address(name),
        renewal: 0,
    }
}

fn cluster() -> ClusterIdentity {
    ClusterIdentity {
        uuid: Uuid::from_u128(1),
        generation: Generation::new(7, 0),
    }
}

fn catalog() -> Vec<CatalogEntry> {
    let entry = |name: &str, copies| CatalogEntry {
        name: name.into(),
        shards: 4,
        fingerprint: 9,
        copies,
    };
    let copies = CopySettings {
        copies: 3,
        copies_min: 2,
    };
    vec![entry("Counter", None), entry("Account", Some(copies))]
}

pub(super) fn hello() -> Hello {
    Hello {
        cluster: "shop".into(),
        identity: Some(cluster()),
        member: member("a"),
        address: Some(address("a")),
        lane: Lane::Messages,
        keeps_seat: true,
        catalog: catalog(),
        to: None,
        settings: Some(SharedSettings::of(&Settings::default())),
    }
}

pub(super) fn facts() -> Facts {
    Facts {
        version: 1,
        address: address("a"),
        catalog: catalog(),
        roles: BTreeSet::from(["web".to_owned()]),
        load: 3,
    }
}

fn lease() -> LeaseTimes {
    LeaseTimes::new(Duration::from_secs(3), 0.05)
}

/// Two members that are up, and one that is about to be.
pub(super) fn map() -> ClusterMap {
    let site = Site {
        address: address("a"),
        zone: None,
        store: Some(store(1)),
    };
    let mut map = ClusterMap::found(cluster(), member("a"), &site, &catalog(), lease(), false);
    for command in [
        join("b"),
        Command::Up {
            member: member("b"),
        },
        assign(0, "a"),
        assign(1, "b"),
        join("c"),
    ] {
        map.apply(&command).expect("the cluster forms");
    }
    map
}

fn join(name: &str) -> Command {
    Command::Join {
        member: member(name),
        address: address(name),
        catalog: catalog(),
        lease: lease(),
        tie_breaker: false,
        since: Incarnation(1),
        seat: None,
        store: Some(store(name.bytes().map(u128::from).sum())),
        zone: Some("eu".into()),
    }
}

fn assign(shard: u32, to: &str) -> Command {
    Command::Assign {
        assignments: vec![Assignment {
            kind: "Counter".into(),
            shard: ShardId(shard),
            expected: Epoch(0),
            to: member(to),
            copies: Vec::new(),
        }],
    }
}

fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

fn mark(position: u64) -> SendMark {
    SendMark {
        epoch: Epoch(2),
        position,
        index: 1,
    }
}

fn entity<'a>(id: &'a str, chain: &'a [u8], payload: &'a [u8]) -> EntityFrame<'a> {
    EntityFrame {
        kind: 1,
        hops: 0,
        epoch: 7,
        correlation: 9,
        id,
        chain,
        payload,
    }
}

fn framed(frame: &Frame<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    frame.put(&mut out).expect("a short frame");
    out
}

fn frames() -> Vec<Vec<u8>> {
    let frame = entity("ada", b"\x90", b"\x81\xa3add\x81\xa2by\x03");
    let all = [
        Frame::Entity(frame),
        Frame::actor(3, b"", b"\x01"),
        Frame::Reply {
            correlation: 9,
            epoch: 7,
            payload: b"\x05",
        },
        Frame::Fail {
            correlation: 9,
            payload: b"\xa5Other",
        },
        Frame::Bounce { epoch: 8, frame },
        Frame::Credit {
            received: 100,
            granted: 65_536,
        },
        Frame::Control(b"\xc0"),
        Frame::Ping,
        Frame::Pong,
        Frame::Goodbye { received: 5 },
        Frame::GiveUp { correlation: 9 },
    ];
    let whole = all.iter().map(|frame| framed(frame).to_vec());
    let bare = all.iter().map(|frame| framed(frame)[8..].to_vec());
    whole.chain(bare).collect()
}

/// What a peer would send for this message.
pub(super) fn sealed(message: &[u8]) -> Vec<u8> {
    let mut stream = handshake::preamble(handshake::PROTOCOL).to_vec();
    let length = u32::try_from(message.len()).expect("a short input");
    stream.extend(check::prefix(length, message));
    stream.extend(message);
    stream
}

fn handshakes() -> Vec<Vec<u8>> {
    let hello = hello();
    let welcome = |seeker| Welcome {
        identity: hello.identity,
        member: hello.member.clone(),
        keeps_seat: false,
        voters: vec![(member("b"), address("b"))],
        seeker,
    };
    let seeker = Seeker {
        address: address("a"),
        known: BTreeSet::from([address("a"), address("b")]),
        vote: None,
    };
    let refused = [
        HandshakeRefusal::ClusterName {
            ours: "shop".into(),
            theirs: "bank".into(),
        },
        HandshakeRefusal::OtherMember {
            expected: member("a"),
            found: member("b"),
            keeps_seat: true,
        },
        HandshakeRefusal::Shards {
            name: "Counter".into(),
            ours: 4,
            theirs: 8,
        },
        HandshakeRefusal::Down(member("c")),
    ];
    let client = Hello {
        address: None,
        identity: None,
        settings: None,
        to: Some(member("b")),
        ..hello.clone()
    };
    let mut all = vec![sealed(&written(&hello)), written(&hello), written(&client)];
    let answers = [Ok(welcome(None)), Ok(welcome(Some(seeker)))];
    let answers = answers.into_iter().chain(refused.map(Err));
    all.extend(answers.map(|answer: Result<_, HandshakeRefusal>| written(&answer)));
    all
}

fn commands() -> Vec<Vec<u8>> {
    let shards = vec![(ShardId(0), Epoch(1))];
    let (kind, a) = ("Counter".to_owned(), member("a"));
    let moves = vec![Assignment {
        kind: kind.clone(),
        shard: ShardId(0),
        expected: Epoch(1),
        to: member("b"),
        copies: Vec::new(),
    }];
    let all = [
        join("d"),
        Command::Up {
            member: member("c"),
        },
        Command::Leave { member: a.clone() },
        Command::Down { member: a.clone() },
        Command::Remove {
            member: member("b"),
        },
        assign(2, "b"),
        Command::Revoke { moves },
        Command::Release {
            member: a.clone(),
            kind: kind.clone(),
            shards: shards.clone(),
        },
        Command::Keep {
            member: a.clone(),
            kind,
            shards,
        },
        Command::DropStore { store: store(1) },
        Command::CopiesMin {
            kind: "Account".into(),
            min: 1,
        },
        Command::Voters {
            voters: map().voters,
        },
    ];
    let all = all.map(Decision::Change);
    let mut out: Vec<Vec<u8>> = all.iter().map(written).collect();
    out.push(out.concat());
    out.push(written(&Decision::Found(Box::new(map()))));
    out.push(written(&map()));
    let log_id = openraft::LogId::new(LeaderId::new_committed(1, 1), 3);
    let entries = all.into_iter().take(2).map(|decision| EntryOf::<Types> {
        log_id,
        payload: EntryPayload::Normal(decision),
    });
    let append = openraft::raft::AppendEntriesRequest {
        vote: openraft::Vote::new_committed(1, 1),
        prev_log_id: Some(log_id),
        entries: entries.collect(),
        leader_commit: None,
    };
    out.push(written(&RaftCall {
        to: Seat(0),
        given_to: a,
        ask: RaftAsk::Append(append),
    }));
    out
}

fn gossip() -> Vec<Vec<u8>> {
    let datagram = |message| {
        let header = Header {
            src: gossip_id("b"),
            src_incarnation: 3,
            dst: gossip_id("a"),
            message,
        };
        let mut out = Vec::new();
        MessagePack::put(&header, &mut out).expect("it can be written");
        for (name, state) in [
            ("c", State::Suspect),
            ("a", State::Down),
            ("b", State::Alive),
        ] {
            let update = foca::Member::new(gossip_id(name), 4, state);
            MessagePack::put(&update, &mut out).expect("it can be written");
        }
        out
    };
    let datagrams = [
        datagram(Message::Gossip),
        datagram(Message::Ping(7)),
        datagram(Message::Announce),
        datagram(Message::TurnUndead),
    ];
    let digest = BTreeMap::from([(member("a"), 1), (member("b"), 4)]);
    let requests = [
        Request::Gossip(ByteBuf::from(datagrams[0].clone())),
        Request::Digest {
            from: member("b"),
            digest: digest.clone(),
        },
        Request::Facts(BTreeMap::from([(member("b"), facts())])),
        Request::Watch { version: 3 },
        Request::Call {
            id: 4,
            call: Call::Propose(Proposal::Allocate {
                kind: "Counter".into(),
                shards: vec![ShardId(2)],
            }),
        },
        Request::Call {
            id: 5,
            call: Call::Held {
                kind: "Account".into(),
                shards: vec![ShardId(1)],
            },
        },
    ];
    let responses = [
        Response::Map(map()),
        Response::Changes(vec![(4, join("d"))]),
    ];
    let mut all = Vec::from(datagrams);
    all.extend(requests.iter().map(written));
    all.extend(responses.iter().map(written));
    all.extend([written(&digest), written(&facts())]);
    all
}

fn event(name: &str, version: u32, arguments: &[u8]) -> WrittenEvent {
    WrittenEvent {
        name: name.into(),
        version,
        bytes: ByteBuf::from(arguments),
    }
}

fn records() -> Vec<Vec<u8>> {
    let old = written(&BTreeMap::from([("cents", 5), ("euros", 3)]));
    let new = written(&BTreeMap::from([("cents", 7), ("more", 3)]));
    let many = |count: u64, last: u64| {
        let names = (0..count).map(|at| (format!("field {at}"), if at == 2 { last } else { at }));
        written(&names.collect::<BTreeMap<_, _>>())
    };
    let (earlier, later) = (many(9, 4), many(9, 5));
    let state = |bytes: &[u8]| {
        Some(WrittenState {
            name: "Open".into(),
            bytes: ByteBuf::from(bytes),
        })
    };
    let bodies = [
        RecordBody {
            events: vec![event("deposited", 2, &old), event("noted", 1, &new)],
            key: Some(KeyedReply {
                key: "order-17".into(),
                message: "deposit".into(),
                reply: Some(ByteBuf::from([5])),
            }),
            ..RecordBody::default()
        },
        RecordBody {
            state: state(&earlier),
            fields: ChangedFields::since(&earlier, &later),
            ..RecordBody::default()
        },
        RecordBody {
            state: state(&old),
            position: 7,
            forgotten: 2,
            last_taken: vec![TakenSend {
                kind: "Account".into(),
                shard: 3,
                mark: mark(2),
            }],
            ..RecordBody::default()
        },
        RecordBody {
            erases: true,
            trace: TraceContext::new(9, 10, 1).map(Box::new),
            sends: vec![WrittenSend {
                kind: "Account".into(),
                entity: "ada".into(),
                message: "deposit".into(),
                bytes: ByteBuf::from(&new[..]),
                answer: None,
                trace: TraceContext::new(7, 8, 1).map(Box::new),
            }],
            reminders: vec![
                ReminderChange::Set(WrittenReminder {
                    name: "renew".into(),
                    due: 1_700_000_000_000,
                    timetable: Timetable::Cron {
                        expression: "0 9 * * 1".into(),
                        zone: "Europe/Berlin".into(),
                    },
                    missed: Missed::All(3),
                    message: "renew".into(),
                    bytes: ByteBuf::new(),
                    trace: None,
                }),
                ReminderChange::Gone("old".into()),
            ],
            ledger: Some(Ledger {
                through: 4,
                left: vec![2],
                ..Ledger::default()
            }),
            ..RecordBody::default()
        },
    ];
    let mut all: Vec<Vec<u8>> = bodies.iter().map(written).collect();
    all.extend([old.clone(), [old, new].concat(), [earlier, later].concat()]);
    all
}

fn stores() -> Vec<Vec<u8>> {
    let body = |forgotten| CopiedBody {
        seq: 3,
        at: 1_700_000_000_000,
        entity: "ada".into(),
        body: Bytes::from_static(b"\x80"),
        forgotten,
    };
    let snapshot = casty_log::Snapshot {
        seq: 2,
        at: 1,
        body: Bytes::from_static(b"state"),
    };
    let bodies = [
        None,
        Some(Forgotten::Later),
        Some(Forgotten::Snapshot(snapshot)),
        Some(Forgotten::Erased),
    ];
    let bodies = bodies.map(|forgotten| body(forgotten).encode());
    let point = LogPoint {
        position: 9,
        epoch: Epoch(6),
    };
    let records = bodies.iter().zip([6, 7, 7, 7]);
    let records = records.map(|(body, epoch)| CopiedRecord {
        epoch: Epoch(epoch),
        body: body.clone(),
    });
    let append = Append {
        epoch: Epoch(7),
        life: Epoch(2),
        start: 3,
        prev: point,
        records: records.collect(),
    };
    let messages = [
        StoreMessage::Copy(CopyMessage::Append(append)),
        StoreMessage::Copy(CopyMessage::Confirm {
            epoch: Epoch(7),
            position: 12,
        }),
        StoreMessage::Copy(CopyMessage::Refused { promised: Epoch(8) }),
        StoreMessage::Tidy {
            epoch: Epoch(7),
            durable: point,
            number: 2,
            tidy: Tidy::Forget {
                entity: "ada".into(),
                through: 4,
            },
        },
        StoreMessage::Listed {
            epoch: Epoch(7),
            after: None,
            entities: Vec::new(),
            is_last: true,
        },
    ];
    let envelopes: Vec<_> = messages
        .into_iter()
        .zip(["Account", "Account", "Order", "Order", "Order"])
        .map(|(message, kind)| CopyEnvelope {
            kind: kind.into(),
            shard: 2,
            from: store(1),
            to: store(2),
            message,
        })
        .collect();
    let mut all = Vec::new();
    for some in [&envelopes[..], &envelopes[..1], &envelopes[3..]] {
        let mut out = Vec::new();
        wire::encode(some, usize::MAX, &mut out).expect("it can be written");
        all.push(out);
    }
    all.push(written(&envelopes[3]));
    all.extend(bodies.iter().map(|body| body.to_vec()));
    all
}
