//! The commands that change who owns a shard.
//!
//! A list of shards is applied one by one: a shard that has changed meanwhile is left as it is. If
//! none of them changes, the command is refused, for the reason of the first.

use std::sync::Arc;

use super::{Assignment, ClusterMap, MapError};
use crate::{
    id::{Epoch, MemberId, ShardId},
    infra::mutants,
    protocol::{
        copies::{CopyPlaces, StoreNo, StoredHome},
        home::{ShardHome, Slot},
    },
};

impl ClusterMap {
    /// Applies each item that is possible.
    pub(super) fn each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        apply: impl Fn(&mut Self, T) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        let (mut is_applied, mut refused) = (false, None);
        for item in items {
            match apply(self, item) {
                Ok(()) => is_applied = true,
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        match refused {
            Some(error) if !is_applied => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn home(&self, kind: &str, shard: ShardId) -> Result<ShardHome, MapError> {
        let unknown = || MapError::UnknownKind(kind.to_owned());
        let table = self.kinds.get(kind).ok_or_else(unknown)?;
        table.get(shard.index()).copied().ok_or(MapError::Stale)
    }

    /// Where the copies of a shard are. `None` if the type is not kept in copies.
    pub(super) fn places(&self, kind: &str, shard: ShardId) -> Option<CopyPlaces> {
        let copies = self.copies.get(kind)?;
        copies.shards.get(shard.index()).copied()
    }

    pub(super) fn put_home(&mut self, kind: &str, shard: ShardId, home: ShardHome) {
        if let Some(table) = self.kinds.get_mut(kind)
            && let Some(place) = Arc::make_mut(table).get_mut(shard.index())
        {
            *place = home;
        }
    }

    pub(super) fn put_places(&mut self, kind: &str, shard: ShardId, places: CopyPlaces) {
        if self.places(kind, shard) != Some(places)
            && let Some(copies) = self.copies.get_mut(kind)
            && let Some(place) = Arc::make_mut(&mut copies.shards).get_mut(shard.index())
        {
            *place = places;
        }
    }

    /// A shard with its copies. Without any, if the type is not kept in copies.
    pub(super) fn stored(&self, kind: &str, shard: ShardId) -> Result<StoredHome, MapError> {
        let home = self.home(kind, shard)?;
        let copies = self.places(kind, shard).unwrap_or_default();
        Ok(StoredHome { home, copies })
    }

    /// The next epoch, and its number.
    fn next_epoch(&self) -> (Epoch, u32) {
        let is_given_twice = mutants::on("epochs_are_given_twice")
            && self.sequence.is_multiple_of(3)
            && self.sequence != 0;
        let sequence = self.sequence + u32::from(!is_given_twice);
        let epoch = Epoch::in_generation(self.identity.generation, sequence);
        (epoch, sequence)
    }

    pub(super) fn is_down(&self, slot: Slot) -> bool {
        let owner = self.by_slot(slot);
        owner.is_none_or(|(_, member)| member.is_gone())
    }

    /// The slot of a member that may own shards of a type.
    fn host(&self, id: &MemberId, kind: &str) -> Result<Slot, MapError> {
        let host = self.member(id).filter(|_| self.hosts(id, kind));
        let host = host.ok_or_else(|| MapError::WrongStatus(id.clone()))?;
        Ok(host.slot)
    }

    /// The store of the member in a slot, if it may own shards of the type.
    fn store_at(&self, kind: &str, slot: Slot) -> Option<StoreNo> {
        let (id, _) = self.by_slot(slot)?;
        self.store_no(id).filter(|_| self.hosts(id, kind))
    }

    pub(super) fn assign(&mut self, assignments: &[Assignment]) -> Result<(), MapError> {
        self.each(assignments, Self::assign_one)
    }

    fn assign_one(&mut self, assignment: &Assignment) -> Result<(), MapError> {
        let Assignment {
            kind,
            shard,
            expected,
            to,
            copies,
        } = assignment;
        let mut stored = self.stored(kind, *shard)?;
        let (next, sequence) = self.next_epoch();
        let is_down = |slot| self.is_down(slot);
        if self.copies.contains_key(kind) {
            let slot = self.host(to, kind)?;
            let store = self.store_no(to).ok_or_else(|| MapError::NoStore {
                member: to.clone(),
                kind: kind.clone(),
            })?;
            // What is gone since this was proposed would only be waited for.
            let known = copies.iter().filter(|no| self.process_in(**no).is_some());
            let first: Vec<StoreNo> = known.copied().collect();
            stored.assign(*expected, is_down, (slot, store), &first, next)?;
        } else {
            if !stored.home.is_free(*expected, is_down) {
                return Err(MapError::Stale);
            }
            stored.home = ShardHome::given(self.host(to, kind)?, next);
        }
        self.sequence = sequence;
        self.put_home(kind, *shard, stored.home);
        self.put_places(kind, *shard, stored.copies);
        Ok(())
    }

    pub(super) fn revoke(&mut self, moves: &[Assignment]) -> Result<(), MapError> {
        self.each(moves, Self::revoke_one)
    }

    fn revoke_one(&mut self, to: &Assignment) -> Result<(), MapError> {
        let (kind, shard) = (&to.kind, to.shard);
        let mut home = self.home(kind, shard)?;
        if home.epoch != to.expected || home.owner.is_none() || home.moving.is_some() {
            return Err(MapError::Stale);
        }
        let target = self.host(&to.to, kind)?;
        if let Some(places) = self.places(kind, shard)
            && !self
                .store_no(&to.to)
                .is_some_and(|store| places.in_sync.has(store))
        {
            // It would be nobody's once its owner has released it.
            return Err(MapError::Stale);
        }
        if home.owner != Some(target) {
            home.moving = Some(target);
            self.put_home(kind, shard, home);
        }
        Ok(())
    }

    /// The slot of a member, and the shards of the list that it owns at these epochs. An error if
    /// there are none.
    fn owned_of(
        &self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(Slot, Vec<(ShardId, Epoch)>), MapError> {
        let unknown = || MapError::UnknownMember(id.clone());
        let slot = self.member(id).ok_or_else(unknown)?.slot;
        let unknown = || MapError::UnknownKind(kind.to_owned());
        let table = self.kinds.get(kind).ok_or_else(unknown)?;
        let owned = |(shard, epoch): &&(ShardId, Epoch)| {
            table
                .get(shard.index())
                .is_some_and(|home| home.owner == Some(slot) && home.epoch == *epoch)
        };
        let owned: Vec<_> = shards.iter().filter(owned).copied().collect();
        if owned.is_empty() {
            return Err(MapError::Stale);
        }
        Ok((slot, owned))
    }

    pub(super) fn release(
        &mut self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(), MapError> {
        let (slot, owned) = self.owned_of(id, kind, shards)?;
        self.each(owned, |map, (shard, epoch)| {
            let mut stored = map.stored(kind, shard)?;
            let (next, sequence) = map.next_epoch();
            if map.copies.contains_key(kind) {
                let store_of = |slot| map.store_at(kind, slot);
                stored.release(slot, epoch, store_of, next)?;
            } else {
                let is_host = |slot: &Slot| {
                    let member = map.by_slot(*slot);
                    member.is_some_and(|(id, _)| map.hosts(id, kind))
                };
                let target = stored.home.moving.filter(is_host);
                stored.home = stored.home.released(target, next);
            }
            if stored.home.epoch == next {
                map.sequence = sequence;
            }
            map.put_home(kind, shard, stored.home);
            Ok(())
        })
    }

    pub(super) fn keep(
        &mut self,
        id: &MemberId,
        kind: &str,
        shards: &[(ShardId, Epoch)],
    ) -> Result<(), MapError> {
        let (slot, owned) = self.owned_of(id, kind, shards)?;
        self.each(owned, |map, (shard, epoch)| {
            // A node that has heard of the shard's leaving believes only a later epoch.
            let mut stored = map.stored(kind, shard)?;
            let (next, sequence) = map.next_epoch();
            stored.keep(slot, epoch, next)?;
            map.sequence = sequence;
            map.put_home(kind, shard, stored.home);
            Ok(())
        })
    }
}
