//! The seam between casty and a network: who gives us byte streams. Time is plain `tokio::time`.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A connection: bytes in order, both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Where connections arrive.
pub(crate) trait Listener: Send + Sync + 'static {
    /// The address that peers dial; the port is the one that was bound.
    fn address(&self) -> SocketAddr;

    /// The next connection.
    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// A network: real TCP, or a simulated one.
pub(crate) trait Net: fmt::Debug + Send + Sync + 'static {
    /// Listens on `address`; port 0 takes a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>>;

    /// Connects to `address`.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// All addresses that `host:port` stands for now. Asked anew at each try: names may move.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The operating system's TCP.
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

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }
}

struct BoundTcp {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for BoundTcp {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
