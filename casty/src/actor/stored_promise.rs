//! Replies of stored entities that come after the end of their activation.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};

use crate::{
    actor::{
        Entity,
        ask::promise::{Later, Promise},
        context::{Context, written::CameBy},
        outcome,
        reference::Stored,
    },
    message::{
        codec::{self, EncodeError},
        wire::Wire,
    },
    persistence::sends::WaitingSender,
};

/// The duty to reply to one message, as a value that the state of a stored entity keeps. So it
/// outlives the activation, the node and the cluster: an approval may take a week.
///
/// [`Context::promise`] makes it, and [`Context::keep_promise`], or
/// [`Effect::keep_promise`](crate::Effect::keep_promise), replies. The reply is part of the record
/// of the handler that keeps it.
///
/// It is for messages that stored entities send by
/// [`Effect::send_for`](crate::Effect::send_for) or [`Context::send_for`]: their senders wait as
/// long as it takes, and are told of the outcome once. An asker waits for its timeout, and for this
/// activation: it is answered if the promise is kept before, and else gets an error.
///
/// A promise that the state drops is never kept, and its sender is never told.
///
/// ```standalone_crate
/// use casty::{persistence::Memory, prelude::*, reply::{Later, StoredPromise}, testkit};
///
/// #[message]
/// #[derive(Default)]
/// struct Desk {
///     waiting: Vec<StoredPromise<bool>>,
/// }
///
/// #[entity(durable)]
/// impl Desk {
///     /// Answered once somebody decides.
///     #[message]
///     fn review(&mut self, ctx: &mut Context<Self>) -> Later<bool> {
///         let (promise, later) = ctx.promise();
///         self.waiting.push(promise);
///         later
///     }
///
///     #[message]
///     fn decide(&mut self, yes: bool, ctx: &mut Context<Self>) {
///         for promise in self.waiting.drain(..) {
///             ctx.keep_promise(promise, yes);
///         }
///     }
/// }
///
/// #[message]
/// #[derive(Default)]
/// struct Paper {
///     is_approved: Option<bool>,
/// }
///
/// #[entity(durable)]
/// impl Paper {
///     #[message]
///     fn hand_in(&mut self, desk: DeskRef, ctx: &mut Context<Self>) {
///         ctx.send_for(desk.review(), |outcome| PaperMsg::Reviewed { outcome });
///     }
///
///     #[message]
///     fn reviewed(&mut self, outcome: Outcome<bool>) {
///         self.is_approved = outcome.result().ok();
///     }
///
///     #[message]
///     fn is_approved(&self) -> Option<bool> {
///         self.is_approved
///     }
/// }
///
/// testkit::paused_with(
///     |builder| builder.journal(Memory::new()),
///     |system| async move {
///         let (paper, desk) = (system.entity::<Paper>("p-1"), system.entity::<Desk>("d-1"));
///         paper.hand_in(desk.clone()).await.unwrap();
///         tokio::time::sleep(Duration::from_hours(24 * 7)).await;
///         assert_eq!(paper.is_approved().await, Ok(None));
///         desk.decide(true).await.unwrap();
///         tokio::time::sleep(Duration::from_secs(1)).await;
///         assert_eq!(paper.is_approved().await, Ok(Some(true)));
///     },
/// );
/// ```
#[must_use = "a promise that is dropped is never kept"]
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct StoredPromise<R> {
    to: PromisedTo,
    #[serde(skip)]
    reply: PhantomData<fn(R)>,
}

/// Where the reply goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum PromisedTo {
    /// To a stored entity, as a message of its own.
    Sender(Box<WaitingSender>),
    /// To an asker, by the activation that has made the promise. The number is one of its own.
    Asker(u64),
    /// The sender wants no reply.
    Nobody,
}

/// Of a promise and its clones, one is kept: a sender is told as often as it is kept.
impl<R> Clone for StoredPromise<R> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            reply: PhantomData,
        }
    }
}

impl<R> fmt::Debug for StoredPromise<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPromise")
    }
}

impl<E: Stored> Context<E> {
    /// A promise that the state may keep as long as it takes, and what this handler returns in
    /// place of the reply.
    ///
    /// It is of the message that is handled now, so a handler makes one at most.
    pub fn promise<R: Send + 'static>(&mut self) -> (StoredPromise<R>, Later<R>) {
        let (promise, later) = Promise::new();
        let to = match self.came() {
            CameBy::SentFor(sender) => {
                let sender = sender.clone();
                self.set_promised();
                PromisedTo::Sender(sender)
            }
            CameBy::Sent => PromisedTo::Nobody,
            CameBy::Asked => {
                let number = self.random_number();
                self.promises().insert(number, Box::new(promise));
                PromisedTo::Asker(number)
            }
        };
        let reply = PhantomData;
        (StoredPromise { to, reply }, later)
    }
}

impl<E: Stored> Context<E> {
    /// Replies to the message of which the promise is, whenever that came. The reply to a stored
    /// entity is part of the record of what this handler changes. A handler of an event-sourced
    /// entity keeps a promise by [`Effect::keep_promise`](crate::Effect::keep_promise).
    ///
    /// # Panics
    /// If the reply cannot be encoded.
    #[track_caller]
    pub fn keep_promise<R: Wire>(&mut self, promise: StoredPromise<R>, reply: R) {
        if let Err(EncodeError(reason)) = self.keep(promise, reply) {
            panic!("the reply of a promise cannot be encoded: {reason}");
        }
    }
}

impl<E: Entity> Context<E> {
    pub(crate) fn keep<R: Wire>(
        &mut self,
        promise: StoredPromise<R>,
        reply: R,
    ) -> Result<(), EncodeError> {
        match promise.to {
            PromisedTo::Sender(sender) => {
                let mut bytes = Vec::new();
                codec::encode(&reply, &mut bytes)?;
                self.write_send(outcome::answering(&sender, Ok(&bytes))?);
            }
            PromisedTo::Asker(number) => {
                let promise = self.promises().remove(&number);
                // Another activation has made it: its asker has got an error.
                let promise = promise.and_then(|it| it.downcast::<Promise<R>>().ok());
                if let Some(promise) = promise {
                    promise.reply(reply);
                }
            }
            PromisedTo::Nobody => {}
        }
        Ok(())
    }
}
