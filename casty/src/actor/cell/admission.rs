//! How messages get into a cell: at once, after a wait for room, or not at all.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::{
    actor::{
        Actor, Envelope,
        ask::{
            chain::Chain,
            reply::{Delivery, Own, ReplyTo},
        },
        cell::{
            Cell, Inner,
            core::{Phase, RefusalReason},
            mailbox::Ticket,
            metered,
            policy::Overflow,
            run,
        },
        tally::Tally,
    },
    error::Failure,
    infra::{
        concurrent::{MutexGuard, lock},
        mutants, panic,
    },
    message::answer::Credit,
    trace::TraceContext,
};

/// Why a cell did not take an envelope.
pub(crate) enum Refusal<A: Actor> {
    /// There is no room.
    Full(Envelope<A>),
    /// The cell has stopped, or is about to. A fresh cell may take its place.
    Closed(Envelope<A>),
    /// The cell takes no messages at present, or not this one.
    Failing(Envelope<A>, Failure),
}

impl RefusalReason {
    fn refuse<A: Actor>(self, envelope: Envelope<A>) -> Refusal<A> {
        match self {
            Self::Closed => Refusal::Closed(envelope),
            Self::Failing(failure) => Refusal::Failing(envelope, *failure),
        }
    }
}

/// An envelope that came over a connection.
pub(crate) struct Arrived<A: Actor> {
    pub(crate) envelope: Envelope<A>,
    /// How much of the sender's window it takes.
    pub(crate) bytes: usize,
    /// Where its frame is in the chunk that was read from the connection.
    pub(crate) at: usize,
}

/// The bookkeeping of an envelope that waits for room in a mailbox.
pub(crate) enum Waiter {
    /// A sender in this process, told when its message is in the queue.
    Teller(oneshot::Sender<()>),
    /// A message that came over a connection. Dropped, the credit lets the other node send more.
    Credit(#[expect(dead_code, reason = "held for its drop")] Option<Credit>),
}

impl Waiter {
    fn admit(self) {
        if let Self::Teller(teller) = self {
            // An error means that the sender stopped waiting, just when its message was queued.
            let _ = teller.send(());
        }
    }
}

/// Their envelopes have found room.
pub(super) fn admit_all(admitted: Vec<Waiter>) {
    admitted.into_iter().for_each(Waiter::admit);
}

impl<A: Actor> Cell<A> {
    /// Queues an envelope, or says why not. Where the type's policy for a full mailbox loses a
    /// message, this one or an older one, the lost message becomes a dead letter.
    pub(crate) fn push(self: &Arc<Self>, envelope: Envelope<A>) -> Result<(), Refusal<A>> {
        let mut inner = match self.admit(&envelope) {
            Ok(inner) => inner,
            Err(reason) => return Err(reason.refuse(envelope)),
        };
        let lost = match inner.mailbox.offer(envelope) {
            Ok(()) => None,
            Err(envelope) => {
                metered::tally(&*self.host, Tally::Full);
                Some(inner.overflow(envelope)?)
            }
        };
        self.schedule(inner);
        if let Some(lost) = lost {
            self.undeliverable(lost, Failure::MailboxFull);
        }
        Ok(())
    }

    /// Queues an envelope that came over a connection. Without room the envelope waits its turn,
    /// and so does the credit that lets the other node send more, unless the type's policy for a
    /// full mailbox says otherwise.
    pub(crate) fn push_credited(
        self: &Arc<Self>,
        envelope: Envelope<A>,
        credit: impl FnOnce() -> Option<Credit>,
    ) -> Result<(), Refusal<A>> {
        if A::POLICY.overflow != Overflow::Wait {
            return self.push(envelope);
        }
        let mut inner = match self.admit(&envelope) {
            Ok(inner) => inner,
            Err(reason) => return Err(reason.refuse(envelope)),
        };
        inner.mailbox.park(envelope, || Waiter::Credit(credit()));
        self.schedule(inner);
        Ok(())
    }

    /// Queues several envelopes that came over a connection, in order, as
    /// [`push_credited`](Self::push_credited) does one. A cell that refuses takes none of them.
    /// They are part of no chain.
    ///
    /// Returns how many bytes of them have found room. The others share one credit, which the last
    /// envelope has.
    pub(crate) fn push_arrived(
        self: &Arc<Self>,
        arrived: &mut Vec<Arrived<A>>,
        credit: impl FnOnce(usize) -> Credit,
    ) -> Result<usize, RefusalReason> {
        let mut inner = self.open()?;
        let (mut placed, mut waiting) = (0, 0);
        let mut credit = Some(credit);
        let mut left = arrived.len();
        for Arrived {
            envelope, bytes, ..
        } in arrived.drain(..)
        {
            left -= 1;
            placed += bytes;
            inner.mailbox.park(envelope, || {
                (placed, waiting) = (placed - bytes, waiting + bytes);
                let credit = credit.take_if(|_| left == 0);
                Waiter::Credit(credit.map(|credit| credit(waiting)))
            });
        }
        self.schedule(inner);
        Ok(placed)
    }

    /// Drops asks that wait for room, if there are many and their connections have ended: a client
    /// that floods one connection after another would fill the memory with them. Their askers know
    /// already that the outcome is unknown.
    #[cold]
    pub(crate) fn drop_orphans(&self) {
        let is_orphan = |envelope: &Envelope<A>| envelope.reply.is_orphaned();
        let orphans = lock(&self.inner).mailbox.purge(is_orphan);
        // Outside of the lock: what they hold is a user's.
        if !orphans.is_empty() {
            panic::contained("a message of a connection that has ended", || drop(orphans));
        }
    }

    /// Queues an envelope as soon as there is room.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the envelope is withdrawn.
    pub(crate) async fn push_wait(
        self: &Arc<Self>,
        envelope: Envelope<A>,
    ) -> Result<(), Refusal<A>> {
        let (admitted, mut admission) = oneshot::channel();
        let parking = {
            let mut inner = match self.admit(&envelope) {
                Ok(inner) => inner,
                Err(reason) => return Err(reason.refuse(envelope)),
            };
            let ticket = inner.mailbox.park(envelope, || Waiter::Teller(admitted));
            self.schedule(inner);
            match ticket {
                Some(ticket) => Parking { cell: self, ticket },
                None => return Ok(()),
            }
        };
        // An error would mean that the cell dropped the waiter unadmitted, which it never does.
        let _ = (&mut admission).await;
        std::mem::forget(parking);
        Ok(())
    }

    /// Queues what an activation sends itself, as soon as there is room. Resolves when the message
    /// was handled, or will never be.
    pub(crate) async fn push_own(
        self: &Arc<Self>,
        message: A::Message,
        activation: u32,
        is_work: bool,
        cause: Option<TraceContext>,
        delivery: &Arc<Delivery>,
    ) {
        let reply = ReplyTo::Own(Own::new(activation, is_work, cause, delivery));
        // Refused, the message is dealt with as well.
        drop(self.push_wait(Envelope { message, reply }).await);
        delivery.is_over().await;
    }

    /// Whether the cell takes this envelope, room aside. By reference: envelopes may be large.
    #[expect(
        clippy::inline_always,
        reason = "each sender's way in; a call costs a tenth of a tell"
    )]
    #[inline(always)]
    fn admit(
        self: &Arc<Self>,
        envelope: &Envelope<A>,
    ) -> Result<MutexGuard<'_, Inner<A>>, RefusalReason> {
        if let Some(chain) = envelope.reply.chain() {
            self.closes_no_circle(chain)?;
        }
        self.open()
    }

    /// Whether the cell takes envelopes at all.
    #[expect(
        clippy::inline_always,
        reason = "each sender's way in; a call costs a tenth of a tell"
    )]
    #[inline(always)]
    fn open(&self) -> Result<MutexGuard<'_, Inner<A>>, RefusalReason> {
        let inner = lock(&self.inner);
        match inner.status.refusal() {
            None => Ok(inner),
            Some(reason) => Err(reason),
        }
    }

    #[cold]
    fn closes_no_circle(self: &Arc<Self>, chain: &Chain) -> Result<(), RefusalReason> {
        match chain.closed_by(self.key(), || self.path()) {
            Some(chain) => Err(RefusalReason::Failing(Box::new(Failure::Deadlock {
                chain,
            }))),
            None => Ok(()),
        }
    }

    /// Has the run look at what was queued, and begins one if there is none.
    #[inline]
    pub(super) fn schedule(self: &Arc<Self>, inner: MutexGuard<'_, Inner<A>>) {
        // In a burst the run is at work, and looks by itself.
        if inner.status.phase != Phase::Running {
            self.rouse(inner);
        }
    }

    fn rouse(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<A>>) {
        let status = &mut inner.status;
        match status.phase {
            Phase::Waiting => {
                status.phase = Phase::Running;
                // By reference, under the lock: the run wants its waker back, and to clone it costs
                // more than to queue a task.
                if let Some(waker) = &status.waker
                    && !mutants::on("a_message_wakes_no_waiting_run")
                {
                    waker.wake_by_ref();
                }
            }
            Phase::Idle => {
                status.phase = Phase::Running;
                let lingering = &self.runtime().warm;
                let stays = status.recent.record(lingering.round());
                drop(inner);
                if stays {
                    // The run keeps its task for long. A task of its own is a little quicker than a
                    // pooled task, which has to fit other cells as well.
                    let cell: Weak<Self> = Arc::downgrade(self);
                    lingering.add(cell);
                    self.runtime()
                        .spawn(Box::pin(run::run(self.clone(), run::WhenEmpty::Wait)));
                } else {
                    self.runtime().runners.run(self.clone());
                }
            }
            Phase::Resting | Phase::Settling => status.interrupt(),
            Phase::Running | Phase::Paused | Phase::Closed => {}
        }
    }

    /// Says what became of an envelope that will not be handled. Its message may panic when it is
    /// dropped, which must not keep others from hearing of theirs.
    pub(crate) fn undeliverable(&self, envelope: Envelope<A>, failure: Failure) {
        panic::contained("a message", || {
            envelope.undelivered(self.runtime(), &|| self.path(), failure);
        });
    }
}

impl<A: Actor> Inner<A> {
    /// Does with an envelope that finds the mailbox full what the type's policy says. Returns the
    /// message that is lost, if the policy loses one.
    fn overflow(&mut self, envelope: Envelope<A>) -> Result<Envelope<A>, Refusal<A>> {
        match A::POLICY.overflow {
            Overflow::Wait => Err(Refusal::Full(envelope)),
            Overflow::Reject => Err(Refusal::Failing(envelope, Failure::MailboxFull)),
            Overflow::DropNewest => Ok(envelope),
            Overflow::DropOldest => Ok(self.mailbox.replace_oldest(envelope)),
        }
    }
}

/// A parked envelope. Dropped before the envelope is admitted, it leaves the mailbox.
struct Parking<'a, A: Actor> {
    cell: &'a Arc<Cell<A>>,
    ticket: Ticket,
}

impl<A: Actor> Drop for Parking<'_, A> {
    fn drop(&mut self) {
        let withdrawn = lock(&self.cell.inner).mailbox.withdraw(self.ticket);
        drop(withdrawn);
    }
}
