//! What stored entities have sent, and is not known to be taken.

use casty::admin::{Admin, OutboxReport};

use crate::{
    arguments::Operation,
    failure::Failure,
    text::{self, Table},
};

/// Runs the operation. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    json: bool,
) -> Result<String, Failure> {
    let report = admin.outbox().await;
    let report = report.map_err(|error| Failure::new(operation, error))?;
    text::either(json, &report, table)
}

fn table(report: &OutboxReport) -> String {
    let text = text::silent(&report.silent);
    if report.receivers.is_empty() {
        return text + "nothing waits: all that was sent is taken\n";
    }
    let sum = format!("{} sends wait to be taken\n\n", report.sends);
    let mut table = Table::new(["FROM", "SHARD", "NODE", "TO", "SENDS", "FAILED", "REASON"]);
    for receiver in &report.receivers {
        table.row([
            receiver.kind.clone(),
            receiver.shard.to_string(),
            receiver.node.to_string(),
            format!("{}/{}", receiver.to_kind, receiver.to),
            receiver.sends.to_string(),
            receiver.failures.to_string(),
            receiver.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    text + &sum + &table.text()
}
