//! Spans of HTTP requests.

use casty::trace::TraceContext;
use http::Request;
use opentelemetry::{Context, trace::TraceContextExt as _};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::layer::remote;

/// A span for an HTTP request that this process serves, in the trace of the caller: that of the
/// header `traceparent`, if there is a valid one. `route`: the pattern of the path, such as
/// `/accounts/{id}`, so that there are as many names of spans as there are routes.
///
/// The service runs its handler in it, by [`tracing::Instrument`], and records the status as
/// `http.response.status_code`:
///
/// ```
/// use axum::{extract::{MatchedPath, Request}, middleware::Next, response::Response};
/// use tracing::Instrument as _;
///
/// async fn traced(request: Request, next: Next) -> Response {
///     let route = request.extensions().get::<MatchedPath>();
///     let route = route.map_or("", MatchedPath::as_str).to_owned();
///     let span = casty_otel::request_span(&request, &route);
///     let response = next.run(request).instrument(span.clone()).await;
///     span.record("http.response.status_code", response.status().as_u16());
///     response
/// }
///
/// let app: axum::Router = axum::Router::new().layer(axum::middleware::from_fn(traced));
/// ```
pub fn request_span<B>(request: &Request<B>, route: &str) -> Span {
    let method = request.method();
    let span = tracing::info_span!(
        target: "casty::trace",
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
    );
    let header = request.headers().get("traceparent");
    let parent = header.and_then(|it| it.to_str().ok()?.parse::<TraceContext>().ok());
    if let Some(parent) = parent {
        let parent = Context::new().with_remote_span_context(remote(parent));
        // An error says that no layer sees the span.
        let _ = span.set_parent(parent);
    }
    span
}
