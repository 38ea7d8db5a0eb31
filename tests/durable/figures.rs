//! What is counted of what is stored.

use std::collections::BTreeMap;

use casty::{persistence::Memory, prelude::*};
use casty_tests::{documented, figures};

use crate::accounts::{Account, alone};

fn of(figures: &BTreeMap<String, f64>, name: &str) -> Option<f64> {
    figures.get(name).copied()
}

#[tokio::test]
async fn appends_and_their_records_are_counted_and_the_documents_have_all_names() {
    let system = alone(Memory::new());
    let before = figures(&system.metrics());
    assert_eq!(of(&before, "casty_journal_records_total"), Some(0.0));
    for _ in 0..5 {
        system.entity::<Account>("ann").deposit(5).await.unwrap();
    }
    // One that changes nothing is not stored.
    system.entity::<Account>("ann").balance().await.unwrap();
    let after = figures(&system.metrics());
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
    documented(&system.metrics());
}
