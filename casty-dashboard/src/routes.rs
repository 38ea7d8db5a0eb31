//! The page, what it streams, and what it asks for.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use casty::{
    ActorSystem,
    admin::{AdminError, RecordReport, Why, WhyMove, WhyStep},
    error::StoredError,
    recorder::Recording,
};
use futures_util::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    health::health,
    sample::{Handling, micros},
    sampler::{Sampler, Told},
};

/// How many viewers the page of a node has at most.
const VIEWERS_MAX: usize = 64;

/// How many entities a list has at most.
const LISTED_MAX: usize = 200;

/// How many records of an entity are shown: the last ones.
const RECORDS_MAX: u64 = 20;

/// How many lines of a recording are shown: the last ones.
const LINES_MAX: usize = 60;

/// How many pages of a list are read in search of one entity: the list has all entities whose ids
/// begin with its id.
const LOOKED_THROUGH: usize = 8;

/// How many questions are answered at a time. Each may ask all nodes.
const QUESTIONS_MAX: usize = 8;

/// How often a stream says that it lives, so that proxies keep it.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Only what comes from here is loaded, run and asked.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

#[derive(Clone)]
struct Page {
    node: ActorSystem,
    sampler: Sampler,
    viewers: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    ended: CancellationToken,
}

/// The dashboard of a node as a router, for a server of one's own: the page at `/`, `/metrics` for
/// Prometheus, and the [probes](health()). Nest it where operators alone get to: it shows the ids
/// of entities and what is stored of them, and has no authentication.
///
/// ```
/// use casty::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("shop").start().await?;
/// // Under http://HOST/casty/, with the slash at the end.
/// let app = axum::Router::new().nest("/casty/", casty_dashboard::router(&node));
/// # drop::<axum::Router>(app);
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub fn router<S: Clone + Send + Sync + 'static>(node: &ActorSystem) -> Router<S> {
    router_until(node, CancellationToken::new())
}

/// The same. Its streams end with `ended`.
pub(crate) fn router_until<S: Clone + Send + Sync + 'static>(
    node: &ActorSystem,
    ended: CancellationToken,
) -> Router<S> {
    let page = Page {
        node: node.clone(),
        sampler: Sampler::new(node.clone()),
        viewers: Arc::new(Semaphore::new(VIEWERS_MAX)),
        questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        ended,
    };
    let html = "text/html; charset=utf-8";
    let script = "text/javascript; charset=utf-8";
    let style = "text/css; charset=utf-8";
    let questions = Router::new()
        .route("/api/entities", get(entities))
        .route("/api/why", get(why))
        .route("/api/recording", get(recording))
        .route("/api/shards", get(shards))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(page.clone(), in_turn));
    Router::new()
        .route("/", file(html, include_str!("page/index.html")))
        .route("/app.js", file(script, include_str!("page/app.js")))
        .route("/style.css", file(style, include_str!("page/style.css")))
        .route("/api/stream", get(samples))
        .merge(questions)
        .layer(middleware::from_fn(guarded))
        .with_state(page)
        .merge(health(node))
}

fn file(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Page> {
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

/// Answers so many questions at a time, and no more.
async fn in_turn(State(page): State<Page>, request: Request, next: Next) -> Response {
    let Ok(_turn) = page.questions.try_acquire() else {
        let reason = format!("{QUESTIONS_MAX} questions are being answered already");
        return Refused(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    };
    next.run(request).await
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    let values = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in values {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An answer that is no success: its status, and a line for people.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1 + "\n").into_response()
    }
}

impl From<StoredError> for Refused {
    fn from(error: StoredError) -> Self {
        let status = match &error {
            StoredError::UnknownEntity { .. } => StatusCode::NOT_FOUND,
            StoredError::InvalidId(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

async fn metrics(State(page): State<Page>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page.node.metrics())
}

/// A stream's place, and what it is told.
struct Viewer {
    told: tokio::sync::watch::Receiver<Told>,
    /// What was there when the viewer came.
    is_new: bool,
    #[expect(dead_code, reason = "held to be dropped")]
    place: OwnedSemaphorePermit,
}

async fn samples(
    State(page): State<Page>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let Ok(place) = page.viewers.clone().try_acquire_owned() else {
        let reason = format!("{VIEWERS_MAX} viewers are here already");
        return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, reason));
    };
    let viewer = Viewer {
        told: page.sampler.view(),
        is_new: true,
        place,
    };
    let told = stream::unfold(viewer, |mut viewer| async move {
        loop {
            // What was told before this viewer came is news to it.
            if !std::mem::take(&mut viewer.is_new) {
                viewer.told.changed().await.ok()?;
            }
            let told = viewer.told.borrow_and_update().clone();
            let event = match told {
                Told::Nothing => continue,
                Told::Sample(json) => Event::default().event("sample").data(json),
                Told::Trouble(reason) => Event::default().event("trouble").data(reason),
            };
            return Some((Ok(event), viewer));
        }
    });
    let ended = page.ended.clone().cancelled_owned();
    let told = told.take_until(ended);
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)))
}

#[derive(Deserialize)]
struct ListQuery {
    kind: String,
    #[serde(default)]
    prefix: String,
    active: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    entities: Vec<ListedRow>,
    /// There are others.
    more: bool,
}

#[derive(Serialize)]
struct ListedRow {
    id: String,
    shard: u32,
    active_on: Option<String>,
    /// The number of its last record, if it is stored.
    record: Option<u64>,
}

async fn entities(
    State(page): State<Page>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listed>, Refused> {
    let listing = page.node.entities_of(&query.kind);
    let listing = listing.starting_with(query.prefix);
    let mut listing = match query.active {
        Some(_) => listing.active(),
        None => listing,
    };
    let mut entities = Vec::new();
    let mut more = false;
    while let Some(found) = listing.next_page().await? {
        let rows = found.into_iter().map(|it| ListedRow {
            id: it.id.to_string(),
            shard: it.shard.0,
            active_on: it.active_on.map(|node| node.to_string()),
            record: it.stored.map(|stored| stored.seq),
        });
        entities.extend(rows);
        if entities.len() > LISTED_MAX {
            more = true;
            break;
        }
    }
    entities.sort_by(|a, b| a.id.cmp(&b.id));
    entities.truncate(LISTED_MAX);
    Ok(Json(Listed { entities, more }))
}

#[derive(Deserialize)]
struct EntityQuery {
    kind: String,
    id: String,
}

#[derive(Serialize)]
struct Explained {
    steps: Vec<StepRow>,
    end: String,
    /// The last records of the first entity, the latest first.
    records: Vec<String>,
    /// What the flight recorder has of the first entity, if it records it: the last lines.
    recorded: Option<String>,
}

#[derive(Serialize)]
struct StepRow {
    kind: String,
    id: String,
    node: Option<String>,
    shard: u32,
    activity: Option<String>,
    state: Option<String>,
    queued: u64,
    handling: Option<Handling>,
    failure: Option<FailureRow>,
    moves: Vec<MoveRow>,
}

#[derive(Serialize)]
struct MoveRow {
    ago: u64,
    from: String,
    to: String,
    by_failover: bool,
}

#[derive(Serialize)]
struct FailureRow {
    reason: String,
    ago: u64,
    count: u64,
}

async fn why(
    State(page): State<Page>,
    Query(EntityQuery { kind, id }): Query<EntityQuery>,
) -> Result<Json<Explained>, Refused> {
    let Why { steps, end, .. } = page.node.why(&kind, &id).await?;
    let records = records(&page.node, &kind, &id).await;
    // An entity that no node owns has no recording.
    let recorded = page.node.recording(&kind, &id).await.unwrap_or_default();
    Ok(Json(Explained {
        recorded: recorded.as_ref().map(last_lines),
        steps: steps.into_iter().map(StepRow::from).collect(),
        end: end.to_string(),
        records: records.unwrap_or_else(|error| vec![error.to_string()]),
    }))
}

/// The last messages of a recording, as text.
fn last_lines(recording: &Recording) -> String {
    let text = recording.to_string();
    let lines: Vec<_> = text.lines().collect();
    let surplus = lines.len().saturating_sub(LINES_MAX);
    lines[surplus..].join("\n")
}

#[derive(Deserialize)]
struct RecordingQuery {
    kind: String,
    id: String,
    failed: Option<String>,
}

/// A recording as a file.
async fn recording(
    State(page): State<Page>,
    Query(RecordingQuery { kind, id, failed }): Query<RecordingQuery>,
) -> Result<Response, Refused> {
    let found = match failed {
        Some(_) => page.node.failed_recording(&kind, &id).await?,
        None => page.node.recording(&kind, &id).await?,
    };
    let Some(recording) = found else {
        let reason = "nothing is recorded of it, or its node has forgotten that";
        return Err(Refused(StatusCode::NOT_FOUND, reason.to_owned()));
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"recording.casty\"",
        ),
    ];
    Ok((headers, recording.to_bytes()).into_response())
}

/// The last records of an entity, the latest first. None if nothing is stored of it.
async fn records(node: &ActorSystem, kind: &str, id: &str) -> Result<Vec<String>, AdminError> {
    let last = match last_record(node, kind, id).await? {
        LastRecord::Number(last) => last,
        LastRecord::Nothing => return Ok(Vec::new()),
        LastRecord::NotFound => {
            return Ok(vec![
                "not looked for: too many ids begin with this one; see `casty history`".to_owned(),
            ]);
        }
    };
    let mut pages = node
        .records_of(kind, id)
        .after(last.saturating_sub(RECORDS_MAX));
    let mut records = Vec::new();
    // An entity that goes on writing has no last page.
    while (records.len() as u64) < RECORDS_MAX
        && let Some(page) = pages.next_page().await?
    {
        records.extend(page.iter().map(line));
    }
    records.reverse();
    records.truncate(usize::try_from(RECORDS_MAX).unwrap_or(usize::MAX));
    Ok(records)
}

/// The number of the last record of an entity.
enum LastRecord {
    Number(u64),
    /// Nothing is stored of it.
    Nothing,
    /// It may be among those that were not looked at.
    NotFound,
}

async fn last_record(node: &ActorSystem, kind: &str, id: &str) -> Result<LastRecord, StoredError> {
    let mut listing = node.entities_of(kind).stored().starting_with(id);
    for _ in 0..LOOKED_THROUGH {
        let page = match listing.next_page().await {
            Ok(Some(page)) => page,
            Ok(None) | Err(StoredError::NotStored { .. }) => return Ok(LastRecord::Nothing),
            Err(error) => return Err(error),
        };
        let mut found = page.into_iter().filter(|it| it.id.as_str() == id);
        if let Some(stored) = found.find_map(|it| it.stored) {
            return Ok(LastRecord::Number(stored.seq));
        }
    }
    Ok(LastRecord::NotFound)
}

/// A record on one line.
fn line(record: &RecordReport) -> String {
    let mut parts = vec![format!("{}.", record.seq)];
    let events = record.events.iter();
    parts.extend(events.map(|event| format!("{} {}", event.name, event.arguments)));
    if let Some(state) = &record.state {
        parts.push(format!("{} {}", state.name, state.fields));
    }
    parts.extend(record.changed.clone());
    if record.erases {
        parts.push("erased".to_owned());
    }
    if record.forgotten {
        parts.push("forgotten".to_owned());
    }
    let unreadable = record.unreadable.iter();
    parts.extend(unreadable.map(|reason| format!("cannot be read: {reason}")));
    parts.join(" ")
}

impl From<WhyStep> for StepRow {
    fn from(step: WhyStep) -> Self {
        Self {
            kind: step.kind,
            id: step.id.to_string(),
            node: step.node.map(|node| node.to_string()),
            shard: step.shard,
            activity: step.activity.map(|activity| activity.to_string()),
            state: step.state,
            queued: step.queued,
            handling: step.handling.map(|handling| Handling {
                message: handling.message,
                micros: micros(handling.running_for),
            }),
            failure: step.last_failure.map(|failure| FailureRow {
                reason: failure.reason,
                ago: micros(failure.ago),
                count: failure.count,
            }),
            moves: step.last_moves.into_iter().map(MoveRow::from).collect(),
        }
    }
}

impl From<WhyMove> for MoveRow {
    fn from(moved: WhyMove) -> Self {
        Self {
            ago: micros(moved.ago),
            from: moved.from.to_string(),
            to: moved.to.to_string(),
            by_failover: moved.by_failover,
        }
    }
}

#[derive(Serialize)]
struct Homes {
    /// The nodes that own shards.
    nodes: Vec<String>,
    kinds: Vec<KindHomes>,
}

#[derive(Serialize)]
struct KindHomes {
    name: String,
    /// By number.
    shards: Vec<ShardCell>,
}

/// The home of a shard. Nodes by their places in [`Homes::nodes`].
#[derive(Clone, Serialize)]
struct ShardCell {
    owner: Option<usize>,
    to: Option<usize>,
    /// All its copies in sync are away.
    waits: bool,
}

async fn shards(State(page): State<Page>) -> Json<Homes> {
    let report = page.node.shard_homes();
    let kinds = report.map_or_else(Vec::new, |report| report.kinds);
    let owners = kinds.iter().flat_map(|kind| &kind.homes);
    let owners = owners.flat_map(|home| home.owner.iter().chain(&home.moving_to));
    let names = owners.map(|member| member.node.to_string());
    let mut nodes: BTreeMap<String, usize> = names.map(|name| (name, 0)).collect();
    for (at, (_, place)) in nodes.iter_mut().enumerate() {
        *place = at;
    }
    let empty = ShardCell {
        owner: None,
        to: None,
        waits: false,
    };
    let kinds = kinds.into_iter().filter(|kind| !kind.homes.is_empty());
    let kinds = kinds.map(|kind| {
        let mut shards = vec![empty.clone(); kind.shards];
        for home in kind.homes {
            let place = |member: Option<casty::id::MemberId>| {
                member.and_then(|member| nodes.get(member.node.as_str()).copied())
            };
            if let Some(cell) = shards.get_mut(home.shard.0 as usize) {
                *cell = ShardCell {
                    owner: place(home.owner),
                    to: place(home.moving_to),
                    waits: home
                        .copies
                        .is_some_and(|copies| !copies.waits_for.is_empty()),
                };
            }
        }
        KindHomes {
            name: kind.name,
            shards,
        }
    });
    let kinds = kinds.collect();
    Json(Homes {
        nodes: nodes.into_keys().collect(),
        kinds,
    })
}
