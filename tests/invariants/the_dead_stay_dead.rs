//! Invariant 5: An incarnation that is Down never again gets a lease, a vote or a shard, and none
//! of its answers is accepted.

use std::{collections::BTreeMap, time::Duration};

use casty::{
    id::MemberId,
    testkit::{Sighting, View},
};

use super::{Check, Moment, Record};

/// Longer than any lease, by any clock.
const LONG: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct TheDeadStayDead {
    /// The version of the map, and when it was first applied.
    down: BTreeMap<MemberId, (u64, Duration)>,
    /// The owner of each epoch.
    owners: BTreeMap<u64, MemberId>,
}

impl Check for TheDeadStayDead {
    fn name(&self) -> &'static str {
        "5, the dead stay dead"
    }

    fn at(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (at, sighting) in moment.sightings {
            match sighting {
                Sighting::Down { member, version } => {
                    self.down.entry(member.clone()).or_insert((*version, *at));
                }
                Sighting::Granted {
                    leader,
                    to,
                    version,
                } => {
                    let down = self.down.get(to).filter(|(since, _)| since <= version);
                    if let Some((since, _)) = down {
                        return Err(format!(
                            "{leader} grants {to} a lease in version {version}, and it is down since {since}"
                        ));
                    }
                }
                Sighting::Assigned { to, epoch, .. } => {
                    // A member that replays the log applies old decisions.
                    let news = self.owners.insert(epoch.0, to.clone()).is_none();
                    let known = news
                        && self
                            .down
                            .get(to)
                            .is_some_and(|(_, since)| *since + LONG < *at);
                    if known {
                        return Err(format!("{to} is down, and gets a shard under {epoch}"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn at_rest(&mut self, _: &[View], record: &Record) -> Result<(), String> {
        for handled in &record.handled {
            let owner = self.owners.get(&handled.token);
            if let Some(member) = owner
                && let Some((_, since)) = self.down.get(member)
                && handled.at > *since + LONG
            {
                return Err(format!("{member} is down since {since:?}, and {handled:?}"));
            }
        }
        Ok(())
    }
}
