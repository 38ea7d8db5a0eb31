//! A simulated network: turmoil's.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use turmoil::net::{TcpListener, TcpStream};

use super::net::{Listener, Net, Stream};

/// The network of the simulated host that uses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimNet;

impl Net for SimNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(("0.0.0.0", address.port())).await?;
            let address = SocketAddr::new(address.ip(), listener.local_addr()?.port());
            Ok(Arc::new(BoundSim { listener, address }) as Arc<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
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
}

impl Listener for BoundSim {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
