//! The part of the task that tells owners of copies that cannot be read.

use std::time::Duration;

use tokio::time::Instant;

use super::{message::StoreMessage, one_shard::OneShard};

/// After so long the owner of a shard is told again that a copy is damaged.
const TELL_AGAIN: Duration = Duration::from_secs(1);

impl OneShard<'_> {
    /// Tells the owner, which is one of the stores in sync, when it is time.
    pub(super) fn tell_damaged(&mut self, now: Instant) {
        let Some(view) = &self.shard.view else { return };
        if self.shard.damaged_again.is_none_or(|again| now < again) {
            return;
        }
        let epoch = view.epoch;
        for to in view.in_sync.clone() {
            self.say(to, StoreMessage::Damaged { epoch });
        }
        self.shard.damaged_again = Some(now + TELL_AGAIN);
    }
}
