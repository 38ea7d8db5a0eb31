//! Entities, and what is stored of them.

use std::{
    io::{self, BufRead, IsTerminal},
    time::{Duration, UNIX_EPOCH},
};

use casty::{
    admin::{Admin, AdminError, RecordReport},
    listing::ListedEntity,
};
use serde_json::{Value, json};

use crate::{
    arguments::Operation,
    failure::Failure,
    text::{self, Table, or_dash},
};

/// Runs an operation on entities. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    json: bool,
) -> Result<String, Failure> {
    let failed = |error| Failure::new(operation, error);
    match operation {
        Operation::Entities {
            kind,
            active,
            stored,
            prefix,
            limit,
        } => {
            let which = match (active, stored) {
                (true, _) => Which::Active,
                (_, true) => Which::Stored,
                _ => Which::All,
            };
            let listed = list(admin, kind, which, prefix, *limit).await;
            let (entities, more) = listed.map_err(failed)?;
            let report = json!({ "kind": kind, "entities": entities, "more": more });
            text::either(json, &report, |_| entity_table(kind, &entities, more))
        }
        Operation::History {
            entity,
            from,
            limit,
        } => {
            let (kind, id) = path(admin, operation, entity).await?;
            let read = read(admin, &kind, &id, from.saturating_sub(1), *limit).await;
            let (records, more) = read.map_err(failed)?;
            let records_json: Vec<Value> = records.iter().map(record_json).collect();
            let report = json!({ "kind": kind, "id": id, "records": records_json, "more": more });
            text::either(json, &report, |_| record_table(entity, &records, more))
        }
        Operation::Erase { entity, yes } => {
            let (kind, id) = path(admin, operation, entity).await?;
            if !yes && !is_meant(&format!("erase what is stored of {}", shown(entity))) {
                return Err(Failure::unconfirmed(operation));
            }
            admin.erase(&kind, &id).await.map_err(failed)?;
            let report = json!({ "kind": kind, "id": id });
            text::either(json, &report, |_| {
                format!(
                    "{} is erased; it begins anew with its next message\n",
                    shown(entity)
                )
            })
        }
        _ => Ok(String::new()),
    }
}

enum Which {
    All,
    Active,
    Stored,
}

/// Entities up to the limit, and whether there are more.
async fn list(
    admin: &Admin,
    kind: &str,
    which: Which,
    prefix: &str,
    limit: usize,
) -> Result<(Vec<ListedEntity>, bool), AdminError> {
    let entities = admin.entities(kind).await?.starting_with(prefix);
    let mut entities = match which {
        Which::All => entities,
        Which::Active => entities.active(),
        Which::Stored => entities.stored(),
    };
    let mut found = Vec::new();
    while found.len() <= limit {
        let Some(page) = entities.next_page().await? else {
            return Ok((found, false));
        };
        found.extend(page);
    }
    found.truncate(limit);
    Ok((found, true))
}

/// Records up to the limit, and whether there are more.
async fn read(
    admin: &Admin,
    kind: &str,
    id: &str,
    after: u64,
    limit: usize,
) -> Result<(Vec<RecordReport>, bool), AdminError> {
    let mut history = admin.history(kind, id).await?.after(after);
    let mut found = Vec::new();
    while found.len() <= limit {
        let Some(page) = history.next_page().await? else {
            if found.is_empty() {
                let (kind, id) = (kind.to_owned(), id.to_owned());
                return Err(AdminError::NothingStored { kind, id });
            }
            return Ok((found, false));
        };
        found.extend(page);
    }
    found.truncate(limit);
    Ok((found, true))
}

/// The type and the id that an operator means. Both may contain a slash: of several types the
/// longest counts.
pub(crate) async fn path(
    admin: &Admin,
    operation: &Operation,
    entity: &str,
) -> Result<(String, String), Failure> {
    let shards = admin.shards().await;
    let kinds = shards
        .map_err(|error| Failure::new(operation, error))?
        .kinds;
    let of = |kind: &str| Some(entity.strip_prefix(kind)?.strip_prefix('/')?.to_owned());
    let known = kinds
        .iter()
        .filter_map(|kind| Some((&kind.name, of(&kind.name)?)));
    let meant = known.max_by_key(|(kind, _)| kind.len());
    let meant = meant.map(|(kind, id)| (kind.clone(), id));
    let split = || {
        let (kind, id) = entity.split_once('/')?;
        Some((kind.to_owned(), id.to_owned()))
    };
    let found = meant.or_else(split);
    found.ok_or_else(|| Failure::no_entity(operation, entity))
}

/// Asks the operator. Without a terminal the answer is no.
pub(crate) fn is_meant(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    eprint!("{question}? yes or no: ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim() == "yes"
}

fn entity_table(kind: &str, entities: &[ListedEntity], more: bool) -> String {
    if entities.is_empty() {
        return format!("no entity of {} is there\n", shown(kind));
    }
    let mut table = Table::new(["ID", "SHARD", "ACTIVE ON", "RECORDS", "LAST"]);
    for entity in entities {
        table.row([
            shown(entity.id.as_str()),
            entity.shard.to_string(),
            or_dash(entity.active_on.as_ref()),
            or_dash(entity.stored.map(|stored| stored.seq)),
            or_dash(entity.stored.map(|stored| time(stored.at))),
        ]);
    }
    table.text() + rest(more)
}

fn record_table(entity: &str, records: &[RecordReport], more: bool) -> String {
    let mut table = Table::new(["NUMBER", "POSITION", "TIME", "RECORD"]);
    for record in records {
        let mut lines = said(record).into_iter();
        let first = lines.next().unwrap_or_else(|| "-".to_owned());
        table.row([
            record.seq.to_string(),
            record.position.to_string(),
            time(record.at),
            first,
        ]);
        for line in lines {
            table.row([String::new(), String::new(), String::new(), line]);
        }
    }
    format!("{}\n\n{}{}", shown(entity), table.text(), rest(more))
}

/// What a record says, on one line or several.
fn said(record: &RecordReport) -> Vec<String> {
    let mut lines = Vec::new();
    for event in &record.events {
        let (name, version) = (shown(&event.name), event.version);
        lines.push(format!("{name} (version {version}) {}", event.arguments));
    }
    if let Some(state) = &record.state {
        let name = match &*state.name {
            "" => String::new(),
            name => format!("{} ", shown(name)),
        };
        lines.push(format!("state {name}{}", state.fields));
    }
    if let Some(changed) = &record.changed {
        lines.push(format!("changed {changed}"));
    }
    if record.forgotten {
        lines.push("forgotten".to_owned());
    }
    if let Some(reason) = &record.unreadable {
        lines.push(format!("cannot be read: {}", shown(reason)));
    }
    if let Some(key) = &record.key {
        lines.push(format!("under the key {}", shown(key)));
    }
    if record.erases {
        lines.push("erased: it begins anew".to_owned());
    }
    lines
}

/// A record with its arguments as values, not as text.
fn record_json(record: &RecordReport) -> Value {
    let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let events = record.events.iter().map(|event| {
        json!({
            "name": event.name,
            "version": event.version,
            "arguments": value(&event.arguments),
        })
    });
    let state = record.state.as_ref();
    let state = state.map(|state| json!({ "name": state.name, "fields": value(&state.fields) }));
    json!({
        "seq": record.seq,
        "position": record.position,
        "at": record.at,
        "key": record.key,
        "events": events.collect::<Vec<_>>(),
        "state": state,
        "changed": record.changed.as_deref().map(value),
        "forgotten": record.forgotten,
        "erases": record.erases,
        "unreadable": record.unreadable,
    })
}

fn rest(more: bool) -> &'static str {
    if more {
        "there are more; give a greater --limit\n"
    } else {
        ""
    }
}

/// Milliseconds since the Unix epoch, in UTC.
pub(crate) fn time(millis: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    // What comes after the year 9999 has no such form.
    let is_usual = millis < 253_402_300_800_000;
    match time.filter(|_| is_usual) {
        Some(time) => humantime::format_rfc3339_millis(time).to_string(),
        None => format!("{millis} ms"),
    }
}

/// A text from the cluster, on one line.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}'..='\u{202e}') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_and_texts_on_one_line() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(time(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(shown("a\nb\u{1b}[2J"), r"a\nb\u{1b}[2J");
    }
}
