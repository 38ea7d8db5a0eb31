//! The reminders of stored entities that are pending.

use casty::admin::{Admin, RemindersReport};

use crate::{
    arguments::Operation,
    failure::Failure,
    text::{self, Table},
};

/// Runs the operation. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    (kind, limit): (Option<&str>, usize),
    json: bool,
) -> Result<String, Failure> {
    let report = admin.reminders(kind, limit).await;
    let report = report.map_err(|error| Failure::new(operation, error))?;
    text::either(json, &report, table)
}

fn table(report: &RemindersReport) -> String {
    let text = text::silent(&report.silent);
    if report.pending == 0 {
        return text + "no reminder is pending\n";
    }
    let shown = report.reminders.len();
    let sum = format!(
        "{} reminders are pending, {shown} are shown\n\n",
        report.pending
    );
    let mut table = Table::new([
        "DUE", "ENTITY", "NAME", "MESSAGE", "REPEATS", "NODE", "FAILED", "REASON",
    ]);
    for reminder in &report.reminders {
        table.row([
            humantime::format_rfc3339_seconds(reminder.due).to_string(),
            format!("{}/{}", reminder.kind, reminder.entity),
            reminder.name.clone(),
            reminder.message.clone(),
            reminder.repeats.clone().unwrap_or_else(|| "-".to_owned()),
            reminder.node.to_string(),
            reminder.failures.to_string(),
            reminder.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    text + &sum + &table.text()
}
