//! Invariant 1: At most one leader a term; logs agree; nothing committed disappears.
//!
//! Ongaro and Ousterhout, "In search of an understandable consensus algorithm" (2014), figure 3:
//! election safety, state machine safety.

use std::collections::BTreeMap;

use casty::{id::MemberId, testkit::Sighting};

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct OneLeaderATerm {
    leaders: BTreeMap<u64, MemberId>,
    /// What was applied at each index.
    log: BTreeMap<u64, (u64, String)>,
    applied: BTreeMap<MemberId, u64>,
}

impl Check for OneLeaderATerm {
    fn name(&self) -> &'static str {
        "1, one leader a term"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            match sighting {
                Sighting::Leads { member, term } => {
                    let leader = self.leaders.entry(*term).or_insert_with(|| member.clone());
                    if leader != member {
                        return Err(format!("{leader} and {member} lead in term {term}"));
                    }
                }
                Sighting::Applied {
                    member,
                    index,
                    term,
                    decision,
                } => {
                    let here = (*term, decision.clone());
                    let known = self.log.entry(*index).or_insert_with(|| here.clone());
                    if *known != here {
                        return Err(format!(
                            "at {index} {member} applied {here:?}, another {known:?}"
                        ));
                    }
                    // A snapshot may skip entries, but no member goes back.
                    let last = self.applied.insert(member.clone(), *index);
                    if last.is_some_and(|last| last >= *index) {
                        return Err(format!("{member} applied {index} after {last:?}"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
