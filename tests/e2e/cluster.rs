//! Several nodes in this process, over real TCP.

use casty::{ClusterClient, Event, member::MemberStatus, prelude::*};
use casty_tests::{
    Account, Counter, CounterMsg, CounterRef, Herald, InsufficientFunds, Ledger, Listener, Seen,
};
use futures_util::future::join_all;

use crate::support::{cluster, entity_on, event, eventually, node, shutdown, soon};

#[tokio::test]
async fn two_nodes_share_counters() {
    let nodes = cluster(2).await;
    for (i, node) in nodes.iter().enumerate() {
        for id in 0..40 {
            let counter = node.entity::<Counter>(format!("c{id}"));
            counter.increment(1).tell().await.unwrap();
            assert_eq!(soon("an answer", counter.value()).await, Ok(i as i64 + 1));
        }
    }
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_answer_from_everywhere_and_share_the_load() {
    let nodes = cluster(5).await;
    let mut homes = std::collections::BTreeMap::<String, u32>::new();
    for id in 0..100 {
        let mut seen = Vec::new();
        for node in &nodes {
            let counter = node.entity::<Counter>(format!("c{id}"));
            seen.push(soon("an answer", counter.node()).await.unwrap());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "entity c{id} answered from {seen:?}");
        *homes.entry(seen.remove(0)).or_default() += 1;
    }
    // 16 shards over 5 nodes: three or four on each.
    assert_eq!(homes.len(), 5, "{homes:?}");
    let up = |node: &ActorSystem| {
        node.members()
            .iter()
            .filter(|m| m.status == MemberStatus::Up)
            .count()
    };
    assert!(nodes.iter().all(|node| up(node) == 5));
    shutdown(nodes).await;
}

#[tokio::test]
async fn nodes_may_start_in_any_order() {
    // The first seed starts last. Binding and releasing finds free ports.
    let ports: Vec<u16> = (0..3)
        .map(|_| {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        })
        .collect();
    let seeds: Vec<String> = ports
        .iter()
        .map(|port| format!("localhost:{port}"))
        .collect();
    let mut nodes = Vec::new();
    for (i, port) in ports.iter().enumerate().rev() {
        let builder = node(&format!("node-{i}")).listen(format!("127.0.0.1:{port}"));
        nodes.push(builder.seeds(&seeds).start().await.unwrap());
    }
    for node in &nodes {
        soon("the cluster forms", node.wait_for(3)).await.unwrap();
    }
    assert_eq!(nodes[0].entity::<Counter>("a").add(1).await, Ok(1));
    shutdown(nodes).await;
}

/// Each gets the list of all in an order of its own, or the others only.
#[tokio::test]
async fn seeds_in_any_order_with_or_without_oneself_make_one_cluster() {
    for with_oneself in [true, false] {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [free(), free(), free()];
        let addresses = listeners.map(|free| free.local_addr().unwrap());
        let starting = (0..3).map(|i| {
            let mut seeds = addresses.to_vec();
            seeds.rotate_left(i);
            let seeds = seeds.split_off(usize::from(!with_oneself));
            let builder = node(&format!("node-{i}")).listen(addresses[i]);
            builder.seeds(seeds).start()
        });
        let nodes: Vec<_> = join_all(starting).await;
        let nodes: Vec<_> = nodes.into_iter().map(Result::unwrap).collect();
        for node in &nodes {
            soon("the cluster forms", node.wait_for(3)).await.unwrap();
        }
        shutdown(nodes).await;
    }
}

/// 100,000 messages to 1,000 entities from both sides: each arrives once, in its sender's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_arrive_exactly_once_and_in_order() {
    const ENTITIES: usize = 1_000;
    const EACH: u64 = 50;
    let nodes = cluster(2).await;
    let sending = nodes.iter().cloned().zip(0_u32..).map(|(node, sender)| {
        tokio::spawn(async move {
            let ledgers: Vec<_> = (0..ENTITIES)
                .map(|i| node.entity::<Ledger>(format!("l{i}")))
                .collect();
            for number in 0..EACH {
                for ledger in &ledgers {
                    ledger.note(sender, number).tell().await.unwrap();
                }
            }
            // An answer comes after everything that this node sent to the same entity before.
            for ledger in &ledgers {
                let seen = ledger.seen().await.unwrap();
                assert!(seen.messages >= EACH && seen.out_of_order == 0, "{seen:?}");
            }
        })
    });
    for sent in join_all(sending).await {
        sent.unwrap();
    }
    for i in 0..ENTITIES {
        let seen = nodes[i % 2]
            .entity::<Ledger>(format!("l{i}"))
            .seen()
            .await
            .unwrap();
        assert_eq!(
            seen,
            Seen {
                messages: 2 * EACH,
                out_of_order: 0
            },
            "ledger l{i}"
        );
    }
    assert_eq!(nodes[0].dead_letters() + nodes[1].dead_letters(), 0);
    shutdown(nodes).await;
}

/// The id of a counter that lives on a node.
async fn id_on(nodes: &[ActorSystem], home: usize) -> String {
    let home = nodes[home].node_id().as_str();
    let counter = entity_on::<Counter>(&nodes[0], home, CounterRef::node).await;
    counter.entity_id().to_string()
}

#[tokio::test]
async fn more_than_the_window_goes_through_a_slow_entity() {
    let nodes = cluster(2).await;
    let id = id_on(&nodes, 1).await;
    let slow = nodes[0].entity::<Counter>(&id);
    // Stuck for a while, so that mailbox, window and buffers fill up and senders have to wait.
    let mut nap = slow.nap(300).into_future();
    assert!(futures_util::poll!(&mut nap).is_pending());
    let count = 200_000;
    for _ in 0..count {
        slow.increment(1).tell().await.unwrap();
    }
    assert_eq!(
        soon("all arrive", slow.value().timeout(Duration::from_secs(20))).await,
        Ok(count)
    );
    assert_eq!(nodes[0].dead_letters() + nodes[1].dead_letters(), 0);
    shutdown(nodes).await;
}

#[tokio::test]
async fn try_tell_says_when_the_way_to_another_node_is_full() {
    let nodes = cluster(2).await;
    let id = id_on(&nodes, 1).await;
    let slow = nodes[0].entity::<Counter>(&id);
    let mut sent = 0;
    // Without an await the writer cannot run, so the buffer must fill.
    let refused = loop {
        match slow.increment(1).try_tell() {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(
        refused,
        TellError::Full(CounterMsg::Increment { amount: 1 })
    ));
    assert!(sent > 1_000, "{sent}");
    assert_eq!(soon("those taken arrive", slow.value()).await, Ok(sent));
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_remote_ask_times_out() {
    let nodes = cluster(2).await;
    let id = id_on(&nodes, 1).await;
    let after = Duration::from_millis(50);
    let error = nodes[0]
        .entity::<Counter>(&id)
        .nap(60_000)
        .timeout(after)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::Timeout { after: after_it, .. } if after_it == after));
    drop(nodes);
}

#[tokio::test]
async fn errors_and_panics_cross_the_network() {
    let nodes = cluster(2).await;
    let id = id_on(&nodes, 1).await;
    let panicked = nodes[0]
        .entity::<Counter>(&id)
        .explode("far away".to_owned())
        .await;
    assert_eq!(
        panicked,
        Err(AskError::Panicked {
            message: "far away".to_owned()
        })
    );
    for i in 0..20 {
        let refused = nodes[0]
            .entity::<Account>(format!("a{i}"))
            .withdraw(1)
            .await;
        assert_eq!(
            refused,
            Err(AskError::Entity(InsufficientFunds { balance: 0 }))
        );
    }
    shutdown(nodes).await;
}

#[tokio::test]
async fn references_travel_and_work_on_the_other_side() {
    let nodes = cluster(2).await;
    let listener = nodes[0].spawn(Listener::default());
    for i in 0..20_u64 {
        let herald = nodes[0].entity::<Herald>(format!("h{i}"));
        let heard = soon(
            "news",
            herald.announce(format!("news {i}"), listener.clone()),
        )
        .await;
        assert_eq!(heard, Ok(i + 1));
        let counter = nodes[1].entity::<Counter>(format!("x{i}"));
        counter.increment(7).tell().await.unwrap();
        assert_eq!(soon("an answer", herald.ask(counter)).await, Ok(7));
        let herself = herald.who().await.unwrap();
        assert_eq!(herself.remember("a".to_owned()).await, Ok(1));
    }
    assert_eq!(listener.heard().await.unwrap().len(), 20);
    // A reference to a stopped actor says so, from every node.
    listener.stop().await;
    for i in 0..20 {
        let herald = nodes[0].entity::<Herald>(format!("h{i}"));
        let error = herald
            .announce("too late".to_owned(), listener.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("stopped"), "{error}");
    }
    shutdown(nodes).await;
}

#[tokio::test]
async fn entities_on_different_nodes_ask_each_other() {
    let nodes = cluster(2).await;
    for i in 0..20 {
        let (from, to) = (format!("f{i}"), format!("t{i}"));
        let from = nodes[0].entity::<Account>(&from);
        from.deposit(10).await.unwrap();
        let to = nodes[1].entity::<Account>(&to);
        assert_eq!(
            soon("a transfer", from.transfer(3, to.clone())).await,
            Ok(7)
        );
        assert_eq!(to.deposit(0).await, Ok(3));
    }
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_client_routes_and_hosts_nothing() {
    let nodes = cluster(2).await;
    let seeds = [nodes[1].address()];
    let client = soon("a client", ClusterClient::connect("test", seeds))
        .await
        .unwrap();
    client.wait_for(2).await.unwrap();
    for i in 0..20 {
        let id = format!("c{i}");
        client
            .entity::<Counter>(&id)
            .increment(2)
            .tell()
            .await
            .unwrap();
        let home = soon("an answer", client.entity::<Counter>(&id).node())
            .await
            .unwrap();
        assert!(home.starts_with("node-"), "{home}");
        assert_eq!(nodes[0].entity::<Counter>(&id).value().await, Ok(2));
    }
    let envelope = ShardEnvelope::new("c0", CounterMsg::Increment { amount: 1 });
    client.shards::<Counter>().tell(envelope).await.unwrap();
    assert_eq!(client.entity::<Counter>("c0").value().await, Ok(3));
    assert_eq!(client.members().len(), 2);
    soon("the client's end", client.shutdown()).await.unwrap();
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_client_goes_on_with_the_cluster_that_has_replaced_its_own_and_says_so() {
    let nodes = cluster(2).await;
    let addresses: Vec<_> = nodes.iter().map(ActorSystem::address).collect();
    let client = ClusterClient::connect("test", &addresses).await.unwrap();
    let mut events = client.events();
    let counter = client.entity::<Counter>("c0");
    counter.increment(7).tell().await.unwrap();
    assert_eq!(soon("an answer", counter.value()).await, Ok(7));
    // All at once, without a goodbye: nothing remembers the cluster.
    drop(nodes);
    let mut nodes = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let start = || {
            let seeds = addresses.iter().take(i);
            let node = node(&format!("node-{i}")).listen(address).seeds(seeds);
            node.start()
        };
        // The port is free once the tasks of the last node have ended.
        let started = eventually("it starts", start, Result::is_ok).await;
        nodes.push(started.unwrap());
    }
    event(&mut events, "another cluster", |event| {
        matches!(event, Event::ClusterReplaced).then_some(())
    })
    .await;
    let answers = || async { counter.value().await };
    let value = eventually("it answers", answers, Result::is_ok).await;
    assert_eq!(value, Ok(0), "it begins afresh");
    client.wait_for(2).await.unwrap();
    shutdown(nodes).await;
}

#[tokio::test]
async fn members_come_and_go_with_an_event_each() {
    let first = node("node-0").start().await.unwrap();
    let mut events = first.events();
    let second = node("node-1")
        .seeds([first.address()])
        .start()
        .await
        .unwrap();
    let up = event(&mut events, "up", |event| match event {
        Event::MemberUp(member) if member.node.as_str() == "node-1" => Some(member.clone()),
        _ => None,
    })
    .await;
    second.wait_for(2).await.unwrap();
    second.shutdown().await.unwrap();
    event(&mut events, "left", |event| match event {
        Event::MemberLeft(member) => (*member == up).then_some(()),
        _ => None,
    })
    .await;
    assert_eq!(first.members().len(), 1);
    shutdown(vec![first]).await;
}

#[tokio::test]
async fn a_node_that_vanishes_is_noticed() {
    let mut nodes = cluster(3).await;
    let mut events = nodes[1].events();
    // Each node has heard from each other by gossip, which carries the load.
    for node in &nodes {
        let seen = || std::future::ready(node.members());
        eventually("they meet", seen, |members| {
            members.iter().all(|m| m.entities.is_some())
        })
        .await;
    }
    // Dropped without a goodbye: its connections close, and no process answers at its address.
    let lost = nodes.pop().unwrap();
    let name = lost.node_id().clone();
    drop(lost);
    let mut unreachable = false;
    event(&mut events, "noticed", |event| match event {
        Event::UnreachableMember(member) if member.node == name => {
            unreachable = true;
            None
        }
        Event::MemberLeft(member) if member.node == name => Some(()),
        _ => None,
    })
    .await;
    let seen = || std::future::ready(nodes[0].members());
    eventually("down", seen, |members| {
        members
            .iter()
            .any(|m| m.id.node == name && m.status == MemberStatus::Down)
    })
    .await;
    shutdown(nodes).await;
    assert!(unreachable);
}

#[tokio::test]
async fn a_restarted_node_takes_its_own_place() {
    let mut nodes = cluster(2).await;
    let id = id_on(&nodes, 1).await;
    drop(nodes.pop());
    let again = node("node-1")
        .seeds([nodes[0].address()])
        .start()
        .await
        .unwrap();
    soon("it is back", again.wait_for(2)).await.unwrap();
    // Its shards were given up with its earlier incarnation, and get a home again.
    let ask = || nodes[0].entity::<Counter>(&id).value().into_future();
    eventually("an answer", ask, |answer| *answer == Ok(0)).await;
    nodes.push(again);
    shutdown(nodes).await;
}
