//! Messages for entities that are active, and for no others.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use casty::{
    prelude::*,
    testkit::{DeadLetters, soon},
};
use tokio::sync::Semaphore;

/// Counts what it has heard.
#[derive(Default)]
struct Session {
    heard: u32,
}

#[entity(name = "if-active/session", shards = 16)]
impl Session {
    #[message]
    fn hear(&mut self) -> u32 {
        self.heard += 1;
        self.heard
    }

    #[message]
    fn heard(&self) -> u32 {
        self.heard
    }

    #[message]
    fn fail(&mut self) -> Result<u32, String> {
        Err("on purpose".to_owned())
    }

    #[message]
    fn leave(&mut self, ctx: &mut Context<Self>) {
        ctx.passivate();
    }
}

/// Takes what it has heard along when its shard moves.
#[message]
#[derive(Default)]
struct Traveller {
    heard: u32,
}

#[entity(name = "if-active/traveller", shards = 16, migrate)]
impl Traveller {
    #[message]
    fn hear(&mut self) -> u32 {
        self.heard += 1;
        self.heard
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[on_stop]
    async fn pack(&mut self) {
        // Messages come meanwhile.
        tokio::task::yield_now().await;
    }
}

/// How many sessions are active.
async fn active(node: &ActorSystem) -> usize {
    let mut sessions = node.entities::<Session>().active();
    let mut count = 0;
    while let Some(page) = sessions.next_page().await.unwrap() {
        count += page.len();
    }
    count
}

#[tokio::test]
async fn a_message_for_an_active_entity_starts_none_on_any_node() {
    casty_tests::log();
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for _ in 0..2 {
        let node = ActorSystem::builder("if-active");
        let node = node.seeds(nodes.first().map(ActorSystem::address));
        nodes.push(node.start().await.unwrap());
    }
    for node in &nodes {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    let client = ClusterClient::connect("if-active", [nodes[0].address()]);
    let client = soon("a client", client).await.unwrap();
    let mut letters: Vec<_> = nodes.iter().map(DeadLetters::of).collect();
    // Each on one of the nodes; the first message finds a shard without an owner.
    let ids: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    for id in &ids {
        for node in &nodes {
            let session = node.entity::<Session>(id);
            let asked = soon("an answer", session.hear().if_active()).await;
            assert_eq!(asked, Ok(None), "{id}");
            let asked = session.fail().if_active().await;
            assert_eq!(asked, Ok(None), "{id}");
            session.hear().if_active().tell().await.unwrap();
        }
        let session = client.entity::<Session>(id);
        assert_eq!(session.hear().if_active().await, Ok(None), "{id}");
        session.hear().if_active().tell().await.unwrap();
    }
    assert_eq!(active(&nodes[0]).await, 0);

    for id in &ids {
        let [first, second] = [0, 1].map(|at| nodes[at].entity::<Session>(id));
        let third = client.entity::<Session>(id);
        assert_eq!(
            first.hear().await,
            Ok(1),
            "what was told before started none"
        );
        assert_eq!(second.hear().if_active().await, Ok(Some(2)));
        assert_eq!(third.hear().if_active().await, Ok(Some(3)));
        for session in [&first, &second, &third] {
            session.hear().if_active().tell().await.unwrap();
        }
        // They came by several connections.
        let all = async { while first.heard().if_active().await != Ok(Some(6)) {} };
        soon("all three are heard", all).await;
        let failed: Result<Option<u32>, AskError<String>> = second.fail().if_active().await;
        assert_eq!(failed, Err(AskError::Entity("on purpose".to_owned())));
    }
    assert_eq!(active(&nodes[1]).await, ids.len());

    for id in &ids {
        let session = nodes[1].entity::<Session>(id);
        session.leave().tell().await.unwrap();
        let gone = async {
            loop {
                let asked: Result<_, AskError<Infallible>> = session.hear().if_active().await;
                if asked.unwrap().is_none() {
                    return;
                }
            }
        };
        soon("it is passivated", gone).await;
    }
    assert_eq!(active(&nodes[0]).await, 0);
    for letters in &mut letters {
        assert_eq!(letters.drain(), []);
    }
    client.shutdown().await.unwrap();
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_an_active_entity_follows_it_when_its_shard_moves() {
    let node = |name: &str| ActorSystem::builder("if-active-moves").node_id(name);
    let first = node("a").start().await.unwrap();
    soon("it is up", first.wait_for(1)).await.unwrap();
    let travellers: Vec<_> = (0..20)
        .map(|n| first.entity::<Traveller>(format!("t{n}")))
        .collect();
    for traveller in &travellers {
        assert_eq!(traveller.hear().await, Ok(1));
    }
    let second = node("b").seeds([first.address()]).start().await.unwrap();
    let mut heard = 1;
    let moved = async {
        loop {
            heard += 1;
            let mut moved = 0;
            for traveller in &travellers {
                // It is active before and afterwards, and each message is heard once.
                let hear = traveller.hear().if_active().await;
                assert_eq!(hear, Ok(Some(heard)));
                let node = traveller.node().if_active().await;
                moved += usize::from(node == Ok(Some("b".to_owned())));
            }
            if moved > 4 {
                return;
            }
        }
    };
    soon("some have moved", moved).await;
    for node in [second, first] {
        node.shutdown().await.unwrap();
    }
}

/// Does not come to its end at once.
#[derive(Default)]
struct Slow;

/// Lets [`Slow`] stop.
struct Pass {
    stops: Semaphore,
    /// It has begun to.
    is_stopping: AtomicBool,
}

#[entity(name = "if-active/slow")]
impl Slow {
    #[message]
    fn leave(&mut self, ctx: &mut Context<Self>) {
        ctx.passivate();
    }

    #[message]
    fn hear(&mut self) -> bool {
        true
    }

    #[on_stop]
    async fn stop(&mut self, ctx: &mut Context<Self>) {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.is_stopping.store(true, Ordering::SeqCst);
        pass.stops.acquire().await.unwrap().forget();
    }
}

#[tokio::test]
async fn a_message_that_comes_while_the_entity_stops_does_not_start_it_again() {
    let pass = Arc::new(Pass {
        stops: Semaphore::new(0),
        is_stopping: AtomicBool::new(false),
    });
    let node = ActorSystem::builder("if-active-stops").resource(pass.clone());
    let node = node.start().await.unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    let mut letters = DeadLetters::of(&node);
    let slow = node.entity::<Slow>("s");
    assert_eq!(slow.hear().await, Ok(true));
    slow.leave().tell().await.unwrap();
    let stopping = async {
        while !pass.is_stopping.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    soon("it stops", stopping).await;
    let asking: Vec<_> = (0..3)
        .map(|_| tokio::spawn(slow.hear().if_active().into_future()))
        .collect();
    slow.hear().if_active().tell().await.unwrap();
    // They wait behind the end of the entity.
    let waiting = async {
        while node.why(Slow::NAME, "s").await.unwrap().steps[0].queued < 4 {
            tokio::task::yield_now().await;
        }
    };
    soon("they wait", waiting).await;
    pass.stops.add_permits(8);
    for asked in asking {
        let asked = soon("an answer", asked).await.unwrap();
        assert_eq!(asked, Ok(None));
    }
    assert_eq!(slow.hear().if_active().await, Ok(None));
    assert_eq!(letters.drain(), []);
    // A message for any of them starts it.
    assert_eq!(slow.hear().await, Ok(true));
    node.shutdown().await.unwrap();
}
