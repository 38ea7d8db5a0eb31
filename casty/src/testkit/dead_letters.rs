//! Expectations about dead letters.

use std::time::Duration;

use tokio::time::timeout;

use crate::{ActorSystem, DeadLetter, Event, event::Events, testkit::PATIENCE};

/// The dead letters of a system, from the moment this is created.
#[derive(Debug)]
pub struct DeadLetters(Events);

impl DeadLetters {
    /// Listens from now on.
    pub fn of(system: &ActorSystem) -> Self {
        Self(system.events())
    }

    /// The next dead letter for which `is_meant` returns true, within [`PATIENCE`]. Others are
    /// skipped.
    ///
    /// # Panics
    /// If none comes, or if this fell so far behind that the system dropped events.
    pub async fn expect(&mut self, is_meant: impl Fn(&DeadLetter) -> bool) -> DeadLetter {
        let meant = async {
            loop {
                let letter = self.next().await;
                if is_meant(&letter) {
                    return letter;
                }
            }
        };
        timeout(PATIENCE, meant)
            .await
            .unwrap_or_else(|_| panic!("expected a dead letter; none came within {PATIENCE:?}"))
    }

    /// Requires that no dead letter comes for a time.
    ///
    /// # Panics
    /// If one comes, or if this fell so far behind that the system dropped events.
    pub async fn expect_no(&mut self, during: Duration) {
        if let Ok(letter) = timeout(during, self.next()).await {
            panic!(
                "expected no dead letter for {during:?}; `{}` to {} was one: {}",
                letter.message, letter.to, letter.reason
            );
        }
    }

    /// All dead letters since this was created or last asked.
    ///
    /// # Panics
    /// If this fell so far behind that the system dropped events.
    pub fn drain(&mut self) -> Vec<DeadLetter> {
        std::iter::from_fn(|| self.0.try_next())
            .filter_map(letter)
            .collect()
    }

    async fn next(&mut self) -> DeadLetter {
        loop {
            match self.0.next().await {
                Some(event) => {
                    if let Some(letter) = letter(event) {
                        return letter;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}

fn letter(event: Event) -> Option<DeadLetter> {
    match event {
        Event::DeadLetter(letter) => Some(letter),
        Event::Missed(missed) => panic!("{missed} events were lost: read dead letters more often"),
        _ => None,
    }
}
