//! Probes, as Kubernetes and load balancers ask for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use casty::{ActorSystem, member::MemberStatus};

/// How long the runtime may take to run a task that does nothing.
const TICKS_WITHIN: Duration = Duration::from_secs(1);

/// The probes of a node, for any axum router: each answers 200, or 503 and a line that says why.
/// None of them asks another node, so a cluster that has trouble does not restart all its nodes.
///
/// - `/startup`: the node has served once. Kubernetes asks nothing else before, so a slow start is
///   not taken for a dead process.
/// - `/ready`: the node serves ([`ActorSystem::is_ready`]): it is Up, holds a lease, and does not
///   end. After a start it is also waited for the copies of stored shards: a rolling restart that
///   goes on before they are in sync would take the next one away. Later a node does not become
///   unready because another one has lost copies.
/// - `/live`: the runtime runs tasks. A node that has lost its lease is alive: it goes on by
///   itself, and a restart would only lose what it has in memory.
///
/// ```
/// use casty::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("shop").start().await?;
/// let app = axum::Router::new().merge(casty_dashboard::health(&node));
/// # drop::<axum::Router>(app);
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub fn health<S: Clone + Send + Sync + 'static>(node: &ActorSystem) -> Router<S> {
    let health = Health(Arc::new(Seen {
        node: node.clone(),
        has_served: AtomicBool::new(false),
        had_copies: AtomicBool::new(false),
    }));
    Router::new()
        .route("/startup", get(startup))
        .route("/ready", get(ready))
        .route("/live", get(live))
        .with_state(health)
}

/// What the probes of a node have seen.
#[derive(Clone)]
struct Health(Arc<Seen>);

struct Seen {
    node: ActorSystem,
    has_served: AtomicBool,
    /// All copies of stored shards were in sync.
    had_copies: AtomicBool,
}

/// The answer of a probe.
enum Probed {
    Well(&'static str),
    Unwell(String),
}

impl IntoResponse for Probed {
    fn into_response(self) -> Response {
        let (status, line) = match self {
            Self::Well(line) => (StatusCode::OK, format!("{line}\n")),
            Self::Unwell(line) => (StatusCode::SERVICE_UNAVAILABLE, format!("{line}\n")),
        };
        (status, [(header::CACHE_CONTROL, "no-store")], line).into_response()
    }
}

impl Health {
    /// Whether the node serves now.
    fn serves(&self) -> bool {
        let serves = self.0.node.is_ready();
        if serves {
            self.0.has_served.store(true, Ordering::Relaxed);
        }
        serves
    }

    /// Why the node does not serve.
    fn why_not(&self) -> String {
        let node = &self.0.node;
        let members = node.members();
        let me = members.iter().find(|it| it.id.node == *node.node_id());
        match me.map(|me| me.status) {
            None => "it is no member of a cluster".to_owned(),
            Some(MemberStatus::Up) => "it holds no lease, or is about to end".to_owned(),
            Some(status) => format!("it is {status:?}"),
        }
    }
}

async fn startup(State(health): State<Health>) -> Probed {
    if health.serves() || health.0.has_served.load(Ordering::Relaxed) {
        return Probed::Well("started");
    }
    Probed::Unwell(format!("not started: {}", health.why_not()))
}

async fn ready(State(health): State<Health>) -> Probed {
    if !health.serves() {
        return Probed::Unwell(format!("not ready: {}", health.why_not()));
    }
    if health.0.had_copies.load(Ordering::Relaxed) {
        return Probed::Well("ready");
    }
    match health.0.node.lacking_copies() {
        0 => {
            health.0.had_copies.store(true, Ordering::Relaxed);
            Probed::Well("ready")
        }
        shards => Probed::Unwell(format!(
            "not ready: {shards} stored shards have fewer copies in sync than they could have"
        )),
    }
}

async fn live() -> Probed {
    let ticking = tokio::time::timeout(TICKS_WITHIN, tokio::spawn(async {}));
    match ticking.await {
        Ok(_) => Probed::Well("alive"),
        Err(_) => Probed::Unwell(format!("no task has run for {TICKS_WITHIN:?}")),
    }
}
