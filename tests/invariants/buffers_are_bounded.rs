//! Invariant 14: All buffers stay within their bounds under endless churn.

use super::{Check, Moment};

#[derive(Default)]
pub(super) struct BuffersAreBounded;

impl Check for BuffersAreBounded {
    fn name(&self) -> &'static str {
        "14, buffers are bounded"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for view in moment.views {
            if let Some((what, held, bound)) = view
                .held()
                .into_iter()
                .find(|(_, held, bound)| held > bound)
            {
                return Err(format!(
                    "{} holds {held} {what}, at most {bound} may be",
                    view.member
                ));
            }
        }
        Ok(())
    }
}
