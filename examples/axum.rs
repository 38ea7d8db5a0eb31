//! An HTTP service of three nodes, which can be restarted one by one without a lost request.
//!
//! Start each in a terminal of its own: its name, its HTTP address, its address in the cluster, and
//! the addresses of all three.
//!
//! ```sh
//! SEEDS="127.0.0.1:25521 127.0.0.1:25522 127.0.0.1:25523"
//! cargo run --example axum -- n1 127.0.0.1:8081 127.0.0.1:25521 $SEEDS
//! cargo run --example axum -- n2 127.0.0.1:8082 127.0.0.1:25522 $SEEDS
//! cargo run --example axum -- n3 127.0.0.1:8083 127.0.0.1:25523 $SEEDS
//!
//! curl -i localhost:8081/accounts/ann/deposit -H 'content-type: application/json' \
//!     -d '{"order": "o-1", "cents": 500}'
//! curl -i localhost:8082/accounts/ann/withdraw -H 'content-type: application/json' \
//!     -d '{"order": "o-2", "cents": 900}'
//! curl -i localhost:8083/ready
//! ```
//!
//! With a collector of OpenTelemetry, each request is a trace, from the node that it came to to the
//! account on another one: `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318`.
//!
//! Two of the three are enough for a start: they found the cluster, and the third joins it.
//!
//! `SIGTERM` (or Ctrl-C) ends a node in this order: `/ready` fails, and the balancer sends no more
//! requests; the server stops to accept, and finishes its requests; the node hands its accounts
//! over and leaves; the process ends.

use std::{collections::VecDeque, fmt, future::IntoFuture as _};

use axum::{
    Json, Router,
    extract::{MatchedPath, Path, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use casty::{Settings, prelude::*};
use casty_otel::{Otlp, Traces};
use tokio::net::TcpListener;
use tracing::Instrument as _;
use tracing_subscriber::{filter::LevelFilter, prelude::*};

/// How many orders an account remembers, so that a client may send an order again.
const ORDERS_KEPT: usize = 1000;

/// How long the readiness probe of a node fails before the node stops to accept: longer than the
/// period of the balancer's probes. `DRAIN_SECONDS` sets another time.
const DRAIN: Duration = Duration::from_secs(1);

/// How long the last requests of a node may take.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// How long a request waits while shards move or a leader is elected.
const PATIENCE: Duration = Duration::from_secs(5);

/// A change of a balance. A client that got no answer sends the order again, under the same name.
#[message]
struct Order {
    order: String,
    cents: u64,
}

/// The balance after an order.
#[message]
#[derive(Clone)]
struct Balance {
    cents: u64,
    /// The order had been carried out before, and was not carried out again.
    repeated: bool,
}

/// Why an order was refused: the application's own error, with a status code of its own.
#[message]
#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    NoAmount,
    Short { cents: u64 },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAmount => f.write_str("an order needs an amount"),
            Self::Short { cents } => write!(f, "the account has {cents} cents only"),
        }
    }
}

impl std::error::Error for Refusal {}

/// An account. Its state moves with its shard, so a restart of a node loses nothing.
#[message]
#[derive(Default)]
struct Account {
    cents: u64,
    orders: VecDeque<String>,
}

#[entity(shards = 60, migrate)]
impl Account {
    #[message]
    fn deposit(&mut self, order: Order) -> Result<Balance, Refusal> {
        self.carry_out(order, |cents, amount| Some(cents.saturating_add(amount)))
    }

    #[message]
    fn withdraw(&mut self, order: Order) -> Result<Balance, Refusal> {
        self.carry_out(order, u64::checked_sub)
    }

    #[message]
    fn balance(&self) -> Balance {
        Balance {
            cents: self.cents,
            repeated: false,
        }
    }
}

impl Account {
    fn carry_out(
        &mut self,
        Order { order, cents }: Order,
        change: impl FnOnce(u64, u64) -> Option<u64>,
    ) -> Result<Balance, Refusal> {
        if cents == 0 {
            return Err(Refusal::NoAmount);
        }
        let repeated = self.orders.contains(&order);
        if !repeated {
            let short = Refusal::Short { cents: self.cents };
            self.cents = change(self.cents, cents).ok_or(short)?;
            self.orders.push_back(order);
            if self.orders.len() > ORDERS_KEPT {
                self.orders.pop_front();
            }
        }
        Ok(Balance {
            cents: self.cents,
            repeated,
        })
    }
}

/// The reason for an answer other than 200.
enum Failure {
    Refused(Refusal),
    Cluster(AskError),
}

impl From<AskError<Refusal>> for Failure {
    fn from(error: AskError<Refusal>) -> Self {
        error
            .into_entity()
            .map_or_else(Self::Cluster, Self::Refused)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::Cluster(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, reason) = match self {
            Self::Refused(refusal) => {
                let status = match refusal {
                    Refusal::NoAmount => StatusCode::UNPROCESSABLE_ENTITY,
                    Refusal::Short { .. } => StatusCode::CONFLICT,
                };
                (status, refusal.to_string())
            }
            Self::Cluster(error) => {
                let status = match &error {
                    AskError::InvalidId(_) => StatusCode::BAD_REQUEST,
                    AskError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                    // The order may have been carried out: its sender should send it again.
                    error if error.maybe_handled() => StatusCode::GATEWAY_TIMEOUT,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                (status, error.to_string())
            }
        };
        let mut response = (status, reason).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

type Answer = Result<Json<Balance>, Failure>;

async fn deposit(
    State(node): State<ActorSystem>,
    Path(id): Path<String>,
    Json(order): Json<Order>,
) -> Answer {
    let asked = node.entity::<Account>(id).deposit(order);
    Ok(Json(asked.retry_for(PATIENCE).await?))
}

async fn withdraw(
    State(node): State<ActorSystem>,
    Path(id): Path<String>,
    Json(order): Json<Order>,
) -> Answer {
    let asked = node.entity::<Account>(id).withdraw(order);
    Ok(Json(asked.retry_for(PATIENCE).await?))
}

async fn balance(State(node): State<ActorSystem>, Path(id): Path<String>) -> Answer {
    let asked = node.entity::<Account>(id).balance();
    Ok(Json(asked.retry_for(PATIENCE).await?))
}

/// Handles a request in a span, in the trace of its sender.
async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str).to_owned();
    let span = casty_otel::request_span(&request, &route);
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Exports traces, where there is a collector.
fn traces(node: &str) -> Result<Option<Traces>, casty_otel::StartError> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(None);
    }
    let traces = Otlp::new("bank").node(node).start()?;
    let layer = traces.layer().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(layer).init();
    Ok(Some(traces))
}

fn service(node: ActorSystem) -> Router {
    Router::new()
        .route("/accounts/{id}", get(balance))
        .route("/accounts/{id}/deposit", post(deposit))
        .route("/accounts/{id}/withdraw", post(withdraw))
        .route_layer(from_fn(traced))
        .merge(casty_dashboard::health(&node))
        .with_state(node)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let (name, http, listen) = (
        next("the node's name")?,
        next("the HTTP address")?,
        next("the cluster address")?,
    );
    let traces = traces(&name)?;
    // On machines with long pauses: `PATIENT=1`.
    let settings = match std::env::var("PATIENT") {
        Ok(_) => Settings {
            shutdown_timeout: Duration::from_secs(30),
            ..Settings::patient()
        },
        Err(_) => Settings::default(),
    };
    let seeds: Vec<String> = arguments.collect();
    // A majority of the seeds founds the cluster: one that is down, or late, does not hold it up.
    let most = u32::try_from(seeds.len() / 2 + 1)?;
    let node = ActorSystem::builder("bank")
        .settings(settings)
        .node_id(name)
        .listen(listen)
        .seeds(seeds)
        .bootstrap_expect(most)
        .start()
        .await?;
    let listener = TcpListener::bind(http).await?;
    let server = axum::serve(listener, service(node.clone()));

    let drain = match std::env::var("DRAIN_SECONDS") {
        Ok(seconds) => Duration::from_secs(seconds.parse()?),
        Err(_) => DRAIN,
    };
    // One signal for both.
    let ending = node.terminated();
    let drained = async move {
        ending.await;
        tokio::time::sleep(drain).await;
    };
    let ending = node.terminated();
    let too_late = async move {
        ending.await;
        tokio::time::sleep(drain + LAST_REQUESTS).await;
    };
    tokio::select! {
        ended = server.with_graceful_shutdown(drained).into_future() => ended?,
        () = too_late => eprintln!("some requests were not finished"),
    }
    // All requests are answered: now the node leaves.
    node.run_until_terminated().await?;
    if let Some(traces) = traces
        && let Err(error) = traces.shutdown().await
    {
        eprintln!("{error}");
    }
    Ok(())
}
