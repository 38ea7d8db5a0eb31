//! The seam between casty and a network: byte streams, and the identity of the peer behind each.
//! Time is plain `tokio::time`.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

pub(crate) use super::identity::PeerIdentity;
use crate::id::NodeId;

/// A connection: bytes in order, both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// The node that a connection should reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The node's name. `None` where only an address is known, as of a seed.
    pub(crate) expected: Option<NodeId>,
}

/// A connection that both ends may use.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Stream>,
    /// `None` on a network that verifies nothing, such as plain TCP.
    pub(crate) peer: Option<PeerIdentity>,
    /// When one of the two certificates ends, since the Unix epoch. `None`: never.
    pub(crate) until: Option<Duration>,
}

/// Why a network does not connect two processes that reach each other. Travels in an
/// [`io::Error`].
#[cfg_attr(
    not(feature = "tls"),
    expect(dead_code, reason = "without TLS all are trusted")
)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    /// This side does not trust the peer.
    #[error("its certificate is refused: {0}")]
    Peer(String),
    /// The peer does not trust this side.
    #[error("it refuses this process's certificate: {0}")]
    Us(String),
    /// One of the two speaks TLS and the other does not.
    #[error("{0}")]
    Plain(&'static str),
}

impl From<Untrusted> for io::Error {
    fn from(untrusted: Untrusted) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}

/// A connection that the operating system has accepted and that is not ready for use yet.
pub(crate) struct Incoming {
    pub(crate) remote: SocketAddr,
    establishing: BoxFuture<'static, io::Result<Connected>>,
}

impl Incoming {
    /// `establishing` does what must wait for the peer, such as a TLS handshake.
    pub(crate) fn new(
        remote: SocketAddr,
        establishing: impl Future<Output = io::Result<Connected>> + Send + 'static,
    ) -> Self {
        Self {
            remote,
            establishing: Box::pin(establishing),
        }
    }

    /// Makes the connection ready for use. A peer can delay this for as long as it likes: set a
    /// time limit, and never wait for this in the task that accepts.
    ///
    /// # Cancel safety
    /// A dropped future closes the connection.
    pub(crate) async fn establish(self) -> io::Result<Connected> {
        self.establishing.await
    }
}

/// Accepts the connections to one address.
pub(crate) trait Listener: Send + Sync + 'static {
    /// The address that peers dial, with the port that was bound.
    fn address(&self) -> SocketAddr;

    /// The next connection. Never waits for the peer of one: see [`Incoming::establish`].
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>>;
}

/// A network: real TCP, or a simulated one.
pub(crate) trait Net: fmt::Debug + Send + Sync + 'static {
    /// Listens on `address`; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>>;

    /// Connects to `target`. The caller compares the peer's identity with the expected one.
    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Connected>>;

    /// All addresses that `host:port` stands for now. Asked anew at each try: names may move.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// When the certificate of this process ends, since the Unix epoch. `None`: it has none.
    fn certificate_until(&self) -> Option<Duration> {
        None
    }

    /// Work that goes on for as long as the process: it reads certificates again.
    fn upkeep(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Reads certificates again now.
    fn read_again(&self) {}
}

/// The operating system's TCP, which verifies no identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp;

impl Net for Tcp {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Arc::new(BoundTcp { listener, address }) as Arc<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move { plain(TcpStream::connect(target.address).await?) })
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }
}

fn plain(stream: TcpStream) -> io::Result<Connected> {
    stream.set_nodelay(true)?;
    Ok(Connected {
        stream: Box::new(stream),
        peer: None,
        until: None,
    })
}

struct BoundTcp {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for BoundTcp {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let (stream, remote) = self.listener.accept().await?;
            Ok(Incoming::new(remote, async move { plain(stream) }))
        })
    }
}
