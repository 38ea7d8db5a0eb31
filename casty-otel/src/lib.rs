//! Traces of casty's messages, for [OpenTelemetry](https://opentelemetry.io).
//!
//! A request that comes to one node, asks an entity on another, which asks a third, is one trace,
//! with a span for each ask and one for each handler. What is told, sent, reminded or projected
//! because of it has traces of its own with links to it: see [`casty::trace`].
//!
//! ```no_run
//! use casty::prelude::*;
//! use tracing_subscriber::prelude::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // To the collector at `OTEL_EXPORTER_OTLP_ENDPOINT`, or at http://127.0.0.1:4318.
//! let traces = casty_otel::Otlp::new("shop").node("node-1").ratio(0.01).start()?;
//! tracing_subscriber::registry()
//!     .with(tracing_subscriber::fmt::layer())
//!     .with(traces.layer())
//!     .init();
//! let node = ActorSystem::builder("shop").node_id("node-1").start().await?;
//! // ...
//! node.shutdown().await?;
//! traces.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A trace begins with a span of the crate `tracing`: in an HTTP service with [`request_span`],
//! which goes on with the trace of the caller. Messages that are sent outside of any span are in no
//! trace: for them there is a look for the current span, and nothing more.
//!
//! The sampling of a caller, of a `traceparent` or of a client of the cluster, is heeded whatever
//! the ratio is here. Where that is too much trust, do not read the header of strangers.
//!
//! casty's spans have the target `casty::trace` and the level INFO. A program that exports by an
//! [OpenTelemetry layer](tracing_opentelemetry::layer) of its own needs only [`install`], and
//! [`Linked`] around its sampler.

mod export;
mod layer;
mod otlp;
mod request;

pub use self::{
    layer::{Linked, install},
    otlp::{Otlp, ShutdownError, StartError, Traces},
    request::request_span,
};
