//! The answers that an entity remembers, by the keys of their asks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// How many answers an entity remembers: those of the last keys.
const KEYS_MAX: usize = 64;

/// How many bytes of keys and replies an entity remembers. The last answer is remembered whatever
/// its size.
const BYTES_MAX: usize = 64 * 1024;

/// An answer, and the key of the ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyedReply {
    pub(crate) key: String,
    /// The name of the message.
    pub(crate) message: String,
    /// `None` if a promise was to give it, or it cannot be encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply: Option<ByteBuf>,
}

impl KeyedReply {
    fn bytes(&self) -> usize {
        let reply = self.reply.as_ref().map_or(0, |reply| reply.len());
        self.key.len() + self.message.len() + reply
    }
}

/// The answers that are remembered, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    replies: VecDeque<KeyedReply>,
    bytes: usize,
}

impl Keys {
    pub(crate) fn get(&self, key: &str) -> Option<&KeyedReply> {
        self.replies.iter().find(|reply| reply.key == key)
    }

    /// Remembers an answer, and forgets the oldest ones beyond the bounds.
    pub(crate) fn add(&mut self, reply: KeyedReply) {
        self.bytes += reply.bytes();
        self.replies.push_back(reply);
        while self.replies.len() > KEYS_MAX || self.bytes > BYTES_MAX && self.replies.len() > 1 {
            if let Some(oldest) = self.replies.pop_front() {
                self.bytes -= oldest.bytes();
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// In the order in which they were given.
    pub(crate) fn all(&self) -> Vec<KeyedReply> {
        self.replies.iter().cloned().collect()
    }
}

impl Extend<KeyedReply> for Keys {
    fn extend<I: IntoIterator<Item = KeyedReply>>(&mut self, replies: I) {
        replies.into_iter().for_each(|reply| self.add(reply));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(key: usize, bytes: usize) -> KeyedReply {
        KeyedReply {
            key: format!("key-{key}"),
            message: "withdraw".to_owned(),
            reply: Some(vec![0; bytes].into()),
        }
    }

    #[test]
    fn the_last_keys_are_remembered() {
        let mut keys = Keys::default();
        keys.extend((0..100).map(|key| reply(key, 1)));
        assert_eq!(keys.all().len(), KEYS_MAX);
        assert_eq!(keys.get("key-35"), None);
        assert_eq!(keys.get("key-36"), Some(&reply(36, 1)));
        assert_eq!(keys.get("key-99"), Some(&reply(99, 1)));
    }

    #[test]
    fn large_replies_are_remembered_within_bounds_but_for_the_last() {
        let mut keys = Keys::default();
        keys.extend((0..10).map(|key| reply(key, BYTES_MAX / 4)));
        assert_eq!(keys.all().len(), 3);
        let bytes: usize = keys.all().iter().map(KeyedReply::bytes).sum();
        assert_eq!(keys.bytes, bytes);
        keys.add(reply(10, BYTES_MAX * 2));
        assert_eq!(keys.all(), [reply(10, BYTES_MAX * 2)]);
    }
}
