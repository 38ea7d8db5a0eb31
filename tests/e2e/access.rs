//! What clients may send and read, by the names in their certificates.

use casty::{
    access::{Access, Caller, Permit},
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

/// Remembers its callers.
#[derive(Default)]
struct Register {
    told_by: Option<Caller>,
    at: Option<Caller>,
}

#[entity(name = "access/register")]
impl Register {
    #[message]
    fn sign(&mut self, ctx: &mut Context<Self>) {
        self.told_by = Some(ctx.caller().clone());
    }

    /// Signs once more, by a timer and by a message of its own.
    #[message]
    fn sign_later(&mut self, ctx: &mut Context<Self>) -> String {
        ctx.schedule_once(Duration::ZERO, RegisterMsg::At {})
            .detach();
        ctx.caller().to_string()
    }

    #[message(internal)]
    fn at(&mut self, ctx: &mut Context<Self>) {
        self.at = Some(ctx.caller().clone());
    }

    /// The caller of this message, that of the last `sign`, and that of the timer.
    #[message]
    fn callers(&self, ctx: &mut Context<Self>) -> [String; 3] {
        let text = |caller: &Option<Caller>| caller.as_ref().map(Caller::to_string);
        let [told_by, at] = [&self.told_by, &self.at].map(text);
        [
            ctx.caller().to_string(),
            told_by.unwrap_or_default(),
            at.unwrap_or_default(),
        ]
    }

    /// Asks another register, and says who that was asked by.
    #[message]
    async fn ask_other(&mut self, ctx: &mut Context<Self>, other: String) -> [String; 3] {
        let other = ctx.entity::<Self>(other);
        let callers = other.callers().await;
        callers.unwrap_or_default()
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

/// The ids of registers whose homes these two nodes are.
async fn registers(nodes: &[ActorSystem; 2]) -> [String; 2] {
    let mut found = [None, None];
    for n in 0.. {
        let id = format!("r{n}");
        let register = nodes[0].entity::<Register>(&*id);
        let asked = register.callers().await.unwrap();
        let at = usize::from(asked[0] != "local");
        found[at].get_or_insert(id);
        if let [Some(here), Some(there)] = &found {
            return [here.clone(), there.clone()];
        }
    }
    unreachable!("the numbers do not end")
}

#[tokio::test]
async fn a_handler_knows_its_caller_by_the_name_that_the_network_has_verified() {
    let authority = Authority::new("access-callers");
    let access = Access::new().client("web", Permit::to::<Register>());
    let (nodes, client) = cluster(&authority, access).await;
    let [at_a, at_b] = registers(&nodes).await;

    for id in [&at_a, &at_b] {
        let register = client.entity::<Register>(&**id);
        register.sign().tell().await.unwrap();
        assert_eq!(register.sign_later().await.as_deref(), Ok("client/web"));
        let mut callers = register.callers().await.unwrap();
        while callers[2].is_empty() {
            callers = register.callers().await.unwrap();
        }
        assert_eq!(callers, ["client/web", "client/web", "local"]);
    }
    // From the other node, and from the same.
    let there = nodes[0].entity::<Register>(&*at_b);
    there.sign().tell().await.unwrap();
    let callers = there.callers().await.unwrap();
    assert_eq!(callers, ["member/a", "member/a", "local"]);
    let here = nodes[0].entity::<Register>(&*at_a);
    here.sign().tell().await.unwrap();
    assert_eq!(here.callers().await.unwrap(), ["local", "local", "local"]);
    // An entity that a client has asked is the next one's caller by its node.
    let asked = client.entity::<Register>(&*at_a).ask_other(at_b).await;
    assert_eq!(asked.unwrap()[0], "member/a");
    shutdown((nodes, client)).await;
}

#[tokio::test]
async fn without_tls_a_caller_is_unverified() {
    casty_tests::log();
    let first = ActorSystem::builder("access-plain").node_id("a");
    let first = first.start().await.unwrap();
    let second = ActorSystem::builder("access-plain").node_id("b");
    let second = second.seeds([first.address()]).start().await.unwrap();
    for node in [&first, &second] {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    let nodes = [first, second];
    let [_, at_b] = registers(&nodes).await;
    let register = nodes[0].entity::<Register>(&*at_b);
    register.sign().tell().await.unwrap();
    let callers = register.callers().await.unwrap();
    assert_eq!(callers, ["unverified", "unverified", ""]);
    let [first, second] = nodes;
    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
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
