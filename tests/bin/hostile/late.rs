//! Attacks behind the handshake: by any peer where there is no TLS, else by a client that has a
//! certificate.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use casty_tests::raw::framed;
use rand::{Rng, RngExt};
use serde_bytes::ByteBuf;
use tokio::{io::AsyncReadExt, time::sleep};

use crate::speak::{
    Attacker, Call, Facts, Hello, Message, Proposal, Request, Wire, bytes, control, drain, entity,
    member,
};

/// The number of `Visitor` in the hello, and how many types it has.
const VISITOR: u16 = 0;
const TYPES: u16 = 3;

async fn enter(of: &Attacker, n: usize, lane: &'static str) -> io::Result<Wire> {
    Ok(of.enter(of.target(n).address, &Hello::on(lane)).await?.0)
}

/// Records of members that there are not, and of those that there are.
pub(crate) async fn facts(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut wire = enter(&of, n, "Control").await?;
    for round in 0..50 {
        let facts = || Facts {
            version: 99,
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            catalog: Vec::new(),
            roles: vec!["made-up".to_owned()],
            load: 12345,
        };
        let nobodies = (0..500).map(|k| member(&format!("nobody-{n}-{round}-{k}"), 1));
        let members = of.targets.iter().map(|target| target.member.clone());
        let digest = Request::Digest {
            from: of.target(n + 1).member.clone(),
            digest: nobodies.clone().map(|name| (name, 1)).collect(),
        };
        let all: BTreeMap<_, _> = nobodies.chain(members).map(|it| (it, facts())).collect();
        let said = [control(&Request::Facts(all)), control(&digest)].concat();
        of.say(&mut wire, &said).await?;
    }
    drain(&mut wire, Duration::from_millis(50)).await;
    Ok(())
}

/// Control frames that cannot be read, and calls by the thousand.
pub(crate) async fn bad_control(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let lane = ["Control", "Bulk"][n % 2];
    let mut wire = enter(&of, n / 2, lane).await?;
    let mut said = Vec::new();
    for id in 0..500 {
        let mut noise = vec![0; rng.random_range(1..200)];
        rng.fill_bytes(&mut noise);
        said.extend(match n % 6 {
            0 => framed(&[&[7], noise.as_slice()].concat()),
            1 => control(&Request::Watch { version: id }),
            2 => control(&Request::Has { version: id << 32 }),
            3 => control(&Request::Gossip(ByteBuf::from(noise))),
            4 => {
                let (kind, shards) = ("Counter".to_owned(), (0..16).collect());
                let call = Call::Propose(Proposal::Allocate { kind, shards });
                control(&Request::Call { id, call })
            }
            _ => control(&Request::Call {
                id,
                call: Call::Inspect,
            }),
        });
    }
    for _ in 0..10 {
        of.say(&mut wire, &said).await?;
        drain(&mut wire, Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Messages at epochs and of types that are not.
pub(crate) async fn wrong_epochs(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let mut wire = enter(&of, n, ["Messages", "Bulk"][n % 2]).await?;
    let long = "x".repeat(60_000);
    for _ in 0..20 {
        let mut said = Vec::new();
        for k in 0..200 {
            let epoch = match rng.random_range(0..4) {
                0 => 0,
                1 => u64::MAX,
                2 => rng.random_range(0..100),
                _ => rng.random(),
            };
            // Also a type that the client may not send to, and one that no node has.
            let kind = rng.random_range(0..TYPES);
            let id = format!("v{}", rng.random_range(0..1000));
            let id = if k == 7 { &long } else { &id };
            let ask = rng.random_range(0..3) * k;
            said.extend(entity(kind, epoch, ask, id, &bytes(&Message::Call {})));
        }
        of.say(&mut wire, &said).await?;
        drain(&mut wire, Duration::from_millis(5)).await;
    }
    // One beyond the catalog.
    of.say(&mut wire, &entity(TYPES, 1, 1, "x", b"")).await?;
    drain(&mut wire, Duration::from_millis(50)).await;
    Ok(())
}

/// Answers that were not asked for, and frames of the other side.
pub(crate) async fn forged_replies(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let lane = ["Control", "Messages", "Bulk", "Copies"][rng.random_range(0..4)];
    let mut wire = enter(&of, n, lane).await?;
    let mut said = Vec::new();
    for correlation in 0..100_u64 {
        let numbers = [correlation.to_le_bytes(), rng.random::<u64>().to_le_bytes()].concat();
        let inner = entity(VISITOR, 1, correlation, "x", &bytes(&Message::Call {}));
        let body: Vec<u8> = match rng.random_range(0..9) {
            0 => [&[3], numbers.as_slice(), &bytes(&1_i64)].concat(),
            1 => [&[4], &numbers[..8], &bytes(&"Stopped")].concat(),
            2 => [&[5], &numbers[8..], &inner[8..]].concat(),
            3 => [&[6], numbers.as_slice()].concat(),
            4 => vec![9],
            5 => [&[10], &numbers[..8]].concat(),
            6 => [&[11], &numbers[..8]].concat(),
            7 => [&[2], numbers.as_slice(), &[0, 0, 0xc0]].concat(),
            _ => vec![8],
        };
        said.extend(framed(&body));
        if rng.random_range(0..3) == 0 {
            break;
        }
    }
    of.say(&mut wire, &said).await?;
    drain(&mut wire, Duration::from_millis(20)).await;
    Ok(())
}

/// A `Visitor` and the epoch of its shard.
type Known = (String, u64);

/// A connection for messages, and some visitors with their epochs, as this node knows them: it
/// sends back what is sent at an earlier one. A third of their shards are on this node.
async fn visit(of: &Attacker, n: usize) -> io::Result<(Wire, Vec<Known>)> {
    let mut wire = enter(of, n, "Messages").await?;
    let call = bytes(&Message::Call {});
    let said = (0..VISITORS).map(|k| entity(VISITOR, 0, 0, &format!("v{k}"), &call));
    of.say(&mut wire, &said.collect::<Vec<_>>().concat())
        .await?;
    let mut known = Vec::new();
    while known.len() < VISITORS {
        let limit = Duration::from_secs(1);
        let frame = tokio::time::timeout(limit, hear(&mut wire)).await??;
        known.extend(bounced(&frame));
    }
    if known.iter().any(|(_, epoch)| *epoch == 0) {
        // No node has the shards yet: any client may have them assigned.
        for k in 0..of.targets.len() {
            let mut wire = enter(of, k, "Control").await?;
            let (kind, shards) = ("Visitor".to_owned(), (0..16).collect());
            let call = Call::Propose(Proposal::Allocate { kind, shards });
            of.say(&mut wire, &control(&Request::Call { id: 1, call }))
                .await?;
            drain(&mut wire, Duration::from_millis(50)).await;
        }
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((wire, known))
}

const VISITORS: usize = 32;

/// The next frame of a node, without its prefix.
async fn hear(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let mut prefix = [0; 8];
    wire.read_exact(&mut prefix).await?;
    let [a, b, c, ..] = prefix.map(usize::from);
    let mut frame = vec![0; a | b << 8 | c << 16];
    wire.read_exact(&mut frame).await?;
    Ok(frame)
}

/// The entity of a message that was sent back, and the epoch that the node knows.
fn bounced(frame: &[u8]) -> Option<Known> {
    let (5, rest) = frame.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let (epoch, message) = rest.split_first_chunk()?;
    // Behind the kinds, the hops, an epoch and a correlation.
    let (length, id) = message.get(20..)?.split_first_chunk()?;
    let id = id.get(..usize::from(u16::from_le_bytes(*length)))?;
    Some((
        String::from_utf8_lossy(id).into_owned(),
        u64::from_le_bytes(*epoch),
    ))
}

/// Messages to a new entity each.
pub(crate) async fn many_ids(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let (mut wire, known) = visit(&of, n).await?;
    let call = bytes(&Message::Call {});
    for round in 0..1000 {
        let mut said = Vec::new();
        for (k, (_, epoch)) in known.iter().cycle().take(500).enumerate() {
            said.extend(entity(
                VISITOR,
                *epoch,
                0,
                &format!("{n}-{round}-{k}"),
                &call,
            ));
        }
        of.say(&mut wire, &said).await?;
        // What is sent back is read.
        drain(&mut wire, Duration::from_millis(5)).await;
    }
    Ok(())
}

/// More than the window, to entities that are busy.
pub(crate) async fn flood(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let (mut wire, known) = visit(&of, n).await?;
    let mut said = Vec::new();
    for (ask, (id, epoch)) in (1..).zip(known.iter().cycle().take(600)) {
        // The last node to leave handles what is queued: 1,024 of these, in half of its time.
        let nap = bytes(&Message::Nap { millis: 5 });
        said.extend(entity(VISITOR, *epoch, ask, id, &nap));
    }
    for _ in 0..2000 {
        of.say(&mut wire, &said).await?;
    }
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Asks whose answers are long, and are never read.
pub(crate) async fn slow_reader(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let (mut wire, known) = visit(&of, n).await?;
    for ask in 0..200 {
        let mut said = Vec::new();
        for (k, (id, epoch)) in (1..).zip(&known) {
            let page = bytes(&Message::Page { kib: 256 });
            said.extend(entity(VISITOR, *epoch, ask * 100 + k, id, &page));
        }
        of.say(&mut wire, &said).await?;
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}
