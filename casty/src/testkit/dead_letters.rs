//! A watcher of dead letters.

use std::time::Duration;

use tokio::time::timeout;

use crate::{ActorSystem, DeadLetter, Event, Events, testkit::PATIENCE};

/// The dead letters of a system, from the moment this was made.
#[derive(Debug)]
pub struct DeadLetters(Events);

impl DeadLetters {
    /// Listens from now on.
    pub fn of(system: &ActorSystem) -> Self {
        Self(system.events())
    }

    /// The next one for which `is_meant` says yes, within [`PATIENCE`]; others are skipped.
    ///
    /// # Panics
    /// If none comes, or if so many events came that some were lost.
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

    /// Requires that there is none for so long.
    ///
    /// # Panics
    /// If there is one, or if so many events came that some were lost.
    pub async fn expect_no(&mut self, during: Duration) {
        if let Ok(letter) = timeout(during, self.next()).await {
            panic!(
                "expected no dead letter for {during:?}; `{}` to {} was one: {}",
                letter.message, letter.to, letter.reason
            );
        }
    }

    /// All that have come since this was made or asked last.
    ///
    /// # Panics
    /// If so many events came that some were lost.
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
