//! Frames, which travel on a connection after the handshake: a prefix with two checks, a kind, a
//! fixed header, a payload.
//!
//! ```text
//! u24  length of what follows the prefix            all integers are little-endian
//! u8   CRC-8 of the length
//! u32  CRC-32C of the length, its CRC-8 and all that follows the prefix
//! u8   kind
//!      entity:  u16 type · u8 hops · u64 epoch · u64 correlation · u16 id length · id ·
//!               u16 chain length · chain · payload
//!      actor:   u64 actor · u64 correlation · u16 chain length · chain · payload
//!      reply:   u64 correlation · u64 epoch · payload
//!      fail:    u64 correlation · payload
//!      bounce:  u64 epoch known · an entity frame, kind included
//!      credit:  u64 bytes received · u64 bytes granted
//!      control: payload
//!      ping, pong: nothing
//!      goodbye: u64 bytes received; the last frame of an accepting side, which reads no more
//!      give up: u64 correlation; the asker waits no more
//! ```
//!
//! A chain names the actors that wait for the answer: see `actor/ask/chain.rs`. Correlation 0 means
//! that no asker waits. Payloads are MessagePack; an actor frame without a payload is a watch,
//! answered when the actor ends.
//!
//! TCP's own checksum has 16 bits, and misses what the memory of a switch damages. A damaged frame
//! must not be acted on, so a reader checks each frame before it looks into it. See
//! [`check`](super::check).

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(crate) use super::check::PREFIX_BYTES;
use super::check::{self, Damaged};
pub(crate) use crate::config::FRAME_BYTES_MAX;

mod kind {
    pub(super) const ENTITY: u8 = 1;
    pub(super) const ACTOR: u8 = 2;
    pub(super) const REPLY: u8 = 3;
    pub(super) const FAIL: u8 = 4;
    pub(super) const BOUNCE: u8 = 5;
    pub(super) const CREDIT: u8 = 6;
    pub(super) const CONTROL: u8 = 7;
    pub(super) const PING: u8 = 8;
    pub(super) const PONG: u8 = 9;
    pub(super) const GOODBYE: u8 = 10;
    pub(super) const GIVE_UP: u8 = 11;
}

/// A message for an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityFrame<'a> {
    /// Index into the catalog of the sender's hello.
    pub(crate) kind: u16,
    /// How often the message was bounced and sent again.
    pub(crate) hops: u8,
    /// The shard's epoch, as the sender knows it.
    pub(crate) epoch: u64,
    pub(crate) correlation: u64,
    pub(crate) id: &'a str,
    pub(crate) chain: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// A frame, borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Entity(EntityFrame<'a>),
    Actor {
        actor: u64,
        correlation: u64,
        chain: &'a [u8],
        payload: &'a [u8],
    },
    Reply {
        correlation: u64,
        /// The epoch under which the message was handled; zero for an actor's answer.
        epoch: u64,
        payload: &'a [u8],
    },
    Fail {
        correlation: u64,
        payload: &'a [u8],
    },
    /// The message as it came: the receiver does not own the shard under the message's epoch.
    Bounce {
        epoch: u64,
        frame: EntityFrame<'a>,
    },
    /// Totals since the connection began, of frames that count against the window.
    Credit {
        received: u64,
        granted: u64,
    },
    Control(&'a [u8]),
    Ping,
    Pong,
    /// The accepting side has read so many bytes of messages, and will read no more.
    Goodbye {
        received: u64,
    },
    /// No asker waits for this answer any more.
    GiveUp {
        correlation: u64,
    },
}

/// Why bytes from a peer are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {bytes} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("a frame ends in the middle of its header")]
    Truncated,
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("an entity id that is not UTF-8")]
    Id,
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A frame that is too large to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
}

/// The length of a frame that is not too large, without its prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLength(u32);

impl<'a> Frame<'a> {
    /// A message for an actor. An asker gets its correlation when the frame is queued.
    pub(crate) fn actor(actor: u64, chain: &'a [u8], payload: &'a [u8]) -> Self {
        Self::Actor {
            actor,
            correlation: 0,
            chain,
            payload,
        }
    }

    /// The frame's size on the wire, its prefix included.
    pub(crate) fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + 1 + self.body_bytes()
    }

    fn body_bytes(&self) -> usize {
        match self {
            Self::Entity(frame) => frame.body_bytes(),
            Self::Actor { chain, payload, .. } => 16 + 2 + chain.len() + payload.len(),
            Self::Reply { payload, .. } => 16 + payload.len(),
            Self::Fail { payload, .. } => 8 + payload.len(),
            Self::Bounce { frame, .. } => 8 + 1 + frame.body_bytes(),
            Self::Credit { .. } => 16,
            Self::Control(payload) => payload.len(),
            Self::Ping | Self::Pong => 0,
            Self::Goodbye { .. } | Self::GiveUp { .. } => 8,
        }
    }

    /// Whether the frame counts against the receiver's window.
    pub(crate) fn is_credited(&self) -> bool {
        matches!(self, Self::Entity(_) | Self::Actor { .. })
    }

    /// Appends the frame.
    pub(crate) fn put(&self, out: &mut BytesMut) -> Result<(), TooLarge> {
        self.put_checked(self.check()?, out);
        Ok(())
    }

    /// The frame's length, unless it is too large for a peer.
    pub(crate) fn check(&self) -> Result<FrameLength, TooLarge> {
        let bytes = 1 + self.body_bytes();
        u32::try_from(bytes)
            .ok()
            .filter(|_| bytes <= FRAME_BYTES_MAX)
            .map(FrameLength)
            .ok_or(TooLarge { bytes })
    }

    /// Appends a frame whose length is known.
    pub(crate) fn put_checked(&self, FrameLength(length): FrameLength, out: &mut BytesMut) {
        out.reserve(PREFIX_BYTES + length as usize);
        let start = out.len();
        // Filled at the end, when the bytes are there.
        out.put_bytes(0, PREFIX_BYTES);
        self.put_body(out);
        if let Some((prefix, body)) = out[start..].split_first_chunk_mut() {
            *prefix = check::prefix(length, body);
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::Entity(frame) => frame.put(out),
            Self::Actor {
                actor,
                correlation,
                chain,
                payload,
            } => {
                out.put_u8(kind::ACTOR);
                out.put_u64_le(*actor);
                out.put_u64_le(*correlation);
                put_short(chain, out);
                out.put_slice(payload);
            }
            Self::Reply {
                correlation,
                epoch,
                payload,
            } => {
                out.put_u8(kind::REPLY);
                out.put_u64_le(*correlation);
                out.put_u64_le(*epoch);
                out.put_slice(payload);
            }
            Self::Fail {
                correlation,
                payload,
            } => {
                out.put_u8(kind::FAIL);
                out.put_u64_le(*correlation);
                out.put_slice(payload);
            }
            Self::Bounce { epoch, frame } => {
                out.put_u8(kind::BOUNCE);
                out.put_u64_le(*epoch);
                frame.put(out);
            }
            Self::Credit { received, granted } => {
                out.put_u8(kind::CREDIT);
                out.put_u64_le(*received);
                out.put_u64_le(*granted);
            }
            Self::Control(payload) => {
                out.put_u8(kind::CONTROL);
                out.put_slice(payload);
            }
            Self::Ping => out.put_u8(kind::PING),
            Self::Pong => out.put_u8(kind::PONG),
            Self::Goodbye { received } => {
                out.put_u8(kind::GOODBYE);
                out.put_u64_le(*received);
            }
            Self::GiveUp { correlation } => {
                out.put_u8(kind::GIVE_UP);
                out.put_u64_le(*correlation);
            }
        }
    }
}

/// The head of each entity frame: its type, its hops, its epoch, its correlation, the length of its
/// id.
const ENTITY_HEAD_BYTES: usize = 2 + 1 + 8 + 8 + 2;

impl<'a> EntityFrame<'a> {
    fn body_bytes(&self) -> usize {
        ENTITY_HEAD_BYTES + self.id.len() + 2 + self.chain.len() + self.payload.len()
    }

    fn put(&self, out: &mut BytesMut) {
        // Into an array first, so that the buffer's room is checked once and not for each number.
        let mut head = [0; 1 + ENTITY_HEAD_BYTES];
        let (id, length) = short(self.id.as_bytes());
        let mut fill = &mut head[..];
        fill.put_u8(kind::ENTITY);
        fill.put_u16_le(self.kind);
        fill.put_u8(self.hops);
        fill.put_u64_le(self.epoch);
        fill.put_u64_le(self.correlation);
        fill.put_u16_le(length);
        out.put_slice(&head);
        out.put_slice(id);
        put_short(self.chain, out);
        out.put_slice(self.payload);
    }

    fn parse(mut rest: Cursor<'a>) -> Result<Self, FrameError> {
        // As a whole, so that the length is checked once.
        let head: [u8; ENTITY_HEAD_BYTES] = rest.array()?;
        let mut head = Cursor(&head);
        let kind = head.u16()?;
        let hops = head.u8()?;
        let epoch = head.u64()?;
        let correlation = head.u64()?;
        let id = rest.slice(usize::from(head.u16()?))?;
        let id = std::str::from_utf8(id).map_err(|_| FrameError::Id)?;
        let chain = rest.short()?;
        Ok(Self {
            kind,
            hops,
            epoch,
            correlation,
            id,
            chain,
            payload: rest.0,
        })
    }
}

/// The bytes and their length. Ids and chains are limited where they are made; an overlong one that
/// slipped through is cut off, and means nothing.
fn short(bytes: &[u8]) -> (&[u8], u16) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    (&bytes[..usize::from(length)], length)
}

/// Appends a length and the bytes.
fn put_short(bytes: &[u8], out: &mut BytesMut) {
    let (bytes, length) = short(bytes);
    out.put_u16_le(length);
    out.put_slice(bytes);
}

/// Looks at the start of `bytes`: the length of a complete frame after its prefix, or `None` if
/// more must be read.
pub(crate) fn complete(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = check::length(*prefix)?;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: length });
    }
    Ok((bytes.len() - PREFIX_BYTES >= length).then_some(length))
}

/// Reads a frame of a peer from exactly its bytes, with its prefix.
pub(crate) fn parse_checked(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (prefix, body) = bytes.split_first_chunk().ok_or(FrameError::Truncated)?;
    check::body(*prefix, body)?;
    parse(body)
}

/// Reads a frame from exactly its bytes, without the prefix and without a check.
pub(crate) fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut rest = Cursor(bytes);
    Ok(match rest.u8()? {
        kind::ENTITY => Frame::Entity(EntityFrame::parse(rest)?),
        kind::ACTOR => Frame::Actor {
            actor: rest.u64()?,
            correlation: rest.u64()?,
            chain: rest.short()?,
            payload: rest.0,
        },
        kind::REPLY => Frame::Reply {
            correlation: rest.u64()?,
            epoch: rest.u64()?,
            payload: rest.0,
        },
        kind::FAIL => Frame::Fail {
            correlation: rest.u64()?,
            payload: rest.0,
        },
        kind::BOUNCE => {
            let epoch = rest.u64()?;
            match rest.u8()? {
                kind::ENTITY => Frame::Bounce {
                    epoch,
                    frame: EntityFrame::parse(rest)?,
                },
                other => return Err(FrameError::UnknownKind(other)),
            }
        }
        kind::CREDIT => Frame::Credit {
            received: rest.u64()?,
            granted: rest.u64()?,
        },
        kind::CONTROL => Frame::Control(rest.0),
        kind::PING => Frame::Ping,
        kind::PONG => Frame::Pong,
        kind::GOODBYE => Frame::Goodbye {
            received: rest.u64()?,
        },
        kind::GIVE_UP => Frame::GiveUp {
            correlation: rest.u64()?,
        },
        other => return Err(FrameError::UnknownKind(other)),
    })
}

/// The bytes of each frame in a buffer of our own making, without the prefixes.
pub(crate) fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = complete(&bytes).ok()??;
        bytes.advance(PREFIX_BYTES);
        Some(bytes.split_to(length))
    })
}

/// The frames in a buffer of our own making.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = complete(bytes).ok()??;
        let (frame, rest) = bytes[PREFIX_BYTES..].split_at(length);
        bytes = rest;
        parse(frame).ok()
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn slice(&mut self, bytes: usize) -> Result<&'a [u8], FrameError> {
        let (head, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// Reads what [`put_short`] wrote.
    fn short(&mut self) -> Result<&'a [u8], FrameError> {
        let length = self.u16()?;
        self.slice(usize::from(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entity<'a>(id: &'a str, payload: &'a [u8]) -> EntityFrame<'a> {
        EntityFrame {
            kind: 7,
            hops: 1,
            epoch: 0x0102_0304_0506_0708,
            correlation: 9,
            id,
            chain: b"ch",
            payload,
        }
    }

    fn round_trip(frame: Frame<'_>) {
        let mut out = BytesMut::new();
        frame.put(&mut out).unwrap();
        assert_eq!(out.len(), frame.wire_bytes());
        let length = complete(&out).unwrap().unwrap();
        assert_eq!(PREFIX_BYTES + length, out.len());
        assert_eq!(parse(&out[PREFIX_BYTES..]), Ok(frame));
    }

    #[test]
    fn every_kind_of_frame_reads_back() {
        round_trip(Frame::Entity(entity("alice", b"payload")));
        round_trip(Frame::Actor {
            actor: 3,
            correlation: 0,
            chain: b"",
            payload: b"",
        });
        round_trip(Frame::Reply {
            correlation: 1,
            epoch: 2,
            payload: b"x",
        });
        round_trip(Frame::Fail {
            correlation: 1,
            payload: b"y",
        });
        round_trip(Frame::Bounce {
            epoch: 5,
            frame: entity("bob", b"z"),
        });
        round_trip(Frame::Credit {
            received: u64::MAX,
            granted: 1,
        });
        round_trip(Frame::Control(b"c"));
        round_trip(Frame::Ping);
        round_trip(Frame::Pong);
        round_trip(Frame::Goodbye { received: 7 });
        round_trip(Frame::GiveUp { correlation: 8 });
    }

    #[test]
    fn a_truncated_frame_is_an_error_at_every_length() {
        let mut out = BytesMut::new();
        Frame::Bounce {
            epoch: 5,
            frame: entity("bob", b""),
        }
        .put(&mut out)
        .unwrap();
        for length in 0..out.len() - PREFIX_BYTES {
            let cut = &out[PREFIX_BYTES..][..length];
            assert_eq!(parse(cut), Err(FrameError::Truncated), "{length} bytes");
            assert_eq!(complete(&out[..PREFIX_BYTES + length]), Ok(None));
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_at_both_ends() {
        let payload = vec![0; FRAME_BYTES_MAX];
        let mut out = BytesMut::new();
        let refused = Frame::Control(&payload).put(&mut out);
        assert_eq!(
            refused,
            Err(TooLarge {
                bytes: FRAME_BYTES_MAX + 1
            })
        );
        assert!(out.is_empty());
        assert_eq!(
            complete(&check::prefix(0xff_ffff, b"")),
            Err(FrameError::TooLarge { bytes: 0xff_ffff })
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage() {
        let mut out = BytesMut::new();
        Frame::Bounce {
            epoch: 5,
            frame: entity("bob", b"payload"),
        }
        .put(&mut out)
        .unwrap();
        assert!(parse_checked(&out).is_ok());
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            let read = complete(&out).map(|_| parse_checked(&out));
            assert!(
                matches!(
                    read,
                    Err(FrameError::Damaged(Damaged::Length))
                        | Ok(Err(FrameError::Damaged(Damaged::Content)))
                ),
                "bit {bit}: {read:?}"
            );
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_damaged_length_is_known_at_once_and_not_waited_for() {
        let mut out = BytesMut::new();
        Frame::Ping.put(&mut out).unwrap();
        for bit in 0..24 {
            out[bit / 8] ^= 1 << (bit % 8);
            let read = complete(&out);
            assert_eq!(read, Err(FrameError::Damaged(Damaged::Length)), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_lying_id_length_is_an_error() {
        let mut out = BytesMut::new();
        Frame::Entity(entity("bob", b"z")).put(&mut out).unwrap();
        let at = PREFIX_BYTES + 1 + 2 + 1 + 8 + 8;
        out[at] = 0xff;
        assert_eq!(parse(&out[PREFIX_BYTES..]), Err(FrameError::Truncated));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = complete(&bytes);
            let _ = parse(&bytes);
            let _ = parse_checked(&bytes);
            let _ = frames(&bytes).count();
        }
    }
}
