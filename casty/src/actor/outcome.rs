//! Outcomes of sends: what their senders are told.

use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes as SerdeBytes};

use crate::{
    actor::message::Message,
    id::EntityId,
    message::codec::{self, EncodeError},
    persistence::sends::{AnswerForm, WaitingSender, WrittenSend},
};

/// The answer of a receiver that has a send in a durable record. It begins with a byte that begins
/// no encoded reply.
pub(crate) const TAKEN: &[u8] = &[0xc1, 1];

/// The answer of a receiver that has missed an earlier send.
pub(crate) const GAP: &[u8] = &[0xc1, 0];

/// The answer of an entity that does not have the reminder which has come.
pub(crate) const VOID: &[u8] = &[0xc1, 2];

/// The most bytes of a message that tells of an outcome, besides the outcome: it travels with the
/// send, beside its message.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// What became of a message that an entity has sent with an answer wanted: see
/// [`Effect::send_for`](crate::Effect::send_for).
///
/// `R` is what the handler of the message returns: its reply, or a `Result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<R>(OutcomeState<R>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum OutcomeState<R> {
    Answered(R),
    Unanswered(String),
    /// Where it will stand in a message that is not complete yet.
    Pending,
}

/// Why there is no answer to a message that was sent. Its receiver has taken it, and it does not
/// come again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no answer: {reason}")]
#[non_exhaustive]
pub struct Unanswered {
    /// The reason: the receiver's state has no handler for the message, its reply comes from a
    /// [`Promise`](crate::reply::Promise) that is not [stored](crate::reply::StoredPromise), or
    /// cannot be encoded, or an operator has given the message up.
    pub reason: String,
}

impl<R> Outcome<R> {
    /// The answer.
    ///
    /// # Errors
    /// [`Unanswered`] if the receiver has no handler for the message in its present state, or no
    /// answer that could be stored.
    pub fn result(self) -> Result<R, Unanswered> {
        match self.0 {
            OutcomeState::Answered(answer) => Ok(answer),
            OutcomeState::Unanswered(reason) => Err(Unanswered { reason }),
            OutcomeState::Pending => Err(Unanswered {
                reason: "the message has not been sent".to_owned(),
            }),
        }
    }

    /// An outcome as a test makes it up.
    pub const fn answered(answer: R) -> Self {
        Self(OutcomeState::Answered(answer))
    }

    /// The outcome of a message that has no answer.
    pub fn unanswered(reason: impl Into<String>) -> Self {
        Self(OutcomeState::Unanswered(reason.into()))
    }
}

/// How an outcome travels.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Outcome")]
enum WireOutcome<R> {
    Answered(R),
    Unanswered(String),
}

impl<R: Serialize> Serialize for Outcome<R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            OutcomeState::Answered(answer) => WireOutcome::Answered(answer).serialize(to),
            OutcomeState::Unanswered(reason) => {
                WireOutcome::<()>::Unanswered(reason.clone()).serialize(to)
            }
            OutcomeState::Pending => SerdeBytes::new(placeholder()).serialize(to),
        }
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Outcome<R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match WireOutcome::deserialize(from)? {
            WireOutcome::Answered(answer) => OutcomeState::Answered(answer),
            WireOutcome::Unanswered(reason) => OutcomeState::Unanswered(reason),
        }))
    }
}

/// What stands for an outcome that is not known yet. No other value of this process has it.
#[expect(
    clippy::disallowed_methods,
    reason = "it is cut out before anything is stored or sent, so nothing depends on it"
)]
fn placeholder() -> &'static [u8; 16] {
    static PLACEHOLDER: OnceLock<[u8; 16]> = OnceLock::new();
    PLACEHOLDER.get_or_init(rand::random)
}

/// What the handler of a message with the reply `T` and the error `E` returns. Implemented for all
/// that handlers return; nothing implements it by hand.
#[diagnostic::on_unimplemented(
    message = "the message that is sent is not answered with `{Self}`",
    label = "not what the handler of that message returns",
    note = "write `Outcome<u64>` for a handler that returns `u64`, and `Outcome<Result<u64, Refused>>` \
            for one that returns `Result<u64, Refused>`"
)]
pub trait AnswerOf<T, E> {}

impl<T> AnswerOf<T, std::convert::Infallible> for T {}

impl<T, E> AnswerOf<T, E> for Result<T, E> {}

/// Why a send cannot be part of a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsendable {
    #[error("a message that is sent cannot be encoded: {0}")]
    Encode(String),
    #[error("a message cannot be sent to `{id}`: {reason}")]
    Id {
        id: EntityId,
        reason: crate::id::InvalidId,
    },
    #[error(
        "the message `{0}` that tells of the outcome has no `Outcome` in it, or several: put the \
         one that the closure is given into one of its arguments"
    )]
    NoOutcome(String),
    #[error(
        "the message `{message}` that tells of an outcome has {bytes} bytes, and may have {ANSWER_BYTES_MAX}"
    )]
    TooLong { message: String, bytes: usize },
}

impl From<EncodeError> for Unsendable {
    fn from(EncodeError(reason): EncodeError) -> Self {
        Self::Encode(reason)
    }
}

/// The message that tells its sender of the outcome.
pub(crate) fn answer_form<M: Message, R>(
    tell: impl FnOnce(Outcome<R>) -> M,
) -> Result<AnswerForm, Unsendable> {
    let message = tell(Outcome(OutcomeState::Pending));
    let name = message.name().to_owned();
    let mut bytes = Vec::new();
    message.encode(&mut bytes)?;
    let mut value = Vec::new();
    codec::encode(&SerdeBytes::new(placeholder()), &mut value)?;
    let mut places = bytes.windows(value.len()).enumerate();
    let mut places = places.by_ref().filter(|(_, window)| *window == value);
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        return Err(Unsendable::NoOutcome(name));
    };
    if bytes.len() > ANSWER_BYTES_MAX {
        let bytes = bytes.len();
        return Err(Unsendable::TooLong {
            message: name,
            bytes,
        });
    }
    Ok(AnswerForm {
        before: ByteBuf::from(&bytes[..at]),
        after: ByteBuf::from(&bytes[at + value.len()..]),
        message: name,
    })
}

/// The send that tells the sender of another one of its outcome: an encoded reply, or why there is
/// none.
pub(crate) fn answering(
    sender: &WaitingSender,
    outcome: Result<&[u8], String>,
) -> Result<WrittenSend, EncodeError> {
    let WaitingSender { kind, entity, form } = sender;
    let mut bytes = form.before.to_vec();
    match outcome {
        Ok(reply) => {
            // A map of one, as the codec writes a variant with a value. The value is encoded.
            bytes.push(0x81);
            codec::encode("Answered", &mut bytes)?;
            bytes.extend_from_slice(reply);
        }
        Err(reason) => codec::encode(&WireOutcome::<()>::Unanswered(reason), &mut bytes)?,
    }
    bytes.extend_from_slice(&form.after);
    Ok(WrittenSend {
        kind: kind.clone(),
        entity: entity.clone(),
        message: form.message.clone(),
        bytes: bytes.into(),
        answer: None,
        trace: None,
    })
}
