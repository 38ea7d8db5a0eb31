//! Opens a connection to a peer: connects, exchanges the handshake, both within one time limit.

use std::{net::SocketAddr, time::Duration};

use super::{
    handshake::{self, HandshakeError, Hello, Welcome},
    net::{Net, Stream},
};

/// A connection whose peer has accepted this node.
pub(crate) struct Dialed {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) welcome: Welcome,
}

/// Connects to `address` and introduces this node, within `limit` altogether.
///
/// `hello` is called once the connection is open. Connecting takes time, and this node may join a
/// cluster meanwhile: the peer has to hear what is true now.
///
/// # Cancel safety
/// Safe: a dropped future closes the connection.
pub(crate) async fn dial(
    net: &dyn Net,
    address: SocketAddr,
    hello: impl FnOnce() -> Hello,
    limit: Duration,
) -> Result<Dialed, HandshakeError> {
    let dialing = async {
        let mut stream = net.connect(address).await?;
        let welcome = handshake::dial(&mut stream, &hello()).await?;
        Ok(Dialed { stream, welcome })
    };
    tokio::time::timeout(limit, dialing)
        .await
        .unwrap_or(Err(HandshakeError::Timeout))
}
