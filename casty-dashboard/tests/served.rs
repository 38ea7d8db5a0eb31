//! The dashboard, served and asked over real sockets.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, sync::Arc};

use casty::{persistence::Memory, prelude::*, testkit::soon};
use casty_dashboard::{Dashboard, ServeError, serve};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::Semaphore,
};

/// Lets handlers go on.
struct Pass(Semaphore);

/// Waits for as long as it has to.
#[derive(Default)]
pub struct Clerk;

#[entity(name = "served/clerk", shards = 8)]
impl Clerk {
    /// Waits.
    #[message]
    pub async fn work(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 7)
    }
}

/// Is stored.
#[message]
#[derive(Default)]
pub struct Purse {
    cents: u64,
}

#[entity(name = "served/purse", event_sourced, shards = 8)]
impl Purse {
    /// Puts something in.
    #[message]
    pub fn put(&self, cents: u64) -> Effect<Self, u64> {
        Effect::persist(PurseEvent::Filled { cents }).reply(|purse: &Self| purse.cents)
    }

    #[event]
    fn filled(&mut self, cents: u64) {
        self.cents += cents;
    }
}

/// An answer to a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn request(address: SocketAddr, path: &str, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn get_as(address: SocketAddr, path: &str, host: &str) -> Answer {
    let mut answer = String::new();
    let mut stream = request(address, path, host).await;
    let read = stream.read_to_string(&mut answer);
    soon("an answer", read).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    Answer {
        status: status.parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn get(dashboard: &Dashboard, path: &str) -> Answer {
    let address = dashboard.address();
    get_as(address, path, &address.to_string()).await
}

async fn node(name: &str, pass: &Arc<Pass>) -> ActorSystem {
    let node = ActorSystem::builder("served")
        .node_id(name)
        .journal(Memory::new())
        .resource(pass.clone());
    node.start().await.unwrap()
}

fn pass() -> Arc<Pass> {
    Arc::new(Pass(Semaphore::new(0)))
}

#[tokio::test]
async fn probes_say_what_is_the_case_and_why() {
    // It seeks a cluster that is not there.
    let seeking = ActorSystem::builder("served-seeking")
        .journal(Memory::new())
        .resource(pass());
    let seeking = seeking.seeds(["127.0.0.1:1"]).start().await.unwrap();
    let dashboard = serve(&seeking, "127.0.0.1:0").await.unwrap();
    for probe in ["/startup", "/ready"] {
        let answer = get(&dashboard, probe).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.ends_with("it is no member of a cluster\n"));
    }
    let alive = get(&dashboard, "/live").await;
    assert_eq!((alive.status, &*alive.body), (200, "alive\n"));
    dashboard.shutdown().await.unwrap();

    let node = node("n1", &pass()).await;
    soon("it is ready", node.ready()).await.unwrap();
    let dashboard = serve(&node, "127.0.0.1:0").await.unwrap();
    for (probe, line) in [("/startup", "started\n"), ("/ready", "ready\n")] {
        let answer = get(&dashboard, probe).await;
        assert_eq!((answer.status, &*answer.body), (200, line), "{answer:?}");
    }
    node.shutdown().await.unwrap();
    let ended = get(&dashboard, "/ready").await;
    assert_eq!(ended.status, 503, "{ended:?}");
    assert!(ended.body.starts_with("not ready: "), "{ended:?}");
    // It was started, and a process that ends is not dead.
    assert_eq!(get(&dashboard, "/startup").await.status, 200);
    assert_eq!(get(&dashboard, "/live").await.status, 200);
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_no_other_site_reads_it() {
    let node = ActorSystem::local("served-page");
    let dashboard = serve(&node, "localhost:0").await.unwrap();
    for (path, kind, part) in [
        ("/", "text/html", "<title>casty</title>"),
        ("/app.js", "text/javascript", "EventSource"),
        ("/style.css", "text/css", "color-scheme"),
    ] {
        let answer = get(&dashboard, path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains(&format!("content-type: {kind}")));
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'none'")
        );
        assert!(answer.body.contains(part));
        assert!(!answer.body.contains("https://"), "{path}");
    }
    assert_eq!(get(&dashboard, "/other").await.status, 404);
    let address = dashboard.address();
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9400", 200),
        ("[::1]:9400", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("10.0.0.1", 403),
    ] {
        for path in ["/", "/api/shards", "/metrics", "/ready"] {
            let answer = get_as(address, path, host).await;
            assert_eq!(answer.status, status, "{host} {path}");
        }
    }
    let refused = serve(&node, "0.0.0.0:0").await.unwrap_err();
    assert!(matches!(refused, ServeError::NotLoopback { .. }));
    assert!(refused.to_string().contains("casty_dashboard::router"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_listed_opened_and_explained() {
    let pass = pass();
    let node = node("n1", &pass).await;
    soon("it is ready", node.ready()).await.unwrap();
    let dashboard = serve(&node, "127.0.0.1:0").await.unwrap();
    let odd = "a/b &<c>";
    for _ in 0..3 {
        let told = node.entity::<Clerk>(odd).work().tell();
        soon("it is told", told).await.unwrap();
    }
    for cents in 1..=30 {
        soon("it is put in", node.entity::<Purse>("ann").put(cents))
            .await
            .unwrap();
    }
    soon("it is put in", node.entity::<Purse>("anna").put(1))
        .await
        .unwrap();

    let list = get(&dashboard, "/api/entities?kind=served/purse&prefix=ann").await;
    let list = list.json();
    let ids: Vec<_> = list["entities"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert_eq!(
        (&ids[0]["id"], &ids[0]["record"]),
        (&"ann".into(), &30.into())
    );
    assert_eq!(
        (&ids[0]["active_on"], &list["more"]),
        (&"n1".into(), &false.into())
    );
    let active = "/api/entities?kind=served/clerk&active=1";
    let active = get(&dashboard, active).await.json();
    assert_eq!(active["entities"][0]["id"], odd);
    let unknown = get(&dashboard, "/api/entities?kind=nothing").await;
    assert_eq!(unknown.status, 404, "{unknown:?}");

    let purse = get(&dashboard, "/api/why?kind=served/purse&id=ann")
        .await
        .json();
    let records = purse["records"].as_array().unwrap();
    assert_eq!(records.len(), 20, "{purse}");
    assert_eq!(records[0], "30. filled {\"cents\":30}");
    assert_eq!(purse["end"], "It waits for no other actor.");
    assert_eq!(purse["recorded"], Value::Null);
    let recording = "/api/recording?kind=served/purse&id=ann";
    let nothing = get(&dashboard, recording).await;
    assert_eq!(nothing.status, 404, "{nothing:?}");
    assert!(nothing.body.contains("nothing is recorded"), "{nothing:?}");
    node.record("served/purse", "ann", Some(100)).await.unwrap();
    for cents in 1..=80 {
        soon("it is put in", node.entity::<Purse>("ann").put(cents))
            .await
            .unwrap();
    }
    let purse = get(&dashboard, "/api/why?kind=served/purse&id=ann")
        .await
        .json();
    let recorded: Vec<_> = purse["recorded"].as_str().unwrap().lines().collect();
    assert_eq!(recorded.len(), 60, "{purse}");
    assert!(recorded[59].contains("put {cents: 80}: replies"), "{purse}");
    let failed = get(&dashboard, &format!("{recording}&failed=1")).await;
    assert_eq!(failed.status, 404, "{failed:?}");
    let path = "/api/why?kind=served/clerk&id=a/b%20%26%3Cc%3E";
    let works = async {
        loop {
            let clerk = get(&dashboard, path).await.json();
            if clerk["steps"][0]["handling"]["message"] == "work" {
                return clerk;
            }
        }
    };
    let clerk = soon("it works", works).await;
    assert_eq!(clerk["steps"][0]["queued"], 2, "{clerk}");
    assert_eq!(clerk["steps"][0]["id"], odd);
    assert_eq!(clerk["records"], serde_json::json!([]));
    let long = format!("/api/why?kind=served/clerk&id={}", "x".repeat(5000));
    assert_eq!(get(&dashboard, &long).await.status, 400);
    assert_eq!(
        get(&dashboard, "/api/why?kind=served/clerk").await.status,
        400
    );

    let shards = get(&dashboard, "/api/shards").await.json();
    assert_eq!(shards["nodes"], serde_json::json!(["n1"]));
    let kinds = shards["kinds"].as_array().unwrap();
    let purses = kinds
        .iter()
        .find(|it| it["name"] == "served/purse")
        .unwrap();
    let cells = purses["shards"].as_array().unwrap();
    assert_eq!(cells.len(), 8);
    assert!(cells.iter().any(|cell| cell["owner"] == 0));

    let metrics = get(&dashboard, "/metrics").await;
    assert!(
        metrics
            .body
            .contains("casty_messages_handled_total{entity=\"served/purse\",message=\"put\"} 111")
    );
    assert!(metrics.head.contains("application/openmetrics-text"));
    pass.0.close();
    node.shutdown().await.unwrap();
}

/// The next sample of a stream.
async fn sample(lines: &mut BufReader<TcpStream>) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        let read = soon("a line", lines.read_line(&mut line)).await.unwrap();
        assert_ne!(read, 0, "the stream has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_streamed_until_the_dashboard_ends() {
    let pass = pass();
    let node = node("n1", &pass).await;
    soon("it is ready", node.ready()).await.unwrap();
    let dashboard = serve(&node, "127.0.0.1:0").await.unwrap();
    let clerk = node.entity::<Clerk>("c");
    for _ in 0..5 {
        soon("it is told", clerk.work().tell()).await.unwrap();
    }
    let address = dashboard.address();
    let stream = request(address, "/api/stream", &address.to_string()).await;
    let mut lines = BufReader::new(stream);
    let first = sample(&mut lines).await;
    assert_eq!(first["here"], "n1");
    assert_eq!(first["nodes"][0]["serves"], true);
    assert_eq!(first["types"][0]["kind"], "served/clerk");
    let slow = async {
        loop {
            let sample = sample(&mut lines).await;
            if sample["findings"][0]["name"] == "slow-handler" {
                return sample;
            }
        }
    };
    let slow = soon("the handler is found", slow).await;
    assert_eq!(slow["entities"][0]["id"], "c");
    assert_eq!(slow["entities"][0]["queued"], 4);
    assert_eq!(slow["findings"][0]["severity"], "Hint");
    assert_eq!(slow["nodes"][0]["handled_per_second"], 0.0);
    // The stream is open, and the server ends all the same.
    soon("the dashboard ends", dashboard.shutdown())
        .await
        .unwrap();
    let mut rest = Vec::new();
    drop(soon("the stream ends", lines.read_to_end(&mut rest)).await);
    pass.0.close();
    node.shutdown().await.unwrap();
}
