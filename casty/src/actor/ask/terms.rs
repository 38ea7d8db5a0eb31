//! What comes with a message besides what it says: a key, by which an ask is answered once however
//! often it is asked; whether the asker wants to learn which record the answer has seen; whether
//! the message is part of a record; the place in a trace of what has sent it.
//!
//! Most messages come with nothing of it, and pay nothing for it. The answer to an ask with a key,
//! or for a position, is encoded, on its own node too: an answer that is remembered has no other
//! form.
//!
//! Between nodes the terms stand before the chain of waiting actors: a byte that begins no value of
//! MessagePack, and so no chain; then the key, whether the position is wanted, and the chain.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{BufMut, BytesMut};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_bytes::ByteBuf;

use crate::{
    error::{Failure, InvalidKey},
    message::{
        answer::RawAnswer,
        codec::{self, DecodeError},
    },
    persistence::{sends::OnceTerms, shard_log::Progress},
    trace::TraceContext,
};

/// The first byte of a chain that comes with terms.
const MARK: u8 = 0xc1;

/// The most bytes that terms have besides a key and a chain, but for those of sends, which have no
/// chain.
const BESIDES_MAX: usize = 64;

/// The longest key.
pub(crate) const KEY_BYTES_MAX: usize = 255;

#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) key: Option<String>,
    /// The position of the last record that the answer has seen stands before it.
    pub(crate) wants_position: bool,
    /// The message is part of a record of its sender, and is handled once.
    pub(crate) once: Option<Box<OnceTerms>>,
    /// The message is for an entity that is active, and starts none.
    pub(crate) is_for_active: bool,
    /// The span that has sent it, if that is sampled.
    pub(crate) trace: Option<TraceContext>,
    seen: Seen,
    /// Why they could not be read, if they could not. The ask fails for it.
    unreadable: Option<String>,
}

/// What the answer has seen.
#[derive(Clone, Debug, Default)]
enum Seen {
    /// Nothing: the entity that answers is not stored.
    #[default]
    Nothing,
    /// No matter what: the position is not wanted.
    Any,
    /// The position of a record, once that is durable.
    Record(Arc<AtomicU64>),
    /// All that is durable when it leaves.
    Latest(Arc<Progress>),
}

/// The key, whether the position is wanted, the chain, by which send or reminder it is, whether it
/// is for an active entity alone, and its place in a trace. Later versions may add to it.
struct WireTerms(
    Option<String>,
    bool,
    ByteBuf,
    Option<Box<OnceTerms>>,
    bool,
    Option<ByteBuf>,
);

impl Serialize for WireTerms {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.0, self.1, &self.2, &self.3, self.4, &self.5).serialize(to)
    }
}

impl<'de> Deserialize<'de> for WireTerms {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Elements)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = WireTerms;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key, whether the position is wanted, and a chain")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<WireTerms, S::Error> {
        let terms = (
            seq.next_element()?,
            seq.next_element()?,
            seq.next_element()?,
        );
        let (Some(key), Some(wants_position), Some(chain)) = terms else {
            return Err(S::Error::custom("the terms of the ask end too early"));
        };
        let once = seq.next_element()?.unwrap_or_default();
        let is_for_active = seq.next_element()?.unwrap_or_default();
        let trace = seq.next_element()?.unwrap_or_default();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(WireTerms(
            key,
            wants_position,
            chain,
            once,
            is_for_active,
            trace,
        ))
    }
}

/// Whether a chain on its way comes with terms that say that the message is part of a record, or
/// with terms that cannot be read.
pub(crate) fn claims_a_record(chain: &[u8]) -> bool {
    let Some((&MARK, terms)) = chain.split_first() else {
        return false;
    };
    codec::decode::<WireTerms>(terms).map_or(true, |WireTerms(_, _, _, once, ..)| once.is_some())
}

/// Whether a chain on its way says that the message is for an active entity alone.
pub(crate) fn is_for_active(chain: &[u8]) -> bool {
    chain.first() == Some(&MARK) && split(chain).0.is_some_and(|terms| terms.is_for_active)
}

impl Terms {
    pub(crate) fn new(key: Option<String>, wants_position: bool) -> Self {
        Self {
            key,
            wants_position,
            ..Self::default()
        }
    }

    /// Those of a message that is part of a record of its sender.
    pub(crate) fn once(once: OnceTerms) -> Self {
        Self {
            once: Some(Box::new(once)),
            ..Self::default()
        }
    }

    /// Those of a message for an active entity alone.
    pub(crate) fn if_active() -> Self {
        Self {
            is_for_active: true,
            ..Self::default()
        }
    }

    /// Those of a message that is part of a trace, and of nothing else.
    pub(crate) fn traced(trace: TraceContext) -> Self {
        Self {
            trace: Some(trace),
            ..Self::default()
        }
    }

    /// Whether they say something of the answer, which goes encoded then.
    pub(crate) fn concern_the_answer(&self) -> bool {
        self.wants_position
            || self.key.is_some()
            || self.once.is_some()
            || self.unreadable.is_some()
    }

    /// Why the ask is not handled, whatever its message. `message`: its name.
    pub(crate) fn refusal(&self, message: &str) -> Option<Failure> {
        if let Some(reason) = &self.unreadable {
            return Some(Failure::Undecodable {
                message: message.to_owned(),
                reason: format!("the key of the ask cannot be read: {reason}"),
            });
        }
        self.check().err().map(Failure::InvalidKey)
    }

    /// Whether the key is one.
    pub(crate) fn check(&self) -> Result<(), InvalidKey> {
        match &self.key {
            Some(key) if key.is_empty() => Err(InvalidKey::Empty),
            Some(key) if key.len() > KEY_BYTES_MAX => Err(InvalidKey::TooLong {
                bytes: key.len(),
                max: KEY_BYTES_MAX,
            }),
            _ => Ok(()),
        }
    }

    /// The entity that answers is stored, and its answer has seen this record, the last one.
    /// `later`: a promise gives the answer, and may have seen more by then.
    pub(crate) fn heed(&mut self, progress: &Arc<Progress>, seq: u64, later: bool) {
        self.seen = match self.wants_position {
            false => Seen::Any,
            true if later => Seen::Latest(progress.clone()),
            true => Seen::Record(progress.mark(seq)),
        };
    }

    /// Whether the key does not count: the entity is not stored where it lives.
    pub(crate) fn is_ignored(&self) -> bool {
        let counts = self.key.is_some() || self.once.is_some() || self.unreadable.is_some();
        counts && matches!(self.seen, Seen::Nothing)
    }

    /// The answer as its asker reads it.
    pub(crate) fn answer(&self, answer: RawAnswer) -> RawAnswer {
        match answer {
            RawAnswer::Encoded(reply) if self.wants_position => {
                let position = match &self.seen {
                    Seen::Nothing | Seen::Any => 0,
                    Seen::Record(position) => position.load(Ordering::Acquire),
                    Seen::Latest(progress) => progress.position(),
                };
                let mut bytes = BytesMut::with_capacity(8 + reply.len());
                bytes.put_u64_le(position);
                bytes.put_slice(&reply);
                RawAnswer::Encoded(bytes.freeze())
            }
            other => other,
        }
    }

    /// The chain with the terms before it.
    pub(crate) fn encoded(&self, chain: Vec<u8>) -> Vec<u8> {
        let fits = u16::try_from(chain.len() + KEY_BYTES_MAX + BESIDES_MAX).is_ok();
        // Without a chain a circle ends by its timeouts.
        let chain = ByteBuf::from(if fits { chain } else { Vec::new() });
        let mut out = vec![MARK];
        let once = self.once.clone();
        let key = self.key.clone();
        let trace = self.trace.map(|trace| ByteBuf::from(trace.to_bytes()));
        let terms = WireTerms(
            key,
            self.wants_position,
            chain,
            once,
            self.is_for_active,
            trace,
        );
        if codec::encode(&terms, &mut out).is_err() {
            out.clear();
        }
        out
    }
}

/// The terms and the chain of an ask that came over a connection.
pub(crate) fn split(bytes: &[u8]) -> (Option<Terms>, Cow<'_, [u8]>) {
    match bytes.split_first() {
        Some((&MARK, rest)) => match codec::decode::<WireTerms>(rest) {
            Ok(WireTerms(key, wants_position, chain, once, is_for_active, trace)) => {
                let terms = Terms {
                    once,
                    is_for_active,
                    trace: trace.and_then(|bytes| TraceContext::sampled_of_bytes(&bytes)),
                    ..Terms::new(key, wants_position)
                };
                (Some(terms), Cow::Owned(chain.into_vec()))
            }
            Err(DecodeError(reason)) => {
                let terms = Terms {
                    unreadable: Some(reason),
                    ..Terms::default()
                };
                (Some(terms), Cow::Borrowed(&[]))
            }
        },
        _ => (None, Cow::Borrowed(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_travel_with_the_chain() {
        let terms = Terms::new(Some("order-17".to_owned()), true);
        let encoded = terms.encoded(b"chain".to_vec());
        let (read, chain) = split(&encoded);
        let read = read.unwrap();
        assert_eq!(
            (read.key, read.wants_position),
            (Some("order-17".to_owned()), true)
        );
        assert_eq!(&*chain, b"chain");
    }

    #[test]
    fn a_place_in_a_trace_travels_with_them() {
        let trace = TraceContext::new(u128::MAX, 1, 1).unwrap();
        let encoded = Terms::traced(trace).encoded(Vec::new());
        assert_eq!(split(&encoded).0.unwrap().trace, Some(trace));
        // One that is none is as good as none: the message is handled all the same.
        let mut bytes = vec![MARK];
        let (none, once) = (None::<&str>, None::<OnceTerms>);
        let wrong = ByteBuf::from(*b"short");
        let terms = (none, false, ByteBuf::new(), once, false, Some(wrong));
        codec::encode(&terms, &mut bytes).unwrap();
        let read = split(&bytes).0.unwrap();
        assert_eq!((read.trace, read.refusal("pay")), (None, None));
    }

    #[test]
    fn a_chain_without_terms_stays_as_it_is() {
        let mut chain = Vec::new();
        codec::encode(&vec![("a", 1)], &mut chain).unwrap();
        let (terms, read) = split(&chain);
        assert!(terms.is_none());
        assert_eq!(*read, chain);
    }

    #[test]
    fn a_chain_that_leaves_no_room_for_the_key_stays_behind() {
        let terms = Terms::new(Some("k".repeat(KEY_BYTES_MAX)), false);
        let bytes = terms.encoded(vec![0; usize::from(u16::MAX)]);
        assert!(u16::try_from(bytes.len()).is_ok());
        let (read, chain) = split(&bytes);
        assert_eq!(read.unwrap().key, terms.key);
        assert!(chain.is_empty());
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        let mut bytes = vec![MARK];
        let once = None::<OnceTerms>;
        let trace = TraceContext::new(7, 8, 1).unwrap();
        let later = (
            Some("k"),
            true,
            ByteBuf::from(*b"chain"),
            once,
            true,
            Some(ByteBuf::from(trace.to_bytes())),
            "more",
            [7, 8],
        );
        codec::encode(&later, &mut bytes).unwrap();
        let (read, chain) = split(&bytes);
        let read = read.unwrap();
        assert_eq!(read.refusal("pay"), None);
        assert_eq!(
            (read.key.as_deref(), read.wants_position),
            (Some("k"), true)
        );
        assert!(read.is_for_active);
        assert_eq!(read.trace, Some(trace));
        assert_eq!(*chain, *b"chain");
        // And what an earlier one does not say is not so.
        let mut bytes = vec![MARK];
        codec::encode(&(None::<&str>, true, ByteBuf::new()), &mut bytes).unwrap();
        let (read, _) = split(&bytes);
        let read = read.unwrap();
        assert!(read.wants_position && read.once.is_none() && !read.is_for_active);
    }

    #[test]
    fn terms_that_cannot_be_read_fail_their_ask() {
        let mut bytes = Terms::new(Some("k".to_owned()), false).encoded(Vec::new());
        bytes.pop();
        let (read, chain) = split(&bytes);
        let read = read.unwrap();
        assert!(matches!(
            read.refusal("pay"),
            Some(Failure::Undecodable { message, .. }) if message == "pay"
        ));
        assert!(read.is_ignored() && chain.is_empty());
    }

    #[test]
    fn a_key_has_bounds() {
        let key = |key: &str| Terms::new(Some(key.to_owned()), false).check();
        assert_eq!(key(""), Err(InvalidKey::Empty));
        assert_eq!(key(&"k".repeat(255)), Ok(()));
        let too_long = InvalidKey::TooLong {
            bytes: 256,
            max: 255,
        };
        assert_eq!(key(&"k".repeat(256)), Err(too_long));
    }
}
