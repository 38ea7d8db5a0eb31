//! Invariant 3: A shard's epoch never decreases, wherever it is assigned or served, and no epoch is
//! given twice.
//!
//! Kleppmann, "How to do distributed locking" (2016), on fencing tokens.

use std::{collections::BTreeMap, time::Duration};

use casty::{
    id::{Epoch, MemberId, ShardId},
    testkit::{Sighting, View},
};

use super::{Check, Moment, Record};

#[derive(Default)]
pub(super) struct EpochsOnlyGrow {
    given: BTreeMap<Epoch, (String, ShardId, MemberId)>,
    assigned: BTreeMap<(String, ShardId), Epoch>,
    served: BTreeMap<(String, ShardId), Epoch>,
}

impl Check for EpochsOnlyGrow {
    fn name(&self) -> &'static str {
        "3, epochs only grow"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            let Sighting::Assigned {
                kind,
                shard,
                epoch,
                to,
                ..
            } = sighting
            else {
                continue;
            };
            let what = (kind.clone(), *shard, to.clone());
            match self.given.get(epoch) {
                // Another member has applied the same decision.
                Some(before) if *before == what => continue,
                Some(before) => {
                    return Err(format!("{epoch} was given twice: {before:?}, {what:?}"));
                }
                None => drop(self.given.insert(*epoch, what)),
            }
            let last = self.assigned.insert((kind.clone(), *shard), *epoch);
            if last.is_some_and(|last| last >= *epoch) {
                return Err(format!("{kind} {shard} got {epoch} after {last:?}"));
            }
        }
        for view in moment.views {
            for (kind, shard, epoch) in &view.serves() {
                let last = self.served.insert((kind.clone(), *shard), *epoch);
                if last.is_some_and(|last| last > *epoch) {
                    return Err(format!(
                        "{kind} {shard} is served under {epoch}, after {last:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn at_rest(&mut self, _: &[View], record: &Record) -> Result<(), String> {
        let mut last = BTreeMap::<&str, (Duration, u64)>::new();
        for handled in &record.handled {
            let now = (handled.at, handled.token);
            let before = last.insert(&handled.entity, now);
            if before.is_some_and(|(_, token)| token > handled.token) {
                return Err(format!("{handled:?}, after {before:?}"));
            }
        }
        Ok(())
    }
}
