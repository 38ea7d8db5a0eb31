//! Errors at start and at joining are clear.

use std::net::SocketAddr;

use casty::{
    ClusterClient, Settings,
    error::{JoinError, StartError},
    prelude::*,
};
use casty_tests::Counter;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::raw::{greeting, preamble};
use crate::support::{cluster, eventually, node, shutdown, soon};

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = node("node-0").start().await.unwrap();
    let error = node("node-1")
        .listen(first.address())
        .start()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StartError::Listen { address, source }
        if *address == first.address().to_string()
            && source.kind() == std::io::ErrorKind::AddrInUse),
        "{error}"
    );
    assert!(error.to_string().contains(&first.address().to_string()));
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let error = node("n").listen("nonsense").start().await.unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    let error = node("n")
        .listen("0.0.0.0:0")
        .insecure()
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("advertise"), "{error}");
}

#[tokio::test]
async fn settings_out_of_range_are_named() {
    let settings = Settings {
        connect_timeout: Duration::ZERO,
        ..Settings::default()
    };
    let error = node("n").settings(settings).start().await.unwrap_err();
    assert!(error.to_string().contains("connect_timeout"), "{error}");
    let error = node("").start().await.unwrap_err();
    assert!(error.to_string().contains("node_id"), "{error}");
}

#[tokio::test]
async fn a_malformed_seed_is_named_at_the_start() {
    let malformed = [
        "",
        "host",
        "host:",
        ":25520",
        "host:0",
        "host:70000",
        "http://host:80",
        "::1:25520",
        "a b:1",
    ];
    for seed in malformed {
        let error = node("n").seeds([seed]).start().await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("seeds") && error.contains(&format!("`{seed}`")),
            "{error}"
        );
        let client = ClusterClient::connect("test", [seed]).await.unwrap_err();
        assert!(client.to_string().contains("seeds"), "{client}");
    }
    for seed in ["host.invalid:25520", "[::1]:1", "127.0.0.1:1"] {
        node("n").seeds([seed]).start().await.unwrap();
    }
}

#[tokio::test]
async fn another_cluster_name_is_refused() {
    let first = node("node-0").start().await.unwrap();
    let stranger = ActorSystem::builder("other")
        .seeds([first.address()])
        .start()
        .await
        .unwrap();
    let error = soon("a refusal", stranger.wait_for(1)).await.unwrap_err();
    let JoinError::Refused { seed, reason } = &error else {
        panic!("{error}")
    };
    assert_eq!(*seed, first.address().to_string());
    assert!(
        reason.contains("`test`") && reason.contains("`other`"),
        "{reason}"
    );
    assert_eq!(first.members().len(), 1);
}

#[tokio::test]
async fn two_clusters_of_one_name_never_merge() {
    let mut nodes = cluster(2).await;
    let remaining = nodes.pop().unwrap();
    let mut founder_owns = String::new();
    for i in 0..10 {
        founder_owns = format!("c{i}");
        if remaining
            .entity::<Counter>(&founder_owns)
            .node()
            .await
            .unwrap()
            == "node-0"
        {
            break;
        }
    }
    // The founder dies, and another node founds a cluster of the same name at the same address.
    let address = nodes[0].address();
    drop(nodes);
    let usurper = eventually(
        "the port is free",
        || node("node-0").listen(address).start(),
        Result::is_ok,
    )
    .await
    .unwrap();
    soon("it founds", usurper.wait_for(1)).await.unwrap();
    // The remaining node calls the old founder, and the new one turns it away.
    let ask = || {
        remaining
            .entity::<Counter>(&founder_owns)
            .value()
            .into_future()
    };
    eventually("turned away", ask, |answer| match answer {
        Err(AskError::Unreachable { reason, .. }) => reason.contains("restarted"),
        _ => false,
    })
    .await;
    assert_eq!((usurper.members().len(), remaining.members().len()), (1, 2));
}

#[tokio::test]
async fn another_protocol_version_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = listener.local_addr().unwrap();
    let old = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&preamble(99)).await.unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    let young = node("young").seeds([seed]).start().await.unwrap();
    let error = soon("a refusal", young.wait_for(1)).await.unwrap_err();
    assert!(error.to_string().contains("version 99"), "{error}");
    // The other side learns this side's version, whatever it is.
    drop(young);
    assert_eq!(soon("the end", old).await.unwrap()[..8], greeting());
}

#[tokio::test]
async fn something_else_at_a_seeds_address_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let lost = node("lost").seeds([seed]).start().await.unwrap();
    let error = soon("a refusal", lost.wait_for(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("does not speak casty"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unreachable_seed_means_wait_and_never_birth() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let waiting = node("waiting").seeds([nobody]).start().await.unwrap();
    let patience = Duration::from_millis(300);
    assert!(
        tokio::time::timeout(patience, waiting.wait_for(1))
            .await
            .is_err()
    );
    assert_eq!(waiting.members(), []);
    // A message without a reachable home fails in time.
    let error = soon("an error", waiting.entity::<Counter>("c").value())
        .await
        .unwrap_err();
    assert_eq!(error, AskError::NoQuorum);
    // The seed appears, and is joined.
    let seed = node("seed").listen(nobody).start().await.unwrap();
    soon("it joins", waiting.wait_for(2)).await.unwrap();
    shutdown(vec![seed, waiting]).await;
}

/// A store of one kind of value, registered by hand under one name for two kinds.
#[derive(Default)]
pub(crate) struct Store<T> {
    values: Vec<T>,
}

#[entity(shards = 8)]
impl<T: Wire + Default> Store<T> {
    #[message]
    fn put(&mut self, value: T) -> u64 {
        self.values.push(value);
        self.values.len() as u64
    }
}

// The nodes of these tests name them, or do not.
casty::host!(Store<u8>);
casty::host!(Store<u16>);
casty::host!(Store<u32>);
casty::host!(Store<String>);

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_answered_with_its_name() {
    let first = node("node-0")
        .entity_as::<Store<u32>>("store")
        .start()
        .await
        .unwrap();
    let builder = node("node-1").entity_as::<Store<String>>("store");
    let second = builder.seeds([first.address()]).start().await.unwrap();
    soon("they form", second.wait_for(2)).await.unwrap();
    soon("they form", first.wait_for(2)).await.unwrap();
    let mut undecodable = 0;
    for i in 0..30 {
        match soon(
            "an answer",
            first.entity::<Store<u32>>(format!("s{i}")).put(7),
        )
        .await
        {
            Ok(1) => {}
            Err(AskError::Undecodable { message, reason }) => {
                assert!(
                    message == "put" && reason.contains("string"),
                    "{message}: {reason}"
                );
                undecodable += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        (10..=20).contains(&undecodable),
        "about half live on the other node: {undecodable}"
    );
    // As a tell it is a dead letter, on the node that could not decode it.
    let before = second.dead_letters();
    for i in 0..30 {
        first
            .entity::<Store<u32>>(format!("s{i}"))
            .put(7)
            .tell()
            .await
            .unwrap();
        let _ = first.entity::<Store<u32>>(format!("s{i}")).put(7).await;
    }
    assert_eq!(second.dead_letters() - before, undecodable);
    shutdown(vec![first, second]).await;
}

#[tokio::test]
async fn an_unknown_entity_type_is_named() {
    let nodes = cluster(2).await;
    let error = nodes[0].entity::<Store<u8>>("s").put(1).await.unwrap_err();
    assert_eq!(
        error,
        AskError::UnknownEntity {
            name: "Store".to_owned(),
            role: None,
        }
    );
    let told = nodes[0].entity::<Store<u8>>("s").put(1).tell().await;
    assert!(matches!(told, Err(TellError::UnknownEntity { .. })));
    shutdown(nodes).await;
}

#[tokio::test]
async fn an_error_names_a_type_that_no_member_hosts_any_more() {
    let first = node("node-0").start().await.unwrap();
    let builder = node("node-1").entity_as::<Store<u8>>("store");
    let second = builder.seeds([first.address()]).start().await.unwrap();
    soon("they form", second.wait_for(2)).await.unwrap();
    let client = ActorSystem::builder("test").entity_as::<Store<u8>>("store");
    let third = client.seeds([first.address()]).start().await.unwrap();
    soon("they form", third.wait_for(3)).await.unwrap();
    for i in 0..10 {
        assert_eq!(
            third.entity::<Store<u8>>(format!("s{i}")).put(1).await,
            Ok(1)
        );
    }
    shutdown(vec![first, second, third]).await;
}

#[tokio::test]
async fn different_shard_counts_are_refused() {
    #[derive(Default)]
    struct Other;

    #[entity(shards = 9, name = "Other")]
    impl Other {
        #[message]
        fn ping(&self) {}
    }

    let first = node("node-0")
        .entity_as::<Store<u8>>("kind")
        .start()
        .await
        .unwrap();
    let seeds = [first.address()];
    let second = node("node-1")
        .entity_as::<Other>("kind")
        .seeds(seeds)
        .start()
        .await
        .unwrap();
    let error = soon("a refusal", second.wait_for(2))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`kind`") && error.contains('8') && error.contains('9'),
        "{error}"
    );
}

#[tokio::test]
async fn two_types_of_one_name_do_not_start() {
    let builder = node("n")
        .entity_as::<Store<u8>>("same")
        .entity_as::<Store<u16>>("same");
    let error = builder.start().await.unwrap_err();
    let StartError::DuplicateEntity {
        name,
        first,
        second,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(
        name == "same" && first.contains("u16") && second.contains("u8"),
        "{error}"
    );
}

/// Sends bytes that are no handshake, or no frame after a handshake, and closes.
async fn spit(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = soon("it closes", stream.read_to_end(&mut answer)).await;
}

#[tokio::test]
async fn a_node_goes_on_serving_whatever_strangers_send() {
    let nodes = cluster(2).await;
    let to = nodes[0].address();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    for length in [0, 1, 5, 6, 7, 10, 100, 10_000] {
        let mut bytes = vec![0; length];
        rand::Rng::fill_bytes(&mut rng, &mut bytes);
        spit(to, &bytes).await;
        let mut greeted = greeting();
        greeted.extend(&bytes);
        spit(to, &greeted).await;
    }
    let lie = [greeting(), b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()].concat();
    spit(to, &lie).await;
    for i in 0..20 {
        assert_eq!(
            nodes[1].entity::<Counter>(format!("c{i}")).add(1).await,
            Ok(1)
        );
    }
    shutdown(nodes).await;
}

/// The reason that keeps the node out is worth more than `NoQuorum`, which asks to try again.
#[tokio::test]
async fn a_node_that_is_refused_says_so_to_those_who_ask() {
    let first = node("node-0").start().await.unwrap();
    let other = ActorSystem::builder("other").seeds([first.address()]);
    let stranger = other.start().await.unwrap();
    let counter = stranger.entity::<Counter>("a");
    let early = tokio::spawn(counter.add(1).into_future());
    let refused = soon("a refusal", stranger.wait_for(1)).await.unwrap_err();
    let asked = soon("at once", counter.add(1)).await;
    let reason = refused.clone();
    assert_eq!(asked, Err(AskError::NotMember { reason }));
    let early = soon("at once", early).await.unwrap();
    let reason = refused.clone();
    assert_eq!(early, Err(AskError::NotMember { reason }));
    let told = counter.add(1).retry_for(Duration::from_mins(10)).tell();
    let told = soon("no retry helps", told).await;
    let is_told = matches!(&told, Err(TellError::NotMember { reason, .. }) if *reason == refused);
    assert!(is_told, "{told:?}");
    soon("shutdown", stranger.shutdown()).await.unwrap();
    soon("shutdown", first.shutdown()).await.unwrap();
}

/// Times at their bounds: nothing overflows, and the node works.
#[tokio::test]
async fn a_node_with_the_longest_times_starts_and_serves() {
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let longest = Settings {
        ask_timeout: day,
        resolve_timeout: day,
        stop_timeout: hour,
        shutdown_timeout: day,
        connect_timeout: hour,
        keepalive_interval: hour / 2,
        keepalive_timeout: hour,
        backoff: hour,
        backoff_max: hour,
        suspect_after: hour,
        lease: hour,
        decide_timeout: hour,
        ..Settings::default()
    };
    let alone = node("alone")
        .settings(longest.clone())
        .start()
        .await
        .unwrap();
    soon("it founds", alone.ready()).await.unwrap();
    let counter = alone.entity::<Counter>("a");
    let patient = counter.add(1).timeout(Duration::MAX);
    assert_eq!(soon("an answer", patient).await, Ok(1));
    soon("shutdown", alone.shutdown()).await.unwrap();
    let too_long = Settings {
        lease: hour + Duration::from_nanos(1),
        ..longest
    };
    let refused = node("alone").settings(too_long).start().await.unwrap_err();
    assert!(refused.to_string().contains("lease"), "{refused}");
}
