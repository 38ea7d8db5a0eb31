//! Invariant 7: A minority commits nothing and, once its leases lapse, serves nothing.

use std::{collections::BTreeMap, time::Duration};

use casty::testkit::Sighting;

use super::{Check, Moment};

/// By then, everything that was under way at the cut has arrived.
const ARRIVED: Duration = Duration::from_millis(200);

/// The longest lease by the slowest clock, with a renewal that had just been sent.
const LAPSED: Duration = Duration::from_millis(1200 * 106 / 100 + 200);

#[derive(Default)]
pub(super) struct MinoritiesAreSilent {
    /// By index of the log: whether a member outside of the minority has applied it.
    applied: BTreeMap<u64, bool>,
}

impl Check for MinoritiesAreSilent {
    fn name(&self) -> &'static str {
        "7, minorities are silent"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let cut_off = |name: &str, least: Duration| {
            let cut = moment.cut_off.iter().find(|(node, _)| node == name);
            cut.is_some_and(|(_, since)| *since + least < moment.now)
        };
        for (_, sighting) in moment.sightings {
            if let Sighting::Applied {
                member,
                index,
                decision,
                ..
            } = sighting
            {
                let alone = cut_off(member.node.as_str(), ARRIVED);
                if alone && !self.applied.contains_key(index) {
                    return Err(format!(
                        "{member} is cut off, and decides {index}: {decision}"
                    ));
                }
                self.applied.insert(*index, !alone);
            }
        }
        for view in moment.views.iter().filter(|view| view.serving) {
            if cut_off(view.member.node.as_str(), LAPSED) {
                return Err(format!("{} is cut off, and serves", view.member));
            }
        }
        Ok(())
    }
}
