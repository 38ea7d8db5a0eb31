//! What clients may send and read, by the names in their certificates.

use casty::{
    access::{Access, Permit},
    error::StoredError,
    prelude::*,
    testkit::{DeadLetters, soon},
    tls::PeerRole,
};
use casty_tests::Counter;

use crate::tls::Authority;

/// Hands out bells.
#[derive(Default)]
struct Porter;

#[entity(name = "access/porter")]
impl Porter {
    #[message]
    fn bell(&mut self, ctx: &mut Context<Self>) -> BellRef {
        ctx.spawn(Bell { rung: 0 })
    }
}

struct Bell {
    rung: u32,
}

#[actor]
impl Bell {
    #[message]
    fn ring(&mut self) -> u32 {
        self.rung += 1;
        self.rung
    }
}

/// Two nodes, and a client that may do this.
async fn cluster(authority: &Authority, access: Access) -> ([ActorSystem; 2], ClusterClient) {
    casty_tests::log();
    let node = |name: &str| {
        let builder = ActorSystem::builder(authority.name).tls(authority.member(name));
        builder.access(access.clone())
    };
    let first = node("a").start().await.unwrap();
    let second = node("b").seeds([first.address()]).start().await.unwrap();
    for node in [&first, &second] {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    let tls = authority.process(PeerRole::Client, "web");
    let client = ClusterClient::connect_tls(authority.name, [first.address()], tls);
    let client = soon("a connection", client).await.unwrap();
    ([first, second], client)
}

async fn shutdown(([first, second], client): ([ActorSystem; 2], ClusterClient)) {
    client.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

fn forbidden(message: &str) -> AskError {
    AskError::Forbidden {
        who: "client/web".to_owned(),
        message: format!("{}/{message}", Counter::NAME),
    }
}

#[tokio::test]
async fn a_client_sends_what_it_may_and_nothing_else() {
    let authority = Authority::new("access-messages");
    let access = Access::new()
        .client("web", Permit::to::<Counter>().messages(["add"]))
        .client("other", Permit::everything());
    let (nodes, client) = cluster(&authority, access).await;
    let mut letters = nodes.each_ref().map(DeadLetters::of);
    // On both nodes.
    for n in 0..20 {
        let counter = client.entity::<Counter>(format!("c{n}"));
        assert_eq!(counter.add(1).await, Ok(1));
        assert_eq!(counter.value().await, Err(forbidden("value")));
        counter.increment(100).tell().await.unwrap();
        assert_eq!(counter.add(1).await, Ok(2), "what it told is not handled");
    }
    let mut refused = 0;
    while refused < 20 {
        let all = letters.iter_mut().flat_map(DeadLetters::drain);
        refused += all.filter(|letter| letter.message == "increment").count();
        tokio::task::yield_now().await;
    }
    // Members may send everything.
    assert_eq!(nodes[1].entity::<Counter>("c0").value().await, Ok(2));
    // Another error than one of a lost connection: nothing was cut.
    assert_eq!(client.entity::<Counter>("c0").add(1).await, Ok(3));
    shutdown((nodes, client)).await;
}

#[tokio::test]
async fn a_client_of_which_nothing_is_said_sends_and_reads_nothing() {
    let authority = Authority::new("access-nothing");
    let access = Access::new().client("other", Permit::everything());
    let (nodes, client) = cluster(&authority, access).await;
    let counter = client.entity::<Counter>("c");
    assert_eq!(counter.add(1).await, Err(forbidden("add")));
    let listed = client.entities::<Counter>().next_page().await;
    let Err(StoredError::Forbidden { who }) = listed else {
        panic!("{listed:?}");
    };
    assert_eq!(who, "client/web");
    shutdown((nodes, client)).await;
}

#[tokio::test]
async fn a_client_reads_where_it_may() {
    let authority = Authority::new("access-reads");
    let access = Access::new().every_client(Permit::to::<Counter>().and_read());
    let (nodes, client) = cluster(&authority, access).await;
    assert_eq!(client.entity::<Counter>("c").add(1).await, Ok(1));
    let page = client.entities::<Counter>().next_page().await.unwrap();
    assert_eq!(page.map(|entities| entities.len()), Some(1));
    let erased = client.erase::<Counter>("c").await;
    assert!(
        matches!(erased, Err(StoredError::Forbidden { .. })),
        "{erased:?}"
    );
    shutdown((nodes, client)).await;
}

#[tokio::test]
async fn a_client_sends_to_actors_as_it_may() {
    let authority = Authority::new("access-actors");
    let porter = || Access::new().client("web", Permit::to::<Porter>());
    let (nodes, client) = cluster(&authority, porter()).await;
    let bell = client.entity::<Porter>("p").bell().await.unwrap();
    let refused = AskError::Forbidden {
        who: "client/web".to_owned(),
        message: format!("{}/ring", Bell::NAME),
    };
    assert_eq!(bell.ring().await, Err(refused));
    shutdown((nodes, client)).await;

    let access = porter().every_client(Permit::to::<Bell>());
    let (nodes, client) = cluster(&authority, access).await;
    let bell = client.entity::<Porter>("p").bell().await.unwrap();
    assert_eq!(bell.ring().await, Ok(1));
    shutdown((nodes, client)).await;
}
