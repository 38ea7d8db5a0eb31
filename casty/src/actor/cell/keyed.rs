//! Asks of stored entities that come with terms: an ask with a key is handled once, however often
//! it is asked.
//!
//! The key and the answer are part of the record of what the message has changed, so they are there
//! again after a failover. A message that has changed nothing, such as a refused one, leaves
//! no record, and is handled again when it is asked again.

use crate::{
    actor::{
        ask::terms::Terms,
        message::{Reply, discard},
    },
    error::{Failure, InvalidKey},
    message::{
        answer::RawAnswer,
        codec::{self, EncodeError},
    },
    persistence::{keys::KeyedReply, writer::Writer},
};

/// The answer to an ask with a key that was asked before. `message`: its name.
pub(super) fn recalled(terms: &Terms, writer: &Writer, message: &str) -> Option<RawAnswer> {
    if let Some(failure) = terms.refusal(message) {
        return Some(RawAnswer::Failed(failure));
    }
    let known = writer.keys().get(terms.key.as_ref()?)?;
    let failure = match &known.reply {
        _ if known.message != message => Failure::InvalidKey(InvalidKey::Taken {
            message: known.message.clone(),
        }),
        Some(reply) => return Some(RawAnswer::Encoded(reply.to_vec().into())),
        None => Failure::Reply {
            reason: "the message was handled when it was first asked with this key; its reply is \
                     not remembered, since it came from a promise, or could not be encoded"
                .to_owned(),
        },
    };
    Some(RawAnswer::Failed(failure))
}

/// What is to be remembered of an ask with a key. `None` for an answer that comes later.
pub(super) fn remembered(key: String, message: &str, answer: Option<&RawAnswer>) -> KeyedReply {
    let reply = match answer {
        Some(RawAnswer::Encoded(bytes)) => Some(bytes.to_vec().into()),
        Some(RawAnswer::Failed(_)) | None => None,
    };
    KeyedReply {
        key,
        message: message.to_owned(),
        reply,
    }
}

/// An answer as it travels.
pub(super) fn encoded<R: Reply>(answer: R) -> RawAnswer {
    let encoded = codec::by_user(&mut |out| answer.encode(out).map(|()| ""));
    discard(answer);
    match encoded {
        Ok((_, bytes)) => RawAnswer::Encoded(bytes.into()),
        Err(EncodeError(reason)) => RawAnswer::Failed(Failure::Reply { reason }),
    }
}
