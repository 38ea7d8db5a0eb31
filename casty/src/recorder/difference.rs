//! Where two values differ, for people.

use super::{recording::Noted, value::Value};

/// How many differences between two values are named.
const NAMED_MAX: usize = 5;

/// Where a state differs from what was recorded. Nothing, if either is only known by its digest.
pub(crate) fn of_states(now: &Noted, recorded: &Noted) -> Vec<String> {
    let (Noted::Whole(now), Noted::Whole(recorded)) = (now, recorded) else {
        return Vec::new();
    };
    match (Value::of_state(now), Value::of_state(recorded)) {
        (Some(now), Some(recorded)) => of_values(&now, &recorded),
        _ => vec!["it cannot be shown".to_owned()],
    }
}

fn of_values(now: &Value, recorded: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ("", recorded, now, &mut found);
    if found.len() > NAMED_MAX {
        let more = found.len() - NAMED_MAX;
        found.truncate(NAMED_MAX);
        found.push(format!("and {more} more"));
    }
    found
}

fn differ(path: &str, recorded: &Value, now: &Value, found: &mut Vec<String>) {
    let place = || if path.is_empty() { "it" } else { path };
    match (recorded, now) {
        (recorded, now) if recorded == now => {}
        (Value::Map(recorded), Value::Map(now)) => {
            for (name, old) in recorded {
                let path = below(path, name);
                match now.iter().find(|(other, _)| other == name) {
                    Some((_, new)) => differ(&path, old, new, found),
                    None => found.push(format!("`{path}` is gone, it was {old}")),
                }
            }
            let fresh = |(name, _): &&(Value, Value)| !recorded.iter().any(|it| it.0 == *name);
            for (name, new) in now.iter().filter(fresh) {
                let path = below(path, name);
                found.push(format!("`{path}` is {new}, and was not there"));
            }
        }
        (Value::List(recorded), Value::List(now)) if are_in_another_order(recorded, now) => {}
        (Value::List(recorded), Value::List(now)) if recorded.len() == now.len() => {
            for (at, (old, new)) in recorded.iter().zip(now).enumerate() {
                differ(&format!("{path}[{at}]"), old, new, found);
            }
        }
        (recorded, now) => found.push(format!("`{}` is {now}, it was {recorded}", place())),
    }
}

/// A `HashSet` is written in another order in each process.
fn are_in_another_order(recorded: &[Value], now: &[Value]) -> bool {
    let mut left: Vec<&Value> = now.iter().collect();
    let mut takes = |value: &Value| {
        let at = left.iter().position(|other| *other == value);
        at.map(|at| left.swap_remove(at)).is_some()
    };
    recorded.len() == now.len() && recorded.iter().all(&mut takes)
}

fn below(path: &str, name: &Value) -> String {
    let name = match name {
        Value::Text(name) => name.clone(),
        other => other.to_string(),
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(balance: i64, limit: Value) -> Value {
        let entry = |name: &str, value| (Value::Text(name.to_owned()), value);
        Value::Map(vec![
            entry("owner", Value::Text("ada".to_owned())),
            entry("balance", Value::Whole(balance)),
            entry("limit", limit),
            entry(
                "entries",
                Value::List(vec![Value::Whole(1), Value::Whole(balance)]),
            ),
        ])
    }

    #[test]
    fn differences_are_named_where_they_are() {
        let (now, recorded) = (account(-5, Value::Natural(2)), account(4, Value::Nothing));
        assert_eq!(
            of_values(&now, &recorded),
            [
                "`balance` is -5, it was 4",
                "`limit` is 2, it was none",
                "`entries[1]` is -5, it was 4",
            ]
        );
        assert!(of_values(&now, &now).is_empty());
        let list = |numbers: [u64; 3]| Value::List(numbers.map(Value::Natural).into());
        assert!(of_values(&list([1, 2, 2]), &list([2, 1, 2])).is_empty());
        assert_eq!(of_values(&list([1, 2, 2]), &list([2, 1, 1])).len(), 3);
    }
}
