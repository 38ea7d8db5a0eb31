//! What other processes may use of a node, with real sockets.

use std::{net::SocketAddr, ops::RangeInclusive, sync::Arc};

use casty::{
    Settings,
    access::{Limits, Refusals},
    admin::Admin,
    error::{JoinError, StartError},
    id::InvalidId,
    prelude::*,
    testkit::{DeadLetters, soon},
};
use casty_tests::{Counter, Herald};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::Semaphore, task::JoinSet};

/// Answers once it may.
#[derive(Default)]
struct Slow;

/// Lets the handlers of a node's [`Slow`] go on.
struct Pass(Semaphore);

#[entity(name = "limits/slow")]
impl Slow {
    #[message]
    async fn wait(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 1)
    }
}

/// The same, with little room.
#[derive(Default)]
struct Narrow;

#[entity(name = "limits/narrow", mailbox = 1)]
impl Narrow {
    #[message]
    async fn wait(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 1)
    }
}

/// A node with these limits.
async fn node(name: &str, limits: Limits) -> ActorSystem {
    node_with(name, limits, Arc::new(Pass(Semaphore::new(0)))).await
}

async fn node_with(name: &str, limits: Limits, pass: Arc<Pass>) -> ActorSystem {
    casty_tests::log();
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let node = ActorSystem::builder(name).settings(settings);
    let node = node.resource(pass).start().await.unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    node
}

async fn client_of(node: &ActorSystem, name: &str) -> ClusterClient {
    let client = ClusterClient::connect(name, [node.address()]);
    soon("a connection", client).await.unwrap()
}

/// Waits until the node has refused something.
async fn refused(node: &ActorSystem, what: &str, count: impl Fn(Refusals) -> u64) {
    let refusing = async {
        while count(node.refusals()) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(what, refusing).await;
}

/// A connection that says nothing.
async fn silent(address: SocketAddr) -> TcpStream {
    soon("a connection", TcpStream::connect(address))
        .await
        .unwrap()
}

/// Reads to the end of a connection.
async fn ends(mut stream: TcpStream) {
    let mut heard = Vec::new();
    // A reset is an end as well.
    drop(soon("it ends", stream.read_to_end(&mut heard)).await);
}

#[tokio::test]
async fn connections_above_the_limit_of_an_address_are_closed_at_once() {
    let limits = Limits {
        connections_per_address_max: 8,
        ..Limits::default()
    };
    let node = node("limits-address", limits).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = silent(node.address()).await;
        // It says what it speaks, so it has been accepted.
        stream.read_exact(&mut [0; 8]).await.unwrap();
        streams.push(stream);
    }
    ends(silent(node.address()).await).await;
    assert_eq!(node.refusals().connections_of_address, 1);
    drop(streams);
    // As soon as there is room again, which the client tries until there is.
    let client = client_of(&node, "limits-address").await;
    assert_eq!(client.entity::<Counter>("c").add(1).await, Ok(1));
    client.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn connections_above_the_limit_of_the_node_are_closed_at_once() {
    let limits = Limits {
        connections_max: 16,
        ..Limits::default()
    };
    let node = node("limits-all", limits).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(silent(node.address()).await);
    }
    ends(silent(node.address()).await).await;
    refused(&node, "a refusal", |refused| refused.connections).await;
    drop(streams);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn handshakes_above_the_limit_are_closed_and_slow_ones_end() {
    let limits = Limits {
        handshakes_max: 2,
        ..Limits::default()
    };
    let node = node("limits-handshakes", limits).await;
    let [mut first, mut second] = [silent(node.address()).await, silent(node.address()).await];
    for stream in [&mut first, &mut second] {
        stream.read_exact(&mut [0; 8]).await.unwrap();
    }
    ends(silent(node.address()).await).await;
    assert_eq!(node.refusals().handshakes, 1);
    // The two say nothing, and so they end.
    ends(first).await;
    ends(second).await;
    refused(&node, "the end of two", |refused| {
        refused.failed_handshakes.saturating_sub(1)
    })
    .await;
    let client = client_of(&node, "limits-handshakes").await;
    client.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn connections_are_accepted_no_faster_than_the_limit() {
    let limits = Limits {
        accepts_per_second_max: 2,
        ..Limits::default()
    };
    let node = node("limits-accepts", limits).await;
    let begin = tokio::time::Instant::now();
    for _ in 0..6 {
        let mut stream = silent(node.address()).await;
        soon("a greeting", stream.read_exact(&mut [0; 8]))
            .await
            .unwrap();
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(900),
        "three at once, and then two a second"
    );
    assert!(node.refusals().delayed_accepts > 0);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn asks_above_the_limit_of_a_connection_are_refused_and_the_others_answered() {
    let limits = Limits {
        asks_per_peer_max: 4,
        ..Limits::default()
    };
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = node_with("limits-asks", limits, pass.clone()).await;
    let client = client_of(&node, "limits-asks").await;
    let asking: Vec<_> = (0..4)
        .map(|n| {
            let slow = client.entity::<Slow>(format!("s{n}"));
            tokio::spawn(async move { slow.wait().await })
        })
        .collect();
    let active = async {
        while node
            .entities::<Slow>()
            .next_page()
            .await
            .unwrap()
            .map_or(0, |page| page.len())
            < 4
        {
            tokio::task::yield_now().await;
        }
    };
    soon("all four are asked", active).await;
    let limited = AskError::Limited {
        limit: "asks_per_peer_max".to_owned(),
        max: 4,
    };
    assert_eq!(
        client.entity::<Slow>("s4").wait().await,
        Err(limited.clone())
    );
    assert!(limited.to_string().contains("`asks_per_peer_max` is 4"));
    // A message that waits for no answer is none of them.
    client
        .entity::<Counter>("c")
        .increment(1)
        .tell()
        .await
        .unwrap();
    assert_eq!(node.refusals().asks, 1);
    pass.0.add_permits(8);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Ok(1));
    }
    assert_eq!(client.entity::<Slow>("s4").wait().await, Ok(1));
    assert_eq!(client.entity::<Counter>("c").value().await, Ok(1));
    client.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_starts_no_more_entities_in_a_second_than_it_may() {
    let limits = Limits {
        activations_per_client_max: 3,
        ..Limits::default()
    };
    let node = node("limits-starts", limits).await;
    let client = client_of(&node, "limits-starts").await;
    let mut letters = DeadLetters::of(&node);
    let mut refused = 0;
    for n in 0..40 {
        match client.entity::<Counter>(format!("c{n}")).add(1).await {
            Ok(1) => {}
            Err(AskError::Limited { limit, max: 3 }) => {
                assert_eq!(limit, "activations_per_client_max");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        refused > 0,
        "40 starts took less than the 12 seconds that they may take"
    );
    assert_eq!(node.refusals().activations, refused);
    // What it tells is not lost in silence.
    for n in 100..140 {
        let counter = client.entity::<Counter>(format!("c{n}"));
        counter.increment(1).tell().await.unwrap();
    }
    let told = async {
        while !letters
            .drain()
            .iter()
            .any(|letter| letter.message == "increment")
        {
            tokio::task::yield_now().await;
        }
    };
    soon("a dead letter", told).await;
    // Entities that are there already, and other processes, have no such limit.
    for _ in 0..20 {
        client.entity::<Counter>("c0").add(1).await.unwrap();
    }
    for n in 200..240 {
        let counter = node.entity::<Counter>(format!("c{n}"));
        assert_eq!(counter.add(1).await, Ok(1));
    }
    client.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_long_message_and_a_long_id_of_a_client_are_refused_alone() {
    let limits = Limits {
        client_message_bytes_max: 1024,
        entity_id_bytes_max: 16,
        ..Limits::default()
    };
    let node = node("limits-lengths", limits).await;
    let client = client_of(&node, "limits-lengths").await;
    let herald = client.entity::<Herald>("h");
    let long = herald.remember("x".repeat(2000)).await;
    assert!(
        matches!(
            long,
            Err(AskError::TooLarge {
                bytes: 2000..,
                bytes_max: 1024
            })
        ),
        "{long:?}"
    );
    let id = "i".repeat(17);
    let refused = client.entity::<Counter>(&*id).add(1).await;
    let too_long = InvalidId::TooLong { bytes: 17, max: 16 };
    assert_eq!(refused, Err(AskError::InvalidId(too_long)));
    assert_eq!(client.entity::<Counter>(&id[..16]).add(1).await, Ok(1));
    assert_eq!((node.refusals().long_messages, node.refusals().ids), (1, 1));
    assert!(herald.remember("short".to_owned()).await.is_ok());
    client.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn nodes_whose_settings_have_to_agree_do_not_join_and_are_told_which_differs() {
    let first = node("limits-shared", Limits::default()).await;
    let settings = Settings {
        lease: Duration::from_secs(2),
        ..Settings::default()
    };
    let other = ActorSystem::builder("limits-shared").settings(settings);
    let other = other.seeds([first.address()]).start().await.unwrap();
    let refused = soon("a refusal", other.wait_for(2)).await.unwrap_err();
    let JoinError::Refused { reason, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains("the setting `lease` is 1.2s there and 2s here"),
        "{reason}"
    );
    // A client has no lease.
    let client = client_of(&first, "limits-shared").await;
    client.shutdown().await.unwrap();
    other.shutdown().await.ok();
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_at_the_start() {
    let refused = |limits| async {
        let settings = Settings {
            limits,
            ..Settings::default()
        };
        let builder = ActorSystem::builder("limits-none").settings(settings);
        match builder.start().await {
            Err(StartError::Setting { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    };
    let handshakes = Limits {
        handshakes_max: 0,
        ..Limits::default()
    };
    assert_eq!(refused(handshakes).await, "handshakes_max");
    let ids = Limits {
        entity_id_bytes_max: 4096,
        ..Limits::default()
    };
    assert_eq!(refused(ids).await, "entity_id_bytes_max");
}

/// Asks the same entity so many times, all at once.
fn ask_many(client: &ClusterClient, asks: usize) -> JoinSet<()> {
    let mut asking = JoinSet::new();
    for _ in 0..asks {
        let asked = client.entity::<Narrow>("s").wait();
        asking.spawn(async move {
            // The handler never returns, so no ask has an answer.
            asked.timeout(Duration::from_mins(1)).await.unwrap_err();
        });
    }
    asking
}

/// How many connections of others a node has.
async fn connections(node: &ActorSystem) -> u64 {
    node.overview().await.unwrap().nodes[0].connections
}

#[tokio::test]
async fn asks_of_clients_that_are_gone_do_not_fill_the_mailbox() {
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = node_with("limits-orphans", Limits::default(), pass.clone()).await;
    let admin = Admin::connect("limits-orphans", [node.address()]);
    let admin = soon("an admin", admin).await.unwrap();
    let queued = async |what, range: RangeInclusive<u64>| {
        let so_many = async {
            loop {
                let why = admin.why(Narrow::NAME, "s").await.unwrap();
                let step = why.steps.first();
                if step.is_some_and(|step| step.handling.is_some() && range.contains(&step.queued))
                {
                    return;
                }
            }
        };
        soon(what, so_many).await;
    };
    node.entity::<Narrow>("s").wait().tell().await.unwrap();
    queued("a handler runs", 0..=0).await;
    // Those of the admin.
    let before = connections(&node).await;
    let first = client_of(&node, "limits-orphans").await;
    let asking = ask_many(&first, 300);
    queued("the asks of the first client wait", 300..=300).await;
    first.shutdown().await.unwrap();
    drop(asking);
    let gone = async { while connections(&node).await > before {} };
    soon("its connections end", gone).await;
    let second = client_of(&node, "limits-orphans").await;
    let asking = ask_many(&second, 400);
    // The one that has found room in the mailbox stays.
    queued("the asks of the second wait, and no others", 400..=401).await;
    drop(asking);
    second.shutdown().await.unwrap();
    pass.0.close();
    node.shutdown().await.unwrap();
}
