//! A simulated network: turmoil's.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::net::{Listener, Net, Stream};

/// Is told what goes over connections: from, to, and the bytes.
pub(crate) trait Wiretap: std::fmt::Debug + Send + Sync {
    fn written(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]);
}

/// The network of the simulated host that uses it.
#[derive(Clone, Debug)]
pub(crate) struct SimNet {
    pub(crate) tap: Arc<dyn Wiretap>,
}

impl SimNet {
    fn stream(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Tapped {
            from: stream.local_addr()?,
            to: stream.peer_addr()?,
            stream,
            tap: self.tap.clone(),
        }))
    }
}

impl Net for SimNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(("0.0.0.0", address.port())).await?;
            let address = SocketAddr::new(address.ip(), listener.local_addr()?.port());
            Ok(Arc::new(BoundSim {
                listener,
                address,
                net: self.clone(),
            }) as Arc<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { self.stream(TcpStream::connect(address).await?) })
    }

    /// Names are those of simulated hosts.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if let Ok(address) = name.parse() {
                return Ok(vec![address]);
            }
            let unknown = || io::Error::new(io::ErrorKind::NotFound, "`name:port` is asked for");
            let (host, port) = name.rsplit_once(':').ok_or_else(unknown)?;
            let port = port.parse().map_err(|_| unknown())?;
            Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
        })
    }
}

struct BoundSim {
    listener: TcpListener,
    address: SocketAddr,
    net: SimNet,
}

impl Listener for BoundSim {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            self.net.stream(stream)
        })
    }
}

struct Tapped {
    stream: TcpStream,
    from: SocketAddr,
    to: SocketAddr,
    tap: Arc<dyn Wiretap>,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.tap.written(self.from, self.to, &bytes[..*count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
