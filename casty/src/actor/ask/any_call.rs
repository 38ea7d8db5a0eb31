//! Calls of an entity whose type is not known.

use std::{convert::Infallible, fmt, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Message as _,
        ask::call::{Call, send_later, try_send},
    },
    error::{AskError, TellError},
};

/// What a function of a protocol's reference returns: a message on its way to an entity of any type
/// that speaks the protocol. It is told or asked as a [`Call`].
///
/// It has memory of its own: where the entity's type is known, its own reference is cheaper.
#[must_use = "a call does nothing until it is told (`.tell().await`) or asked (`.await`)"]
pub struct AnyCall<T, E = Infallible>(Box<dyn Erased<T, E>>);

impl<T, E> AnyCall<T, E> {
    #[doc(hidden)]
    pub fn new<A: Actor>(call: Call<A, T, E>) -> Self
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        Self(Box::new(call))
    }

    /// Sends the message and does not wait for an answer; waits for room in the mailbox, not for
    /// the handler. See [`Call::tell`].
    ///
    /// # Errors
    /// [`TellError`]: the message was certainly not sent. It cannot be given back.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message is not sent.
    pub async fn tell(self) -> Result<(), TellError<()>> {
        self.0.tell().await
    }

    /// Asks with a timeout of its own. See [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.set_timeout(timeout);
        self
    }
}

impl<T: 'static, E: 'static> IntoFuture for AnyCall<T, E> {
    type Output = Result<T, AskError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.0.ask()
    }
}

impl<T, E> fmt::Debug for AnyCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyCall({})", self.0.name())
    }
}

/// A call of an actor of some type.
trait Erased<T, E>: Send {
    fn name(&self) -> &'static str;

    fn set_timeout(&mut self, timeout: Duration);

    fn tell(self: Box<Self>) -> BoxFuture<'static, Result<(), TellError<()>>>;

    fn ask(self: Box<Self>) -> BoxFuture<'static, Result<T, AskError<E>>>;
}

impl<A: Actor, T: Send + 'static, E: Send + 'static> Erased<T, E> for Call<A, T, E> {
    fn name(&self) -> &'static str {
        self.message.name()
    }

    fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(timeout);
    }

    fn tell(self: Box<Self>) -> BoxFuture<'static, Result<(), TellError<()>>> {
        Box::pin(async move {
            let Self { to, message, .. } = *self;
            let sent = match try_send::<A>(&to, message) {
                Ok(()) => Ok(()),
                Err(rejected) => send_later::<A>(&to, rejected).await,
            };
            sent.map_err(|rejected| TellError::new((), rejected.failure))
        })
    }

    fn ask(self: Box<Self>) -> BoxFuture<'static, Result<T, AskError<E>>> {
        Box::pin((*self).into_future())
    }
}
