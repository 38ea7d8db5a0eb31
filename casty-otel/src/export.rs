//! The way to the collector.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError, hyper::HyperClient};
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
