//! A server of the dashboard's own.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use casty::ActorSystem;
use tokio::{
    net::{TcpListener, ToSocketAddrs, lookup_host},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::routes::router_until;

/// How long the last answers may take.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A dashboard that is served. It takes no connections any more once it is dropped, or
/// [shut down](Self::shutdown).
#[derive(Debug)]
#[must_use = "a dropped dashboard is not served"]
pub struct Dashboard {
    address: SocketAddr,
    ended: CancellationToken,
    serving: Option<JoinHandle<io::Result<()>>>,
}

/// Why a dashboard is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can be reached from other hosts, and the dashboard has no authentication.
    #[error(
        "{address} can be reached from other hosts, and the dashboard has no authentication: use \
         127.0.0.1 and a tunnel, or put `casty_dashboard::router` behind a server of yours that does"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves the dashboard of a node on an address of this host alone, such as `127.0.0.1:9400`; port
/// 0 is a free one. Every node can show the whole cluster. Nothing is looked at while no page is
/// open. The server keeps a clone of the system, so the system does not end by being dropped
/// before.
///
/// Kubernetes asks probes by the address of the pod: give it [`health`](crate::health()) in a
/// server of your own.
///
/// ```
/// use casty::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("shop").start().await?;
/// let dashboard = casty_dashboard::serve(&node, "127.0.0.1:0").await?;
/// println!("open http://{}", dashboard.address());
/// dashboard.shutdown().await?;
/// # node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ServeError`].
///
/// # Cancel safety
/// Safe.
pub async fn serve(
    node: &ActorSystem,
    address: impl ToSocketAddrs,
) -> Result<Dashboard, ServeError> {
    let addresses: Vec<SocketAddr> = lookup_host(address).await?.collect();
    if let Some(address) = addresses.iter().find(|it| !it.ip().is_loopback()) {
        let address = *address;
        return Err(ServeError::NotLoopback { address });
    }
    let listener = TcpListener::bind(&addresses[..]).await?;
    let (address, ended) = (listener.local_addr()?, CancellationToken::new());
    let app: Router = router_until(node, ended.clone()).layer(middleware::from_fn(from_here));
    let serving =
        axum::serve(listener, app).with_graceful_shutdown(ended.clone().cancelled_owned());
    tracing::info!(%address, "the dashboard is served");
    Ok(Dashboard {
        address,
        ended,
        serving: Some(tokio::spawn(serving.into_future())),
    })
}

/// Refuses requests that do not name this host: the page of another site may have its name resolve
/// to 127.0.0.1, and would read all that is here with its visitor's browser. Requests that another
/// site makes, as the browser says, are refused too: they could read nothing, and make work.
async fn from_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_here = host.is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        let address = name.parse::<std::net::IpAddr>();
        name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let site = request.headers().get("sec-fetch-site");
    let is_own = site.is_none_or(|site| site == "same-origin" || site == "none");
    if is_here && is_own {
        return next.run(request).await;
    }
    let reason = "the dashboard answers to its own page, under `localhost` or a loopback address\n";
    (StatusCode::FORBIDDEN, reason).into_response()
}

impl Dashboard {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it: open pages lose their streams, and questions that are under way are answered. A
    /// viewer that reads nothing is waited for five seconds at most.
    ///
    /// # Errors
    /// The server has failed before.
    ///
    /// # Cancel safety
    /// Dropped, it ends all the same, with its last connection.
    pub async fn shutdown(mut self) -> io::Result<()> {
        self.ended.cancel();
        let Some(mut serving) = self.serving.take() else {
            return Ok(());
        };
        if let Ok(ended) = tokio::time::timeout(ENDS_WITHIN, &mut serving).await {
            return ended.unwrap_or(Ok(()));
        }
        serving.abort();
        Ok(())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
