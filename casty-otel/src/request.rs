//! Spans of HTTP requests.

use casty::trace::{TraceContext, Tracer as _};
use http::Request;
use tracing::{Span, field::Empty};

use crate::layer::Spans;

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
        Spans.set_parent(&span, parent);
    }
    span
}
