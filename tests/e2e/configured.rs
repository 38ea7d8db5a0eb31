//! What a configuration says of entity types.

use casty::{error::StartError, prelude::*, shards::Hosted, testkit::soon};

/// Says nothing of itself.
#[derive(Default)]
struct Plain;

#[entity(name = "configured/plain")]
impl Plain {
    #[message]
    fn touch(&self) {}
}

/// Says how many may be active.
#[derive(Default)]
struct Own;

#[entity(name = "configured/own", max_active = 64)]
impl Own {
    #[message]
    fn touch(&self) {}
}

/// Takes no message that its mailbox has no room for.
#[derive(Default)]
struct Small;

#[entity(name = "configured/small", overflow = reject)]
impl Small {
    #[message]
    async fn hang(&mut self) {
        std::future::pending::<()>().await;
    }

    #[message]
    fn touch(&self) {}
}

async fn node(cluster: &str, text: &str) -> Result<ActorSystem, StartError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("casty.toml");
    std::fs::write(&path, text).unwrap();
    let node = ActorSystem::builder(cluster).config(&path).start().await?;
    soon("it is up", node.wait_for(1)).await.unwrap();
    Ok(node)
}

/// How many entities are active.
async fn active<E: Hosted>(node: &ActorSystem) -> usize {
    let mut listing = node.entities::<E>();
    let mut count = 0;
    while let Some(page) = listing.next_page().await.unwrap() {
        count += page.len();
    }
    count
}

#[tokio::test]
async fn a_section_says_what_its_types_do_not_say() {
    let text = "[entity.\"configured/*\"]\nmax_active = 8\n\
                [entity.\"configured/small\"]\nmailbox = 2\n";
    let node = node("configured-types", text).await.unwrap();
    for n in 0..48 {
        node.entity::<Plain>(format!("p{n}")).touch().await.unwrap();
        node.entity::<Own>(format!("o{n}")).touch().await.unwrap();
    }
    let few = async {
        while active::<Plain>(&node).await > 8 {
            tokio::task::yield_now().await;
        }
    };
    soon("those used least recently are passivated", few).await;
    assert_eq!(
        active::<Own>(&node).await,
        48,
        "the type comes before the section"
    );
    let small = node.entity::<Small>("s");
    // It has a home from here on: what waits for one waits elsewhere.
    small.touch().await.unwrap();
    small.hang().tell().await.unwrap();
    // One is handled, two wait.
    let mut queued = 0;
    let full = loop {
        match small.touch().tell().await {
            Ok(()) => queued += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(full, TellError::Full(_)), "{full}");
    assert!((1..=2).contains(&queued), "{queued}");
    drop(small);
    drop(node);
}

#[tokio::test]
async fn a_section_of_no_type_is_a_mistake_and_says_which_was_meant() {
    let text = "[entity.\"configured/plane\"]\nmax_active = 8\n";
    let refused = node("configured-none", text).await.unwrap_err().to_string();
    assert!(
        refused.contains("casty.toml:1: there is no entity type `configured/plane`; did you mean `configured/plain`?"),
        "{refused}"
    );
}
