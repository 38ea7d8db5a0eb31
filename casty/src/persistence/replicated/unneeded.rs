//! The part of the task that gives up what is stored of shards that have their copies elsewhere.

use std::time::Duration;

use tokio::time::Instant;

use super::{message::StoreMessage, one_shard::OneShard};
use crate::{
    id::Epoch,
    protocol::copies::{StoreId, Unneeded},
};

impl OneShard<'_> {
    /// The map has said something of a shard.
    pub(super) fn note_unneeded(&mut self, pause: Duration, now: Instant) {
        let (me, shard) = (self.me, &mut *self.shard);
        let known = shard.unneeded.take();
        let view = shard.view.as_ref().filter(|_| shard.copy.head() > 0);
        shard.unneeded = view.and_then(|view| Unneeded::of(known, view, me, pause, now));
    }

    /// Asks the stores in sync, when it is time.
    pub(super) fn ask_unneeded(&mut self, now: Instant) {
        let asked = self.shard.unneeded.as_mut();
        let asked = asked.and_then(|unneeded| unneeded.handle_time(now));
        let (Some(asked), Some(view)) = (asked, &self.shard.view) else {
            return;
        };
        let epoch = view.epoch;
        let confirmed = self.shard.copy.may_have_confirmed(epoch);
        for to in view.in_sync.clone() {
            let message = StoreMessage::Unneeded {
                epoch,
                confirmed,
                asked,
            };
            self.say(to, message);
        }
    }

    /// Another store asks whether it may give up what it has.
    pub(super) fn handle_unneeded(
        &mut self,
        from: StoreId,
        (epoch, confirmed, asked): (Epoch, Option<u64>, u64),
    ) {
        if self.shard.copy.spares(from, epoch, confirmed) {
            let answer = StoreMessage::Spared {
                epoch,
                by_owner: self.shard.copy.owns() == Some(epoch),
                confirmed,
                asked,
            };
            self.say(from, answer);
        }
    }

    /// A store in sync does without this one. Whether all do, so that what is stored goes.
    pub(super) fn handle_spared(
        &mut self,
        from: (StoreId, bool),
        (epoch, confirmed, asked): (Epoch, Option<u64>, u64),
    ) -> bool {
        let shard = &mut *self.shard;
        let (Some(unneeded), Some(view)) = (&mut shard.unneeded, &shard.view) else {
            return false;
        };
        let is_as_asked = view.epoch == epoch && shard.copy.may_have_confirmed(epoch) == confirmed;
        is_as_asked && unneeded.handle_spared(from, asked, view)
    }
}
