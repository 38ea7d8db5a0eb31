//! What the map knows of the copies of a shard, and when it changes.
//!
//! Each rule is tested when a command is *applied*: what held when it was proposed may hold no
//! more.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::StoreId;
use crate::{
    id::Epoch,
    infra::mutants,
    protocol::map::{ShardHome, Slot},
};

/// The stores that have all that was ever let out of a shard, and a version of that set. Never
/// empty: see the floor of [`drop_copy`](StoredHome::drop_copy).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InSync {
    stores: BTreeSet<StoreId>,
    version: u64,
}

/// One store comes or goes: compare-and-set on the epoch *and* the version of the set (M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetChange {
    pub(crate) epoch: Epoch,
    pub(crate) set_version: u64,
    pub(crate) store: StoreId,
}

/// Why a shard's home or its copies stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetRefused {
    #[error("the shard's owner or its copies have changed meanwhile")]
    Stale,
    #[error("store {0} is not in sync")]
    NotInSync(StoreId),
    #[error("store {0} is the owner's own")]
    OwnersStore(StoreId),
    #[error("fewer than {copies_min} stores would be in sync")]
    TooFew { copies_min: usize },
}

/// How many stores must have what is let out, where the shard is to have `copies`: fewer copies
/// than the setting asks for cannot be waited for, and one is always needed.
pub(crate) fn effective_min(copies_min: usize, copies: usize) -> usize {
    copies_min.min(copies).max(1)
}

/// A shard of a stored type in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredHome {
    pub(crate) home: ShardHome,
    pub(crate) in_sync: InSync,
}

impl StoredHome {
    /// M1: a new owner, in place of none or of one that is Down. `store`: the store that the
    /// process has. `next`: the next epoch.
    pub(crate) fn assign(
        &mut self,
        expected: Epoch,
        is_down: impl Fn(Slot) -> bool,
        to: Slot,
        store: StoreId,
        next: Epoch,
    ) -> Result<(), SetRefused> {
        if self.home.epoch != expected || !self.home.owner.is_none_or(is_down) {
            return Err(SetRefused::Stale);
        }
        if !self.in_sync.has(store)
            && !mutants::on("assignments_are_checked_when_proposed")
            && !mutants::on("owners_come_from_outside")
        {
            return Err(SetRefused::NotInSync(store));
        }
        self.home = ShardHome {
            owner: Some(to),
            epoch: next,
            moving: None,
        };
        Ok(())
    }

    /// M1: the owner of an epoch has stopped. The shard's new home is where it was to move, if
    /// that process can own it and its store is in sync; else nobody has it.
    pub(crate) fn release(
        &mut self,
        by: Slot,
        expected: Epoch,
        store_of: impl Fn(Slot) -> Option<StoreId>,
        next: Epoch,
    ) -> Result<(), SetRefused> {
        self.check_owner(by, expected)?;
        let in_sync = |slot: &Slot| {
            let store = store_of(*slot);
            store.is_some_and(|store| {
                self.in_sync.has(store) || mutants::on("a_release_goes_outside")
            })
        };
        let target = self.home.moving.filter(in_sync);
        self.home = ShardHome {
            owner: target,
            epoch: if target.is_some() { next } else { expected },
            moving: None,
        };
        Ok(())
    }

    /// The owner goes on, under a new epoch: with a whole takeover.
    pub(crate) fn keep(
        &mut self,
        by: Slot,
        expected: Epoch,
        next: Epoch,
    ) -> Result<(), SetRefused> {
        self.check_owner(by, expected)?;
        (self.home.epoch, self.home.moving) = (next, None);
        Ok(())
    }

    /// M2 and M3: the owner, or the leader for a store whose process is Down, gives a copy up.
    /// `owners_store`: the store of the owner, if the owner proposes it. `copies_min`: see
    /// [`effective_min`].
    pub(crate) fn drop_copy(
        &mut self,
        change: SetChange,
        owners_store: Option<StoreId>,
        copies_min: usize,
    ) -> Result<(), SetRefused> {
        self.check_change(change)?;
        let store = change.store;
        if owners_store == Some(store) {
            return Err(SetRefused::OwnersStore(store));
        }
        if !self.in_sync.has(store) {
            return Err(SetRefused::NotInSync(store));
        }
        let floor = if mutants::on("drops_go_on_down_to_one") {
            1
        } else {
            copies_min.max(1)
        };
        if self.in_sync.stores.len() <= floor {
            return Err(SetRefused::TooFew { copies_min });
        }
        self.in_sync.stores.remove(&store);
        self.in_sync.version += 1;
        Ok(())
    }

    /// M2 and M3: the owner adds a copy. Whatever else may be wrong with the store, the version
    /// rises if the command fits: the owner requires the store until then.
    pub(crate) fn add_copy(&mut self, change: SetChange) -> Result<(), SetRefused> {
        self.check_change(change)?;
        self.in_sync.stores.insert(change.store);
        self.in_sync.version += 1;
        Ok(())
    }

    fn check_owner(&self, by: Slot, expected: Epoch) -> Result<(), SetRefused> {
        if self.home.owner == Some(by) && self.home.epoch == expected {
            Ok(())
        } else {
            Err(SetRefused::Stale)
        }
    }

    fn check_change(&self, change: SetChange) -> Result<(), SetRefused> {
        let epoch_fits = change.epoch == self.home.epoch;
        let version_fits = change.set_version == self.in_sync.version;
        if (epoch_fits || mutants::on("copies_change_in_any_epoch"))
            && (version_fits || mutants::on("copies_change_in_any_version"))
        {
            Ok(())
        } else {
            Err(SetRefused::Stale)
        }
    }
}

impl InSync {
    /// The first copies of a shard whose log is empty. `None` without any.
    pub(crate) fn first(stores: BTreeSet<StoreId>) -> Option<Self> {
        let version = 0;
        (!stores.is_empty()).then_some(Self { stores, version })
    }

    pub(crate) fn has(&self, store: StoreId) -> bool {
        self.stores.contains(&store)
    }

    pub(crate) fn stores(&self) -> &BTreeSet<StoreId> {
        &self.stores
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn store(number: u128) -> StoreId {
        StoreId(Uuid::from_u128(number))
    }

    /// Owned by slot 1 at epoch 5, with stores 1, 2 and 3 in sync.
    fn home() -> StoredHome {
        StoredHome {
            home: ShardHome {
                owner: Some(Slot(1)),
                epoch: Epoch(5),
                moving: None,
            },
            in_sync: InSync::first([1, 2, 3].map(store).into()).expect("copies"),
        }
    }

    fn change(epoch: u64, set_version: u64, number: u128) -> SetChange {
        SetChange {
            epoch: Epoch(epoch),
            set_version,
            store: store(number),
        }
    }

    #[test]
    fn an_assignment_needs_the_epoch_a_free_shard_and_a_store_in_sync() {
        let assign = |home: &mut StoredHome, expected, is_down, number| {
            let down = |_| is_down;
            home.assign(Epoch(expected), down, Slot(7), store(number), Epoch(6))
        };
        assert_eq!(assign(&mut home(), 5, false, 2), Err(SetRefused::Stale));
        assert_eq!(assign(&mut home(), 4, true, 2), Err(SetRefused::Stale));
        let outside = Err(SetRefused::NotInSync(store(4)));
        assert_eq!(assign(&mut home(), 5, true, 4), outside);
        let mut assigned = home();
        assert_eq!(assign(&mut assigned, 5, true, 2), Ok(()));
        assert_eq!(assigned.home.owner, Some(Slot(7)));
        assert_eq!(assigned.home.epoch, Epoch(6));
        assert_eq!(assigned.in_sync, home().in_sync, "as it was");
    }

    #[test]
    fn a_released_shard_moves_only_into_a_store_in_sync() {
        let store_of = |slot: Slot| Some(store(u128::from(slot.0)));
        for (target, owner, epoch) in [(2, Some(Slot(2)), 6), (4, None, 5)] {
            let mut moving = home();
            moving.home.moving = Some(Slot(target));
            let released = moving.release(Slot(1), Epoch(5), store_of, Epoch(6));
            assert_eq!(released, Ok(()));
            let after = (moving.home.owner, moving.home.epoch);
            assert_eq!(after, (owner, Epoch(epoch)));
        }
        let other = home().release(Slot(2), Epoch(5), store_of, Epoch(6));
        assert_eq!(other, Err(SetRefused::Stale));
        assert_eq!(
            home().keep(Slot(1), Epoch(4), Epoch(6)),
            Err(SetRefused::Stale)
        );
        let mut kept = home();
        assert_eq!(kept.keep(Slot(1), Epoch(5), Epoch(6)), Ok(()));
        assert_eq!(
            (kept.home.owner, kept.home.epoch),
            (Some(Slot(1)), Epoch(6))
        );
    }

    #[test]
    fn a_change_of_the_set_needs_epoch_and_version() {
        let mut home = home();
        assert_eq!(home.add_copy(change(4, 0, 4)), Err(SetRefused::Stale));
        assert_eq!(home.add_copy(change(5, 1, 4)), Err(SetRefused::Stale));
        assert_eq!(home.add_copy(change(5, 0, 4)), Ok(()));
        assert!(home.in_sync.has(store(4)));
        let again = home.add_copy(change(5, 0, 4));
        assert_eq!(again, Err(SetRefused::Stale), "a doubled command");
        assert_eq!(home.drop_copy(change(5, 1, 4), None, 2), Ok(()));
        assert_eq!(home.in_sync.version(), 2);
    }

    #[test]
    fn the_set_never_falls_below_the_floor_nor_loses_the_owner_by_its_own_word() {
        let mut home = home();
        let own = home.drop_copy(change(5, 0, 1), Some(store(1)), 2);
        assert_eq!(own, Err(SetRefused::OwnersStore(store(1))));
        assert_eq!(home.drop_copy(change(5, 0, 1), None, 2), Ok(()), "Down");
        let copies_min = 2;
        let refused = home.drop_copy(change(5, 1, 2), None, copies_min);
        assert_eq!(refused, Err(SetRefused::TooFew { copies_min }));
        assert_eq!(home.drop_copy(change(5, 1, 2), None, 0), Ok(()));
        let last = home.drop_copy(change(5, 2, 3), None, 0);
        assert_eq!(last, Err(SetRefused::TooFew { copies_min: 0 }));
        assert!(InSync::first(BTreeSet::new()).is_none());
    }

    #[test]
    fn the_effective_minimum_is_no_more_than_the_copies_and_no_less_than_one() {
        assert_eq!(effective_min(2, 3), 2);
        assert_eq!(effective_min(2, 1), 1);
        assert_eq!(effective_min(0, 3), 1);
    }
}
