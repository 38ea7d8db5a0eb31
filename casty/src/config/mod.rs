//! The settings of a system, each with its meaning, unit, default and range.

pub(crate) mod entity;
#[cfg(feature = "config")]
pub(crate) mod file;
#[cfg(feature = "config")]
pub(crate) mod given;
#[cfg(feature = "config")]
mod keys;
mod limits;

use std::time::Duration;

pub(crate) use self::limits::FRAME_BYTES_MAX;
pub use self::limits::Limits;
use self::limits::refuse;
use crate::error::StartError;
use crate::id::COPIES_MAX;

/// The address that a node listens on unless it is given one.
pub(crate) const LISTEN: &str = "127.0.0.1:0";

/// The longest time of a setting.
const TIME_MAX: Duration = Duration::from_hours(1);

/// The longest time of a setting that callers wait for.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// The times and bounds of a system. Every field has a default that suits a data centre.
///
/// No time may be longer than an hour, and no time may be zero. Those that a program waits for may
/// be up to a day: `ask_timeout`, `resolve_timeout`, `stop_timeout` and `shutdown_timeout`. What
/// does not fit is a [`StartError::Setting`], which names the first such field.
///
/// ```
/// use casty::{Settings, prelude::*};
///
/// let patient = Settings { ask_timeout: Duration::from_secs(30), ..Settings::default() };
/// assert!(patient.gossip_interval < patient.suspect_after);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long an ask waits for its answer, unless the message or the call sets another timeout.
    /// From one second on, the timeout may be longer by a sixteenth. Default 5 s.
    pub ask_timeout: Duration,
    /// How long a message waits for the home of its entity to become known. Shorter than
    /// `ask_timeout`, so that an asker learns the reason. Default 3 s.
    pub resolve_timeout: Duration,
    /// How many messages of one entity type may wait for homes at a time. Default 10,000, at least
    /// 1.
    pub resolve_messages_max: usize,
    /// The timeout of connect and handshake together. Default 2 s.
    pub connect_timeout: Duration,
    /// How often a connection is probed. Default 1 s.
    pub keepalive_interval: Duration,
    /// How long a connection may be silent before it is lost. At least twice `keepalive_interval`.
    /// Default 3 s.
    pub keepalive_timeout: Duration,
    /// The first pause after a failed dial or join. It doubles with each failure, with jitter.
    /// Default 20 ms.
    pub backoff: Duration,
    /// The longest such pause. At least `backoff`. Default 1 s.
    pub backoff_max: Duration,
    /// How often gossip probes one member. Default 250 ms.
    pub gossip_interval: Duration,
    /// How long a member that does not answer probes is suspected before gossip takes it for dead.
    /// Longer than `gossip_interval`. Default 750 ms.
    pub suspect_after: Duration,
    /// How long the entities of a shard may take to stop when the shard moves to another node: to
    /// handle the messages they have, and to run `#[on_stop]`. Their neighbours' messages wait
    /// meanwhile. After this time a handler that awaits something is dropped there, with the state
    /// of its entity, and its asker is told that the message may have been handled; a `#[on_stop]`
    /// is dropped, and the state moves; messages still waiting are refused. A log line names the
    /// entity. Code that blocks its thread cannot be ended: then the shard waits for it, which is
    /// logged again and again. Shorter than `resolve_timeout`, so that messages outlast the wait.
    /// It does not apply to entities that end with the last node, see `shutdown_timeout`.
    /// Default 2 s.
    pub stop_timeout: Duration,
    /// How long a graceful shutdown may take. Whatever has not stopped by then is ended, and
    /// its askers are told. Connections and tasks have a few seconds more to end, at most 4 s; the
    /// log names those that do not. Default 10 s.
    pub shutdown_timeout: Duration,
    /// How long a node may act as the owner of its entities without hearing from the leader of the
    /// cluster map. The node renews its lease three times as often. With a shorter lease, the
    /// entities of a dead node start sooner on other nodes, and a node that is slow or cut off
    /// stops sooner. The same on all nodes. Default 1.2 s, at least 50 ms.
    pub lease: Duration,
    /// By what fraction the rate of any node's clock may differ from true time. The leader waits
    /// longer by this much before it gives a dead node's entities to another node. The same on all
    /// nodes. Default 0.05, from 0 to 0.5.
    pub clock_drift: f64,
    /// How long the leader of the cluster map may be silent, at least, before the voters elect
    /// another. The actual time is random, up to twice as long. Less than half of `lease`, so that
    /// leases outlast an election. Default 200 ms, at least 20 ms.
    pub election_timeout: Duration,
    /// How long a decision about the cluster map may take before it fails, and how long a
    /// tie-breaker may take to answer. Default 2 s.
    pub decide_timeout: Duration,
    /// How many shards move between nodes at a time, in the whole cluster. Default 32, at least 1.
    pub moves_max: usize,
    /// How many nodes keep each shard of a stored entity type, where the nodes have a
    /// [directory](crate::SystemBuilder::data_dir) and no journal; fewer, if there are fewer nodes.
    /// Default 3, from 1 to 7. It has to be the same on all nodes that host a type. A type may say
    /// it itself: `#[entity(durable, copies = 5)]`.
    pub copies: u8,
    /// How many of these have to have stored what an entity does before anything of it gets out. In
    /// a cluster of one or two nodes it is 1. Default 2, at most `copies`. It has to be the same on
    /// all nodes that host a type. A type may say it itself: `#[entity(durable, copies_min = 3)]`.
    pub copies_min: u8,
    /// What other processes may use of this node.
    pub limits: Limits,
}

/// What the second node of two does when it cannot reach the first, which is the sole voter of the
/// cluster map.
///
/// A node cannot tell whether the other node is dead or only out of reach. A
/// [`TieBreaker`](crate::tie::TieBreaker) outside of the cluster can decide: then either of the two
/// goes on, and never both. A third node, even a witness that hosts nothing, is the better answer:
/// with three nodes the question does not arise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// The second node waits and answers `NoQuorum`: the first node may be alive and serve. An
    /// operator who knows that it is not can let the survivor go on: `casty promote NODE`.
    #[default]
    Consistent,
    /// The second node goes on by itself once gossip takes the first for dead. If the first lives,
    /// **each entity then lives twice**, once on either side of the partition, until it heals. Then
    /// the first node gives in and joins the second, and what its entities did meanwhile is lost.
    /// Choose this only for state that may be lost, or that is kept elsewhere under fencing tokens
    /// ([`Context::fencing_token`](crate::Context::fencing_token)): the tokens of the second node
    /// are greater. It cannot be combined with a tie-breaker, nor with stored entities in the
    /// directories of nodes ([`data_dir`](crate::SystemBuilder::data_dir)).
    Prefer,
}

/// What a node does after the cluster has declared it Down. Its entities have ended in either case,
/// since other nodes may own them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDown {
    /// It joins again, as a new incarnation.
    #[default]
    Rejoin,
    /// The node stays out: [`wait_for`](crate::ActorSystem::wait_for) fails with
    /// [`JoinError::Down`](crate::error::JoinError::Down), and so does every later request. A
    /// program that should end then can wait for that.
    Stop,
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
            suspect_after: Duration::from_millis(750),
            stop_timeout: Duration::from_secs(2),
            shutdown_timeout: Duration::from_secs(10),
            lease: Duration::from_millis(1200),
            clock_drift: 0.05,
            election_timeout: Duration::from_millis(200),
            decide_timeout: Duration::from_secs(2),
            moves_max: 32,
            copies: 3,
            copies_min: 2,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Settings for a quiet network and machines that are not overloaded: a dead node's entities
    /// answer again after about half a second. The price: a node that is stopped for a third of a
    /// second, for any reason, stops serving and may be declared down.
    pub fn fast_failover() -> Self {
        Self {
            gossip_interval: Duration::from_millis(80),
            suspect_after: Duration::from_millis(240),
            lease: Duration::from_millis(360),
            election_timeout: Duration::from_millis(80),
            keepalive_interval: Duration::from_millis(300),
            keepalive_timeout: Duration::from_millis(900),
            ..Self::default()
        }
    }

    /// Settings for nodes far from each other, or machines with long pauses: no node is declared
    /// down within five seconds, and a dead node's entities answer again after about ten.
    pub fn patient() -> Self {
        Self {
            ask_timeout: Duration::from_secs(20),
            resolve_timeout: Duration::from_secs(15),
            stop_timeout: Duration::from_secs(10),
            gossip_interval: Duration::from_secs(1),
            suspect_after: Duration::from_secs(5),
            lease: Duration::from_secs(8),
            election_timeout: Duration::from_secs(1),
            decide_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(3),
            keepalive_timeout: Duration::from_secs(10),
            ..Self::default()
        }
    }

    /// Checks whether the settings fit together.
    ///
    /// # Errors
    /// [`StartError::Setting`] names the first setting that does not fit.
    pub fn check(&self) -> Result<(), StartError> {
        let waits = [
            ("ask_timeout", self.ask_timeout),
            ("resolve_timeout", self.resolve_timeout),
            ("stop_timeout", self.stop_timeout),
            ("shutdown_timeout", self.shutdown_timeout),
        ];
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("backoff", self.backoff),
            ("backoff_max", self.backoff_max),
            ("gossip_interval", self.gossip_interval),
            ("suspect_after", self.suspect_after),
            ("lease", self.lease),
            ("election_timeout", self.election_timeout),
            ("decide_timeout", self.decide_timeout),
        ];
        // Before all that calculates with them.
        for (setting, duration) in waits.into_iter().chain(times) {
            if duration.is_zero() {
                return refuse(setting, "must be greater than zero");
            }
        }
        for (setting, duration) in times {
            if duration > TIME_MAX {
                return refuse(setting, "must be at most an hour");
            }
        }
        for (setting, duration) in waits {
            if duration > WAIT_MAX {
                return refuse(setting, "must be at most a day");
            }
        }
        if self.stop_timeout >= self.resolve_timeout {
            return refuse("stop_timeout", "must be shorter than `resolve_timeout`");
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
        if self.lease < Duration::from_millis(50) {
            return refuse("lease", "must be at least 50 ms");
        }
        if !(0.0..=0.5).contains(&self.clock_drift) {
            return refuse("clock_drift", "must be from 0 to 0.5");
        }
        if self.election_timeout < Duration::from_millis(20)
            || self.election_timeout * 2 >= self.lease
        {
            return refuse(
                "election_timeout",
                "must be at least 20 ms and less than half of `lease`",
            );
        }
        if self.moves_max == 0 {
            return refuse("moves_max", "must be at least 1");
        }
        if !(1..=COPIES_MAX).contains(&self.copies) {
            return refuse("copies", "must be from 1 to 7");
        }
        if !(1..=self.copies).contains(&self.copies_min) {
            return refuse("copies_min", "must be from 1 to `copies`");
        }
        if self.suspect_after <= self.gossip_interval {
            return refuse("suspect_after", "must be longer than `gossip_interval`");
        }
        self.limits.check()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        for settings in [
            Settings::default(),
            Settings::fast_failover(),
            Settings::patient(),
        ] {
            settings.check().unwrap();
        }
    }

    /// Times from nothing to the longest that there are.
    fn extreme() -> impl Strategy<Value = Duration> {
        let bounds = [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(50),
            TIME_MAX,
            TIME_MAX + Duration::from_nanos(1),
            WAIT_MAX,
            Duration::MAX / 2,
            Duration::MAX,
        ];
        prop_oneof![
            proptest::sample::select(bounds.to_vec()),
            (0..=u64::MAX, 0..1_000_000_000_u32)
                .prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
            (1..100_000_u64).prop_map(Duration::from_millis),
        ]
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        let drift = prop_oneof![Just(0.05), Just(f64::NAN), Just(f64::INFINITY), 0.0..0.5];
        (proptest::collection::vec(extreme(), 14), drift).prop_map(|(times, clock_drift)| {
            Settings {
                ask_timeout: times[0],
                resolve_timeout: times[1],
                stop_timeout: times[2],
                shutdown_timeout: times[3],
                connect_timeout: times[4],
                keepalive_interval: times[5],
                keepalive_timeout: times[6],
                backoff: times[7],
                backoff_max: times[8],
                gossip_interval: times[9],
                suspect_after: times[10],
                lease: times[11],
                election_timeout: times[12],
                decide_timeout: times[13],
                clock_drift,
                ..Settings::default()
            }
        })
    }

    proptest! {
        #[test]
        fn settings_are_refused_or_can_be_calculated_with(settings in any_settings()) {
            if settings.check().is_ok() {
                // Far more than is ever added up.
                let now = tokio::time::Instant::now();
                let sum = settings.lease.mul_f64(1.0 + settings.clock_drift) * 100
                    + settings.ask_timeout * 100
                    + settings.shutdown_timeout
                    + settings.backoff_max * 100;
                prop_assert!(now.checked_add(sum).is_some());
            }
        }
    }

    #[test]
    fn a_time_that_is_too_long_is_named() {
        let ages = Duration::MAX;
        let too_long = [
            (
                "ask_timeout",
                Settings {
                    ask_timeout: ages,
                    ..Settings::default()
                },
            ),
            (
                "keepalive_interval",
                Settings {
                    keepalive_interval: ages,
                    ..Settings::default()
                },
            ),
            (
                "election_timeout",
                Settings {
                    election_timeout: ages,
                    ..Settings::default()
                },
            ),
            (
                "lease",
                Settings {
                    lease: ages,
                    ..Settings::default()
                },
            ),
        ];
        for (name, settings) in too_long {
            let refused = settings.check().unwrap_err().to_string();
            assert!(
                refused.contains(name) && refused.contains("at most"),
                "{refused}"
            );
        }
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
        let slow = Settings {
            stop_timeout: Duration::from_secs(3),
            ..Settings::default()
        };
        assert!(
            slow.check()
                .unwrap_err()
                .to_string()
                .contains("stop_timeout")
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
