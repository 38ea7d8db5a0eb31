//! Invariant 9: At rest, the voters are the largest odd number of members up to five, every shard
//! that ever had an owner has an owner that is Up, and the load is within its bound.

use casty::testkit::View;

use super::{Check, Moment, Record};

pub(super) struct ItComesToRest {
    /// How many nodes the cluster has.
    pub(super) nodes: usize,
}

/// How many members vote at rest: the largest odd number of them, at most five.
pub(super) fn voters_of(nodes: usize) -> usize {
    nodes.min(((nodes - 1) | 1).min(5))
}

impl ItComesToRest {
    pub(super) fn rests(views: &[View], nodes: usize) -> Result<(), String> {
        if views.len() != nodes {
            return Err(format!("{} nodes run", views.len()));
        }
        for view in views {
            if view.up != nodes || view.voters != voters_of(nodes) {
                return Err(format!(
                    "{} sees {} members and {} voters",
                    view.member, view.up, view.voters
                ));
            }
            if view.homeless() > 0 {
                return Err(format!(
                    "{} sees {} shards without an owner",
                    view.member,
                    view.homeless()
                ));
            }
            if view.spread() > 0 {
                return Err(format!(
                    "{} sees a load that is uneven by {}",
                    view.member,
                    view.spread()
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
        Self::rests(views, self.nodes)
    }
}
