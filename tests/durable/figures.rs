//! What is counted of what is stored.

use std::collections::BTreeMap;

use casty::{persistence::Memory, prelude::*};

use crate::accounts::{Account, alone};

/// The figures of a text, each under its name with its labels in braces.
fn figures(system: &ActorSystem) -> BTreeMap<String, f64> {
    let text = system.metrics();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(figure).collect()
}

fn of(figures: &BTreeMap<String, f64>, name: &str) -> Option<f64> {
    figures.get(name).copied()
}

#[tokio::test]
async fn appends_and_their_records_are_counted_and_the_documents_have_all_names() {
    let system = alone(Memory::new());
    let before = figures(&system);
    assert_eq!(of(&before, "casty_journal_records_total"), Some(0.0));
    for _ in 0..5 {
        system.entity::<Account>("ann").deposit(5).await.unwrap();
    }
    // One that changes nothing is not stored.
    system.entity::<Account>("ann").balance().await.unwrap();
    let after = figures(&system);
    assert_eq!(of(&after, "casty_journal_records_total"), Some(5.0));
    let appends = |outcome: &str| {
        let name = format!("casty_journal_appends_total{{outcome=\"{outcome}\"}}");
        of(&after, &name)
    };
    let written = appends("written");
    assert!(written >= Some(1.0) && written <= Some(5.0), "{written:?}");
    for outcome in ["fenced", "not_written", "unknown", "not_enough_copies"] {
        assert_eq!(appends(outcome), Some(0.0), "{outcome}");
    }
    let timed = of(&after, "casty_journal_append_duration_seconds_count");
    assert_eq!(timed, written);
    let kind = Account::NAME;
    for name in ["casty_sends_waiting", "casty_reminders_pending"] {
        let name = format!("{name}{{entity=\"{kind}\"}}");
        assert_eq!(of(&after, &name), Some(0.0));
    }
    let listed = format!("{}/../docs/metrics.md", env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_to_string(listed).unwrap();
    let text = system.metrics();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for (name, kind) in kinds.filter_map(|line| line.split_once(' ')) {
        let ending = if kind == "counter" { "_total" } else { "" };
        let row = format!("| `{name}{ending}` | {kind} |");
        assert!(listed.contains(&row), "docs/metrics.md lacks {row}");
    }
}
