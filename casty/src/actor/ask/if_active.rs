//! Calls of entities that are active, and of no others.

use std::{convert::Infallible, fmt, future::poll_fn, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Entity, Envelope, Rejected,
        ask::{
            call::{Call, NoAnswer, UnderWay, refused, send_later},
            held,
            reply::{Answer, ReplyTo},
            terms::Terms,
        },
    },
    error::{AskError, Failure, TellError},
    trace,
};

impl<A: Entity, T, E> Call<A, T, E> {
    /// The message is for the entity only if it is active, on whichever node: it starts none. For
    /// what matters to an activation alone, such as a setting that each activation reads when it
    /// starts, or the question of who is online.
    ///
    /// ```standalone_crate
    /// use casty::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Session {
    ///     theme: String,
    /// }
    ///
    /// #[entity]
    /// impl Session {
    ///     #[message]
    ///     fn theme(&mut self, theme: String) -> String {
    ///         std::mem::replace(&mut self.theme, theme)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::local("app");
    /// let ann = system.entity::<Session>("ann");
    /// assert_eq!(ann.theme("dark".to_owned()).if_active().await, Ok(None));
    /// ann.theme("light".to_owned()).await?;
    /// let theme = ann.theme("dark".to_owned()).if_active().await?;
    /// assert_eq!(theme.as_deref(), Some("light"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A message that waits for a shard which moves is for the activation that is there
    /// afterwards. A node of a version of casty that does not know this starts the entity.
    pub fn if_active(self) -> IfActive<A, T, E> {
        IfActive(self)
    }
}

/// A call of an entity that is active, and of no other. Made by [`Call::if_active`];
/// [`tell`](Self::tell) it, or `.await` it to ask: the answer is `None` if the entity is not
/// active.
#[must_use = "a call does nothing until it is told (`.tell().await`) or asked (`.await`)"]
pub struct IfActive<A: Actor, T, E = Infallible>(Call<A, T, E>);

impl<A: Entity, T, E> IfActive<A, T, E> {
    /// As [`Call::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// As [`Call::tell`]. A message for an entity that is not active is dropped, and is no dead
    /// letter.
    ///
    /// # Errors
    /// As [`Call::tell`].
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message is not sent.
    pub async fn tell(self) -> Result<(), TellError<A::Message>> {
        tokio::task::coop::consume_budget().await;
        let Call { to, message, .. } = self.0;
        let envelope = Envelope::<A> {
            message,
            reply: nobody_if_active(),
        };
        let sent = match held::offer::<A>(&to, envelope) {
            Err(rejected) if rejected.failure == Failure::Full => {
                send_later::<A>(&to, rejected).await
            }
            sent => sent,
        };
        match sent {
            Ok(())
            | Err(Rejected {
                failure: Failure::NotActive,
                ..
            }) => Ok(()),
            Err(rejected) => Err(refused(rejected)),
        }
    }
}

fn nobody_if_active<R>() -> ReplyTo<R> {
    let mut terms = Terms::if_active();
    terms.trace = trace::here();
    ReplyTo::Nobody.on_terms(Some(terms))
}

impl<A: Entity, T: Send + 'static, E: Send + 'static> IntoFuture for IfActive<A, T, E> {
    type Output = Result<Option<T>, AskError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Call {
            to,
            message,
            timeout,
            spec,
        } = self.0;
        Box::pin(async move {
            let asking = UnderWay::<A>::on_terms(to, message, timeout, Terms::if_active());
            let mut asking = match asking {
                Ok(asking) => asking,
                Err(Failure::NotActive) => return Ok(None),
                Err(failure) => return Err(failure.into()),
            };
            match poll_fn(|cx| asking.poll(cx)).await {
                Ok(Answer::Failed(Failure::NotActive))
                | Err(NoAnswer::Failed(Failure::NotActive)) => Ok(None),
                Ok(answer) => spec.read(asking.runtime(), answer).map(Some),
                Err(failed) => Err(asking.error(failed)),
            }
        })
    }
}

impl<A: Actor, T, E> fmt::Debug for IfActive<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IfActive").field(&self.0).finish()
    }
}
