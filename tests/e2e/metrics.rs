//! What a node counts and measures.

use casty::{
    prelude::*,
    testkit::{eventually, soon},
};
use casty_tests::{Counter, documented, figures};

/// Has a message that its first state does not handle.
#[entity(name = "metrics/door")]
mod door {
    #[derive(Default)]
    #[state(initial)]
    pub(crate) struct Closed;

    #[state]
    pub(crate) struct Open;

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn open(self) -> Open {
            Open
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn close(self) -> Closed {
            Closed
        }
    }
}

/// No other test has these.
#[derive(Default)]
struct Clock;

#[entity(name = "metrics/clock")]
impl Clock {
    #[message]
    fn tick(&self) {}
}

#[tokio::test]
async fn what_happens_to_entities_is_counted() {
    casty_tests::log();
    let node = ActorSystem::builder("metrics-counts")
        .start()
        .await
        .unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    for n in 0..7 {
        let counter = node.entity::<Counter>(format!("c{n}"));
        counter.add(1).await.unwrap();
        counter.add(1).await.unwrap();
    }
    node.entity::<Counter>("c0")
        .explode("on purpose".into())
        .await
        .unwrap_err();
    node.entity::<Door>("d").close().await.unwrap_err();
    // A run counts what it has handled once it has handled all that was there.
    let failed = format!(
        "casty_messages_handled_total{{entity=\"{}\",message=\"explode\"}}",
        Counter::NAME
    );
    let refused = "casty_messages_refused_total{entity=\"metrics/door\",reason=\"unhandled\"}";
    let counting = async {
        loop {
            let counted = figures(&node.metrics());
            let add = format!(
                "casty_messages_handled_total{{entity=\"{}\",message=\"add\"}}",
                Counter::NAME
            );
            let is_done = counted.get(&add) >= Some(&14.0)
                && counted.get(&failed) >= Some(&1.0)
                && counted.get(refused) >= Some(&1.0);
            if is_done {
                return counted;
            }
            tokio::task::yield_now().await;
        }
    };
    let counted = soon("all is counted", counting).await;
    let of = |name: &str| counted.get(name).copied();
    let kind = Counter::NAME;
    let handled = |message: &str| {
        of(&format!(
            "casty_messages_handled_total{{entity=\"{kind}\",message=\"{message}\"}}"
        ))
    };
    assert_eq!(handled("add"), Some(14.0));
    assert_eq!(handled("explode"), Some(1.0));
    assert_eq!(handled("value"), Some(0.0));
    let entities = |event: &str| {
        of(&format!(
            "casty_entities_total{{entity=\"{kind}\",event=\"{event}\"}}"
        ))
    };
    assert!(entities("activated") >= Some(7.0), "{counted:?}");
    assert_eq!(entities("failed"), Some(1.0));
    assert_eq!(
        of("casty_messages_refused_total{entity=\"metrics/door\",reason=\"unhandled\"}"),
        Some(1.0)
    );
    assert_eq!(of("casty_members{status=\"up\"}"), Some(1.0));
    assert_eq!(
        (of("casty_leader"), of("casty_ready")),
        (Some(1.0), Some(1.0))
    );
    let durations = format!("casty_handler_duration_seconds_count{{entity=\"{kind}\"}}");
    let all = counted.iter().find(|(name, _)| {
        name.starts_with("casty_handler_duration_seconds_bucket")
            && name.contains(&format!("entity=\"{kind}\""))
            && name.contains("le=\"+Inf\"")
    });
    assert_eq!(all.map(|(_, count)| *count), of(&durations), "{counted:?}");
    // Although each message was alone in its mailbox.
    assert!(of(&durations) >= Some(1.0), "{counted:?}");
    node.shutdown().await.unwrap();
}

/// Goes along when its shard moves.
#[message]
#[derive(Default)]
struct Bag {
    letters: String,
}

#[entity(name = "metrics/bag", shards = 16, migrate)]
impl Bag {
    #[message]
    fn put(&mut self, letter: char) -> usize {
        self.letters.push(letter);
        self.letters.len()
    }
}

#[tokio::test]
async fn moves_and_asks_are_timed() {
    let node = |name: &str| ActorSystem::builder("metrics-moves").node_id(name);
    let first = node("n1").start().await.unwrap();
    soon("it is up", first.wait_for(1)).await.unwrap();
    for id in 0..64 {
        let put = first.entity::<Bag>(id.to_string()).put('x').await;
        assert_eq!(put, Ok(1));
    }
    let of = |name: &str| {
        let name = format!("{name}{{entity=\"metrics/bag\"}}");
        figures(&first.metrics()).get(&name).copied()
    };
    assert!(of("casty_ask_duration_seconds_count") >= Some(1.0));
    assert_eq!(of("casty_shard_move_duration_seconds_count"), Some(0.0));
    let second = node("n2").seeds([first.address()]).start().await.unwrap();
    let figures = async || {
        let moves = of("casty_shard_move_duration_seconds_count");
        (moves, of("casty_shard_move_bytes_total"))
    };
    let moved =
        |(moves, bytes): &(Option<f64>, Option<f64>)| *moves >= Some(1.0) && *bytes >= Some(1.0);
    eventually("shards move", figures, moved).await;
    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_figure_has_the_id_of_an_entity_and_the_documents_have_all_names() {
    casty_tests::log();
    let node = ActorSystem::builder("metrics-labels")
        .start()
        .await
        .unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    let id = "an-id-that-nothing-else-has";
    node.entity::<Counter>(id).add(1).await.unwrap();
    let text = node.metrics();
    assert!(!text.contains(id), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let names = documented(&text);
    assert!(names.len() > 12, "{names:?}");
    let dashboard = format!("{}/../docs/grafana.json", env!("CARGO_MANIFEST_DIR"));
    let dashboard = std::fs::read_to_string(dashboard).unwrap();
    // A dashboard asks for nothing that there is not.
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = 0;
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            for word in words.filter(|word| word.starts_with("casty_")) {
                asked += 1;
                let family = ["_total", "_bucket", "_sum", "_count"];
                let family = family.iter().find_map(|end| word.strip_suffix(end));
                let family = family.unwrap_or(word);
                let is_there = names.iter().any(|(name, _)| *name == family);
                // Only a node with TLS, or with a journal, has these; `durable` looks at them.
                let optional = [
                    "casty_certificate_expiry_timestamp_seconds",
                    "casty_journal",
                    "casty_projection",
                    "casty_reminders",
                    "casty_sends",
                ];
                let is_optional = optional.iter().any(|it| family.starts_with(it));
                assert!(is_there || is_optional, "grafana.json asks for {word}");
            }
        }
    }
    assert!(asked >= 12, "{asked}");
    node.shutdown().await.unwrap();
}

#[test]
fn the_same_figures_go_to_the_facade() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    recorder.install().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let system = ActorSystem::local("metrics-facade");
        system.publish_metrics();
        let clock = system.entity::<Clock>("c");
        for _ in 0..3 {
            clock.tick().await.unwrap();
        }
        let handled = async {
            loop {
                let all = snapshots.snapshot().into_vec().into_iter();
                let mut found = all.filter_map(|(key, _, _, value)| {
                    let key = key.key();
                    let is_it = key.name() == "casty_messages_handled_total"
                        && key.labels().any(|label| label.value() == "metrics/clock");
                    is_it.then_some(value)
                });
                // Others publish it as well, and have counted none.
                if let Some(DebugValue::Counter(count @ 1..)) = found.next() {
                    return count;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert_eq!(soon("the facade is told", handled).await, 3);
    });
}
