//! A peer that speaks the protocol well, and lies: about the cluster's generation, about members.

use std::{collections::BTreeMap, net::SocketAddr};

use casty::{
    id::{Incarnation, MemberId, NodeId},
    member::MemberStatus,
    prelude::*,
};
use casty_tests::Counter;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::raw::{framed, greeting, length_after_preamble};
use crate::support::{cluster, eventually, shutdown, soon};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    uuid: ByteBuf,
    generation: u64,
}

#[derive(Serialize)]
pub(crate) struct Hello {
    pub(crate) cluster: &'static str,
    pub(crate) identity: Option<Identity>,
    pub(crate) member: MemberId,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) lane: &'static str,
    pub(crate) catalog: Vec<()>,
    pub(crate) to: Option<MemberId>,
}

#[derive(Debug, Deserialize)]
struct Welcome {
    identity: Option<Identity>,
}

/// Why the node refuses. It does not matter here.
type Refusal = serde::de::IgnoredAny;

#[derive(Serialize)]
pub(crate) struct Facts {
    version: u64,
    address: SocketAddr,
    catalog: Vec<()>,
    roles: Vec<String>,
    load: u64,
}

#[derive(Serialize)]
pub(crate) enum Call {
    Inspect,
}

#[derive(Serialize)]
pub(crate) enum Request {
    Watch {
        version: u64,
    },
    Call {
        id: u64,
        call: Call,
    },
    Digest {
        from: MemberId,
        digest: BTreeMap<MemberId, u64>,
    },
    Facts(BTreeMap<MemberId, Facts>),
}

pub(crate) fn member(name: &str) -> MemberId {
    MemberId {
        node: NodeId::new(name),
        incarnation: Incarnation(1),
    }
}

pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

/// A stranger's connection on the control lane, and the node's answer.
async fn dial(
    to: SocketAddr,
    identity: Option<Identity>,
    address: Option<SocketAddr>,
) -> (TcpStream, Result<Welcome, Refusal>) {
    let hello = Hello {
        cluster: "test",
        identity,
        member: member("stranger"),
        address,
        lane: "Control",
        catalog: vec![],
        to: None,
    };
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&greeting()).await.unwrap();
    stream.write_all(&framed(&bytes(&hello))).await.unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();
    let mut answer = vec![0; length_after_preamble(&head)];
    stream.read_exact(&mut answer).await.unwrap();
    (stream, rmp_serde::from_slice(&answer).unwrap())
}

async fn identity_of(node: &ActorSystem) -> Identity {
    let (_, welcome) = soon("an answer", dial(node.address(), None, None)).await;
    welcome.unwrap().identity.expect("it is in a cluster")
}

pub(crate) fn control(request: &Request) -> Vec<u8> {
    framed(&[&[7], bytes(request).as_slice()].concat())
}

/// Three nodes that vote, and forty counters on them.
async fn settled() -> Vec<ActorSystem> {
    let nodes = cluster(3).await;
    for n in 0..40 {
        let counter = nodes[0].entity::<Counter>(format!("claims-{n}"));
        counter.add(1).await.unwrap();
    }
    nodes
}

/// All members are as they were, and no state is lost.
async fn is_as_before(nodes: &[ActorSystem]) {
    for node in nodes {
        assert!(node.is_ready(), "{:?}", node.members());
        let members = node.members();
        assert_eq!(members.len(), nodes.len(), "{members:?}");
        assert!(members.iter().all(|m| m.status == MemberStatus::Up));
    }
    for n in 0..40 {
        let counter = nodes[1].entity::<Counter>(format!("claims-{n}"));
        assert_eq!(counter.value().await, Ok(1), "it lost its state");
    }
}

#[tokio::test]
async fn a_stranger_that_claims_a_later_generation_ends_no_membership() {
    let nodes = settled().await;
    let ours = identity_of(&nodes[0]).await;
    // Nothing answers there as a node would: its connections end at once.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = silent.local_addr().unwrap();
    let mut refused = 0;
    for round in 1..=15 {
        for node in &nodes {
            let claimed = Identity {
                generation: ours.generation + (round << 16),
                ..ours.clone()
            };
            let (_, answer) = dial(node.address(), Some(claimed), Some(nowhere)).await;
            refused += usize::from(answer.is_err());
        }
    }
    assert_eq!(refused, 45, "each hello is answered by a refusal");
    // The address that the stranger names is asked, and so the claim was looked into.
    soon("the stranger is asked", silent.accept())
        .await
        .unwrap();
    drop(silent);
    is_as_before(&nodes).await;
    shutdown(nodes).await;
}

#[tokio::test]
async fn what_a_stranger_says_of_members_is_not_kept_nor_in_the_way() {
    let nodes = settled().await;
    let ours = identity_of(&nodes[0]).await;
    let mut streams = vec![];
    for node in &nodes {
        streams.push(dial(node.address(), Some(ours.clone()), None).await.0);
    }
    for round in 0..20_u64 {
        let names = (0..1000).map(|n| member(&format!("nobody-{round}-{n}")));
        let facts = names.clone().map(|name| {
            let facts = Facts {
                version: 1,
                address: ([127, 0, 0, 1], 9).into(),
                catalog: vec![],
                roles: vec!["made-up".into()],
                load: 1,
            };
            (name, facts)
        });
        // The members themselves are spoken of as well.
        let live = nodes.iter().map(|node| {
            let id = node.members()[0].id.clone();
            let facts = Facts {
                version: 99,
                address: node.address(),
                catalog: vec![],
                roles: vec!["made-up".into()],
                load: 12345,
            };
            (id, facts)
        });
        let facts = Request::Facts(facts.chain(live).collect());
        let digest = Request::Digest {
            from: member("stranger"),
            digest: names.map(|name| (name, 1)).collect(),
        };
        // The nodes run on this thread, so it is not kept busy with the same bytes three times.
        let said = [control(&facts), control(&digest)].concat();
        for stream in &mut streams {
            stream.write_all(&said).await.unwrap();
        }
    }
    is_as_before(&nodes).await;
    // What members say of themselves still arrives: forty entities live somewhere.
    let said = || {
        let members = nodes[2].members().into_iter();
        let loads = members.map(|m| m.entities).collect::<Option<Vec<_>>>();
        std::future::ready(loads.map(|loads| loads.iter().sum::<u64>()))
    };
    eventually("the members' own facts", said, |sum| *sum == Some(40)).await;
    let roles = nodes[2].members().into_iter().flat_map(|m| m.roles);
    assert_eq!(roles.count(), 0, "a stranger's word was taken");
    // A message of several megabytes costs the stranger its connection.
    let huge = Request::Facts(BTreeMap::from([(
        member(&"x".repeat(2 * 1024 * 1024)),
        Facts {
            version: 1,
            address: ([127, 0, 0, 1], 9).into(),
            catalog: vec![],
            roles: vec![],
            load: 1,
        },
    )]));
    let mut stream = streams.remove(0);
    // The node may close before it has read all.
    let _ = stream.write_all(&control(&huge)).await;
    let mut rest = Vec::new();
    if let Err(error) = soon("it is closed", stream.read_to_end(&mut rest)).await {
        // It was closed with bytes that it had not read.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    is_as_before(&nodes).await;
    shutdown(nodes).await;
}
