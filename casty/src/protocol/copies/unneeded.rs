//! When a store gives up what it has of a shard of which it is no copy any more.
//!
//! It may be an operator's last resort, and it may count: a confirmation that is under way can make
//! the store a copy again. So it goes only if the owner says that no confirmation of this store
//! suffices any more, and if all stores in sync say that they are there. All of that is asked for
//! after a pause: a store that is dropped often becomes a copy again, for which what it has is a
//! good beginning.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{CopiesView, StoreId};
use crate::infra::mutants;

/// A copy that is not needed.
#[derive(Debug)]
pub(crate) struct Unneeded {
    pause: Duration,
    /// When the stores in sync are asked next.
    ask_at: Instant,
    /// The number of the present question. An answer to another one proves nothing.
    asked: u64,
    answered: BTreeSet<StoreId>,
    /// The owner is among them.
    has_owner: bool,
}

impl Unneeded {
    /// A version of the map has come to a store that has records of the shard. `None`: they are
    /// needed.
    pub(crate) fn of(
        known: Option<Self>,
        view: &CopiesView,
        me: StoreId,
        pause: Duration,
        now: Instant,
    ) -> Option<Self> {
        if view.is_owner || !view.spares(me) {
            return None;
        }
        Some(known.unwrap_or_else(|| Self {
            pause,
            ask_at: now + pause,
            asked: 0,
            answered: BTreeSet::new(),
            has_owner: false,
        }))
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.ask_at
    }

    /// The owner sends records again: the store is about to become a copy.
    pub(crate) fn handle_append(&mut self, now: Instant) {
        self.ask_at = now + self.pause;
        self.ask_anew();
    }

    /// The number of the question that is to be asked now, if it is time.
    pub(crate) fn handle_time(&mut self, now: Instant) -> Option<u64> {
        if now < self.ask_at {
            return None;
        }
        self.ask_at = now + self.pause;
        self.ask_anew();
        Some(self.asked)
    }

    fn ask_anew(&mut self) {
        self.asked += 1;
        self.answered.clear();
        self.has_owner = false;
    }

    /// A store in sync does without this one. Whether all do.
    pub(crate) fn handle_spared(
        &mut self,
        (from, is_owner): (StoreId, bool),
        asked: u64,
        view: &CopiesView,
    ) -> bool {
        if asked != self.asked {
            return false;
        }
        self.answered.insert(from);
        self.has_owner |= is_owner;
        let have_all = view.in_sync.is_subset(&self.answered)
            || mutants::on("old_copies_go_while_others_are_away");
        self.has_owner && have_all
    }
}
