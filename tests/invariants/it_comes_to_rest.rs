//! Invariant 9: At rest: voters are the largest odd number of members up to five; every shard that
//! ever had an owner has one that is Up; the load is within its bound.

use casty::testkit::View;

use super::{Check, Moment, Record, scenario::NODES};

#[derive(Default)]
pub(super) struct ItComesToRest;

impl ItComesToRest {
    pub(super) fn rests(views: &[View]) -> Result<(), String> {
        if views.len() != NODES.len() {
            return Err(format!("{} nodes run", views.len()));
        }
        for view in views {
            let odd = (NODES.len() - 1) | 1;
            let voters = NODES.len().min(odd.min(5));
            if view.up != NODES.len() || view.voters != voters {
                return Err(format!(
                    "{} sees {} members and {} voters",
                    view.member, view.up, view.voters
                ));
            }
            if view.homeless > 0 {
                return Err(format!(
                    "{} sees {} shards without an owner",
                    view.member, view.homeless
                ));
            }
            if view.spread > 0 {
                return Err(format!(
                    "{} sees a load that is uneven by {}",
                    view.member, view.spread
                ));
            }
            if !view.serving {
                return Err(format!("{} has no lease", view.member));
            }
        }
        Ok(())
    }
}

impl Check for ItComesToRest {
    fn name(&self) -> &'static str {
        "9, it comes to rest"
    }

    fn at(&mut self, _: &Moment<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_rest(&mut self, views: &[View], _: &Record) -> Result<(), String> {
        Self::rests(views)
    }
}
