//! Invariant 6: No number in the engine is used by two processes at once, nor by a process that has
//! lost its log: a process that starts with an empty log under a known number has forgotten its
//! votes. A number that has lost its vote is never taken over.

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
            match sighting {
                Sighting::Numbered {
                    member,
                    number,
                    kept,
                    ..
                } => {
                    let before = self.numbers.insert(*number, member.clone());
                    let Some(before) = before else { continue };
                    if !kept || before.node != member.node {
                        return Err(format!("{before} and {member} both are number {number}"));
                    }
                }
                Sighting::Sat {
                    member,
                    number,
                    votes: false,
                } => {
                    return Err(format!(
                        "{member} takes number {number}, which votes no more"
                    ));
                }
                _ => {}
            }
        }
        let mut now = BTreeMap::new();
        for view in moment.views {
            if let Some(seat) = view.seat
                && let Some(other) = now.insert((view.generation, seat), &view.member)
            {
                let member = &view.member;
                return Err(format!("{other} and {member} both are number {seat} now"));
            }
        }
        Ok(())
    }
}
