//! What the nodes, the entity types and the busiest entities do, and what is not as it should be:
//! on a screen that goes on, or once, as text.

mod rows;
mod screen;

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    time::Duration,
};

use casty::admin::{Admin, Finding, Overview};
use serde::Serialize;

use self::rows::{Rows, Sorting};
use crate::{
    arguments::Operation,
    failure::Failure,
    stored,
    text::{self, Table},
};

/// The time between two looks of a run that prints once.
const ONCE: Duration = Duration::from_secs(1);

/// What two looks have shown.
#[derive(Debug, Serialize)]
struct Report {
    overview: Overview,
    findings: Vec<Finding>,
}

/// Runs the operation. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    (every, once): (Duration, bool),
    json: bool,
) -> Result<String, Failure> {
    if !once && !json && io::stdout().is_terminal() {
        let shown = screen::run(admin, every).await;
        return shown.map(|()| String::new()).map_err(|error| match error {
            screen::Ended::Admin(error) => Failure::new(operation, error),
            screen::Ended::Terminal(error) => Failure::output(&error),
        });
    }
    let look = async || {
        let looked = admin.overview().await;
        looked.map_err(|error| Failure::new(operation, error))
    };
    let before = look().await?;
    // What happens in a time is the difference of two looks.
    tokio::time::sleep(ONCE).await;
    let overview = look().await?;
    let rows = Rows::new(&overview, Some(&before), Sorting::default());
    let report = Report {
        findings: overview.findings(Some(&before)),
        overview,
    };
    text::either(json, &report, |report| page(&rows, report))
}

fn page(rows: &Rows, report: &Report) -> String {
    let mut page = String::new();
    let tables: [(&[&str], Vec<&[String]>); 3] = [
        (&rows::NODE, rows.nodes.iter().map(|row| &row[..]).collect()),
        (&rows::TYPE, rows.types.iter().map(|row| &row[..]).collect()),
        (
            &rows::ENTITY,
            rows.entities.iter().map(|row| &row[..]).collect(),
        ),
    ];
    for (heads, rows) in tables {
        let mut table = Table::new(heads.iter().copied());
        for row in rows {
            table.row(row.iter().cloned());
        }
        page += &table.text();
        page.push('\n');
    }
    if report.findings.is_empty() {
        page += "nothing is found that is not as it should be\n";
    }
    for finding in &report.findings {
        let (cause, cure) = (stored::shown(&finding.cause), stored::shown(&finding.cure));
        let _ = writeln!(page, "{}: {cause}\n  {cure}", rows::word(finding.severity));
    }
    page
}
