//! Invariant 10: After faults heal with a majority alive, every entity answers within a bound,
//! asked from every node.

use casty::testkit::View;

use super::{Check, Moment, Record};

#[derive(Default)]
pub(super) struct ItGoesOn;

impl Check for ItGoesOn {
    fn name(&self) -> &'static str {
        "10, it goes on"
    }

    fn at(&mut self, _: &Moment<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_rest(&mut self, _: &[View], record: &Record) -> Result<(), String> {
        match record.silent.first() {
            Some(silent) => Err(silent.clone()),
            None => Ok(()),
        }
    }
}
