//! Why an entity does not answer.

use std::{fmt::Write as _, time::Duration};

use casty::admin::{Activity, Admin, Why, WhyEnd, WhyStep};

use crate::{arguments::Operation, failure::Failure, stored, text};

/// Runs the operation. Returns the text to print.
pub(crate) async fn run(
    admin: &Admin,
    operation: &Operation,
    entity: &str,
    json: bool,
) -> Result<String, Failure> {
    let (kind, id) = stored::path(admin, operation, entity).await?;
    let why = admin.why(kind, id).await;
    let why = why.map_err(|error| Failure::new(operation, error))?;
    text::either(json, &why, story)
}

/// What is known, a paragraph for each entity.
fn story(why: &Why) -> String {
    let mut story = String::new();
    for step in &why.steps {
        story += &paragraph(step);
    }
    if why.end != WhyEnd::NoneAwaited {
        let _ = writeln!(story, "{}", stored::shown(&why.end.to_string()));
    }
    story
}

fn paragraph(step: &WhyStep) -> String {
    let entity = format!("{}/{}", step.kind, step.id);
    let mut text = stored::shown(&entity);
    let _ = match (&step.node, step.owned_for) {
        (Some(node), Some(owned_for)) => writeln!(
            text,
            " is on {node}, which has had its shard, {}, for {}.",
            step.shard,
            rounded(owned_for)
        ),
        (Some(node), None) => writeln!(text, " is on {node}, in shard {}.", step.shard),
        (None, Some(_)) => writeln!(text, " is in this process."),
        (None, None) => writeln!(
            text,
            " has no home: no node owns its shard, {}. A message gives it one.",
            step.shard
        ),
    };
    if let Some(activity) = step.activity {
        let state = step.state.as_ref();
        let subject = state.map_or_else(
            || "It ".to_owned(),
            |state| format!("In state {state}, it "),
        );
        let _ = match &step.handling {
            Some(handling) => writeln!(
                text,
                "  {subject}handles {}, for {}.",
                stored::shown(&handling.message),
                rounded(handling.running_for)
            ),
            None => writeln!(text, "  {subject}{activity}."),
        };
    } else if step.node.is_some() || step.owned_for.is_some() {
        let _ = writeln!(text, "  It is not active: the next message starts it.");
    }
    if step.queued > 0 {
        let _ = writeln!(text, "  {} messages wait in its mailbox.", step.queued);
    }
    for ask in &step.waits_for {
        let _ = writeln!(
            text,
            "  It waits for {}, which it asked {} {} ago.",
            stored::shown(&format!("{}/{}", ask.kind, ask.id)),
            stored::shown(&ask.message),
            rounded(ask.asked_for)
        );
    }
    let is_alone = step.waits_for.is_empty() && step.activity == Some(Activity::AtWork);
    if is_alone && step.handling.is_some() {
        let _ = writeln!(
            text,
            "  It waits for no actor: its code computes, or awaits something else."
        );
    }
    for moved in &step.last_moves {
        let how = if moved.by_failover {
            "was Down"
        } else {
            "handed it over"
        };
        let _ = writeln!(
            text,
            "  Its shard went from {} to {} {} ago: {} {how}.",
            moved.from,
            moved.to,
            rounded(moved.ago),
            moved.from
        );
    }
    if let Some(failure) = &step.last_failure {
        let _ = writeln!(
            text,
            "  It failed {} ago, {} times as far as that node remembers: {}",
            rounded(failure.ago),
            failure.count,
            stored::shown(&failure.reason)
        );
    }
    text
}

/// A time for people: to a tenth of a second, and to a second from a minute on.
fn rounded(time: Duration) -> String {
    let time = if time < Duration::from_mins(1) {
        let tenths = time.as_millis().div_euclid(100);
        Duration::from_millis(u64::try_from(tenths).unwrap_or_default() * 100)
    } else {
        Duration::from_secs(time.as_secs())
    };
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(rounded(Duration::from_micros(4_876_543)), "4s 800ms");
        assert_eq!(rounded(Duration::from_millis(3)), "0s");
        assert_eq!(rounded(Duration::from_millis(3_723_900)), "1h 2m 3s");
    }
}
