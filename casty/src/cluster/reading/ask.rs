//! Asks another node about entities.

use std::time::Duration;

use crate::{
    cluster::peers::{
        Peers,
        reads::{Read, ReadAnswer},
        wire::{Answer, Call},
    },
    error::StoredError,
    transport::{handshake::Lane, link::Peer},
};

/// How long a node may take to answer. It answers for its store within
/// [`Settings::resolve_timeout`](crate::Settings::resolve_timeout).
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Why a node was asked in vain.
#[derive(Debug)]
pub(crate) enum InVain {
    /// It answered that it cannot.
    Refused(StoredError),
    /// It did not answer. Another try, or another node, may do better.
    Silent(String),
}

/// Asks another process.
pub(crate) async fn ask_peer(peers: &Peers, peer: &Peer, read: Read) -> Result<ReadAnswer, InVain> {
    let call = Call::Read(Box::new(read));
    // Answers may be large.
    let answer = peers.call_on(Lane::Bulk, peer, call, ANSWER_WITHIN).await;
    match answer {
        Ok(Answer::Read(answer)) => answer.map_err(InVain::Refused),
        Ok(_) => Err(InVain::Silent("it has too much to do".to_owned())),
        Err(error) => Err(InVain::Silent(error.to_string())),
    }
}
