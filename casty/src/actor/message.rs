//! What an actor is told, and what it answers.

use std::any::Any;

use crate::{
    infra::panic,
    message::{
        codec::{self, DecodeError, EncodeError},
        wire::Wire,
    },
};

/// What can be sent to an actor: the enum that `#[entity]` or `#[actor]` makes of the `#[message]`
/// functions.
pub trait Message: Wire {
    /// The wire names of all messages.
    #[doc(hidden)]
    const NAMES: &'static [&'static str];

    /// Which of [`NAMES`](Self::NAMES) is this message's.
    #[doc(hidden)]
    fn index(&self) -> usize;

    /// The message's wire name. Logs and dead letters show it; they never show what a message
    /// contains.
    fn name(&self) -> &'static str {
        Self::NAMES.get(self.index()).copied().unwrap_or("?")
    }

    /// Appends the message as it travels between nodes.
    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::encode(self, out)
    }

    /// The internal message of that name, if it has no arguments: such a message has no other form,
    /// and yet goes along when an entity moves that waits for it.
    #[doc(hidden)]
    fn named(name: &str) -> Option<Self> {
        let _ = name;
        None
    }

    /// Reads a message that takes up all of `bytes`.
    #[doc(hidden)]
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }
}

/// The answers of an actor's handlers, one variant a message. Generated, and never seen by a user.
#[doc(hidden)]
pub trait Reply: Sized + Send + 'static {
    /// Shows the answer that `self` is.
    fn visit<V: ReplyVisitor>(self, visitor: V) -> V::Output;

    /// Appends the answer as it travels between nodes.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// The answer, which is a `T`. `None` if it is of another type: then it is to another message.
    fn answer<T: 'static>(self) -> Option<T> {
        let mut answer = None::<T>;
        self.visit(Put(&mut answer));
        answer
    }
}

/// A message as a record has it, besides its name. Of an internal one without arguments that is
/// nothing, which no other message is encoded as.
pub(crate) fn stored_bytes<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    if M::named(message.name()).is_none() {
        message.encode(&mut bytes)?;
    }
    Ok(bytes)
}

/// The same where a panic of the user's code must not get further. `None`: it cannot be written.
pub(crate) fn stored_by_user<M: Message>(message: &M) -> Option<Vec<u8>> {
    let encoded = codec::by_user(&mut |out| {
        *out = stored_bytes(message)?;
        Ok("")
    });
    encoded.ok().map(|(_, bytes)| bytes)
}

/// The message that a record has.
pub(crate) fn of_stored<M: Message>(name: &str, bytes: &[u8]) -> Result<M, DecodeError> {
    if !bytes.is_empty() {
        return M::decode(bytes);
    }
    M::named(name).ok_or_else(|| DecodeError(format!("there is no internal message `{name}`")))
}

/// How a reply travels. Requires nothing of `R`, so that the compiler reports a type that cannot
/// travel only where the codec is made.
#[doc(hidden)]
pub struct ReplyCodec<R> {
    pub(crate) encode: fn(&R, &mut Vec<u8>) -> Result<(), EncodeError>,
    pub(crate) decode: fn(&[u8]) -> Result<R, DecodeError>,
}

impl<T: 'static, E: 'static> ReplyCodec<Result<T, E>> {
    /// The codec of an alias of this `Result`.
    ///
    /// It requires nothing of `W`: that a type named `Result` is one is required where its parts
    /// are named, and is one error there.
    #[doc(hidden)]
    pub fn of_alias<W: 'static>(self) -> ReplyCodec<W> {
        let mut codec = Some(self);
        let codec: &mut dyn Any = &mut codec;
        let codec = codec.downcast_mut::<Option<ReplyCodec<W>>>();
        match codec.and_then(Option::take) {
            Some(codec) => codec,
            None => unreachable!("the compiler has refused another type of this name"),
        }
    }
}

/// Drops a reply that goes to no asker as it is. A panic of its `Drop` says nothing about the
/// actor.
#[inline]
pub(crate) fn discard<R>(reply: R) {
    if std::mem::needs_drop::<R>() {
        panic::contained("a reply", || drop(reply));
    }
}

/// Sees one answer.
#[doc(hidden)]
pub trait ReplyVisitor {
    type Output;

    /// A handler returned this.
    fn reply<R: 'static>(self, reply: R, codec: ReplyCodec<R>) -> Self::Output;
}

/// Puts the answer into an `Option` of its type.
struct Put<'a>(&'a mut dyn Any);

impl ReplyVisitor for Put<'_> {
    type Output = ();

    #[inline]
    fn reply<R: 'static>(self, reply: R, _: ReplyCodec<R>) {
        if let Some(place) = self.0.downcast_mut() {
            *place = Some(reply);
        }
    }
}
