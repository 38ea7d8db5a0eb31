//! Shards that have lost all their copies.

use std::{collections::BTreeMap, time::Duration};

use casty::{
    admin::{Admin, BeginFrom, BegunAnew, LostKind, LostShard, LostShards, OldCopy},
    id::NodeId,
};

use crate::{
    arguments::Operation,
    failure::Failure,
    stored::{is_meant, shown, time},
    text::{self, Table},
};

/// Runs `casty recover --lost`. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    json: bool,
) -> Result<String, Failure> {
    let Operation::Recover {
        kind,
        shards,
        from,
        empty,
        yes,
        ..
    } = operation
    else {
        return Ok(String::new());
    };
    let failed = |error| Failure::new(operation, error);
    let lost = admin.lost(kind.as_deref(), shards).await.map_err(failed)?;
    let from = match from.as_deref() {
        Some("best") => BeginFrom::Best,
        Some(node) => BeginFrom::Node(NodeId::new(node)),
        None if *empty => BeginFrom::Empty,
        None => return text::either(json, &lost, report),
    };
    if !lost.is_empty() && !json {
        // The result alone goes to standard output.
        eprintln!("{}{}\n", report(&lost), given_up(&lost, &from));
    }
    if !lost.is_empty() && !yes && !is_meant("give all of that up for good") {
        return Err(Failure::unconfirmed(operation));
    }
    let begun = admin.begin_anew(&lost, from).await.map_err(failed)?;
    text::either(json, &begun, result)
}

/// What is lost, and what there is instead.
fn report(lost: &LostShards) -> String {
    let mut text = String::new();
    for kind in lost.kinds.iter().filter(|kind| !kind.lost.is_empty()) {
        text += &report_of_kind(kind);
        text.push('\n');
    }
    if lost.is_empty() {
        text += "no shard has lost all its copies\n";
    }
    for node in &lost.silent {
        let node = shown(node);
        let line = format!("{node} did not answer: copies that it may have are not listed\n");
        text += &line;
    }
    text
}

fn report_of_kind(kind: &LostKind) -> String {
    // Most of them were on the same nodes.
    let mut groups: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for lost in &kind.lost {
        *groups.entry(waits_for(lost)).or_default() += 1;
    }
    let (name, lost, all) = (shown(&kind.name), kind.lost.len(), kind.shards);
    let mut text = format!("{name}: {lost} of {all} shards have lost all their copies\n");
    for (nodes, count) in groups {
        let nodes = nodes.join(" or ");
        let line = format!("  {count} wait for {nodes}\n");
        text += &line;
    }
    text.push('\n');
    let mut table = Table::new(["SHARD", "WAITS FOR", "EPOCH", "OUT-OF-DATE COPIES"]);
    for lost in &kind.lost {
        let nodes = lost.waits_for.iter().map(|gone| shown(gone.node.as_str()));
        let copies = lost.copies.iter().map(copy);
        let copies = copies.collect::<Vec<_>>().join("; ");
        table.row([
            lost.shard.to_string(),
            nodes.collect::<Vec<_>>().join(" "),
            lost.epoch.to_string(),
            if copies.is_empty() {
                "none".to_owned()
            } else {
                copies
            },
        ]);
    }
    text + &table.text()
}

fn waits_for(lost: &LostShard) -> Vec<String> {
    let nodes = lost.waits_for.iter().map(|gone| {
        let node = shown(gone.node.as_str());
        match gone.gone_for() {
            Some(time) => {
                let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
                format!("{node} (gone for {time} at least)")
            }
            None => node,
        }
    });
    nodes.collect()
}

fn copy(copy: &OldCopy) -> String {
    let (node, records, epoch) = (shown(copy.node.as_str()), copy.records, copy.epoch);
    let at = copy.at.map_or_else(|| "?".to_owned(), time);
    format!("{node} has {records} records, the last of epoch {epoch} and {at}")
}

/// What the operator is asked about.
fn given_up(lost: &LostShards, from: &BeginFrom) -> String {
    let all = || lost.kinds.iter().flat_map(|kind| &kind.lost);
    let (count, old) = (
        all().count(),
        all().filter(|lost| !lost.copies.is_empty()).count(),
    );
    let gone = "what those nodes alone have never comes back, even if they do";
    match from {
        BeginFrom::Empty => format!(
            "{count} shards are to begin with nothing, although there is an older copy of {old} of \
             them; {gone}"
        ),
        BeginFrom::Node(node) => {
            let has = |lost: &&LostShard| lost.copies.iter().any(|copy| copy.node == *node);
            let with = all().filter(has).count();
            let node = shown(node.as_str());
            format!("{with} of {count} shards are to go on with the older copy of {node}; {gone}")
        }
        _ => format!("{old} of {count} shards are to go on with the best older copy; {gone}"),
    }
}

fn result(begun: &BegunAnew) -> String {
    let mut text = String::new();
    for (kind, shards) in &begun.begun {
        let kind = shown(kind);
        let mut froms: BTreeMap<Option<&NodeId>, usize> = BTreeMap::new();
        for shard in shards {
            *froms.entry(shard.from.as_ref()).or_default() += 1;
        }
        for (from, count) in froms {
            let with = from.map_or_else(
                || "with nothing".to_owned(),
                |node| format!("with the copy of {}", shown(node.as_str())),
            );
            let line = format!("{kind}: {count} shards go on {with}\n");
            text += &line;
        }
    }
    for (kind, shards) in &begun.left {
        let (kind, count) = (shown(kind), shards.len());
        let line = format!(
            "{kind}: {count} shards are as they were: there is no copy, or a node is back\n"
        );
        text += &line;
    }
    text
}
