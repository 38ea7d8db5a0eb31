//! Invariant 12: First in, first out, per sender and entity, across handoff, passivation and
//! failover.

use std::collections::BTreeMap;

use casty::testkit::View;

use super::{Check, Moment, Record};

#[derive(Default)]
pub(super) struct FirstInFirstOut;

impl Check for FirstInFirstOut {
    fn name(&self) -> &'static str {
        "12, first in, first out"
    }

    fn at(&mut self, _: &Moment<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_rest(&mut self, _: &[View], record: &Record) -> Result<(), String> {
        let mut last = BTreeMap::<(&str, u32), u64>::new();
        for handled in &record.handled {
            let (sender, number) = handled.id;
            let before = last.insert((&handled.entity, sender), number);
            if before.is_some_and(|before| before >= number) {
                return Err(format!("{handled:?}, after {before:?}"));
            }
        }
        Ok(())
    }
}
