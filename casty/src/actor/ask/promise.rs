//! Replies that come after their handler's end.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::{
    actor::{
        ask::reply::ReplyTo,
        hold::{self, Leave},
    },
    error::Failure,
    infra::{panic, sync::lock},
};

/// Gives a promise the way back to the asker.
#[doc(hidden)]
pub struct Deferred<R>(pub(crate) Box<dyn FnOnce(ReplyTo<R>) + Send>);

/// How a promise ended: with a reply, or without.
type Promised<R> = Result<R, Failure>;

type Continue<R> = Box<dyn FnOnce(Promised<R>) + Send>;

enum Slot<R> {
    /// Neither is the promise kept nor the handler at its end.
    Open,
    /// The handler has ended; the asker waits.
    Awaited(Continue<R>),
    /// Kept, or dropped, before the handler ended.
    Settled(Promised<R>),
    Done,
}

/// The return type of a handler whose reply comes later: from a [`Promise`].
///
/// ```
/// use casty::{prelude::*, reply::{Later, Promise}};
///
/// #[derive(Default)]
/// struct Gate {
///     waiting: Vec<Promise<u32>>,
/// }
///
/// #[actor]
/// impl Gate {
///     /// Answered once the gate opens.
///     #[message]
///     fn pass(&mut self) -> Later<u32> {
///         let (promise, later) = Promise::new();
///         self.waiting.push(promise);
///         later
///     }
///
///     #[message]
///     fn open(&mut self, number: u32) {
///         for promise in self.waiting.drain(..) {
///             promise.reply(number);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let system = ActorSystem::local("gate");
/// let gate = system.spawn(Gate::default());
/// let (passed, opened) = tokio::join!(gate.pass().into_future(), gate.open(7).into_future());
/// opened?;
/// assert_eq!(passed?, 7);
/// # Ok(())
/// # }
/// ```
#[must_use = "return it from the handler"]
pub struct Later<R>(Arc<Mutex<Slot<R>>>);

impl<R> Later<R> {
    pub(crate) fn settle(self, then: impl FnOnce(Promised<R>) + Send + 'static) {
        let mut slot = lock(&self.0);
        match std::mem::replace(&mut *slot, Slot::Done) {
            Slot::Open => *slot = Slot::Awaited(Box::new(then)),
            Slot::Settled(value) => {
                drop(slot);
                then(value);
            }
            Slot::Awaited(_) | Slot::Done => {}
        }
    }
}

impl<R> fmt::Debug for Later<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

/// The duty to reply to one message. A later handler of the actor may hold it, or a task of its
/// own.
///
/// Dropped without a reply, it fails the ask with [`AskError::Stopped`](crate::AskError::Stopped).
pub struct Promise<R> {
    slot: Option<Arc<Mutex<Slot<R>>>>,
    /// [`keep`], named where `R` is known to be `Send`: a type that holds a promise need not say
    /// it.
    keep: fn(Arc<Mutex<Slot<R>>>, Promised<R>),
}

impl<R: Send + 'static> Promise<R> {
    /// A promise, and what the handler returns in place of the reply.
    pub fn new() -> (Self, Later<R>) {
        let slot = Arc::new(Mutex::new(Slot::Open));
        let promise = Self {
            slot: Some(slot.clone()),
            keep,
        };
        (promise, Later(slot))
    }
}

impl<R> Promise<R> {
    /// Replies.
    pub fn reply(mut self, reply: R) {
        if let Some(slot) = self.slot.take() {
            (self.keep)(slot, Ok(reply));
        }
    }
}

fn keep<R: Send + 'static>(slot: Arc<Mutex<Slot<R>>>, kept: Promised<R>) {
    if hold::is_on() {
        hold::hold(Box::new(Keeping { slot, kept }));
    } else {
        settle(&slot, kept);
    }
}

/// A promise that a handler of a stored entity has kept.
struct Keeping<R> {
    slot: Arc<Mutex<Slot<R>>>,
    kept: Promised<R>,
}

impl<R: Send> Leave for Keeping<R> {
    fn leave(self: Box<Self>) {
        settle(&self.slot, self.kept);
    }

    fn lose(self: Box<Self>, why: &Failure) {
        let Self { slot, kept } = *self;
        settle(&slot, Err(why.clone()));
        panic::contained("a reply", || drop(kept));
    }
}

fn settle<R>(slot: &Mutex<Slot<R>>, kept: Promised<R>) {
    let mut slot = lock(slot);
    match std::mem::replace(&mut *slot, Slot::Done) {
        Slot::Open => *slot = Slot::Settled(kept),
        Slot::Awaited(then) => {
            drop(slot);
            then(kept);
        }
        Slot::Settled(_) | Slot::Done => {}
    }
}

impl<R> Drop for Promise<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            (self.keep)(slot, Err(Failure::Stopped));
        }
    }
}

impl<R> fmt::Debug for Promise<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Promise")
    }
}
