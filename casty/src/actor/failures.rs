//! The last failures of actors, for those who ask why one does not answer.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::{event::ActorPath, infra::sync::lock};

/// How many actors are remembered, the last ones that failed.
const REMEMBERED: usize = 256;

/// The last failure of each of the actors of a node that failed last.
#[derive(Default)]
pub(crate) struct Failures(Mutex<VecDeque<Failed>>);

struct Failed {
    who: ActorPath,
    reason: String,
    at: Instant,
    count: u64,
}

/// The last failure of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastFailure {
    pub(crate) reason: String,
    pub(crate) ago: Duration,
    /// How often the actor has failed, as far as this node remembers.
    pub(crate) count: u64,
}

impl Failures {
    #[cold]
    pub(crate) fn add(&self, who: ActorPath, reason: &str) {
        let (at, reason) = (Instant::now(), reason.to_owned());
        let mut failed = lock(&self.0);
        let known = failed.iter().position(|it| it.who == who);
        let known = known.and_then(|at| failed.remove(at));
        let count = known.map_or(0, |known| known.count) + 1;
        if failed.len() == REMEMBERED {
            failed.pop_front();
        }
        failed.push_back(Failed {
            who,
            reason,
            at,
            count,
        });
    }

    pub(crate) fn last(&self, kind: &str, id: &str) -> Option<LastFailure> {
        let failed = lock(&self.0);
        let mut failed = failed.iter();
        let found = failed.find(|it| it.who.kind == kind && it.who.id == id)?;
        Some(LastFailure {
            reason: found.reason.clone(),
            ago: found.at.elapsed(),
            count: found.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(id: usize) -> ActorPath {
        ActorPath {
            kind: "T".to_owned(),
            id: id.to_string(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failures_are_counted_and_old_ones_forgotten() {
        let failures = Failures::default();
        failures.add(path(0), "first");
        tokio::time::advance(Duration::from_secs(3)).await;
        failures.add(path(0), "second");
        let last = failures.last("T", "0").unwrap();
        assert_eq!((&*last.reason, last.count), ("second", 2));
        assert_eq!(last.ago, Duration::ZERO);
        for n in 1..=REMEMBERED {
            failures.add(path(n), "later");
        }
        assert_eq!(failures.last("T", "0"), None);
        assert!(failures.last("T", "1").is_some());
    }
}
