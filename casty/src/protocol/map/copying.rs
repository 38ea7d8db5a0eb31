//! The commands that change where the copies of shards are.
//!
//! Whether a change is possible is decided when it is applied, by the rules of
//! [`StoredHome`](crate::protocol::copies::StoredHome).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{ClusterMap, Command, KindCopies, MapError, Wanted};
use crate::{
    id::{MemberId, ShardId},
    infra::mutants,
    protocol::copies::{
        CopyPlaces, CopyProposal, SetChange, StoreId, StoreNo, StoredHome, effective_min,
    },
};

/// Whether enough copies are left of which a process is there. If not, the leader drops none, not
/// even one of a dead process: whichever process is back first is to find its store in sync.
pub(crate) fn can_be_spared(
    places: &CopyPlaces,
    store: StoreNo,
    min: usize,
    is_there: impl Fn(&StoreNo) -> bool,
) -> bool {
    let others = places.in_sync.stores().filter(|other| *other != store);
    others.filter(is_there).count() >= min.max(1) || mutants::on("the_last_copies_are_dropped")
}

/// The most changes of copies in one command.
pub(crate) const COPY_CHANGES_MAX: usize = 1024;

impl Command {
    /// A member's proposals in as few commands as possible.
    pub(crate) fn of_proposals<K: Into<String>>(
        by: &MemberId,
        proposals: impl IntoIterator<Item = (K, ShardId, CopyProposal)>,
    ) -> Vec<Self> {
        let mut by_kind: BTreeMap<String, Vec<(ShardId, CopyProposal)>> = BTreeMap::new();
        for (kind, shard, proposal) in proposals {
            by_kind
                .entry(kind.into())
                .or_default()
                .push((shard, proposal));
        }
        let mut commands = Vec::new();
        for (kind, changes) in by_kind {
            let parts = changes.chunks(COPY_CHANGES_MAX);
            commands.extend(parts.map(|part| Self::Copies {
                by: Some(by.clone()),
                kind: kind.clone(),
                changes: part.to_vec(),
            }));
        }
        commands
    }
}

impl ClusterMap {
    pub(super) fn kind_copies(&self, kind: &str) -> Result<&KindCopies, MapError> {
        let copies = self.copies.get(kind);
        copies.ok_or_else(|| MapError::UnknownKind(kind.to_owned()))
    }

    pub(super) fn known(&self, store: StoreId) -> Result<StoreNo, MapError> {
        let number = self.number_of(store);
        number.ok_or(MapError::UnknownStore(store))
    }

    /// Copies come and go. `by`: the owner; the leader if `None`.
    pub(super) fn change_copies(
        &mut self,
        by: Option<&MemberId>,
        kind: &str,
        changes: &[(ShardId, CopyProposal)],
    ) -> Result<(), MapError> {
        if changes.len() > COPY_CHANGES_MAX {
            return Err(MapError::TooManyChanges(changes.len()));
        }
        self.kind_copies(kind)?;
        self.each(changes, |map, (shard, proposal)| {
            let mut stored = map.stored(kind, *shard)?;
            map.check_proposer(by, &stored)?;
            match *proposal {
                CopyProposal::Add(change) => {
                    // M3: the owner alone knows what a store has.
                    if by.is_none() {
                        return Err(MapError::Stale);
                    }
                    stored.add_copy(change.of(map.number_of(change.store)))?;
                }
                CopyProposal::Drop(change) => map.drop_copy(by, kind, &mut stored, change)?,
            }
            map.put_places(kind, *shard, stored.copies);
            Ok(())
        })
    }

    fn check_proposer(&self, by: Option<&MemberId>, stored: &StoredHome) -> Result<(), MapError> {
        let Some(by) = by else {
            return Ok(());
        };
        let slot = self.member(by).map(|member| member.slot);
        if slot.is_some() && stored.home.owner == slot {
            Ok(())
        } else {
            Err(MapError::Stale)
        }
    }

    fn drop_copy(
        &self,
        by: Option<&MemberId>,
        kind: &str,
        stored: &mut StoredHome,
        change: SetChange,
    ) -> Result<(), MapError> {
        let min = usize::from(self.kind_copies(kind)?.min);
        let store = self.known(change.store)?;
        let owner = stored.home.owner.and_then(|owner| self.by_slot(owner));
        let owner = owner.filter(|(_, member)| by.is_some() || !member.is_gone());
        let owners = owner.and_then(|(id, _)| self.store_no(id));
        if by.is_none() {
            let is_there = |store: &StoreNo| self.process_in(*store).is_some();
            if !can_be_spared(&stored.copies, store, min, is_there) {
                return Err(MapError::Stale);
            }
        }
        stored.drop_copy(change.of(store), owners, min)?;
        Ok(())
    }

    /// The store of a process that is gone leaves all sets that have enough others which are there,
    /// and is wanted nowhere.
    pub(super) fn drop_store(&mut self, store: StoreId) -> Result<(), MapError> {
        let number = self.known(store)?;
        if self.process_in(number).is_some() {
            return Err(MapError::StoreInUse(store));
        }
        let present: BTreeSet<StoreNo> = self
            .stores
            .keys()
            .filter(|store| self.process_in(**store).is_some())
            .copied()
            .collect();
        let is_there = |store: &StoreNo| present.contains(store);
        let mut is_changed = false;
        for (kind, copies) in &mut self.copies {
            let min = usize::from(copies.min);
            let Some(homes) = self.kinds.get(kind) else {
                continue;
            };
            let after = homes.iter().zip(copies.shards.iter());
            let after: Vec<CopyPlaces> = after
                .map(|(home, copies)| {
                    let (home, copies) = (*home, *copies);
                    let mut stored = StoredHome { home, copies };
                    let change = SetChange {
                        epoch: home.epoch,
                        set_version: copies.in_sync.version(),
                        store: number,
                    };
                    if can_be_spared(&copies, number, min, is_there) {
                        // It is not there: the set stays as it is.
                        let _ = stored.drop_copy(change, None, min);
                    }
                    stored.copies.wanted.take_if(|wanted| *wanted == number);
                    stored.copies
                })
                .collect();
            if after != *copies.shards {
                copies.shards = Arc::new(after);
                is_changed = true;
            }
        }
        if is_changed {
            Ok(())
        } else {
            Err(MapError::Stale)
        }
    }

    /// Stores are to become copies.
    pub(super) fn want(&mut self, wants: &[Wanted]) -> Result<(), MapError> {
        if wants.len() > COPY_CHANGES_MAX {
            return Err(MapError::TooManyChanges(wants.len()));
        }
        self.each(wants, |map, want| {
            map.kind_copies(&want.kind)?;
            if want
                .store
                .is_some_and(|store| !map.stores.contains_key(&store))
            {
                return Err(MapError::Stale);
            }
            let mut stored = map.stored(&want.kind, want.shard)?;
            stored.want(want.store)?;
            map.put_places(&want.kind, want.shard, stored.copies);
            Ok(())
        })
    }

    /// How many copies a cluster of so many stores can ask for: the setting, but one alone where a
    /// second could not be replaced.
    fn min_for(copies: &KindCopies, stores: usize) -> u8 {
        let setting = usize::from(copies.settings.min());
        let possible = if stores <= 2 { 1 } else { stores };
        u8::try_from(effective_min(setting, possible)).unwrap_or(u8::MAX)
    }

    /// The number of copies that is to be in force for a type, if it is to change.
    ///
    /// It rises with the number of stores that are there, once each set has as many: what is let
    /// out from then on is in as many stores, and what was let out before is too, because each
    /// store in sync has all of it. It falls when members have left, because the others could not
    /// go on after the next failure, or leave in their turn. It never falls because members are
    /// Down: these stores are expected back, and until then so many disks at least have what is
    /// acknowledged. In neither direction does anything that was acknowledged rest on it: the
    /// stores in sync have it, however many they are. What depends on it is how many disks may be
    /// lost for good.
    pub(crate) fn copies_min_goal(&self, kind: &str) -> Option<u8> {
        let copies = self.copies.get(kind)?;
        let most = Self::min_for(copies, self.stores_there(kind));
        let expected = self.stores_expected(kind);
        let least = Self::min_for(copies, expected);
        if most > copies.min && Self::all_have(copies, most) {
            Some(most)
        } else {
            // If nobody stays, all are about to stop, and will come back.
            (least < copies.min && expected > 0).then_some(least)
        }
    }

    /// The stores of members that are Up and host a type.
    fn stores_there(&self, kind: &str) -> usize {
        let there = self.stores.keys().filter(|store| {
            let process = self.process_in(**store);
            process.is_some_and(|process| self.hosts(process, kind))
        });
        there.count()
    }

    /// How many shards have fewer copies in sync than there could be on the members that are Up.
    pub(crate) fn lacking_copies(&self) -> usize {
        let of_kind = |(kind, copies): (&String, &KindCopies)| {
            let goal = copies.settings.most().min(self.stores_there(kind));
            let sets = copies.shards.iter().map(|places| places.in_sync);
            sets.filter(|set| !set.is_empty() && set.count() < goal)
                .count()
        };
        self.copies.iter().map(of_kind).sum()
    }

    fn all_have(copies: &KindCopies, count: u8) -> bool {
        let mut sets = copies.shards.iter().map(|places| places.in_sync);
        sets.all(|set| set.is_empty() || set.count() >= usize::from(count))
    }

    pub(super) fn set_copies_min(&mut self, kind: &str, min: u8) -> Result<(), MapError> {
        let copies = self.kind_copies(kind)?;
        let is_possible = if min > copies.min {
            min <= copies.settings.min() && Self::all_have(copies, min)
        } else {
            // Down members count.
            min >= Self::min_for(copies, self.stores_expected(kind))
        };
        if min == copies.min || !is_possible {
            return Err(MapError::CopiesMin {
                kind: kind.to_owned(),
                min,
            });
        }
        if let Some(copies) = self.copies.get_mut(kind) {
            copies.min = min;
        }
        Ok(())
    }
}
