//! Invariant 4: No shard is assigned away before its owner's last possible deadline: from the
//! instant at which a shard is taken from a member, that member never again passes the serve check.

use std::collections::BTreeSet;

use casty::{id::MemberId, testkit::Sighting};

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct NoShardBeforeItsDeadline {
    /// Members that a shard was taken from.
    taken_from: BTreeSet<MemberId>,
}

impl Check for NoShardBeforeItsDeadline {
    fn name(&self) -> &'static str {
        "4, no shard before its deadline"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            if let Sighting::Assigned {
                from: Some(from), ..
            } = sighting
            {
                self.taken_from.insert(from.clone());
            }
        }
        let serving = moment.views.iter().filter(|view| view.serving);
        match serving
            .map(|view| &view.member)
            .find(|member| self.taken_from.contains(member))
        {
            Some(member) => Err(format!(
                "{member} serves, and its shards were taken from it"
            )),
            None => Ok(()),
        }
    }
}
