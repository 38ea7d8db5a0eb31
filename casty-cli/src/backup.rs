//! Backups.

use std::{path::Path, time::Duration};

use casty::admin::{Admin, AdminError, BackupProgress, BackupSummary};
use tokio::time::Instant;

use crate::{arguments::Operation, failure::Failure, text};

/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(2);

/// Makes a backup. Returns the text to print.
pub(crate) async fn back_up(
    admin: &Admin,
    operation: &Operation,
    (to, kinds): (&Path, &[String]),
    json: bool,
) -> Result<String, Failure> {
    let mut shown = Instant::now();
    let progress = |progress: &BackupProgress| {
        if !json && shown.elapsed() >= SHOWN_EVERY {
            shown = Instant::now();
            // Standard output carries only the result.
            eprintln!(
                "{} of {} shards, {} bytes",
                progress.shards_done, progress.shards, progress.bytes
            );
        }
    };
    let made = admin.backup(to, kinds, progress).await;
    let made = made.map_err(|error| Failure::new(operation, error))?;
    text::either(json, &made, |made| {
        format!("{} is a backup of {}\n", to.display(), summary(made))
    })
}

/// Makes a directory from a backup. Returns the text to print.
pub(crate) fn restore(
    operation: &Operation,
    from: &Path,
    to: &Path,
    json: bool,
) -> Result<String, Failure> {
    let restored = casty::admin::restore(from, to);
    let restored = restored.map_err(|error| Failure::new(operation, AdminError::from(error)))?;
    text::either(json, &restored, |restored| {
        format!(
            "{} is the directory of a node, from a backup of {}\nstart one node alone with it; \
             let others join once its log says that all that is stored has owners\n",
            to.display(),
            summary(restored)
        )
    })
}

fn summary(summary: &BackupSummary) -> String {
    format!(
        "`{}`: {}; {} shards, {} records, {} snapshots, {} bytes",
        summary.cluster,
        summary.kinds.join(", "),
        summary.shards,
        summary.records,
        summary.snapshots,
        summary.bytes
    )
}
