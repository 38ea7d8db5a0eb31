//! Invariant 8: One cluster per set of seeds: no node founds a second cluster, whatever is
//! unreachable.

use casty::{id::MemberId, testkit::Sighting};

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct OneCluster {
    founded: Option<(MemberId, u128)>,
}

impl Check for OneCluster {
    fn name(&self) -> &'static str {
        "8, one cluster"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            if let Sighting::Founded { by, uuid, .. } = sighting {
                if let Some((before, _)) = &self.founded {
                    return Err(format!("{before} founded a cluster, and so does {by}"));
                }
                self.founded = Some((by.clone(), *uuid));
            }
        }
        Ok(())
    }
}
