//! Invariant 15: With a tie-breaker, all nodes that serve at any true instant are of one
//! generation: of two nodes that cannot reach each other, never both go on.
//!
//! This is stronger than one activation per entity: the losing node has stopped before the new
//! generation begins.

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct OneGenerationServes;

impl Check for OneGenerationServes {
    fn name(&self) -> &'static str {
        "15, one generation serves"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let mut serving = moment.views.iter().filter(|view| view.serving);
        let Some(first) = serving.next() else {
            return Ok(());
        };
        match serving.find(|view| view.generation != first.generation) {
            Some(other) => Err(format!(
                "{} serves in generation {}, and {} in {}",
                first.member, first.generation, other.member, other.generation
            )),
            None => Ok(()),
        }
    }
}
