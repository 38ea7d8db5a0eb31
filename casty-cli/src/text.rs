//! Reports as text: for people by default, as JSON for programs.

use std::time::{Duration, SystemTime};

use casty::{
    admin::{
        DrainProgress, Drained, KindReport, MapVersion, MemberReport, Members, Recovered,
        ShardHomes, SilentNode,
    },
    id::{MemberId, NodeId},
    member::MemberStatus,
};

use crate::failure::Failure;

/// The report as one JSON document, or as text from `human`.
pub(crate) fn either<T: serde::Serialize>(
    json: bool,
    report: &T,
    human: impl Fn(&T) -> String,
) -> Result<String, Failure> {
    if !json {
        return Ok(human(report));
    }
    let text = serde_json::to_string_pretty(report);
    text.map(|text| text + "\n")
        .map_err(|error| Failure::output(&error.into()))
}

/// A line for each node that did not say.
pub(crate) fn silent(nodes: &[SilentNode]) -> String {
    let lines = nodes.iter();
    let lines = lines.map(|it| format!("{} does not say: {}\n", it.member.node, it.reason));
    lines.collect()
}

pub(crate) fn members(cluster: &str, report: &Members) -> String {
    let leader = match &report.leader {
        Some(leader) => format!("led by {}", leader.node),
        None => "without a leader: the cluster decides nothing".to_owned(),
    };
    let mut text = format!("cluster {cluster}, {}, {leader}\n\n", version(report.map));
    let mut table = Table::new([
        "NODE",
        "INCARNATION",
        "ADDRESS",
        "STATUS",
        "VOTE",
        "ANSWERS",
        "SERVES",
        "MAP",
        "SHARDS",
        "ENTITIES",
        "ROLES",
        "GOSSIP",
        "CERTIFICATE",
    ]);
    for member in &report.members {
        table.row([
            member.id.node.to_string(),
            member.id.incarnation.to_string(),
            member.address.to_string(),
            status(member.status).to_owned(),
            vote(member).to_owned(),
            yes(member.answered).to_owned(),
            member.serves.map_or("-", yes).to_owned(),
            map_of(member, report.map),
            member.shards.to_string(),
            or_dash(member.entities),
            roles(member),
            gossip(member),
            member
                .certificate_until
                .map_or_else(|| "-".to_owned(), until),
        ]);
    }
    text += &table.text();
    if !report.outside.is_empty() {
        text += "\nprocesses that are not members:\n\n";
        let mut table = Table::new(["NODE", "INCARNATION", "ADDRESS"]);
        for outsider in &report.outside {
            table.row([
                outsider.id.node.to_string(),
                outsider.id.incarnation.to_string(),
                outsider.address.to_string(),
            ]);
        }
        text += &table.text();
    }
    text
}

pub(crate) fn shards(cluster: &str, report: &ShardHomes) -> String {
    let mut text = format!("cluster {cluster}, {}\n\n", version(report.map));
    let kinds = report.kinds.iter().map(|kind| kind.name.as_str());
    let mut table = Table::new(["NODE"].into_iter().chain(kinds.clone()).chain(["TOTAL"]));
    for member in &report.members {
        let owned = kinds
            .clone()
            .map(|kind| member.kinds.get(kind).copied().unwrap_or(0).to_string());
        let name = member.id.node.to_string();
        let total = member.total.to_string();
        table.row([name].into_iter().chain(owned).chain([total]));
    }
    text += &table.text();
    for kind in &report.kinds {
        let owned = kind.homes.iter().filter(|home| home.owner.is_some());
        let moving = kind.homes.iter().filter(|home| home.moving_to.is_some());
        let (name, shards) = (&kind.name, kind.shards);
        let (owned, moving) = (owned.count(), moving.count());
        let head = format!("\n{name}: {shards} shards, {owned} with an owner, {moving} moving");
        text += &head;
        if let Some(copies) = &kind.copies {
            let (all, min) = (copies.copies, copies.copies_min);
            let copies = format!(", in {all} copies, acknowledged with {min}");
            text += &copies;
        }
        text.push('\n');
        if kind.homes.is_empty() {
            continue;
        }
        text.push('\n');
        text += &homes(kind).text();
    }
    text
}

/// A shard in each row.
fn homes(kind: &KindReport) -> Table {
    let columns = ["SHARD", "OWNER", "EPOCH", "MOVING TO"];
    let more = ["IN SYNC", "WANTED", "WAITS FOR"];
    let more = more.iter().filter(|_| kind.copies.is_some());
    let mut table = Table::new(columns.iter().chain(more).copied());
    for home in &kind.homes {
        let mut row = vec![
            home.shard.to_string(),
            node(home.owner.as_ref()),
            home.epoch.to_string(),
            node(home.moving_to.as_ref()),
        ];
        if let Some(copies) = &home.copies {
            let wanted: Vec<NodeId> = copies.wanted.iter().cloned().collect();
            row.extend([&copies.in_sync, &wanted, &copies.waits_for].map(|of| nodes(of)));
        }
        table.row(row);
    }
    table
}

fn nodes(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "-".to_owned();
    }
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    names.join(" ")
}

pub(crate) fn progress(progress: DrainProgress) -> String {
    let vote = if progress.votes { "a" } else { "no" };
    let copies = match progress.copies_left {
        0 => String::new(),
        left => format!("{left} copies to be made elsewhere, "),
    };
    let shards = progress.shards_left;
    format!("{shards} shards to hand over, {copies}{vote} vote")
}

pub(crate) fn drained(drained: &Drained) -> String {
    let name = &drained.id.node;
    if drained.left {
        return format!("{name} is no longer a member\n");
    }
    let kept = match drained.shards_kept {
        0 => String::new(),
        kept => format!("; {kept} shards that no other member hosts stop with it"),
    };
    format!("{name} is drained and may be stopped{kept}\n")
}

pub(crate) fn recovered(recovered: &Recovered) -> String {
    let name = &recovered.id.node;
    let silent = recovered.silent.iter();
    let silent =
        silent.map(|node| format!("{node} did not answer: what it knows was not considered\n"));
    let map = version(recovered.map);
    format!(
        "{name} serves and decides; {map}\n{}",
        silent.collect::<String>()
    )
}

fn version(map: MapVersion) -> String {
    format!("generation {}, map {}", map.generation, map.version)
}

fn status(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Joining => "joining",
        MemberStatus::Up => "up",
        MemberStatus::Leaving => "leaving",
        MemberStatus::Down => "down",
        _ => "?",
    }
}

fn vote(member: &MemberReport) -> &'static str {
    match (member.leads, member.votes) {
        (true, _) => "leads",
        (false, true) => "votes",
        (false, false) => "-",
    }
}

fn map_of(member: &MemberReport, newest: MapVersion) -> String {
    match member.map {
        None => "-".to_owned(),
        Some(map) if map.generation == newest.generation => map.version.to_string(),
        Some(map) => format!("{} of generation {}", map.version, map.generation),
    }
}

/// A time since the Unix epoch.
pub(crate) fn time(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map_or_else(
        || "-".to_owned(),
        |time| humantime::format_rfc3339_seconds(time).to_string(),
    )
}

/// The day on which a certificate ends.
fn until(seconds: u64) -> String {
    let time = time(seconds);
    let day = time.split_once('T').map_or(&*time, |(day, _)| day);
    format!("to {day}")
}

fn roles(member: &MemberReport) -> String {
    let roles: Vec<&str> = member.roles.iter().flatten().map(String::as_str).collect();
    if roles.is_empty() {
        return "-".to_owned();
    }
    roles.join(", ")
}

fn gossip(member: &MemberReport) -> String {
    if member.dead_to.is_empty() {
        return "-".to_owned();
    }
    let nodes: Vec<&str> = member.dead_to.iter().map(NodeId::as_str).collect();
    format!("dead to {}", nodes.join(", "))
}

fn node(member: Option<&MemberId>) -> String {
    or_dash(member.map(|member| &member.node))
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A table whose columns are as wide as their widest cell.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<'a>(heads: impl IntoIterator<Item = &'a str>) -> Self {
        Self(vec![heads.into_iter().map(ToOwned::to_owned).collect()])
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.0 {
            for (at, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(at) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        let mut text = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = width + 2 - cell.chars().count();
                line += cell;
                line.extend(std::iter::repeat_n(' ', blanks));
            }
            // The last column needs no padding.
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NODE", "SHARDS"]);
        table.row(["a-long-name".to_owned(), "7".to_owned()]);
        table.row(["ä".to_owned(), "12".to_owned()]);
        assert_eq!(
            table.text(),
            "NODE         SHARDS\na-long-name  7\nä            12\n"
        );
    }
}
