//! Messages for entities that are active, and for no others.

use std::convert::Infallible;

use casty::{
    prelude::*,
    testkit::{DeadLetters, soon},
};

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

#[tokio::test]
async fn a_message_for_an_active_entity_follows_it_when_its_shard_moves() {
    let first = ActorSystem::builder("if-active-moves");
    let first = first.start().await.unwrap();
    soon("it is up", first.wait_for(1)).await.unwrap();
    let ids: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    for id in &ids {
        first.entity::<Session>(id).hear().await.unwrap();
    }
    let second = ActorSystem::builder("if-active-moves").seeds([first.address()]);
    let second = second.start().await.unwrap();
    soon("both are up", second.wait_for(2)).await.unwrap();
    // The state of those whose shards move is left behind: they are not active any more.
    let moved = async {
        loop {
            let mut none = 0;
            for id in &ids {
                let session = first.entity::<Session>(id);
                none += usize::from(session.hear().if_active().await.unwrap().is_none());
            }
            if none > 0 {
                return none;
            }
        }
    };
    let moved = soon("some have moved", moved).await;
    assert!(active(&first).await <= ids.len() - moved);
    for node in [second, first] {
        node.shutdown().await.unwrap();
    }
}
