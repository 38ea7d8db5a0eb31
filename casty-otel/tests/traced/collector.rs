//! A collector that keeps what it is sent.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as Code},
};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long spans may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// A span, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty if it has none.
    pub(crate) parent: String,
    pub(crate) links: Vec<(String, String)>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) failed: bool,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) service: String,
}

type All = Arc<Mutex<Vec<Seen>>>;

/// Dropped, it listens no more.
pub(crate) struct Collector {
    all: All,
    _server: JoinSet<()>,
}

impl Collector {
    /// Listens on a free port.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let all = All::default();
        let app = Router::new()
            .route("/v1/traces", post(take))
            .with_state(all.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let collector = Self {
            all,
            _server: server,
        };
        (collector, address)
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.all.lock().unwrap().clone()
    }

    /// The first span of which this is true, as soon as it is there.
    pub(crate) async fn find(&self, what: &str, is_it: impl Fn(&Seen) -> bool) -> Seen {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = self.all().into_iter().find(|seen| is_it(seen)) {
                return seen;
            }
            assert!(
                Instant::now() < until,
                "no span of {what} among {:#?}",
                self.all()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn take(State(all): State<All>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    let mut all = all.lock().unwrap();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let service = fields(&resource.attributes);
        let service = service.get("service.name").cloned().unwrap_or_default();
        let spans = of_resource.scope_spans.into_iter();
        all.extend(
            spans
                .flat_map(|scope| scope.spans)
                .map(|span| seen(&span, &service)),
        );
    }
    StatusCode::OK
}

fn seen(span: &Span, service: &str) -> Seen {
    let links = span.links.iter();
    Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: links
            .map(|it| (hex(&it.trace_id), hex(&it.span_id)))
            .collect(),
        name: span.name.clone(),
        kind: span.kind(),
        failed: span
            .status
            .as_ref()
            .is_some_and(|it| it.code() == Code::Error),
        fields: fields(&span.attributes),
        service: service.to_owned(),
    }
}

fn fields(all: &[KeyValue]) -> HashMap<String, String> {
    let values = all.iter().filter_map(|it| {
        let value = match it.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => text.clone(),
            other => format!("{other:?}"),
        };
        Some((it.key.clone(), value))
    });
    values.collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
