//! The example `axum`: a service of three processes, restarted one by one under load.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../casty-otel/tests/traced/collector.rs"]
mod collector;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::testkit::{STEP_LIMIT, eventually, soon};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use self::collector::{Collector, Seen};

const NODES: usize = 3;
const WORKERS: usize = 4;
const ACCOUNTS: usize = 40;

/// Requests that are answered between two steps of the restart.
const STEADY: u64 = 200;

/// Why a request has no answer.
#[derive(Debug)]
enum Lost {
    /// Nothing listens there: the request was not sent.
    Refused,
    /// The connection ended before the answer.
    Broken(io::Error),
}

/// Sends one request on a connection of its own. Returns status and body.
async fn request(to: SocketAddr, what: &str, body: &str) -> Result<(u16, String), Lost> {
    request_with(to, what, "", body).await
}

/// The same, with lines of the head.
async fn request_with(
    to: SocketAddr,
    what: &str,
    lines: &str,
    body: &str,
) -> Result<(u16, String), Lost> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.map_err(|_| Lost::Refused)?;
        let length = body.len();
        let head = format!(
            "{what} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{lines}\r\n{body}"
        );
        let mut answer = String::new();
        let sent = stream.write_all(head.as_bytes()).await;
        let read = match sent {
            Ok(()) => stream.read_to_string(&mut answer).await,
            Err(error) => Err(error),
        };
        read.and_then(|_| parsed(&answer)).map_err(Lost::Broken)
    };
    let late = |_| Lost::Broken(io::ErrorKind::TimedOut.into());
    timeout(STEP_LIMIT, exchange).await.map_err(late)?
}

/// Status and body of an answer that is whole.
fn parsed(answer: &str) -> io::Result<(u16, String)> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let lengths = head.lines().filter_map(|line| line.split_once(": "));
    let mut of_body = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: Option<usize> = of_body.find_map(|(_, value)| value.parse().ok());
    match (status, length) {
        (Some(status), Some(length)) if length == body.len() => Ok((status, body.to_owned())),
        _ => Err(cut()),
    }
}

async fn deposit(to: SocketAddr, account: usize, order: &str) -> Result<(u16, String), Lost> {
    let body = format!("{{\"order\": \"{order}\", \"cents\": 1}}");
    request(to, &format!("POST /accounts/a{account}/deposit"), &body).await
}

/// Addresses that no connection takes while a process is down: they are not among those that the
/// operating system gives away.
fn addresses<const N: usize>() -> [SocketAddr; N] {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let start = u64::from(std::process::id()) * 64;
    std::array::from_fn(|_| {
        loop {
            let next = (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % 10_000;
            let port = 20_000 + u16::try_from(next).unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if TcpListener::bind(address).is_ok() {
                return address;
            }
        }
    })
}

/// How one node of the service is started.
struct Place {
    name: String,
    http: SocketAddr,
    listen: SocketAddr,
    seeds: Vec<SocketAddr>,
    /// Where traces are exported to.
    collector: Option<SocketAddr>,
}

impl Place {
    fn start(&self) -> Child {
        self.start_draining(1)
    }

    /// A node that is not ready for some seconds before it stops to accept.
    fn start_draining(&self, seconds: u64) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casty-service"));
        if let Some(collector) = self.collector {
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
                .env("OTEL_BSP_SCHEDULE_DELAY", "1000");
        }
        command
            .env("DRAIN_SECONDS", seconds.to_string())
            // Beside other tests, a process may stand still for longer than a lease lasts.
            .env("PATIENT", "1")
            .arg(&self.name)
            .args([self.http, self.listen].map(|address| address.to_string()))
            .args(self.seeds.iter().map(ToString::to_string))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn is_ready(&self) -> bool {
        matches!(request(self.http, "GET /ready", "").await, Ok((200, _)))
    }

    async fn until_ready(&self) {
        eventually("it is ready", || self.is_ready(), |ready| *ready).await;
    }
}

fn places<const N: usize>() -> [Place; N] {
    let (https, listens) = (addresses::<N>(), addresses::<N>());
    std::array::from_fn(|n| Place {
        name: format!("n{n}"),
        http: https[n],
        listen: listens[n],
        seeds: listens.to_vec(),
        collector: None,
    })
}

/// Tells a process to end, as an orchestrator does.
async fn terminate(child: &Child) {
    let pid = child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.await.unwrap().success());
}

async fn ends(mut child: Child) {
    let status = soon("it ends", child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

/// A balancer with clients. It sends requests to nodes whose readiness probe succeeds.
#[derive(Default)]
struct Load {
    ready: [AtomicBool; NODES],
    /// Answers of each node.
    answered: [AtomicU64; NODES],
    orders: AtomicU64,
    is_over: AtomicBool,
    /// Connections that broke before a request was read; the order was sent again.
    broken: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    async fn probe(&self, place: &Place, n: usize) {
        while !self.is_over.load(Ordering::Relaxed) {
            let is_ready = place.is_ready().await;
            self.ready[n].store(is_ready, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn client(&self, places: &[Place], worker: usize) {
        let mut turn = worker;
        while !self.is_over.load(Ordering::Relaxed) {
            let number = self.orders.fetch_add(1, Ordering::Relaxed);
            let account = usize::try_from(number).unwrap() % ACCOUNTS;
            let order = format!("o-{number}");
            soon("an answer", self.order(places, &mut turn, account, &order)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends an order until it is answered.
    async fn order(&self, places: &[Place], turn: &mut usize, account: usize, order: &str) {
        loop {
            *turn += 1;
            let n = *turn % NODES;
            if !self.ready[n].load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
                continue;
            }
            let wrong = match deposit(places[n].http, account, order).await {
                Ok((200, balance)) if balance.contains("\"repeated\":false") => {
                    self.answered[n].fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // It was carried out, and its answer lost.
                Ok(answer) => format!("{answer:?}"),
                Err(Lost::Refused) => {
                    self.ready[n].store(false, Ordering::Relaxed);
                    continue;
                }
                Err(Lost::Broken(error)) => {
                    eprintln!("n{n}, {order}: {error}");
                    self.broken.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            self.wrong
                .lock()
                .unwrap()
                .push(format!("n{n}, {order}: {wrong}"));
            return;
        }
    }

    fn total(&self) -> u64 {
        let answered = self.answered.iter();
        answered.map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Waits until more requests were answered, by each node of `by` among others.
    async fn goes_on(&self, by: &[usize]) {
        let count = || {
            let each = by
                .iter()
                .map(|&n| (n, self.answered[n].load(Ordering::Relaxed)));
            (self.total(), each.collect::<BTreeMap<_, _>>())
        };
        let (total, each) = count();
        let answered = || async { count() };
        eventually("the service goes on", answered, |(now, by)| {
            let wrong = self.wrong.lock().unwrap();
            assert!(wrong.is_empty(), "{wrong:?}");
            let by_each = by.iter().all(|(n, count)| *count > each[n] + STEADY / 10);
            *now >= total + STEADY && by_each
        })
        .await;
    }
}

#[tokio::test]
async fn a_service_is_restarted_node_by_node_without_a_lost_request() {
    casty_tests::log();
    let places: Arc<[Place]> = Arc::new(places::<NODES>());
    let mut children: Vec<Child> = places.iter().map(Place::start).collect();
    for place in places.iter() {
        place.until_ready().await;
    }
    let load = Arc::<Load>::default();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..NODES {
        let (load, places) = (load.clone(), places.clone());
        tasks.spawn(async move { load.probe(&places[n], n).await });
    }
    for worker in 0..WORKERS {
        let (load, places) = (load.clone(), places.clone());
        tasks.spawn(async move { load.client(&places, worker).await });
    }
    load.goes_on(&[0, 1, 2]).await;
    for n in 0..NODES {
        let others: Vec<_> = (0..NODES).filter(|other| *other != n).collect();
        let child = children.remove(n);
        terminate(&child).await;
        ends(child).await;
        load.goes_on(&others).await;
        children.insert(n, places[n].start());
        places[n].until_ready().await;
        load.goes_on(&[0, 1, 2]).await;
    }
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = soon("the load ends", tasks.join_next()).await {
        ended.unwrap();
    }
    let wrong = std::mem::take(&mut *load.wrong.lock().unwrap());
    assert!(wrong.is_empty(), "{wrong:?}");
    let mut sum = 0;
    for account in 0..ACCOUNTS {
        let asked = request(places[0].http, &format!("GET /accounts/a{account}"), "").await;
        let (status, body) = asked.unwrap();
        assert_eq!(status, 200, "{body}");
        let cents = body.split(['{', ':', ',', '}']).nth(2).unwrap();
        sum += cents.parse::<u64>().unwrap();
    }
    assert_eq!(sum, load.total(), "each order was carried out once");
    for child in &children {
        terminate(child).await;
    }
    for child in children {
        ends(child).await;
    }
}

/// The trace of a caller goes on in the service, and reaches the account on the other node.
#[tokio::test]
async fn a_request_is_one_trace_on_both_nodes() {
    casty_tests::log();
    let (collector, address) = Collector::start().await;
    let mut places = places::<2>();
    for place in &mut places {
        place.collector = Some(address);
    }
    let children: Vec<Child> = places.iter().map(Place::start).collect();
    for place in &places {
        place.until_ready().await;
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let caller = "00f067aa0ba902b7";
    let header = format!("traceparent: 00-{trace}-{caller}-01\r\n");
    // Some of them live on the other node.
    for account in 0..8 {
        let body = format!("{{\"order\": \"o-{account}\", \"cents\": 1}}");
        let what = format!("POST /accounts/t{account}/deposit");
        let answer = request_with(places[0].http, &what, &header, &body).await;
        assert!(matches!(&answer, Ok((200, _))), "{answer:?}");
    }
    let is_elsewhere = |it: &Seen| {
        it.name == "Account/deposit"
            && it.kind == SpanKind::Server
            && it.fields.get("casty.node").is_some_and(|node| node == "n1")
    };
    let handler = collector.find("a handler on n1", is_elsewhere).await;
    let asked = collector
        .find("its ask", |it| it.id == handler.parent)
        .await;
    assert_eq!(
        (asked.name.as_str(), asked.kind),
        ("Account/deposit", SpanKind::Client)
    );
    let served = collector
        .find("its request", |it| it.id == asked.parent)
        .await;
    assert_eq!(served.name, "POST /accounts/{id}/deposit");
    assert_eq!(served.parent, caller);
    assert!(
        [&handler, &asked, &served]
            .iter()
            .all(|it| it.trace == trace)
    );
    // What is exported at the end is not lost.
    let last = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("traceparent: 00-{last}-{caller}-01\r\n");
    let asked = request_with(places[0].http, "GET /accounts/t0", &header, "").await;
    assert!(matches!(&asked, Ok((200, _))), "{asked:?}");
    for child in &children {
        terminate(child).await;
    }
    for child in children {
        ends(child).await;
    }
    let all = collector.all();
    assert!(all.iter().any(|it| it.trace == last), "{all:#?}");
}

#[tokio::test]
async fn a_service_answers_with_the_status_of_each_error_and_drains_before_it_ends() {
    casty_tests::log();
    let [place] = places::<1>();
    let child = place.start_draining(5);
    place.until_ready().await;
    let ask = |what: &'static str, body: &'static str| async move {
        request(place.http, what, body).await.unwrap()
    };
    assert_eq!(ask("GET /live", "").await.0, 200);
    let paid = ask(
        "POST /accounts/ann/deposit",
        r#"{"order": "1", "cents": 500}"#,
    );
    let paid = paid.await;
    assert_eq!(paid.0, 200, "{paid:?}");
    let (status, why) = ask(
        "POST /accounts/ann/withdraw",
        r#"{"order": "2", "cents": 900}"#,
    )
    .await;
    assert_eq!(
        (status, &*why),
        (409, "the account has 500 cents only"),
        "the application's own words"
    );
    let nothing = ask(
        "POST /accounts/ann/deposit",
        r#"{"order": "3", "cents": 0}"#,
    );
    assert_eq!(nothing.await.0, 422);
    let long = format!("GET /accounts/{}", "x".repeat(2000));
    assert_eq!(request(place.http, &long, "").await.unwrap().0, 400);

    terminate(&child).await;
    let ready = || request(place.http, "GET /ready", "");
    let drains = eventually("it is not ready", ready, |answer| {
        !matches!(answer, Ok((200, _)))
    });
    let drains = drains.await.unwrap();
    assert_eq!(drains.0, 503, "it still answers");
    let (status, balance) = ask("GET /accounts/ann", "").await;
    assert_eq!(status, 200, "requests are still handled: {balance}");
    ends(child).await;
}
