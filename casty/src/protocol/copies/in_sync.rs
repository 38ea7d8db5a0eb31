//! What the map knows of the copies of a shard, and when it changes.
//!
//! Each rule is tested when a command is *applied*: what held when it was proposed may hold no
//! more.

use serde::{Deserialize, Serialize};

use super::store::{StoreId, StoreNo};
use crate::{
    id::Epoch,
    infra::mutants,
    protocol::home::{ShardHome, Slot},
};

/// The most stores that a shard has: one more than the most copies, because a new copy comes before
/// an old one goes.
pub(crate) const IN_SYNC_MAX: usize = 8;

/// The stores that have all that was ever let out of a shard, and a version of that set. Empty
/// before the first assignment, when there is nothing, and never again: see the floor of
/// [`drop_copy`](StoredHome::drop_copy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, Vec<StoreNo>)", try_from = "(u64, Vec<StoreNo>)")]
pub(crate) struct InSync {
    version: u64,
    /// In ascending order, without gaps.
    stores: [Option<StoreNo>; IN_SYNC_MAX],
}

/// The life of a shard's log. It ends when all stores in sync are given up, and another begins.
///
/// What was let out in an earlier life is of no concern in a later one, and the log of a store in
/// which it still is proves nothing: so a store that has last taken part in an earlier life clears
/// its log when it meets a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// The last epoch of the life before; zero in the first life. All epochs of this life are
    /// higher.
    pub(crate) after: Epoch,
    /// The store that it begins in clears its log too. Else that log is where the life begins.
    pub(crate) begins_empty: bool,
}

impl Life {
    /// Whether what a store has is of an earlier life, by the epoch that it has promised.
    pub(crate) fn is_after(self, promised: Epoch) -> bool {
        Epoch::ZERO < promised && promised <= self.after
    }
}

/// Where the copies of a shard are, and where one is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PlacesForm", from = "PlacesForm")]
pub(crate) struct CopyPlaces {
    pub(crate) in_sync: InSync,
    /// The store that is to become a copy.
    pub(crate) wanted: Option<StoreNo>,
    pub(crate) life: Life,
}

/// Few shards are ever given up: of the others the map says nothing of it.
type PlacesForm = (InSync, Option<StoreNo>, Option<Life>);

impl From<CopyPlaces> for PlacesForm {
    fn from(places: CopyPlaces) -> Self {
        let life = Some(places.life).filter(|life| *life != Life::default());
        (places.in_sync, places.wanted, life)
    }
}

impl From<PlacesForm> for CopyPlaces {
    fn from((in_sync, wanted, life): PlacesForm) -> Self {
        Self {
            in_sync,
            wanted,
            life: life.unwrap_or_default(),
        }
    }
}

/// One store comes or goes: compare-and-set on the epoch *and* the version of the set (M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetChange<S = StoreId> {
    pub(crate) epoch: Epoch,
    pub(crate) set_version: u64,
    pub(crate) store: S,
}

impl<S> SetChange<S> {
    /// The same change, of a store under another name.
    pub(crate) fn of<T>(self, store: T) -> SetChange<T> {
        SetChange {
            epoch: self.epoch,
            set_version: self.set_version,
            store,
        }
    }
}

/// Why a shard's home or its copies stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum SetRefused {
    #[error("the shard's owner or its copies have changed meanwhile")]
    Stale,
    #[error("store {0} is not in sync")]
    NotInSync(StoreNo),
    #[error("store {0} is the owner's own")]
    OwnersStore(StoreNo),
    #[error("fewer than {copies_min} stores would be in sync")]
    TooFew { copies_min: usize },
    #[error("store {0} is in sync, and is there")]
    StillThere(StoreNo),
    #[error("the shard has an owner")]
    Owned,
    #[error("no store is there in which the log could begin anew")]
    NoBeginning,
}

/// How many stores must have what is let out, where the shard is to have `copies`: fewer copies
/// than the setting asks for cannot be waited for, and one is always needed.
pub(crate) fn effective_min(copies_min: usize, copies: usize) -> usize {
    copies_min.min(copies).max(1)
}

/// A shard of a type that is kept in copies, as the map knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredHome {
    pub(crate) home: ShardHome,
    pub(crate) copies: CopyPlaces,
}

impl StoredHome {
    /// M1: a new owner, in place of none or of one that is Down. `store`: the store that the
    /// process has. `first`: the stores that are in sync if none ever was. `next`: the next epoch.
    pub(crate) fn assign(
        &mut self,
        expected: Epoch,
        is_down: impl Fn(Slot) -> bool,
        (to, store): (Slot, StoreNo),
        first: &[StoreNo],
        next: Epoch,
    ) -> Result<(), SetRefused> {
        if !self.home.is_free(expected, is_down) {
            return Err(SetRefused::Stale);
        }
        let mut in_sync = self.copies.in_sync;
        if in_sync.is_empty() {
            in_sync = InSync::first(first.iter().copied());
        }
        if !in_sync.has(store)
            && !mutants::on("assignments_are_checked_when_proposed")
            && !mutants::on("owners_come_from_outside")
        {
            return Err(SetRefused::NotInSync(store));
        }
        self.copies.in_sync = in_sync;
        self.home = ShardHome::given(to, next);
        Ok(())
    }

    /// M1: the owner of an epoch has stopped. The shard's new home is where it was to move, if
    /// that process can own it and its store is in sync; else nobody has it.
    pub(crate) fn release(
        &mut self,
        by: Slot,
        expected: Epoch,
        store_of: impl Fn(Slot) -> Option<StoreNo>,
        next: Epoch,
    ) -> Result<(), SetRefused> {
        self.check_owner(by, expected)?;
        let in_sync = |slot: &Slot| {
            let store = store_of(*slot);
            store.is_some_and(|store| {
                self.copies.in_sync.has(store) || mutants::on("a_release_goes_outside")
            })
        };
        let target = self.home.moving.filter(in_sync);
        self.home = self.home.released(target, next);
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
        change: SetChange<StoreNo>,
        owners_store: Option<StoreNo>,
        copies_min: usize,
    ) -> Result<(), SetRefused> {
        self.check_change(&change)?;
        let store = change.store;
        if owners_store == Some(store) {
            return Err(SetRefused::OwnersStore(store));
        }
        if !self.copies.in_sync.has(store) {
            return Err(SetRefused::NotInSync(store));
        }
        let floor = if mutants::on("drops_go_on_down_to_one") {
            1
        } else {
            copies_min.max(1)
        };
        if self.copies.in_sync.count() <= floor {
            return Err(SetRefused::TooFew { copies_min });
        }
        self.copies.in_sync.remove(store);
        Ok(())
    }

    /// M2 and M3: the owner adds a copy. Whatever else may be wrong with the store, the version
    /// rises if the command fits: the owner requires the store until then. `None`: a store that the
    /// map does not know any more.
    pub(crate) fn add_copy(
        &mut self,
        change: SetChange<Option<StoreNo>>,
    ) -> Result<(), SetRefused> {
        self.check_life()?;
        self.check_change(&change)?;
        self.copies.in_sync.insert(change.store);
        if self.copies.wanted == change.store {
            self.copies.wanted = None;
        }
        Ok(())
    }

    /// All stores in sync are given up, and a new life of the log begins: in the stores of `first`,
    /// which clear what they have, or in the one store of it with what that has. `is_there`:
    /// whether a store has a process.
    ///
    /// The epoch stays, and so does an owner that is Down: the shard has a new owner only once the
    /// lease of that one is over (M4), and under a later epoch. What is proposed for the set as it
    /// was does not fit the new one.
    pub(crate) fn begin_anew(
        &mut self,
        (epoch, set_version): (Epoch, u64),
        is_down: impl Fn(Slot) -> bool,
        is_there: impl Fn(StoreNo) -> bool,
        first: &[StoreNo],
        begins_empty: bool,
    ) -> Result<(), SetRefused> {
        let in_sync = self.copies.in_sync;
        if epoch != self.home.epoch || set_version != in_sync.version || in_sync.is_empty() {
            return Err(SetRefused::Stale);
        }
        if self.home.owner.is_some_and(|owner| !is_down(owner)) {
            return Err(SetRefused::Owned);
        }
        let mut stores = in_sync.stores();
        if let Some(store) = stores.find(|store| is_there(*store)) {
            return Err(SetRefused::StillThere(store));
        }
        let there = first.iter().copied().filter(|store| is_there(*store));
        let most = if begins_empty { IN_SYNC_MAX } else { 1 };
        let mut begins = InSync::first(there.take(most));
        if begins.is_empty() {
            return Err(SetRefused::NoBeginning);
        }
        begins.version = set_version + 1;
        self.home.moving = None;
        self.copies = CopyPlaces {
            in_sync: begins,
            wanted: None,
            life: Life {
                after: epoch,
                begins_empty,
            },
        };
        Ok(())
    }

    /// The store that is to become a copy from now on. The owner sends it the log, and lets nothing
    /// rest on it.
    pub(crate) fn want(&mut self, store: Option<StoreNo>) -> Result<(), SetRefused> {
        let is_copy = store.is_some_and(|store| self.copies.in_sync.has(store));
        if self.copies.in_sync.is_empty() || is_copy || self.copies.wanted == store {
            return Err(SetRefused::Stale);
        }
        self.copies.wanted = store;
        Ok(())
    }

    /// What the last owner of a life that was given up has proposed comes too late: with its next
    /// epoch it would be an owner in the present life.
    fn check_life(&self) -> Result<(), SetRefused> {
        let is_over = self.copies.life.is_after(self.home.epoch);
        if is_over && !mutants::on("an_owner_outlives_its_life") {
            Err(SetRefused::Stale)
        } else {
            Ok(())
        }
    }

    fn check_owner(&self, by: Slot, expected: Epoch) -> Result<(), SetRefused> {
        self.check_life()?;
        if self.home.owner == Some(by) && self.home.epoch == expected {
            Ok(())
        } else {
            Err(SetRefused::Stale)
        }
    }

    fn check_change<S>(&self, change: &SetChange<S>) -> Result<(), SetRefused> {
        let epoch_fits = change.epoch == self.home.epoch;
        let version_fits = change.set_version == self.copies.in_sync.version;
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
    /// The first copies of a shard whose log is empty.
    pub(crate) fn first(stores: impl IntoIterator<Item = StoreNo>) -> Self {
        let mut first = Self::default();
        for store in stores {
            first.insert(Some(store));
        }
        first.version = 0;
        first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stores[0].is_none()
    }

    /// How many stores there are.
    pub(crate) fn count(&self) -> usize {
        self.stores().count()
    }

    pub(crate) fn has(&self, store: StoreNo) -> bool {
        self.stores.contains(&Some(store))
    }

    pub(crate) fn stores(&self) -> impl Iterator<Item = StoreNo> {
        self.stores.into_iter().flatten()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A new version, with this store if there is room for one more.
    fn insert(&mut self, store: Option<StoreNo>) {
        self.version += 1;
        let Some(store) = store.filter(|store| !self.has(*store)) else {
            return;
        };
        let count = self.count();
        if let Some(free) = self.stores.get_mut(count) {
            *free = Some(store);
            self.stores[..=count].sort_unstable();
        }
    }

    fn remove(&mut self, store: StoreNo) {
        self.version += 1;
        let before = *self;
        let mut left = before.stores().filter(|other| *other != store);
        self.stores = std::array::from_fn(|_| left.next());
    }
}

impl From<InSync> for (u64, Vec<StoreNo>) {
    fn from(in_sync: InSync) -> Self {
        (in_sync.version, in_sync.stores().collect())
    }
}

/// A set of stores that cannot be one of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard has {0} copies, or the same one twice; the most is {IN_SYNC_MAX}")]
pub(crate) struct NotASet(usize);

impl TryFrom<(u64, Vec<StoreNo>)> for InSync {
    type Error = NotASet;

    fn try_from((version, stores): (u64, Vec<StoreNo>)) -> Result<Self, NotASet> {
        let count = stores.len();
        let in_sync = Self {
            version,
            ..Self::first(stores)
        };
        if in_sync.count() == count {
            Ok(in_sync)
        } else {
            Err(NotASet(count))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::message::codec;

    fn store(number: u16) -> StoreNo {
        StoreNo(NonZeroU16::new(number).expect("a number"))
    }

    /// Owned by slot 1 at epoch 5, with stores 1, 2 and 3 in sync.
    fn home() -> StoredHome {
        StoredHome {
            home: ShardHome {
                owner: Some(Slot(1)),
                epoch: Epoch(5),
                moving: None,
            },
            copies: CopyPlaces {
                in_sync: InSync::first([1, 2, 3].map(store)),
                wanted: None,
                life: Life::default(),
            },
        }
    }

    fn change(epoch: u64, set_version: u64, number: u16) -> SetChange<StoreNo> {
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
            home.assign(
                Epoch(expected),
                down,
                (Slot(7), store(number)),
                &[],
                Epoch(6),
            )
        };
        assert_eq!(assign(&mut home(), 5, false, 2), Err(SetRefused::Stale));
        assert_eq!(assign(&mut home(), 4, true, 2), Err(SetRefused::Stale));
        let outside = Err(SetRefused::NotInSync(store(4)));
        assert_eq!(assign(&mut home(), 5, true, 4), outside);
        let mut assigned = home();
        assert_eq!(assign(&mut assigned, 5, true, 2), Ok(()));
        assert_eq!(assigned.home.owner, Some(Slot(7)));
        assert_eq!(assigned.home.epoch, Epoch(6));
        assert_eq!(assigned.copies, home().copies, "as it was");
    }

    #[test]
    fn a_released_shard_moves_only_into_a_store_in_sync() {
        let store_of = |slot: Slot| Some(store(u16::try_from(slot.0).expect("small")));
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
        let add = |epoch, version, number| {
            let change = change(epoch, version, number);
            change.of(Some(change.store))
        };
        assert_eq!(home.add_copy(add(4, 0, 4)), Err(SetRefused::Stale));
        assert_eq!(home.add_copy(add(5, 1, 4)), Err(SetRefused::Stale));
        assert_eq!(home.add_copy(add(5, 0, 4)), Ok(()));
        assert!(home.copies.in_sync.has(store(4)));
        let again = home.add_copy(add(5, 0, 4));
        assert_eq!(again, Err(SetRefused::Stale), "a doubled command");
        assert_eq!(home.drop_copy(change(5, 1, 4), None, 2), Ok(()));
        assert_eq!(home.copies.in_sync.version(), 2);
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
    }

    #[test]
    fn the_effective_minimum_is_no_more_than_the_copies_and_no_less_than_one() {
        assert_eq!(effective_min(2, 3), 2);
        assert_eq!(effective_min(2, 1), 1);
        assert_eq!(effective_min(0, 3), 1);
    }

    #[test]
    fn the_first_assignment_brings_the_copies_the_owners_among_them_and_no_later_one_does() {
        let mut new = StoredHome {
            home: ShardHome::default(),
            copies: CopyPlaces::default(),
        };
        let to = (Slot(7), store(2));
        let first = |home: &mut StoredHome, stores: &[StoreNo]| {
            let (expected, next) = (home.home.epoch, Epoch(home.home.epoch.0 + 1));
            home.assign(expected, |_| true, to, stores, next)
        };
        let without = first(&mut new, &[1, 3].map(store));
        assert_eq!(without, Err(SetRefused::NotInSync(store(2))));
        assert!(new.copies.in_sync.is_empty());
        assert_eq!(first(&mut new, &[3, 1, 2].map(store)), Ok(()));
        let stores: Vec<_> = new.copies.in_sync.stores().collect();
        assert_eq!(stores, [1, 2, 3].map(store));
        assert_eq!(first(&mut new, &[2, 4].map(store)), Ok(()));
        assert!(!new.copies.in_sync.has(store(4)), "its log is not empty");
    }

    #[test]
    fn a_set_that_is_full_or_a_store_that_is_unknown_leaves_the_set_and_raises_its_version() {
        let mut home = home();
        for (version, number) in (0..).zip(4..=9) {
            let change = change(5, version, number);
            assert_eq!(home.add_copy(change.of(Some(change.store))), Ok(()));
        }
        assert_eq!(home.copies.in_sync.count(), IN_SYNC_MAX);
        assert!(!home.copies.in_sync.has(store(9)));
        assert_eq!(home.add_copy(change(5, 6, 1).of(None)), Ok(()));
        assert_eq!(home.copies.in_sync.version(), 7);
    }

    #[test]
    fn one_store_is_wanted_until_it_is_a_copy() {
        let mut home = home();
        assert_eq!(home.want(Some(store(3))), Err(SetRefused::Stale));
        assert_eq!(home.want(Some(store(4))), Ok(()));
        assert_eq!(home.want(Some(store(4))), Err(SetRefused::Stale));
        let change = change(5, 0, 4);
        assert_eq!(home.add_copy(change.of(Some(change.store))), Ok(()));
        assert_eq!(home.copies.wanted, None);
    }

    #[test]
    fn a_set_survives_the_wire_in_few_bytes_and_is_read_with_care() {
        let places = CopyPlaces {
            in_sync: InSync {
                version: 300,
                ..home().copies.in_sync
            },
            wanted: Some(store(200)),
            life: Life::default(),
        };
        let bytes = codec::to_vec(&places).expect("it encodes");
        assert!(bytes.len() <= 13, "{} bytes", bytes.len());
        assert_eq!(codec::decode::<CopyPlaces>(&bytes).expect("places"), places);
        let later = CopyPlaces {
            life: Life {
                after: Epoch(7),
                begins_empty: true,
            },
            ..places
        };
        let bytes = codec::to_vec(&later).expect("it encodes");
        assert_eq!(codec::decode::<CopyPlaces>(&bytes).expect("places"), later);
        for wrong in [vec![store(1), store(1)], (1..10).map(store).collect()] {
            let wrong = ((1_u64, wrong), None::<StoreNo>, None::<Life>);
            let bytes = codec::to_vec(&wrong).expect("it encodes");
            assert!(codec::decode::<CopyPlaces>(&bytes).is_err());
        }
        // 10,240 shards: 480 KiB, next to the 240 KiB of their homes.
        assert_eq!(size_of::<CopyPlaces>(), 48);
    }

    /// Gives the home up at epoch 5. `down`: slots that are Down. `there`: stores with a process.
    fn begin_anew(
        home: &mut StoredHome,
        (epoch, version): (u64, u64),
        down: &[u32],
        there: &[u16],
        (first, begins_empty): (&[u16], bool),
    ) -> Result<(), SetRefused> {
        let first: Vec<StoreNo> = first.iter().copied().map(store).collect();
        home.begin_anew(
            (Epoch(epoch), version),
            |slot| down.contains(&slot.0),
            |store| there.contains(&store.0.get()),
            &first,
            begins_empty,
        )
    }

    #[test]
    fn a_shard_is_given_up_only_if_no_store_in_sync_is_there_and_nobody_owns_it() {
        let mut home = home();
        home.copies.wanted = Some(store(4));
        let kept = (&[4][..], false);
        for version in [(4, 0), (5, 1)] {
            let refused = begin_anew(&mut home, version, &[1], &[4], kept);
            assert_eq!(refused, Err(SetRefused::Stale));
        }
        let owned = begin_anew(&mut home, (5, 0), &[], &[4], kept);
        assert_eq!(owned, Err(SetRefused::Owned));
        for there in 1..=3 {
            let refused = begin_anew(&mut home, (5, 0), &[1], &[there, 4], kept);
            assert_eq!(refused, Err(SetRefused::StillThere(store(there))));
        }
        for empty in [true, false] {
            let nowhere = begin_anew(&mut home, (5, 0), &[1], &[5], (&[4, 6], empty));
            assert_eq!(nowhere, Err(SetRefused::NoBeginning));
        }
        let mut never = StoredHome {
            home: ShardHome::default(),
            copies: CopyPlaces::default(),
        };
        let unused = begin_anew(&mut never, (0, 0), &[], &[4], kept);
        assert_eq!(unused, Err(SetRefused::Stale), "there is nothing to lose");

        let before = home;
        assert_eq!(begin_anew(&mut home, (5, 0), &[1], &[4], kept), Ok(()));
        assert_eq!(home.home, before.home, "its lease may last still");
        let stores: Vec<_> = home.copies.in_sync.stores().collect();
        assert_eq!((stores, home.copies.wanted), (vec![store(4)], None));
        let life = Life {
            after: Epoch(5),
            begins_empty: false,
        };
        assert_eq!(home.copies.life, life);
        // Nothing that was proposed for the set as it was fits this one.
        let late = change(5, 0, 1);
        assert_eq!(
            home.add_copy(late.of(Some(late.store))),
            Err(SetRefused::Stale)
        );
        let again = begin_anew(&mut home, (5, 0), &[1], &[4], kept);
        assert_eq!(again, Err(SetRefused::Stale));
        // Nor does the last owner get an epoch of this life, which only a store in sync has.
        let keep = home.keep(Slot(1), Epoch(5), Epoch(6));
        assert_eq!(keep, Err(SetRefused::Stale));
        let store_of = |_| Some(store(4));
        let release = home.release(Slot(1), Epoch(5), store_of, Epoch(6));
        assert_eq!(release, Err(SetRefused::Stale));
        let add = change(5, 1, 1);
        assert_eq!(
            home.add_copy(add.of(Some(add.store))),
            Err(SetRefused::Stale)
        );
    }

    #[test]
    fn an_empty_life_begins_in_several_stores_and_one_that_keeps_something_in_one() {
        for (empty, expected) in [(true, vec![4, 5]), (false, vec![5])] {
            let mut home = home();
            let first = (&[9, 5, 4][..], empty);
            assert_eq!(begin_anew(&mut home, (5, 0), &[1], &[4, 5], first), Ok(()));
            let stores = home.copies.in_sync.stores().map(|store| store.0.get());
            assert_eq!(stores.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_was_promised_up_to_the_last_epoch_of_a_life_is_of_that_life() {
        let life = |after| Life {
            after: Epoch(after),
            begins_empty: false,
        };
        assert!(!life(0).is_after(Epoch(0)) && !life(0).is_after(Epoch(3)));
        assert!(life(5).is_after(Epoch(5)) && life(5).is_after(Epoch(1)));
        assert!(!life(5).is_after(Epoch(6)));
        assert!(!life(5).is_after(Epoch(0)), "it has nothing");
    }
}
