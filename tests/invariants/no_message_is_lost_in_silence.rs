//! Invariant 11: What was sent was handled, or its sender was told, or it became a dead letter;
//! nothing was handled twice, and no sender was told a lie.

use std::collections::BTreeSet;

use casty::testkit::View;

use super::{Check, Moment, Record};

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
        // What a process knew that was killed, nobody can tell.
        if !record.crashed {
            let lost = record.told.iter().filter(|id| !once.contains(id)).count();
            if lost > record.dead_letters {
                return Err(format!(
                    "{lost} messages were told and not handled, and there are {} dead letters",
                    record.dead_letters
                ));
            }
        }
        if record.calm
            && let Some(id) = record.told.iter().find(|id| !once.contains(id))
        {
            return Err(format!("nobody died, and {id:?} was lost"));
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
