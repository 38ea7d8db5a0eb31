//! A peer that follows the handshake and nothing after it.

use std::net::SocketAddr;

use casty_tests::Counter;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::raw::{framed, greeting, length_after_preamble};
use crate::support::{cluster, shutdown, soon};

/// A MessagePack map from names to encoded values.
fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x80 | fields.len() as u8];
    for (name, value) in fields {
        out.extend(text(name));
        out.extend(value);
    }
    out
}

fn text(text: &str) -> Vec<u8> {
    let mut out = vec![0xd9, text.len() as u8];
    out.extend(text.as_bytes());
    out
}

/// A connection after its handshake: lane `Messages`, with a catalog of the counter and of an
/// unknown type.
async fn let_in(to: SocketAddr) -> TcpStream {
    let entry = |name: &str| {
        map(&[
            ("name", text(name)),
            ("shards", vec![16]),
            ("fingerprint", vec![0]),
        ])
    };
    let catalog = [vec![0x92], entry("Counter"), entry("Nobody")].concat();
    let member = map(&[("node", text("stranger")), ("incarnation", vec![1])]);
    let hello = map(&[
        ("cluster", text("test")),
        ("identity", vec![0xc0]),
        ("member", member),
        ("address", vec![0xc0]),
        ("lane", text("Messages")),
        ("catalog", catalog),
        ("to", vec![0xc0]),
    ]);
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&greeting()).await.unwrap();
    stream.write_all(&framed(&hello)).await.unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();
    let mut welcome = vec![0; length_after_preamble(&head)];
    stream.read_exact(&mut welcome).await.unwrap();
    assert_eq!(
        welcome[..4],
        *b"\x81\xa2Ok",
        "{:?}",
        String::from_utf8_lossy(&welcome)
    );
    stream
}

/// An entity frame as `transport/frame.rs` describes it.
fn entity(kind: u16, correlation: u64, id: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(kind.to_le_bytes());
    body.push(0);
    body.extend(u64::MAX.to_le_bytes());
    body.extend(correlation.to_le_bytes());
    body.extend(u16::try_from(id.len()).unwrap().to_le_bytes());
    body.extend(id.as_bytes());
    // No chain of waiting actors.
    body.extend(0_u16.to_le_bytes());
    body.extend(payload);
    framed(&body)
}

/// Reads until the received bytes contain `what`.
async fn hears(stream: &mut TcpStream, what: &str) {
    let mut heard = Vec::new();
    soon(what, async {
        loop {
            assert_ne!(
                stream.read_buf(&mut heard).await.unwrap(),
                0,
                "closed before `{what}`"
            );
            if String::from_utf8_lossy(&heard).contains(what) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_entity_type_is_answered_with_its_name() {
    let nodes = cluster(2).await;
    let mut stream = let_in(nodes[0].address()).await;
    stream.write_all(&entity(1, 5, "x", b"\xc0")).await.unwrap();
    hears(&mut stream, "Nobody").await;
    // As a tell it is a dead letter.
    stream
        .write_all(&entity(1, 0, "x", b"\xa4ping"))
        .await
        .unwrap();
    let dead = || std::future::ready(nodes[0].dead_letters());
    crate::support::eventually("a dead letter", dead, |dead| *dead == 1).await;
    shutdown(nodes).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_cost_the_connection_and_nothing_else() {
    let nodes = cluster(2).await;
    let to = nodes[0].address();
    let nested = [vec![0x91; 10_000], vec![0x90]].concat();
    let mut rng = StdRng::seed_from_u64(7);
    let mut random = vec![0; 5_000];
    rng.fill_bytes(&mut random);
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("unknown kind", framed(&[99])),
        ("empty", framed(&[])),
        ("truncated header", framed(&[1, 0, 0])),
        ("oversized", u32::MAX.to_le_bytes().to_vec()),
        ("a kind beyond the catalog", entity(7, 0, "x", b"")),
        (
            "a reply nobody asked for",
            framed(&[[3; 17].as_slice(), b"x"].concat()),
        ),
        ("control on the message lane", framed(&[7, 0xc0])),
        ("random", random),
    ];
    for (what, bytes) in bad {
        let mut stream = let_in(to).await;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        // The node closes the connection, or waits for the rest of a frame whose length was random.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), async {
            let _ = stream.read_to_end(&mut rest).await;
        })
        .await;
        let counter = nodes[1].entity::<Counter>("c");
        assert!(soon(what, counter.add(1)).await.is_ok(), "{what}");
    }
    let mut stream = let_in(to).await;
    stream.write_all(&entity(0, 3, "c", &nested)).await.unwrap();
    stream
        .write_all(&entity(0, 4, &"x".repeat(2_000), b"\xa5value"))
        .await
        .unwrap();
    // Neither message is due at this epoch. The node holds both for a while, and then fails them.
    hears(&mut stream, "NoQuorum").await;
    let value = soon("it serves", nodes[1].entity::<Counter>("c").value())
        .await
        .unwrap();
    assert_eq!(value, 8);
    let id = rng.random_range(0..100);
    assert_eq!(
        nodes[1]
            .entity::<Counter>(format!("other{id}"))
            .add(1)
            .await,
        Ok(1)
    );
    shutdown(nodes).await;
}
