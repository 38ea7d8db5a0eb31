//! Runs `casty entities`, `casty history` and `casty erase` against nodes in the test's own
//! process.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use casty::{
    persistence::{
        Journal, Memory,
        faults::{Faults, FaultyStore},
    },
    prelude::*,
    remind::Remind,
    testkit::{self, soon},
};
use serde_json::json;

use crate::common::ask;

/// An account.
#[message]
#[derive(Default)]
pub struct Account {
    cents: u64,
}

#[entity(shards = 8, event_sourced)]
impl Account {
    /// Adds.
    #[message]
    pub fn deposit(&self, cents: u64, note: Option<String>) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { cents, note }).reply(|account| account.cents)
    }

    /// The balance.
    #[message]
    pub fn balance(&self) -> u64 {
        self.cents
    }

    #[event(version = 2)]
    fn deposited(&mut self, cents: u64, _note: Option<String>) {
        self.cents += cents;
    }

    #[upcast(from = 1)]
    fn deposited_v1(cents: u64) -> AccountEvent {
        AccountEvent::Deposited { cents, note: None }
    }
}

/// A note. Its name has a slash.
#[message]
#[derive(Default)]
pub struct Note {
    lines: Vec<String>,
}

#[entity(name = "office/note", shards = 2, durable)]
impl Note {
    /// Adds a line.
    #[message]
    pub fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Reminds of itself.
    #[message]
    pub fn remind(&mut self, ctx: &mut Context<Self>) {
        let daily = Remind::every(Duration::from_hours(24));
        ctx.remind(
            "read it",
            daily,
            NoteMsg::Add {
                line: "read".to_owned(),
            },
        );
        ctx.remind(
            "burn it",
            Remind::after(Duration::from_hours(1)),
            NoteMsg::Burn {},
        );
        ctx.remind("break", Remind::after(Duration::ZERO), NoteMsg::Snap {});
    }

    /// It is gone.
    #[message]
    pub fn burn(&mut self) {
        self.lines.clear();
    }

    #[message(internal)]
    fn snap(&mut self) {
        panic!("it does not break");
    }
}

/// It lives in memory alone.
#[derive(Default)]
pub struct Ghost {
    seen: u64,
}

#[entity(shards = 2)]
impl Ghost {
    /// How often.
    #[message]
    pub fn see(&mut self) -> u64 {
        self.seen += 1;
        self.seen
    }
}

async fn bank(cluster: &str, n: usize, store: impl Journal + Clone) -> Vec<ActorSystem> {
    testkit::cluster_of(n, |i| {
        let builder = ActorSystem::builder(cluster).node_id(format!("node-{i}"));
        builder.journal(store.clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_listed_with_their_node_and_their_last_record() {
    let nodes = bank("listed", 2, Memory::new()).await;
    for n in 0..12 {
        let account = nodes[0].entity::<Account>(format!("a{n:02}"));
        soon("a deposit", account.deposit(1, None)).await.unwrap();
    }
    let ghost = nodes[1].entity::<Ghost>("g\n\u{1b}[2J");
    soon("it is seen", ghost.see()).await.unwrap();

    let text = ask("listed", &nodes[0], "entities Account")
        .await
        .succeeded();
    let lines: Vec<&str> = text.lines().collect();
    let heads: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heads, ["ID", "SHARD", "ACTIVE", "ON", "RECORDS", "LAST"]);
    assert_eq!(lines.len(), 13, "{text}");
    let mut ids: Vec<&str> = Vec::new();
    for line in &lines[1..] {
        let cells: Vec<&str> = line.split_whitespace().collect();
        ids.push(cells[0]);
        assert!(cells[2].starts_with("node-"), "{line}");
        assert_eq!(cells[3], "1", "{line}");
        assert!(cells[4].ends_with('Z'), "{line}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 12);

    let few = ask(
        "listed",
        &nodes[1],
        "entities Account --prefix a0 --limit 3",
    )
    .await;
    let few = few.succeeded();
    assert_eq!(few.lines().count(), 5, "{few}");
    assert!(
        few.ends_with("there are more; give a greater --limit\n"),
        "{few}"
    );

    let json = ask(
        "listed",
        &nodes[1],
        "entities Account --stored --prefix a11 --json",
    );
    let json = json.await.json();
    assert_eq!(json["more"], json!(false));
    let entity = &json["entities"][0];
    assert_eq!(
        (&entity["id"], &entity["stored"]["seq"]),
        (&json!("a11"), &json!(1))
    );

    let ghosts = ask("listed", &nodes[0], "entities Ghost --active")
        .await
        .succeeded();
    assert!(ghosts.contains(r"g\n\u{1b}[2J"), "{ghosts}");
    let none = ask("listed", &nodes[0], "entities Account --active --prefix z").await;
    assert_eq!(none.succeeded(), "no entity of Account is there\n");
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_shows_events_and_states_without_knowing_their_types() {
    let nodes = bank("told", 2, Memory::new()).await;
    let alice = nodes[0].entity::<Account>("alice");
    for cents in 1..=3 {
        let note = (cents == 2).then(|| "two \"2\"".to_owned());
        soon("a deposit", alice.deposit(cents, note)).await.unwrap();
    }
    let note = nodes[0].entity::<Note>("a/b");
    soon("a line", note.add("milk".to_owned())).await.unwrap();

    let text = ask("told", &nodes[1], "history Account/alice")
        .await
        .succeeded();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Account/alice");
    assert!(
        lines[4].ends_with(r#"deposited (version 2) {"cents":2,"note":"two \"2\""}"#),
        "{text}"
    );
    assert_eq!(lines.len(), 6, "{text}");

    let json = ask("told", &nodes[0], "history Account/alice --from 2 --json")
        .await
        .json();
    assert_eq!(
        (&json["kind"], &json["id"]),
        (&json!("Account"), &json!("alice"))
    );
    let records = json["records"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["seq"], json!(2));
    let arguments = json!({ "cents": 2, "note": "two \"2\"" });
    let event = json!({ "name": "deposited", "version": 2, "arguments": arguments });
    assert_eq!(records[0]["events"], json!([event]));

    let text = ask("told", &nodes[1], "history office/note/a/b")
        .await
        .succeeded();
    assert!(text.contains(r#"state {"lines":["milk"]}"#), "{text}");
    let more = ask("told", &nodes[1], "history Account/alice --limit 1").await;
    assert!(more.succeeded().ends_with("give a greater --limit\n"));
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_entity_begins_anew() {
    let nodes = bank("erased", 2, Memory::new()).await;
    let alice = nodes[0].entity::<Account>("alice");
    soon("a deposit", alice.deposit(5, None)).await.unwrap();

    // Nothing answers the question.
    let error = ask("erased", &nodes[0], "erase Account/alice")
        .await
        .failed(2);
    assert!(error.contains("this is not confirmed; "), "{error}");
    assert_eq!(soon("a balance", alice.balance()).await, Ok(5));

    let text = ask("erased", &nodes[1], "erase Account/alice --yes")
        .await
        .succeeded();
    assert!(text.starts_with("Account/alice is erased"), "{text}");
    assert_eq!(soon("a balance", alice.balance()).await, Ok(0));
    let text = ask("erased", &nodes[0], "history Account/alice")
        .await
        .succeeded();
    assert_eq!(text.matches("forgotten").count(), 2, "{text}");

    let again = ask("erased", &nodes[1], "erase Account/alice --yes")
        .await
        .failed(1);
    assert!(
        again.contains("nothing is stored of `Account/alice`"),
        "{again}"
    );
    testkit::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_is_wrong_and_what_to_do() {
    let store = FaultyStore::new(Arc::new(Memory::new())).connection(0);
    let nodes = bank("wrong", 1, store.clone()).await;
    let alice = nodes[0].entity::<Account>("alice");
    soon("a deposit", alice.deposit(5, None)).await.unwrap();

    let error = ask("wrong", &nodes[0], "entities account").await.failed(1);
    assert!(
        error.contains("no member hosts an entity type `account`"),
        "{error}"
    );
    assert!(error.ends_with("did you mean `Account`?"), "{error}");
    let error = ask("wrong", &nodes[0], "history Acount/alice")
        .await
        .failed(1);
    assert!(error.ends_with("did you mean `Account`?"), "{error}");
    let error = ask("wrong", &nodes[0], "entities Spaceship")
        .await
        .failed(1);
    assert!(error.contains("`casty shards` shows"), "{error}");

    for command in [
        "history Ghost/g",
        "erase Ghost/g --yes",
        "entities Ghost --stored",
    ] {
        let error = ask("wrong", &nodes[0], command).await.failed(1);
        assert!(
            error.contains("the entities of `Ghost` are not stored"),
            "{error}"
        );
    }
    let error = ask("wrong", &nodes[0], "history Account/nobody")
        .await
        .failed(1);
    assert!(
        error.contains("nothing is stored of `Account/nobody`"),
        "{error}"
    );
    let error = ask("wrong", &nodes[0], "history alice").await.failed(2);
    assert!(error.contains("`alice` names no entity"), "{error}");
    let error = ask("wrong", &nodes[0], "history Account/").await.failed(2);
    assert!(error.contains("must not be empty"), "{error}");

    store.set(Faults {
        is_away: true,
        ..Faults::default()
    });
    for command in ["entities Account", "history Account/alice"] {
        let error = ask("wrong", &nodes[0], command).await.failed(1);
        assert!(
            error.contains("the store is unavailable: the store is away"),
            "{error}"
        );
        assert!(error.contains("check that the store runs"), "{error}");
    }
    let active = ask("wrong", &nodes[0], "entities Account --active")
        .await
        .succeeded();
    assert!(active.contains("alice"), "{active}");
    store.set(Faults::default());
    testkit::shutdown(nodes).await;
}

/// A wall that takes nothing.
#[message]
#[derive(Default)]
pub struct Wall {
    thrown: u32,
}

#[entity(shards = 4, durable)]
impl Wall {
    /// Throws something at another wall.
    #[message]
    pub fn throw(&mut self, at: WallRef, ctx: &mut Context<Self>) {
        self.thrown += 1;
        ctx.send(at.hit());
    }

    /// It fails.
    #[message]
    pub fn hit(&mut self) {
        panic!("it does not move");
    }
}

#[tokio::test]
async fn the_outbox_shows_what_is_not_taken_and_why() {
    let nodes = bank("outbox", 2, Memory::new()).await;
    let text = ask("outbox", &nodes[0], "outbox").await.succeeded();
    assert_eq!(text, "nothing waits: all that was sent is taken\n");
    let wall = nodes[0].entity::<Wall>("north");
    for _ in 0..3 {
        let thrown = wall.throw(nodes[0].entity::<Wall>("south"));
        soon("it is thrown", thrown).await.unwrap();
    }
    let look = || async { ask("outbox", &nodes[1], "outbox").await.succeeded() };
    let has_failed = |text: &String| text.contains("it does not move");
    let text = testkit::eventually("a try has failed", look, has_failed).await;
    assert!(text.starts_with("3 sends wait to be taken\n"), "{text}");
    assert!(text.contains("Wall/south"), "{text}");
    let report = ask("outbox", &nodes[0], "outbox --json").await.json();
    assert_eq!(report["sends"], json!(3), "{report}");
    let receiver = &report["receivers"][0];
    assert_eq!(
        (&receiver["kind"], &receiver["to"], &receiver["sends"]),
        (&json!("Wall"), &json!("south"), &json!(3)),
        "{report}"
    );
    let refused = ask("outbox", &nodes[0], "give-up Wall/south").await;
    refused.failed(2);
    let text = ask("outbox", &nodes[0], "give-up Wall/south --yes").await;
    let text = text.succeeded();
    assert!(text.contains("Wall/north"), "{text}");
    let fewer = |text: &String| text.starts_with("2 sends wait");
    testkit::eventually("one is taken", look, fewer).await;
    testkit::shutdown(nodes).await;
}

#[tokio::test]
async fn reminders_are_shown_with_what_fails_before_what_is_due() {
    let nodes = bank("reminders", 2, Memory::new()).await;
    let text = ask("reminders", &nodes[0], "reminders").await.succeeded();
    assert_eq!(text, "no reminder is pending\n");
    let note = nodes[0].entity::<Note>("a/b");
    soon("they are set", note.remind()).await.unwrap();
    let look = || async {
        ask("reminders", &nodes[1], "reminders office/note")
            .await
            .succeeded()
    };
    let has_failed = |text: &String| text.contains("it does not break");
    let text = testkit::eventually("a try has failed", look, has_failed).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "3 reminders are pending, 3 are shown");
    let names = [
        "office/note/a/b  break",
        "office/note/a/b  burn it",
        "office/note/a/b  read it",
    ];
    for (line, name) in lines[3..].iter().zip(names) {
        assert!(line.contains(name), "{text}");
    }
    assert!(text.contains("every 86400s"), "{text}");
    let report = ask("reminders", &nodes[0], "reminders --limit 1 --json");
    let report = report.await.json();
    assert_eq!(report["pending"], json!(3), "{report}");
    let shown = report["reminders"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["name"]), (1, &json!("break")));
    let text = ask("reminders", &nodes[0], "reminders Ghost")
        .await
        .succeeded();
    assert!(text.contains("node-0 does not say: "), "{text}");
    assert!(text.contains("are not stored"), "{text}");
    testkit::shutdown(nodes).await;
}
