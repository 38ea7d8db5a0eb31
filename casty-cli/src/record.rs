//! The flight recorder: records an entity, and shows what it has recorded.

use std::path::{Path, PathBuf};

use casty::{
    admin::{Admin, RecorderReport},
    recorder::Recording,
};
use serde_json::json;

use crate::{arguments::Operation, failure::Failure, stored, text};

/// What is to be done with an entity.
pub(crate) struct Order<'a> {
    pub(crate) entity: &'a str,
    pub(crate) messages: Option<u32>,
    pub(crate) stop: bool,
    pub(crate) write: Option<&'a PathBuf>,
    pub(crate) failed: bool,
    pub(crate) journal: bool,
}

/// Runs the operation. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    order: Order<'_>,
    json: bool,
) -> Result<String, Failure> {
    let failed = |error| Failure::new(operation, error);
    let (kind, id) = stored::path(admin, operation, order.entity).await?;
    let entity = stored::shown(order.entity);
    if let Some(file) = order.write {
        let recording = match order {
            Order { journal: true, .. } => admin.stored_recording(kind, id).await.map(Some),
            Order { failed: true, .. } => admin.failed_recording(kind, id).await,
            _ => admin.recording(kind, id).await,
        };
        let Some(recording) = recording.map_err(failed)? else {
            return Err(Failure::nothing_recorded(operation, order.failed));
        };
        return write(operation, &recording, file, json);
    }
    let report = if order.stop {
        admin.stop_recording(kind, id).await.map_err(failed)?
    } else {
        let report = admin.record(kind, id, order.messages).await;
        Some(report.map_err(failed)?)
    };
    text::either(json, &report, |report| told(&entity, report.as_ref()))
}

fn told(entity: &str, report: Option<&RecorderReport>) -> String {
    match report {
        None => format!("{entity} is not recorded any more\n"),
        Some(report) => {
            let why = if report.was_asked_for {
                ""
            } else {
                ", since its type says so"
            };
            format!(
                "{entity} is recorded{why}: {} messages up to now, the last {} at least are kept\n",
                report.messages, report.messages_kept
            )
        }
    }
}

fn write(
    operation: &Operation,
    recording: &Recording,
    file: &Path,
    json: bool,
) -> Result<String, Failure> {
    let written = recording.write(file);
    written.map_err(|error| Failure::recording(operation, &error))?;
    let (messages, records) = (recording.turns(), recording.records());
    let report = json!({ "file": file, "messages": messages, "records": records });
    text::either(json, &report, |_| {
        let records = if records == 0 {
            String::new()
        } else {
            format!(" and {records} records of its journal")
        };
        format!(
            "{messages} messages{records} are in `{file}`; `casty recording {file}` shows them\n",
            file = file.display()
        )
    })
}

/// Shows a file. Returns the text to print.
pub(crate) fn show(operation: &Operation, file: &Path, json: bool) -> Result<String, Failure> {
    let recording = Recording::read(file);
    let recording = recording.map_err(|error| Failure::recording(operation, &error))?;
    let turns = recording.sections.iter().flat_map(|section| &section.turns);
    let messages = turns.map(|turn| {
        json!({
            "message": turn.shown(),
            "sender": turn.sender,
            "caller": turn.caller.to_string(),
            "took": turn.took(),
            "outcome": turn.outcome(),
            "state": turn.state(),
        })
    });
    let report = json!({
        "kind": recording.kind,
        "id": recording.id,
        "node": recording.node,
        "why": recording.why,
        "casty": recording.casty,
        "messages": messages.collect::<Vec<_>>(),
        "records": recording.records(),
    });
    text::either(json, &report, |_| {
        let lines = recording.to_string();
        let lines = lines.lines().map(|line| stored::shown(line) + "\n");
        lines.collect()
    })
}
