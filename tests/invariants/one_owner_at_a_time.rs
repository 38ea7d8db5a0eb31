//! Invariant 2: Per shard at most one node passes the serve check at any true instant, under skewed
//! rates and pauses.
//!
//! The promise of Gray and Cheriton's leases, and the reason for all the rest.

use std::collections::BTreeMap;

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct OneOwnerAtATime;

impl Check for OneOwnerAtATime {
    fn name(&self) -> &'static str {
        "2, one owner at a time"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let views = moment.views.iter();
        let serving: Vec<_> = views.map(|view| (&view.member, view.serves())).collect();
        let mut owners = BTreeMap::new();
        for (member, shards) in &serving {
            for (kind, shard, epoch) in shards {
                if let Some((other, under)) = owners.insert((kind, shard), (member, epoch)) {
                    return Err(format!(
                        "{kind} {shard} is served by {other} under {under} and by {member} under {epoch}"
                    ));
                }
            }
        }
        Ok(())
    }
}
