//! Settings of a system: meaning, unit, default, range.

use std::time::Duration;

use crate::error::StartError;

/// The times and bounds of a system. Every field has a default that suits a data centre.
///
/// ```
/// use casty::{Settings, prelude::*};
///
/// let patient = Settings { ask_timeout: Duration::from_secs(30), ..Settings::default() };
/// assert!(patient.gossip_interval < patient.suspect_after);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long an ask waits for its answer, unless the message or the call says otherwise. Default 5 s.
    pub ask_timeout: Duration,
    /// How long a message waits while nobody knows where its entity lives. Shorter than `ask_timeout`, so that an
    /// asker hears the reason. Default 3 s.
    pub resolve_timeout: Duration,
    /// How many messages of one entity type wait for that at a time. Default 10,000, at least 1.
    pub resolve_messages_max: usize,
    /// For connect and handshake together. Default 2 s.
    pub connect_timeout: Duration,
    /// How often a connection is probed. Default 1 s.
    pub keepalive_interval: Duration,
    /// After so much silence a connection is lost. At least twice `keepalive_interval`. Default 3 s.
    pub keepalive_timeout: Duration,
    /// The first pause after a failed dial or join; doubled with each, with jitter. Default 20 ms.
    pub backoff: Duration,
    /// The longest such pause. At least `backoff`. Default 1 s.
    pub backoff_max: Duration,
    /// How often gossip probes one member. Default 250 ms.
    pub gossip_interval: Duration,
    /// How long a member that does not answer probes is only suspected. Longer than `gossip_interval`. Default 1 s.
    pub suspect_after: Duration,
    /// How long a graceful shutdown may take. Default 10 s.
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ask_timeout: Duration::from_secs(5),
            resolve_timeout: Duration::from_secs(3),
            resolve_messages_max: 10_000,
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(3),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            gossip_interval: Duration::from_millis(250),
            suspect_after: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Says whether the settings fit together.
    ///
    /// # Errors
    /// [`StartError::Setting`] names the first that does not.
    pub fn check(&self) -> Result<(), StartError> {
        let refuse = |setting, reason: &str| {
            Err(StartError::Setting {
                setting,
                reason: reason.to_owned(),
            })
        };
        let durations = [
            ("ask_timeout", self.ask_timeout),
            ("resolve_timeout", self.resolve_timeout),
            ("connect_timeout", self.connect_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("backoff", self.backoff),
            ("gossip_interval", self.gossip_interval),
            ("shutdown_timeout", self.shutdown_timeout),
        ];
        for (setting, duration) in durations {
            if duration.is_zero() {
                return refuse(setting, "must be greater than zero");
            }
        }
        if self.resolve_messages_max == 0 {
            return refuse("resolve_messages_max", "must be at least 1");
        }
        if self.keepalive_timeout < self.keepalive_interval * 2 {
            return refuse(
                "keepalive_timeout",
                "must be at least twice `keepalive_interval`",
            );
        }
        if self.backoff_max < self.backoff {
            return refuse("backoff_max", "must not be less than `backoff`");
        }
        if self.suspect_after <= self.gossip_interval {
            return refuse("suspect_after", "must be longer than `gossip_interval`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert!(Settings::default().check().is_ok());
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let zero = Settings {
            backoff: Duration::ZERO,
            ..Settings::default()
        };
        assert!(zero.check().unwrap_err().to_string().contains("backoff"));
        let hasty = Settings {
            keepalive_timeout: Duration::from_secs(1),
            ..Settings::default()
        };
        assert!(
            hasty
                .check()
                .unwrap_err()
                .to_string()
                .contains("keepalive_timeout")
        );
        let rash = Settings {
            suspect_after: Duration::from_millis(1),
            ..Settings::default()
        };
        assert!(
            rash.check()
                .unwrap_err()
                .to_string()
                .contains("suspect_after")
        );
    }
}
