//! Shards of which all stores in sync are gone, and how another life of their logs begins.
//!
//! A shard waits for its stores in sync, and whichever is back first is enough. If all of them are
//! lost for good, it would wait for ever: then it is given up, as a last resort. What those stores
//! alone had is lost then, and never comes back, whatever comes back of them: see
//! [`Life`](crate::protocol::copies::Life).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{COPY_CHANGES_MAX, ClusterMap, MapError, StorePlace};
use crate::{
    id::{Epoch, ShardId},
    protocol::{
        copies::{CopyPlaces, StoreId, StoreNo},
        home::ShardHome,
    },
};

/// The log of one shard begins anew. Compare-and-set on epoch and version of its set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewLife {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) set_version: u64,
    pub(crate) begins: Beginning,
}

/// What a new life begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Beginning {
    /// With nothing, in these stores. A number that is another store's by now does no harm: each
    /// clears what it has.
    Empty(Vec<StoreNo>),
    /// With what this store has. It has lacked something since it was in sync, or never was.
    Kept(StoreId),
}

impl ClusterMap {
    /// The shards of a type that wait for stores of which none is there.
    pub(crate) fn lost<'a>(
        &'a self,
        kind: &str,
    ) -> impl Iterator<Item = (ShardId, &'a ShardHome, &'a CopyPlaces)> + use<'a> {
        let homes = self.kinds.get(kind).map(|homes| homes.iter());
        let places = self.copies.get(kind).map(|copies| copies.shards.iter());
        let shards = homes
            .into_iter()
            .flatten()
            .zip(places.into_iter().flatten());
        let shards = (0..).map(ShardId).zip(shards);
        shards.filter_map(|(shard, (home, places))| {
            self.is_lost(home, places).then_some((shard, home, places))
        })
    }

    fn is_lost(&self, home: &ShardHome, places: &CopyPlaces) -> bool {
        let mut stores = places.in_sync.stores();
        !places.in_sync.is_empty()
            && home.owner.is_none_or(|owner| self.is_down(owner))
            && stores.all(|store| self.process_in(store).is_none())
    }

    pub(super) fn begin_anew(&mut self, kind: &str, lives: &[NewLife]) -> Result<(), MapError> {
        if lives.len() > COPY_CHANGES_MAX {
            return Err(MapError::TooManyChanges(lives.len()));
        }
        self.kind_copies(kind)?;
        self.each(lives, |map, life| {
            let mut stored = map.stored(kind, life.shard)?;
            let before = stored.copies.in_sync;
            let (mut first, begins_empty) = match &life.begins {
                Beginning::Empty(first) => (first.clone(), true),
                Beginning::Kept(store) => (vec![map.known(*store)?], false),
            };
            // Where nobody may own the shard it would wait again.
            first.retain(|store| {
                let process = map.process_in(*store);
                process.is_some_and(|process| map.hosts(process, kind))
            });
            let expected = (life.epoch, life.set_version);
            let is_down = |slot| map.is_down(slot);
            let is_there = |store| map.process_in(store).is_some();
            stored.begin_anew(expected, is_down, is_there, &first, begins_empty)?;
            map.put_home(kind, life.shard, stored.home);
            map.put_places(kind, life.shard, stored.copies);
            map.expect_no_more(before.stores().collect());
            Ok(())
        })?;
        self.forget_stores();
        Ok(())
    }

    /// These stores are lost for good. One that comes back all the same is expected again.
    fn expect_no_more(&mut self, stores: BTreeSet<StoreNo>) {
        let is_new =
            |(store, place): (&StoreNo, &StorePlace)| place.is_expected && stores.contains(store);
        if !self.stores.iter().any(is_new) {
            return;
        }
        let places: &mut BTreeMap<_, _> = Arc::make_mut(&mut self.stores);
        for (store, place) in places {
            place.is_expected &= !stores.contains(store);
        }
    }
}
