//! Export by OTLP.

use std::{fmt, time::Duration};

use casty::trace::AlreadyInstalled;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::{
    export::{OnTokio, Remembering, Trouble},
    layer::{Linked, install},
};

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The name of the instrumentation, as spans have it.
const SCOPE: &str = "casty";

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The collector's address is none, or a variable of the environment cannot be read.
    #[error("the exporter of traces cannot be made: {0}")]
    Exporter(String),
    /// The collector is asked for by `https`.
    #[error(
        "the collector `{0}` is asked for by TLS, and casty-otel sends traces by HTTP alone: give the \
         address of a collector on this host, or make a layer with an exporter of your own"
    )]
    Encrypted(String),
    /// A share is a number from 0 to 1.
    #[error("{0} is no share of traces: that is a number from 0 to 1")]
    Ratio(f64),
    /// This process has a tracer.
    #[error(transparent)]
    AlreadyInstalled(#[from] AlreadyInstalled),
    /// There is no tokio runtime here, which sends what is exported.
    #[error("traces are exported by the tokio runtime in which they are started, and here is none")]
    NoRuntime,
}

/// The export of traces to a collector, by OTLP over HTTP, before it has started.
///
/// The collector is a process of this host as a rule: the connection is not encrypted. A program
/// that exports otherwise makes its own [layer](tracing_opentelemetry::layer) and calls
/// [`install`].
#[derive(Clone, Debug)]
pub struct Otlp {
    service: String,
    node: Option<String>,
    endpoint: Option<String>,
    ratio: f64,
    period: Option<Duration>,
}

impl Otlp {
    /// Of this service, which is the `service.name` of its traces.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            node: None,
            endpoint: None,
            ratio: 1.0,
            period: None,
        }
    }

    /// The name of this node, which is the `service.instance.id` of its traces.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// The collector, as `http://127.0.0.1:4318`. Default: the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or port 4318 of this host.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The share of traces that are sampled, of those that begin here: from 0 to 1. Traces that
    /// begin elsewhere, and those that they cause, are sampled as they are there. Default: 1.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// How long spans wait for others, with which they are sent. Default: the variable
    /// `OTEL_BSP_SCHEDULE_DELAY`, or 5 seconds.
    pub fn every(mut self, period: Duration) -> Self {
        self.period = Some(period);
        self
    }

    /// Begins to export, from the [layer](Traces::layer) that is to be given to the subscriber of
    /// this process. Spans wait in a queue of 2,048; what does not fit is dropped. A batch that the
    /// collector does not take is lost, with a line in the log.
    ///
    /// # Errors
    /// [`StartError`]; that the collector is not there is no error.
    pub fn start(self) -> Result<Traces, StartError> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(StartError::Ratio(self.ratio));
        }
        // The variables that the exporter reads, the one first that it prefers.
        let given = self.endpoint.clone();
        let given = given.or_else(|| std::env::var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").ok());
        let given = given.or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok());
        if let Some(endpoint) = given.filter(|it| is_encrypted(it)) {
            return Err(StartError::Encrypted(endpoint));
        }
        let handle = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnTokio::new(handle, TIMEOUT))
            .with_timeout(TIMEOUT)
            .with_protocol(Protocol::HttpBinary);
        if let Some(endpoint) = self.endpoint {
            let base = endpoint.trim_end_matches('/');
            exporter = exporter.with_endpoint(format!("{base}/v1/traces"));
        }
        let exporter = exporter
            .build()
            .map_err(|error| StartError::Exporter(error.to_string()))?;
        let mut resource = Resource::builder().with_service_name(self.service);
        if let Some(node) = self.node {
            resource = resource.with_attribute(KeyValue::new("service.instance.id", node));
        }
        let mut batch = BatchConfigBuilder::default();
        if let Some(period) = self.period {
            batch = batch.with_scheduled_delay(period);
        }
        let trouble = Trouble::default();
        let exporter = Remembering {
            exporter,
            trouble: trouble.clone(),
        };
        let batches = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batch.build())
            .build();
        let first = Sampler::TraceIdRatioBased(self.ratio);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Linked(Sampler::ParentBased(Box::new(first))))
            .with_resource(resource.build())
            .with_span_processor(batches)
            .build();
        install()?;
        Ok(Traces { provider, trouble })
    }
}

/// Whether the collector would be reached by TLS, which the client of this crate does not speak.
fn is_encrypted(endpoint: &str) -> bool {
    let scheme = endpoint.trim_start().split_once("://");
    scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// The running export of traces. It goes on for as long as there is its [layer](Self::layer), also
/// without this.
#[must_use = "without its layer nothing is exported, and without its shutdown the last spans are lost"]
pub struct Traces {
    provider: SdkTracerProvider,
    trouble: Trouble,
}

impl Traces {
    /// The layer by which the spans of this process are exported: casty's and all others, so that a
    /// filter is the subscriber's business.
    pub fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(SCOPE))
    }

    /// Sends what waits, and ends the export; for at most 5 seconds. After the systems have shut
    /// down, which is when the last spans end.
    ///
    /// # Errors
    /// Why spans were not sent: the collector does not answer, for example.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the export ends all the same, in the background.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        let Self { provider, trouble } = self;
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        let ended = ended.map_err(|error| ShutdownError(error.to_string()))?;
        ended.map_err(|error| ShutdownError(error.to_string()))?;
        match trouble.take() {
            Some(trouble) => Err(ShutdownError(trouble.to_string())),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// The last spans were not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the last spans were not sent: {0}")]
pub struct ShutdownError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_behind_tls_is_refused_at_the_start() {
        for endpoint in ["https://collector:4318", "HTTPS://collector"] {
            let started = Otlp::new("shop").endpoint(endpoint).start();
            let error = started.expect_err("it is refused");
            assert!(matches!(error, StartError::Encrypted(_)), "{error}");
        }
        assert!(!is_encrypted("http://127.0.0.1:4318/https://"));
    }
}
