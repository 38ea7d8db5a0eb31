//! How fast a client may start entities.

use std::sync::Mutex;

use tokio::time::Instant;

use crate::{
    error::Failure,
    infra::{counter::Counter, rate::Rate, sync::lock},
};

/// How fast a client may start entities. All of its connections share it.
#[derive(Debug)]
pub(crate) struct ClientRate {
    max: u32,
    rate: Mutex<Rate>,
    refused: Counter,
}

impl ClientRate {
    /// `max`: so many in a second.
    pub(crate) fn new(max: u32, refused: Counter) -> Self {
        Self {
            max,
            rate: Mutex::new(Rate::new(max, Instant::now())),
            refused,
        }
    }

    /// Whether nothing is lost if it begins anew: it has been as slow as it may.
    pub(crate) fn is_rested(&self) -> bool {
        lock(&self.rate).is_full(Instant::now())
    }

    /// One more entity is about to start.
    ///
    /// # Errors
    /// It must not.
    pub(crate) fn take(&self) -> Result<(), Failure> {
        let taken = lock(&self.rate).take(Instant::now());
        taken.map_err(|_| {
            self.refused.add();
            Failure::limited("activations_per_client_max", self.max.into())
        })
    }
}
