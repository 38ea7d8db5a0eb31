//! Opens a connection to a peer: connects, verifies the peer's name and exchanges the handshake,
//! within one time limit. [`accept`](super::accept) is the other side.

use std::time::Duration;

use super::{
    handshake::{self, HandshakeError, Hello, Welcome},
    net::{Net, Stream, Target},
};

/// A connection whose peer has accepted this node.
pub(crate) struct Dialed {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) welcome: Welcome,
    /// When one of the two certificates ends, since the Unix epoch.
    pub(crate) until: Option<Duration>,
}

/// Connects to `target` and introduces this node, within `limit` altogether.
///
/// `hello` is called once the connection is open. Connecting takes time, and this node may join a
/// cluster meanwhile: the peer has to hear what is true now.
///
/// # Cancel safety
/// Safe: a dropped future closes the connection.
pub(crate) async fn dial(
    net: &dyn Net,
    target: &Target,
    hello: impl FnOnce() -> Hello,
    limit: Duration,
) -> Result<Dialed, HandshakeError> {
    let dialing = async {
        let mut connected = net.connect(target).await?;
        handshake::check_reached(target.expected.as_ref(), connected.peer.as_ref())?;
        let welcome = handshake::dial(&mut connected.stream, &hello()).await?;
        handshake::check_welcome(&welcome, connected.peer.as_ref())?;
        Ok(Dialed {
            stream: connected.stream,
            welcome,
            until: connected.until,
        })
    };
    let dialed = tokio::time::timeout(limit, dialing)
        .await
        .unwrap_or(Err(HandshakeError::Timeout));
    if let Err(error) = &dialed
        && error.is_about_identity()
    {
        tracing::warn!(address = %target.address, %error, "not connected: this is not the expected peer");
    }
    dialed
}
