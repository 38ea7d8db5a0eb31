//! Invariant 11: Each message that was sent is handled, or its sender gets an error, or it becomes
//! a dead letter. No message is handled twice, and no error is wrong.

use std::collections::BTreeSet;

use casty::testkit::View;

use super::{Check, Moment, Record, scenario::Id};

#[derive(Default)]
pub(super) struct NoMessageIsLostInSilence;

impl Check for NoMessageIsLostInSilence {
    fn name(&self) -> &'static str {
        "11, no message is lost in silence"
    }

    fn at(&mut self, _: &Moment<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_rest(&mut self, _: &[View], record: &Record) -> Result<(), String> {
        let mut once = BTreeSet::new();
        for handled in &record.handled {
            let id = handled.id;
            if !record.sent.contains(&id) {
                return Err(format!("{id:?} was never sent"));
            }
            if !once.insert(id) {
                return Err(format!("{id:?} was handled twice"));
            }
            if let Some(error) = record.refused.get(&id) {
                return Err(format!(
                    "{handled:?}, and its sender was told that it was not: {error}"
                ));
            }
        }
        if let Some(id) = record.acknowledged.iter().find(|id| !once.contains(id)) {
            return Err(format!("{id:?} was acknowledged and not handled"));
        }
        // A killed process cannot report its messages.
        if !record.crashed {
            let lost = record.told.iter().filter(|id| !once.contains(id)).count();
            if lost > record.dead_letters {
                return Err(format!(
                    "{lost} messages were told and not handled, and there are {} dead letters",
                    record.dead_letters
                ));
            }
        }
        // No process was killed, so each message that was not refused was handled, asks included.
        let lost = |id: &&Id| !once.contains(*id) && !record.refused.contains_key(*id);
        if record.calm
            && let Some(id) = record.sent.iter().find(lost)
        {
            let told = record.unclear.get(id);
            return Err(format!("{id:?} was lost in a calm run: {told:?}"));
        }
        if once.len() * 4 < record.sent.len() {
            return Err(format!(
                "hardly anything was handled: {} of {}",
                once.len(),
                record.sent.len()
            ));
        }
        Ok(())
    }
}
