//! Calls of stored entities with terms: a key, by which they are handled once, or the position of
//! what their answers have seen.

use std::{convert::Infallible, fmt, future::poll_fn, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        Actor, Entity, Message as _,
        ask::{
            call::{Call, CallSpec, UnderWay},
            reply::Answer,
            retry::{AfterTry, Pauses, Retry},
            terms::Terms,
        },
        reference::{EntityRef, Stored},
    },
    error::AskError,
    message::codec::DecodeError,
    persistence::Position,
};

impl<A: Actor, T, E> Call<A, T, E> {
    /// Makes the ask safe to be asked again: the entity handles the asks with one key once, and
    /// gives each of them the same answer. The caller chooses the key, 1 to 255 bytes that name
    /// what is asked for, such as `order-17`, and asks with the same key after an error that leaves
    /// open whether the message was handled.
    ///
    /// Key and answer are stored with what the message has changed, and found again after a restart
    /// and on another node. A message that has changed nothing, such as a refused one, is
    /// not remembered: it is handled again. An entity remembers the answers to its last 64 keys, as
    /// long as they have 64 KiB together; the last one whatever its size. An answer that comes from
    /// a [`Promise`](crate::reply::Promise) is not remembered: asked again, the message is not
    /// handled, and the error is [`AskError::Reply`].
    ///
    /// The error is [`AskError::InvalidKey`] if the key is empty or too long, or was given before
    /// to a message of another name.
    ///
    /// With [`retry_for`](Keyed::retry_for) the ask is repeated by itself, also where its message
    /// may have been handled.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Wallet {
    ///     cents: i64,
    /// }
    ///
    /// #[entity(event_sourced)]
    /// impl Wallet {
    ///     #[message]
    ///     fn pay(&self, cents: i64) -> Effect<Self, i64> {
    ///         Effect::persist(WalletEvent::Paid { cents }).reply(|wallet: &Self| wallet.cents)
    ///     }
    ///
    ///     #[event]
    ///     fn paid(&mut self, cents: i64) {
    ///         self.cents -= cents;
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::builder("shop").journal(Memory::new()).start_local()?;
    /// let wallet = system.entity::<Wallet>("alice");
    /// assert_eq!(wallet.pay(5).key("order-17").await, Ok(-5));
    /// assert_eq!(wallet.pay(5).key("order-17").await, Ok(-5));
    /// assert_eq!(wallet.pay(5).key("order-18").await, Ok(-10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn key(self, key: impl Into<String>) -> Keyed<A, T, E>
    where
        A: Stored,
    {
        Keyed(Asking::of(self, Some(key.into())))
    }

    /// Asks for the position as well: that of the last record that the answer has seen, which is
    /// the record of the message itself if it has changed something. It is stored, like all that an
    /// answer shows. What has read the log up to there, such as a view, has seen what the answer
    /// shows.
    pub fn with_position(self) -> Positioned<A, T, E>
    where
        A: Stored,
    {
        Positioned(Asking::of(self, None))
    }
}

impl<A: Actor, T, E> Retry<A, T, E> {
    /// As [`Call::key`]. The ask is repeated also where its message may have been handled.
    pub fn key(self, key: impl Into<String>) -> Keyed<A, T, E>
    where
        A: Stored,
    {
        let limit = self.limit;
        self.call.key(key).retry_for(limit)
    }
}

/// An ask with terms.
struct Asking<A: Actor, T, E> {
    call: Call<A, T, E>,
    key: Option<String>,
    /// How long it is repeated.
    limit: Option<Duration>,
}

impl<A: Actor, T, E> Asking<A, T, E> {
    fn of(call: Call<A, T, E>, key: Option<String>) -> Self {
        Self {
            call,
            key,
            limit: None,
        }
    }

    fn timeout(mut self, timeout: Duration) -> Self {
        self.call = self.call.timeout(timeout);
        self
    }

    fn retry_for(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("call", &self.call)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// An ask that is handled once, however often it is asked. Made by [`Call::key`].
#[must_use = "a call does nothing until it is asked (`.await`)"]
pub struct Keyed<A: Actor, T, E = Infallible>(Asking<A, T, E>);

impl<A: Actor, T, E> Keyed<A, T, E> {
    /// As [`Call::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Repeats the ask, as [`Call::retry_for`] does, and also where its message may have been
    /// handled: after a timeout, a lost connection, or an unknown outcome of the store.
    pub fn retry_for(self, limit: Duration) -> Self {
        Self(self.0.retry_for(limit))
    }

    /// As [`Call::with_position`].
    pub fn with_position(self) -> Positioned<A, T, E> {
        Positioned(self.0)
    }
}

impl<A: Entity, T: Send + 'static, E: Send + 'static> IntoFuture for Keyed<A, T, E> {
    type Output = Result<T, AskError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answered = ask(self.0, false).await;
            answered.map(|(answer, _)| answer)
        })
    }
}

/// An ask whose answer comes with the position of what it has seen. Made by
/// [`Call::with_position`].
#[must_use = "a call does nothing until it is asked (`.await`)"]
pub struct Positioned<A: Actor, T, E = Infallible>(Asking<A, T, E>);

impl<A: Actor, T, E> Positioned<A, T, E> {
    /// As [`Call::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// As [`Call::key`].
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// As [`Call::retry_for`], or [`Keyed::retry_for`] if there is a key.
    pub fn retry_for(self, limit: Duration) -> Self {
        Self(self.0.retry_for(limit))
    }
}

impl<A: Entity, T: Send + 'static, E: Send + 'static> IntoFuture for Positioned<A, T, E> {
    type Output = Result<(T, Position), AskError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let to = self.0.call.to.clone();
        Box::pin(async move {
            let (answer, position) = ask(self.0, true).await?;
            Ok((answer, place(&to, position)))
        })
    }
}

fn place<A: Entity>(entity: &EntityRef<A>, position: u64) -> Position {
    Position {
        kind: entity.path().kind,
        shard: entity.shard().0,
        position,
    }
}

/// Asks, again and again up to the limit, if there is one.
async fn ask<A: Entity, T, E>(
    asking: Asking<A, T, E>,
    wants_position: bool,
) -> Result<(T, u64), AskError<E>> {
    let Asking { call, key, limit } = asking;
    let terms = Terms::new(key, wants_position);
    terms.check().map_err(AskError::InvalidKey)?;
    let Call {
        to,
        mut message,
        timeout,
        spec,
    } = call;
    let mut pauses = Pauses::new(limit.unwrap_or_default(), Instant::now());
    pauses.is_keyed = terms.key.is_some();
    let mut encoded = Vec::new();
    let can_repeat = limit.is_some() && message.encode(&mut encoded).is_ok();
    loop {
        let tried = ask_once(&to, message, timeout, &spec, &terms).await;
        let kept = can_repeat.then_some(&*encoded);
        match pauses.next::<A, (T, u64), E>(&to, tried, kept) {
            AfterTry::End(end) => return end,
            AfterTry::Again(pause, again) => {
                tokio::time::sleep(pause).await;
                message = again;
            }
        }
    }
}

async fn ask_once<A: Entity, T, E>(
    to: &EntityRef<A>,
    message: A::Message,
    timeout: Option<Duration>,
    spec: &CallSpec<A, T, E>,
    terms: &Terms,
) -> Result<(T, u64), AskError<E>> {
    let mut asking = UnderWay::<A>::on_terms(to.clone(), message, timeout, terms.clone())?;
    let answer = poll_fn(|cx| asking.poll(cx)).await;
    let answer = answer.map_err(|failed| asking.error(failed))?;
    let (position, answer) = if terms.wants_position {
        positioned(answer).map_err(|DecodeError(reason)| AskError::Reply { reason })?
    } else {
        (0, answer)
    };
    let answer = spec.read(asking.runtime(), answer)?;
    Ok((answer, position))
}

/// The position that stands before an answer, and the answer.
fn positioned<R>(answer: Answer<R>) -> Result<(u64, Answer<R>), DecodeError> {
    let Answer::Encoded(bytes) = answer else {
        return Ok((0, answer));
    };
    let (position, reply) = bytes
        .split_first_chunk()
        .ok_or_else(|| DecodeError("the answer comes without its position".to_owned()))?;
    let position = u64::from_le_bytes(*position);
    Ok((position, Answer::Encoded(bytes.slice_ref(reply))))
}

impl<A: Actor, T, E> fmt::Debug for Keyed<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Keyed", f)
    }
}

impl<A: Actor, T, E> fmt::Debug for Positioned<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Positioned", f)
    }
}
