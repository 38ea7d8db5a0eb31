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
        let mut owners = BTreeMap::new();
        for view in moment.views {
            for (kind, shard, epoch) in &view.serves {
                if let Some((other, under)) = owners.insert((kind, shard), (&view.member, epoch)) {
                    return Err(format!(
                        "{kind} {shard} is served by {other} under {under} and by {} under {epoch}",
                        view.member
                    ));
                }
            }
        }
        Ok(())
    }
}
