//! The part of the task that has all copies of a shard tidied.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    message::{StoreMessage, Tidy},
    one_shard::OneShard,
    tidies::{self, Differing, Tidies, TidiesRead, TidyAnswer, Why},
};
use crate::{id::Epoch, persistence::local::unavailable, protocol::copies::StoreId};

/// A read of what is tidied.
pub(super) type ReadTidies = BoxFuture<'static, TidiesRead>;

impl OneShard<'_> {
    /// What this node does with what is stored of its own entity. Returns what is to be answered
    /// once it is written here.
    pub(super) fn handle_tidy(
        &mut self,
        epoch: Epoch,
        tidy: Tidy,
        answer: TidyAnswer,
        now: Instant,
    ) -> Option<TidyAnswer> {
        let copy = &self.shard.copy;
        if copy.owns() != Some(epoch) || !copy.is_complete() {
            // Under an epoch other than that of the claim nothing changes.
            let _ = answer.send(Ok(()));
            return None;
        }
        if let (Some(view), Some(durable)) = (&self.shard.view, copy.durable()) {
            // A copy that is being made may have what is concerned already. It is compared later.
            let coming: Vec<_> = view.wanted.difference(&view.in_sync).copied().collect();
            for to in coming {
                let message = StoreMessage::Tidy {
                    epoch,
                    durable,
                    number: 0,
                    tidy: tidy.clone(),
                };
                self.say(to, message);
            }
        }
        let is_erasure = matches!(tidy, Tidy::Erase { .. });
        let (told, mut answer) = (tidy.clone(), Some(answer));
        let number = self.with_tidies(epoch, |tidies| {
            let number = tidies.add(told, now)?;
            if let Some(answer) = answer.take_if(|_| is_erasure) {
                tidies.answer(number, answer, now);
            }
            Some(number)
        });
        let Some(number) = number.flatten() else {
            let reason = "too many erasures wait for copies of the shard";
            if let Some(answer) = answer {
                let _ = answer.send(Err(unavailable(reason)));
            }
            return None;
        };
        let id = self.shard.id;
        self.written.tidy(id, epoch, tidy);
        if is_erasure {
            self.written.erased.push((id, epoch, number));
        }
        answer
    }

    /// What another store says of what is tidied. Returns what is to be read therefore.
    pub(super) fn handle_tidy_message(
        &mut self,
        from: StoreId,
        message: StoreMessage,
        now: Instant,
    ) -> Option<ReadTidies> {
        let id = self.shard.id;
        let copy = &self.shard.copy;
        let owns = |epoch| copy.owns() == Some(epoch) && copy.is_complete();
        match message {
            StoreMessage::Tidy {
                epoch,
                durable,
                number,
                tidy,
            } => {
                if copy.has_durable(epoch, durable) {
                    let answer = StoreMessage::Tidied { epoch, number };
                    let envelope = self.envelope(from, answer);
                    self.written.tidy_for(id, epoch, tidy, envelope);
                }
            }
            StoreMessage::Tidied { epoch, number } => {
                self.with_tidies(epoch, |tidies| tidies.handle_done(from, number, now));
            }
            StoreMessage::List {
                epoch,
                durable,
                sum,
                after,
            } => {
                if !copy.has_durable(epoch, durable) {
                    return None;
                }
                let reader = self.directory.engine.reader();
                let answer = if after.is_none() && reader.tidied(id) == sum {
                    StoreMessage::Same { epoch }
                } else {
                    let (entities, is_last) = tidies::list(reader, id, after.as_deref());
                    StoreMessage::Listed {
                        epoch,
                        after,
                        entities,
                        is_last,
                    }
                };
                self.say(from, answer);
            }
            StoreMessage::Same { epoch } => {
                self.with_tidies(epoch, |tidies| tidies.handle_same(from));
            }
            StoreMessage::Listed {
                epoch,
                after,
                entities,
                is_last,
            } => {
                let directory = self.directory.clone();
                let own = (directory.engine.reader(), id);
                let page = (entities, is_last);
                let listed =
                    |tidies: &mut Tidies| tidies.handle_listed(from, after.as_ref(), page, own);
                let differing = self.with_tidies(epoch, listed).flatten()?;
                return Some(self.mend(epoch, from, differing));
            }
            StoreMessage::Fetch {
                epoch,
                durable,
                entities,
            } => {
                if copy.has_durable(epoch, durable) {
                    return Some(self.read_tidies(epoch, from, entities, Why::Fetched));
                }
            }
            StoreMessage::Fetched { epoch, tidies } if owns(epoch) => {
                for tidy in tidies {
                    self.written.tidy_copy(id, epoch, tidy);
                }
            }
            StoreMessage::Copy(_)
            | StoreMessage::Unneeded { .. }
            | StoreMessage::Spared { .. }
            | StoreMessage::Damaged { .. }
            | StoreMessage::Fetched { .. } => {}
        }
        None
    }

    /// Each of the two does what the other one has done.
    fn mend(&mut self, epoch: Epoch, to: StoreId, differing: Differing) -> ReadTidies {
        let Differing { mend, fetch, next } = differing;
        if let Some(durable) = self.shard.copy.durable()
            && !fetch.is_empty()
        {
            let log = &self.shard.log;
            tracing::debug!(%log, %to, ?fetch, "a copy has tidied more than its owner");
            let entities = fetch;
            let message = StoreMessage::Fetch {
                epoch,
                durable,
                entities,
            };
            self.say(to, message);
        }
        self.read_tidies(epoch, to, mend, Why::Mends(next))
    }

    fn read_tidies(
        &self,
        epoch: Epoch,
        to: StoreId,
        entities: Vec<Arc<str>>,
        why: Why,
    ) -> ReadTidies {
        let (directory, id) = (self.directory.clone(), self.shard.id);
        Box::pin(async move {
            TidiesRead {
                id,
                epoch,
                to,
                why,
                read: tidies::read(directory, id, entities).await,
            }
        })
    }

    /// What was to be read. An error was told of, and nothing was read.
    pub(super) fn handle_tidies_read(
        &mut self,
        (epoch, to, why): (Epoch, StoreId, Why),
        (tidies, stopped): (Vec<Tidy>, Option<Arc<str>>),
        now: Instant,
    ) {
        match why {
            Why::Mends(next) => {
                let next = stopped.or(next);
                self.with_tidies(epoch, |own| own.handle_mended(to, tidies, next, now));
            }
            Why::Fetched => {
                if !tidies.is_empty() {
                    self.say(to, StoreMessage::Fetched { epoch, tidies });
                }
            }
        }
    }

    pub(super) fn handle_tidies_time(&mut self, now: Instant) {
        let outlet = self.outlet;
        if let Some(epoch) = self.shard.tidies.as_ref().map(Tidies::epoch) {
            self.with_tidies(epoch, |tidies| {
                tidies.handle_time(now, |store| outlet.node_of(store));
            });
        }
    }

    /// Tells the tidying of a shard which copies there are. It begins once the takeover is
    /// complete.
    pub(super) fn tell_tidies(&mut self, now: Instant) {
        let me = self.me;
        let (Some(epoch), Some(view)) = (self.shard.copy.owns(), self.shard.view.clone()) else {
            return;
        };
        if self.shard.tidies.is_none() && self.shard.copy.is_complete() {
            self.shard.tidies = Some(Tidies::new(epoch));
        }
        if view.epoch == epoch {
            self.with_tidies(epoch, |tidies| tidies.handle_view(me, &view, now));
        }
    }

    /// Gives an input to the tidying of a shard that this store owns under an epoch, and sends what
    /// follows.
    pub(super) fn with_tidies<R>(
        &mut self,
        epoch: Epoch,
        input: impl FnOnce(&mut Tidies) -> R,
    ) -> Option<R> {
        let (id, durable) = (self.shard.id, self.shard.copy.durable());
        let tidies = self.shard.tidies.as_mut();
        let tidies = tidies.filter(|it| it.epoch() == epoch)?;
        let answer = input(tidies);
        let messages = tidies.take_messages(durable, (self.directory.engine.reader(), id));
        for (to, message) in messages {
            self.say(to, message);
        }
        Some(answer)
    }
}
