//! The engine's configuration, from casty's settings.

use std::{sync::Arc, time::Duration};

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::{config::Settings, infra::mutants};

pub(super) fn of(settings: &Settings) -> Result<Arc<Config>, String> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(settings.election_timeout);
    let mut config = Config {
        cluster_name: "casty".to_owned(),
        heartbeat_interval: (election / 4).max(1),
        election_timeout_min: election,
        election_timeout_max: election * 2,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        removed_leader_step_down: StepDownPolicy::After(100),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(512),
        max_in_snapshot_log_to_keep: 256,
        backoff: "50ms 100ms 200ms ...400ms".to_owned(),
        ..Config::default()
    };
    // Two members then often stand for election at the same time.
    if mutants::on("votes_for_everybody") {
        config.election_timeout_max = election + 2;
    }
    let config = config.validate().map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}
