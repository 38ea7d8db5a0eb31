//! The simulated network as nodes use it: listeners and streams.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{super::trace::Trace, EndId, HostId, Network};
use crate::{
    infra::sync::lock,
    transport::net::{Connected, Incoming, Listener, Net, Target},
};

/// The network of a simulation, shared by all hosts and the test.
#[derive(Clone)]
pub(in super::super) struct Shared {
    network: Arc<Mutex<Network>>,
    trace: Arc<Trace>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(in super::super) fn new(network: Network, trace: Arc<Trace>) -> Self {
        let network = Arc::new(Mutex::new(network));
        Self { network, trace }
    }

    /// Runs `ask` on the network, and then wakes the tasks that can go on.
    pub(in super::super) fn with<R>(&self, ask: impl FnOnce(&mut Network) -> R) -> R {
        let (answer, woken) = {
            let mut network = lock(&self.network);
            (ask(&mut network), network.take_woken())
        };
        for waker in woken {
            waker.wake();
        }
        answer
    }
}

/// The network of one host.
#[derive(Clone, Debug)]
pub(in super::super) struct SimNet {
    pub(in super::super) host: HostId,
    pub(in super::super) shared: Shared,
}

impl SimNet {
    fn stream(&self, end: EndId) -> io::Result<SimStream> {
        let addresses = self.shared.with(|network| network.addresses(end));
        let (from, to) = addresses.ok_or(io::ErrorKind::NotConnected)?;
        Ok(SimStream {
            end,
            from,
            to,
            shared: self.shared.clone(),
        })
    }
}

impl Net for SimNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        Box::pin(async move {
            let bind = |network: &mut Network| network.bind(self.host, address.port());
            let (address, number) = self.shared.with(bind)?;
            Ok(Arc::new(SimListener {
                address,
                number,
                net: self.clone(),
            }) as Arc<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let connect = |network: &mut Network| network.connect(self.host, target.address);
            // The stream exists before the connection does, so that a dropped future closes it.
            let stream = self.stream(self.shared.with(connect)?)?;
            let connected = |cx: &mut Context<'_>| {
                let poll = |network: &mut Network| network.poll_connected(stream.end, cx);
                self.shared.with(poll)
            };
            poll_fn(connected).await?;
            stream.establish().await
        })
    }

    /// Resolves the names of simulated hosts.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if let Ok(address) = name.parse() {
                return Ok(vec![address]);
            }
            let malformed = || io::Error::new(io::ErrorKind::InvalidInput, "no `name:port`");
            let (host, port) = name.rsplit_once(':').ok_or_else(malformed)?;
            let port = port.parse().map_err(|_| malformed())?;
            let addresses = self.shared.with(|network| network.resolve(host, port));
            if addresses.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(addresses)
        })
    }
}

struct SimListener {
    address: SocketAddr,
    number: u64,
    net: SimNet,
}

impl Listener for SimListener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        let (host, port, number) = (self.net.host, self.address.port(), self.number);
        Box::pin(async move {
            let accepted = |cx: &mut Context<'_>| {
                let poll = |network: &mut Network| network.poll_accept(host, port, number, cx);
                self.net.shared.with(poll)
            };
            let stream = self.net.stream(poll_fn(accepted).await?)?;
            Ok(Incoming::new(stream.to, stream.establish()))
        })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let (host, port) = (self.net.host, self.address.port());
        let unbind = |network: &mut Network| network.unbind(host, port, self.number);
        self.net.shared.with(unbind);
    }
}

struct SimStream {
    end: EndId,
    from: SocketAddr,
    to: SocketAddr,
    shared: Shared,
}

impl SimStream {
    /// Learns the name of the host at the other end.
    async fn establish(self) -> io::Result<Connected> {
        let established = |_: &mut Context<'_>| {
            let poll = |network: &mut Network| network.poll_established(self.end);
            self.shared.with(poll)
        };
        let peer = poll_fn(established).await?;
        Ok(Connected {
            stream: Box::new(self),
            peer,
            until: None,
        })
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = |network: &mut Network| network.poll_read(self.end, cx, buffer);
        self.shared.with(read)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |network: &mut Network| network.poll_write(self.end, cx, bytes);
        let written = self.shared.with(write);
        if let Poll::Ready(Ok(count)) = &written {
            let bytes = &bytes[..*count];
            self.shared.trace.written(self.from, self.to, bytes);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.with(|network| network.shutdown(self.end)))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.shared.with(|network| network.close(self.end));
    }
}
