//! Attacks that need no more than a port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use casty_tests::raw::{announced, framed, greeting, preamble};
use rand::{Rng, RngExt, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use crate::speak::{Attacker, Card, Entry, Hello, Wire, bytes, drain, member};

/// Longer than the deadline of a handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes of an honest beginning: of casty's handshake, or of a TLS handshake.
fn beginning(of: &Attacker) -> Vec<u8> {
    if of.has_tls() {
        // The record of a hello that never comes.
        let head = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        return [head.as_slice(), &[7; 300]].concat();
    }
    [greeting(), framed(&bytes(&Hello::on("Messages")))].concat()
}

/// Part of a handshake, and then silence.
pub(crate) async fn half_handshake(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut wire = of.tcp(of.target(n).address).await?;
    let all = beginning(&of);
    let part = of.rng().random_range(0..all.len());
    wire.write_all(&all[..part]).await?;
    let mut rest = vec![0; 64];
    let reading = async { while wire.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    // Until the node has had enough.
    let _ = tokio::time::timeout(PATIENCE, reading).await;
    Ok(())
}

/// A byte now and then.
pub(crate) async fn slow_handshake(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut wire = of.tcp(of.target(n).address).await?;
    for byte in beginning(&of) {
        wire.write_all(&[byte]).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The bytes of a hello that may be in memory before it is read, as SECURITY.md bounds them.
const HELLO_BYTES: usize = 48 * 1024;

/// All of a long hello but its last byte.
pub(crate) async fn large_hello(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut wire = of.dial(of.target(n).address, Card::Client).await?;
    let mut hello = framed(&vec![0xc0; HELLO_BYTES]);
    hello.pop();
    of.say(&mut wire, &greeting()).await?;
    of.say(&mut wire, &hello).await?;
    drain(&mut wire, PATIENCE).await;
    Ok(())
}

/// Bytes of other protocols, and of none.
pub(crate) async fn garbage(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let mut noise = vec![0; rng.random_range(1..8192)];
    rng.fill_bytes(&mut noise);
    let said = match n % 6 {
        0 => b"GET / HTTP/1.1\r\nHost: casty\r\n\r\n".to_vec(),
        1 => preamble(rng.random()),
        2 => [greeting(), noise].concat(),
        3 => [[0x16, 3, 1, 0xff, 0xff].as_slice(), &noise].concat(),
        4 => [greeting(), framed(&noise)].concat(),
        _ => noise,
    };
    // Within TLS, too, as far as the certificate goes.
    let mut wire: Wire = if n.is_multiple_of(2) {
        Box::new(of.tcp(of.target(n).address).await?)
    } else {
        of.dial(of.target(n).address, Card::Client).await?
    };
    of.say(&mut wire, &said).await?;
    drain(&mut wire, Duration::from_millis(200)).await;
    Ok(())
}

/// Lengths with right checks and little behind them: of hellos and of frames.
pub(crate) async fn lying_length(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let to = of.target(n).address;
    let lies = [
        0,
        1,
        0xffff,
        1024 * 1024,
        1024 * 1024 + 1,
        8 * 1024 * 1024,
        0xff_ffff,
    ];
    let lie = lies[n % lies.len()];
    let said = [announced(lie, b"").as_slice(), &[7; 64]].concat();
    let mut wire = if n.is_multiple_of(2) {
        let mut wire = of.dial(to, Card::Client).await?;
        of.say(&mut wire, &greeting()).await?;
        wire
    } else {
        let lane = ["Control", "Messages", "Bulk", "Copies"][n % 4];
        of.enter(to, &Hello::on(lane)).await?.0
    };
    of.say(&mut wire, &said).await?;
    drain(&mut wire, Duration::from_secs(4)).await;
    Ok(())
}

/// TLS without a certificate, and with that of another authority.
pub(crate) async fn stranger(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let card = [Card::None, Card::OtherAuthority][n % 2];
    let mut wire = of.dial(of.target(n).address, card).await?;
    let hello = framed(&bytes(&Hello::on("Messages")));
    of.say(&mut wire, &[greeting(), hello].concat()).await?;
    drain(&mut wire, Duration::from_secs(1)).await;
    Ok(())
}

/// The recorded node: the others refuse its streams, for they are not meant.
fn recorded(of: &Attacker, rng: &mut StdRng) -> (SocketAddr, Vec<u8>) {
    // Now and then another node.
    let n = if rng.random_range(0..8) == 0 { 0 } else { 2 };
    let recording = &of.recordings[rng.random_range(0..of.recordings.len())];
    (of.target(n).address, recording.clone())
}

async fn play(of: &Attacker, to: SocketAddr, said: &[u8]) -> io::Result<()> {
    let mut wire: Wire = Box::new(of.tcp(to).await?);
    of.say(&mut wire, said).await?;
    drain(&mut wire, Duration::from_millis(100)).await;
    Ok(())
}

/// A recorded stream, in whole or cut off.
pub(crate) async fn replay(of: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let (to, mut said) = recorded(&of, &mut rng);
    if rng.random() {
        said.truncate(rng.random_range(0..said.len().max(1)));
    }
    play(&of, to, &said).await
}

/// A recorded stream in which a few bits are flipped.
pub(crate) async fn flip(of: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let (to, mut said) = recorded(&of, &mut rng);
    // What is behind an early damage is not read.
    let reach = said.len().min(1 << rng.random_range(4..18)).max(1);
    for _ in 0..rng.random_range(1..8) {
        let at = rng.random_range(0..reach);
        if let Some(byte) = said.get_mut(at) {
            *byte ^= 1 << rng.random_range(0..8);
        }
    }
    play(&of, to, &said).await
}

/// The beginning of one recorded stream, and the rest of another: at a frame's end or anywhere.
pub(crate) async fn splice(of: Arc<Attacker>, _: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let (to, first) = recorded(&of, &mut rng);
    let (_, second) = recorded(&of, &mut rng);
    let at_frames = rng.random();
    let mut cut = |stream: &[u8]| {
        if at_frames {
            let ends = ends(stream);
            ends.get(rng.random_range(0..ends.len().max(1)))
                .copied()
                .unwrap_or(0)
        } else {
            rng.random_range(0..stream.len().max(1))
        }
    };
    let (until, from) = (cut(&first), cut(&second));
    play(&of, to, &[&first[..until], &second[from..]].concat()).await
}

/// Where the hello and the frames of a recorded stream end, if it is not encrypted.
fn ends(stream: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 8);
    while let Some([a, b, c, ..]) = stream.get(at..at + 8) {
        at += 8 + (usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16);
        if at > stream.len() {
            break;
        }
        ends.push(at);
    }
    ends
}

/// A hello that claims what is not so.
pub(crate) async fn forged_hello(of: Arc<Attacker>, n: usize) -> io::Result<()> {
    let mut rng = of.rng();
    let (target, other) = (of.target(n), of.target(n + 1));
    let lane = ["Control", "Messages", "Bulk", "Copies"][rng.random_range(0..4)];
    let modest = Hello::on(lane);
    let (wire, identity) = of.enter(target.address, &modest).await?;
    drop(wire);
    let mut hello = Hello { identity, ..modest };
    let (name, incarnation) = (other.member.node.as_str(), other.member.incarnation.0);
    match rng.random_range(0..12) {
        // Members, of this process, of earlier ones and of later ones.
        0 => hello.member = other.member.clone(),
        1 => hello.member = target.member.clone(),
        2 => hello.member = member(name, incarnation - 1),
        3 => hello.member = member(name, incarnation + 1),
        4 => hello.member = member(name, u64::MAX),
        5 => {
            hello.member = member(name, incarnation + 2);
            hello.keeps_seat = true;
            hello.address = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        }
        6 => {
            hello.member = other.member.clone();
            hello.address = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        }
        7 | 8 => {
            if let Some(identity) = &mut hello.identity {
                identity.generation += rng.random_range(1..9);
            }
            hello.address = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        }
        9 => hello.cluster = "x".repeat(40_000),
        10 => hello.to = Some(member(target.member.node.as_str(), 1)),
        // The same type again and again, each time in another version.
        _ => {
            let entry = |fingerprint| Entry {
                name: "Counter".to_owned(),
                shards: 16,
                fingerprint,
            };
            hello.catalog = (0..800).map(entry).collect();
        }
    }
    let (mut wire, _) = of.enter(target.address, &hello).await?;
    drain(&mut wire, Duration::from_millis(50)).await;
    Ok(())
}
