//! What casty logs, as its users collect it: one process, one collector.

#![expect(clippy::unwrap_used, reason = "tests: an answer that is not the point")]

use std::{
    fmt::Write as _,
    io,
    sync::{Mutex, OnceLock},
};

use casty::{
    prelude::*,
    testkit::{cluster, eventually, soon},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tracing_subscriber::fmt::MakeWriter;

/// All that was logged.
#[derive(Clone, Copy)]
struct Collector;

static LINES: Mutex<String> = Mutex::new(String::new());

impl io::Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let written = LINES.lock().unwrap().write_str(&text);
        written.map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Collector {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

fn collect() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_env_filter("debug")
            .with_ansi(false)
            .with_writer(Collector)
            .init();
    });
}

fn lines() -> Vec<String> {
    let lines = LINES.lock().unwrap();
    lines.lines().map(str::to_owned).collect()
}

/// Waits until a line contains all of it, and returns it.
async fn line(parts: &[&str]) -> String {
    let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
    let found = || async { lines().iter().find(is_it).cloned() };
    eventually(&parts.join(", "), found, Option::is_some)
        .await
        .unwrap()
}

#[derive(Default)]
struct Chatty;

#[entity(on_failure = resume)]
impl Chatty {
    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn fail(&mut self) {
        panic!("it fails");
    }
}

/// It prints its state at each start, warns of each slow voter, and calls an ordinary end an error.
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_of_the_map_keeps_its_log_to_itself() {
    collect();
    let mut nodes = cluster(3).await;
    line(&["INFO", "this node leads the cluster"]).await;
    for n in 0..10 {
        let chatty = nodes[1].entity::<Chatty>(format!("c{n}"));
        soon("an answer", chatty.node()).await.unwrap();
    }
    // The founder leads: it hands over, and leaves.
    let first = nodes.remove(0);
    soon("shutdown", first.shutdown()).await.unwrap();
    let members = || async { nodes[1].members().len() };
    eventually("it has left", members, |members| *members == 2).await;
    for node in nodes.into_iter().rev() {
        soon("shutdown", node.shutdown()).await.unwrap();
    }
    let engine: Vec<_> = lines()
        .into_iter()
        .filter(|line| line.contains(" openraft"))
        .collect();
    assert!(engine.is_empty(), "{engine:#?}");
}

#[tokio::test]
async fn an_id_cannot_forge_a_line() {
    collect();
    let system = ActorSystem::local("app");
    let id = "guest\n2026-01-01T00:00:00Z ERROR casty: all is lost\u{1b}[2J";
    let failed = system.entity::<Chatty>(id).fail().await;
    assert!(
        matches!(failed, Err(AskError::Panicked { .. })),
        "{failed:?}"
    );
    let told = line(&["WARN", "Chatty/guest"]).await;
    assert!(told.contains(r"guest\n2026-01-01"), "{told}");
    let forged = |line: &String| line.starts_with("2026-01-01") || line.contains('\u{1b}');
    assert!(!lines().iter().any(forged));
}

#[tokio::test]
async fn a_probe_of_the_port_is_no_warning_and_a_strangers_name_is_cut() {
    collect();
    let node = ActorSystem::builder("quiet").start().await.unwrap();
    soon("it founds", node.wait_for(1)).await.unwrap();
    let probe = TcpStream::connect(node.address()).await.unwrap();
    let from = probe.local_addr().unwrap().to_string();
    drop(probe);
    let told = line(&[&from, "connection"]).await;
    assert!(told.contains("DEBUG"), "{told}");
    // Another cluster's name, as long as a handshake may be.
    let name = "x".repeat(200);
    let other = ActorSystem::builder(&name).seeds([node.address()]);
    let other = other.start().await.unwrap();
    let refused = soon("a refusal", other.wait_for(1)).await;
    assert!(refused.is_err());
    line(&["WARN", "a connection was refused", "xxxx"]).await;
    // What is no handshake at all.
    // A line a moment at most is written of such, so it is tried until one is.
    let noisy = || async {
        let mut noise = TcpStream::connect(node.address()).await.unwrap();
        let from = noise.local_addr().unwrap().to_string();
        let _ = noise.write_all(&[b'\n'; 10_000]).await;
        let _ = noise.read_to_end(&mut Vec::new()).await;
        let is_it = |line: &String| line.contains("WARN") && line.contains(&from);
        lines().iter().any(is_it)
    };
    eventually("a line of what is no handshake", noisy, |seen| *seen).await;
    let long = lines().into_iter().find(|line| line.len() > 4000);
    assert_eq!(long, None);
    soon("shutdown", other.shutdown()).await.unwrap();
    soon("shutdown", node.shutdown()).await.unwrap();
}
