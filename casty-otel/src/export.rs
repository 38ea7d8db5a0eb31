//! The way to the collector.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError, hyper::HyperClient};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use tokio::runtime::Handle;

/// An HTTP client for a thread of OpenTelemetry's: hyper needs tokio, and that thread has none.
pub(crate) struct OnTokio {
    client: HyperClient,
    handle: Handle,
}

impl OnTokio {
    pub(crate) fn new(handle: Handle, timeout: Duration) -> Self {
        Self {
            client: HyperClient::with_default_connector(timeout, None),
            handle,
        }
    }
}

impl fmt::Debug for OnTokio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnTokio")
    }
}

#[async_trait]
impl HttpClient for OnTokio {
    #[expect(clippy::disallowed_methods, reason = "its end is awaited")]
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self
            .handle
            .spawn(async move { client.send_bytes(request).await });
        // An error says that the runtime has ended, and with it the connection.
        sending.await?
    }
}

/// The error of the last batch, if it was not sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<OTelSdkError>>>);

impl Trouble {
    fn set(&self, trouble: Option<OTelSdkError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(crate) fn take(&self) -> Option<OTelSdkError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An exporter whose last error is known: the end of a batch processor does not tell it.
#[derive(Debug)]
pub(crate) struct Remembering<E> {
    pub(crate) exporter: E,
    pub(crate) trouble: Trouble,
}

impl<E: SpanExporter> SpanExporter for Remembering<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        if let Err(error) = &exported {
            tracing::warn!(spans, %error, "spans were not exported, and are lost");
        }
        let trouble = exported.as_ref().err().map(ToString::to_string);
        self.trouble.set(trouble.map(OTelSdkError::InternalFailure));
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
