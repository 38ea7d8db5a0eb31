//! `entities`: those that are active anywhere, and those that are stored.

use std::collections::{BTreeMap, BTreeSet};

use casty::{
    error::StoredError,
    listing::{Entities, ListedEntity},
    persistence::{Memory, faults::Faults},
    prelude::*,
    testkit::{self, soon},
};

use crate::accounts::{Account, Ghost, Homeless, Note, alone, away, bank, connected};

/// All that is listed, each exactly once.
async fn all(mut entities: Entities<'_>) -> BTreeMap<String, ListedEntity> {
    let mut found = BTreeMap::new();
    let list = async {
        while let Some(page) = entities.next_page().await.unwrap() {
            assert!(!page.is_empty(), "an empty page");
            for entity in page {
                let again = found.insert(entity.id.to_string(), entity);
                assert!(again.is_none(), "listed twice: {again:?}");
            }
        }
    };
    soon("the whole list", list).await;
    found
}

fn names(found: &BTreeMap<String, ListedEntity>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn entities_of_one_node_are_listed_by_what_they_are() {
    let store = Memory::new();
    let system = alone(store.clone());
    for (id, times) in [("alice", 3), ("bob", 1)] {
        for _ in 0..times {
            system.entity::<Account>(id).deposit(5).await.unwrap();
        }
    }
    // Nothing is stored before a first event.
    assert_eq!(system.entity::<Account>("carol").balance().await, Ok(0));
    let listed = all(system.entities::<Account>()).await;
    assert_eq!(names(&listed), ["alice", "bob", "carol"]);
    let alice = &listed["alice"];
    assert_eq!(alice.active_on.as_ref(), Some(system.node_id()));
    assert_eq!(alice.stored.map(|stored| stored.seq), Some(3));
    assert!(
        alice
            .stored
            .is_some_and(|stored| stored.at > 1_600_000_000_000)
    );
    assert_eq!(listed["carol"].stored, None);
    drop(system);

    let system = alone(store);
    let listed = all(system.entities::<Account>()).await;
    assert_eq!(names(&listed), ["alice", "bob"], "no entity is active");
    assert!(listed.values().all(|entity| entity.active_on.is_none()));
    system.entity::<Account>("bob").balance().await.unwrap();
    let active = all(system.entities::<Account>().active()).await;
    assert_eq!(names(&active), ["bob"]);
    assert_eq!(active["bob"].stored, None, "the store is not read");
    let stored = all(system.entities::<Account>().stored().starting_with("al")).await;
    assert_eq!(names(&stored), ["alice"]);
    assert_eq!(names(&all(system.entities::<Note>()).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_three_nodes_are_listed_once_from_everywhere() {
    let nodes = bank("listed", 3, &Memory::new()).await;
    let client = ClusterClient::connect("listed", [nodes[1].address()]);
    let client = soon("a client", client).await.unwrap();
    let mut homes = BTreeMap::new();
    for n in 0..120 {
        let id = format!("a{n:03}");
        let account = client.entity::<Account>(&id);
        soon("a deposit", account.deposit(n)).await.unwrap();
        let home = soon("its node", account.node()).await.unwrap();
        let ghost = nodes[2].entity::<Ghost>(&id);
        homes.insert(id, (home, soon("its node", ghost.node()).await.unwrap()));
    }
    let distinct = |of: fn(&(String, String)) -> &String| {
        let homes: BTreeSet<_> = homes.values().map(of).collect();
        homes.len()
    };
    assert_eq!((distinct(|h| &h.0), distinct(|h| &h.1)), (3, 3));
    let lists = nodes.iter().map(ActorSystem::entities::<Account>);
    for list in lists.chain([client.entities::<Account>()]) {
        let listed = all(list.page_size(7)).await;
        assert_eq!(listed.len(), homes.len());
        for (id, (home, _)) in &homes {
            let listed = &listed[id];
            let active_on = listed.active_on.as_ref().map(casty::id::NodeId::as_str);
            assert_eq!(active_on, Some(&**home), "{id}");
            assert_eq!(listed.stored.map(|stored| stored.seq), Some(1), "{id}");
        }
    }
    for list in [nodes[0].entities::<Ghost>(), client.entities::<Ghost>()] {
        let listed = all(list.starting_with("a0")).await;
        assert_eq!(listed.len(), 100);
        for (id, entity) in &listed {
            let active_on = entity.active_on.as_ref().map(casty::id::NodeId::as_str);
            assert_eq!(active_on, Some(&*homes[id].1), "{id}");
            assert_eq!(entity.stored, None);
        }
    }
    soon("the client closes", client.shutdown()).await;
    testkit::shutdown(nodes).await;
}

/// What is stored is there all the time, also while its shard is nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn stored_entities_are_listed_once_while_their_shards_move() {
    let store = Memory::new();
    let mut nodes = bank("moving", 1, &store).await;
    let first = nodes[0].clone();
    for n in 0..200 {
        let account = nodes[0].entity::<Account>(format!("a{n:03}"));
        soon("a deposit", account.deposit(1)).await.unwrap();
    }
    let more = ["node-1", "node-2"].map(|name| {
        let builder = ActorSystem::builder("moving").node_id(name);
        builder.journal(store.clone()).seeds([nodes[0].address()])
    });
    let more = async {
        for builder in more {
            nodes.push(soon("it starts", builder.start()).await.unwrap());
        }
    };
    let owners = || async {
        let admin = casty::admin::Admin::connect("moving", [first.address()]).await;
        let shards = admin.unwrap().shards().await.unwrap();
        let accounts = shards
            .kinds
            .into_iter()
            .find(|kind| kind.name == "stored/account");
        let homes = accounts.unwrap().homes.into_iter();
        homes.filter_map(|home| home.owner).collect::<BTreeSet<_>>()
    };
    // Until all of them own shards, and once more.
    let lists = async {
        let mut while_they_move = 0;
        loop {
            let is_spread = owners().await.len() == 3;
            let listed = all(first.entities::<Account>().page_size(16)).await;
            assert_eq!(listed.len(), 200);
            if is_spread {
                return while_they_move;
            }
            while_they_move += 1;
        }
    };
    let (while_they_move, ()) = tokio::join!(lists, more);
    assert!(while_they_move > 0);
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_listed_before_any_shard_has_an_owner() {
    let store = Memory::new();
    let first = alone(store.clone());
    for n in 0..30 {
        let account = first.entity::<Account>(format!("a{n:02}"));
        account.deposit(1).await.unwrap();
    }
    drop(first);
    let nodes = bank("fresh", 2, &store).await;
    let client = ClusterClient::connect("fresh", [nodes[0].address()]);
    let client = soon("a client", client).await.unwrap();
    for list in [nodes[1].entities::<Account>(), client.entities::<Account>()] {
        let listed = all(list).await;
        assert_eq!(listed.len(), 30);
        assert!(listed.values().all(|entity| entity.active_on.is_none()));
    }
    assert_eq!(all(client.entities::<Ghost>()).await.len(), 0);
    soon("the client closes", client.shutdown()).await;
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_says_why() {
    let nodes = bank("refused", 2, &Memory::new()).await;
    let refused = nodes[0].entities::<Ghost>().stored().next_page().await;
    let name = "Ghost".to_owned();
    assert_eq!(refused, Err(StoredError::NotStored { name }));
    let refused = nodes[1]
        .entities::<Homeless>()
        .next_page()
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoredError::UnknownEntity { .. }),
        "{refused}"
    );
    let text = refused.to_string();
    assert!(
        text.contains("no member hosts an entity type `Homeless`"),
        "{text}"
    );
    assert!(text.contains("stored/account"), "{text}");
    testkit::shutdown(nodes).await;
}

#[tokio::test]
async fn a_list_goes_on_once_its_store_is_back() {
    let (_, store) = connected();
    let system = alone(store.clone());
    for n in 0..40 {
        let account = system.entity::<Account>(format!("a{n:02}"));
        account.deposit(1).await.unwrap();
    }
    let mut list = system.entities::<Account>().page_size(5);
    let mut found: Vec<_> = list.next_page().await.unwrap().unwrap();
    store.set(away());
    let down = list.next_page().await.unwrap_err();
    let reason = "the store is away".to_owned();
    assert_eq!(down, StoredError::Unavailable { reason });
    // What is active is not in the store.
    let active = all(system.entities::<Account>().active()).await;
    assert_eq!(active.len(), 40);
    store.set(Faults::default());
    while let Some(page) = list.next_page().await.unwrap() {
        found.extend(page);
    }
    let ids: BTreeSet<_> = found.iter().map(|entity| entity.id.clone()).collect();
    assert_eq!((found.len(), ids.len()), (40, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_outlasts_the_node_that_owned_the_shards() {
    let store = Memory::new();
    let mut nodes = bank("outlasting", 3, &store).await;
    for n in 0..60 {
        let account = nodes[0].entity::<Account>(format!("a{n:02}"));
        soon("a deposit", account.deposit(1)).await.unwrap();
    }
    let survivor = nodes[0].clone();
    let mut list = survivor.entities::<Account>().page_size(16);
    let mut found = list.next_page().await.unwrap().unwrap();
    drop(nodes.pop());
    // Shards of a dead member are read by others, and a list that has failed goes on.
    let rest = async {
        loop {
            match list.next_page().await {
                Ok(Some(page)) => found.extend(page),
                Ok(None) => return,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    soon("the rest of the list", rest).await;
    let ids: BTreeSet<_> = found.iter().map(|entity| entity.id.clone()).collect();
    assert_eq!((found.len(), ids.len()), (60, 60));
    drop(survivor);
    testkit::shutdown(nodes).await;
}
