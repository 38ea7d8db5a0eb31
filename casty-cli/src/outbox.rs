//! What stored entities have sent, and is not known to be taken.

use casty::admin::{Admin, GivenUpReport, OutboxReport};

use crate::{
    arguments::Operation,
    failure::Failure,
    stored,
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

/// Gives up what an entity does not handle. Returns the text to print.
pub(crate) async fn give_up(
    admin: &Admin,
    operation: &Operation,
    (entity, reminder): (&str, Option<&str>),
    is_confirmed: bool,
    json: bool,
) -> Result<String, Failure> {
    let failed = |error| Failure::new(operation, error);
    let (kind, id) = stored::path(admin, operation, entity).await?;
    let what = match reminder {
        Some(name) => format!(
            "what the reminder {} of {} is due for",
            stored::shown(name),
            stored::shown(entity)
        ),
        None => format!("what {} does not handle", stored::shown(entity)),
    };
    if !is_confirmed && !stored::is_meant(&format!("give up {what}")) {
        return Err(Failure::unconfirmed(operation));
    }
    let report = match reminder {
        Some(name) => admin.give_up_reminder(&kind, &id, name).await,
        None => admin.give_up_sends(&kind, &id).await,
    };
    text::either(json, &report.map_err(failed)?, given_up)
}

fn given_up(report: &GivenUpReport) -> String {
    let text = text::silent(&report.silent);
    if report.messages.is_empty() {
        return text + "nothing is given up: no try has failed\n";
    }
    let mut table = Table::new(["FROM", "NODE", "MESSAGE"]);
    for given_up in &report.messages {
        table.row([
            format!("{}/{}", given_up.kind, given_up.from),
            given_up.node.to_string(),
            given_up.message.clone(),
        ]);
    }
    text + "these are given up, and are taken without being handled\n\n" + &table.text()
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
