//! What other processes may use of a node.

use crate::{error::StartError, id::ENTITY_ID_BYTES_MAX};

/// The largest frame, without its length prefix.
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What other processes may use of this node: connections, memory, entities.
///
/// A process that is at a limit is refused, with a typed error where it waits for an answer, and
/// counted: [`ActorSystem::refusals`](crate::ActorSystem::refusals). Its other connections and all
/// other processes go on. The log says so, in one line for many.
///
/// Fixed in the wire format are the longest frame (8 MiB) and the depth to which values may be
/// nested in a message (64). Each connection waits for at most 1 MiB of messages that have no
/// place in a mailbox yet.
///
/// ```
/// use casty::{Settings, access::Limits, prelude::*};
///
/// let limits = Limits { connections_per_address_max: 64, ..Limits::default() };
/// let builder = ActorSystem::builder("shop").settings(Settings { limits, ..Settings::default() });
/// # drop(builder);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections this node accepts in all. One more is closed at once, and its dialer
    /// tries again. A node has up to four from each other node, a client two. Default 16,384, at
    /// least 16.
    pub connections_max: usize,
    /// How many of them may come from one address. Default 4,096, at least 8.
    pub connections_per_address_max: usize,
    /// How many connections may be in their handshake at a time. Each has
    /// [`connect_timeout`](crate::Settings::connect_timeout) for it. Default 1,024, at least 1.
    pub handshakes_max: usize,
    /// How many connections are accepted in a second; others wait in the operating system. A
    /// handshake of TLS costs about a millisecond of a processor. Default 1,000, at least 1.
    pub accepts_per_second_max: u32,
    /// How many asks of one connection may be unanswered, watched actors included. One more is
    /// [`AskError::Limited`](crate::AskError::Limited). Default 65,536, at least 1.
    pub asks_per_peer_max: usize,
    /// How many entities one client may start in a second, by sending to them, with as many at
    /// once. Each more is [`AskError::Limited`](crate::AskError::Limited), or a dead letter. A
    /// client is known by its certificate, without TLS by its address. Nodes have no such limit.
    /// Default 20,000, at least 1.
    pub activations_per_client_max: u32,
    /// The longest message of a client, with its id and all that goes along. A longer one is
    /// [`AskError::TooLarge`](crate::AskError::TooLarge), or a dead letter. Default 8 MiB, which is
    /// also the greatest, at least 1 KiB.
    pub client_message_bytes_max: usize,
    /// The longest id of an entity in a message from another process. A longer one is
    /// [`AskError::InvalidId`](crate::AskError::InvalidId), or a dead letter. Default 1,024, which
    /// is also the greatest, at least 1.
    pub entity_id_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16 * 1024,
            connections_per_address_max: 4 * 1024,
            handshakes_max: 1024,
            accepts_per_second_max: 1000,
            asks_per_peer_max: 64 * 1024,
            activations_per_client_max: 20_000,
            client_message_bytes_max: FRAME_BYTES_MAX,
            entity_id_bytes_max: ENTITY_ID_BYTES_MAX,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), StartError> {
        let counts = [
            ("connections_max", self.connections_max, 16),
            (
                "connections_per_address_max",
                self.connections_per_address_max,
                8,
            ),
            ("handshakes_max", self.handshakes_max, 1),
            (
                "accepts_per_second_max",
                self.accepts_per_second_max as usize,
                1,
            ),
            ("asks_per_peer_max", self.asks_per_peer_max, 1),
            (
                "activations_per_client_max",
                self.activations_per_client_max as usize,
                1,
            ),
            (
                "client_message_bytes_max",
                self.client_message_bytes_max,
                1024,
            ),
            ("entity_id_bytes_max", self.entity_id_bytes_max, 1),
        ];
        for (limit, value, min) in counts {
            if value < min {
                return refuse(limit, &format!("must be at least {min}"));
            }
        }
        if self.client_message_bytes_max > FRAME_BYTES_MAX {
            return refuse("client_message_bytes_max", "must be at most 8 MiB");
        }
        if self.entity_id_bytes_max > ENTITY_ID_BYTES_MAX {
            return refuse("entity_id_bytes_max", "must be at most 1024");
        }
        Ok(())
    }
}

pub(super) fn refuse(setting: &'static str, reason: &str) -> Result<(), StartError> {
    Err(StartError::Setting {
        setting,
        reason: reason.to_owned(),
    })
}
