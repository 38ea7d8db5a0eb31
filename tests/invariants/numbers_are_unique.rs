//! Invariant 6: No number in the engine is used by two processes: whoever starts again with an empty log under a known number has
//! forgotten its votes.

use std::collections::BTreeMap;

use casty::{id::MemberId, testkit::Sighting};

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct NumbersAreUnique {
    numbers: BTreeMap<u32, MemberId>,
}

impl Check for NumbersAreUnique {
    fn name(&self) -> &'static str {
        "6, numbers are unique"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            if let Sighting::Numbered { member, number, .. } = sighting
                && let Some(before) = self.numbers.insert(*number, member.clone())
            {
                return Err(format!("{before} and {member} both are number {number}"));
            }
        }
        Ok(())
    }
}
