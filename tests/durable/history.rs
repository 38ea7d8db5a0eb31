//! `history`: the records of an entity.

use casty::{
    error::StoredError,
    history::{History, HistoryEntry, Recorded},
    persistence::{Memory, faults::Faults},
    prelude::*,
    testkit::{self, soon},
};

use crate::accounts::{
    Account, AccountEvent, Euros, Ghost, Note, alone, append, away, bank, connected, event_body,
};

async fn all<E>(mut history: History<E>) -> Vec<HistoryEntry<E>> {
    let mut entries = Vec::new();
    while let Some(page) = soon("a page", history.next_page()).await.unwrap() {
        assert!(!page.is_empty(), "an empty page");
        entries.extend(page);
    }
    entries
}

/// Each event of a record, as it is stored.
fn told(entry: &HistoryEntry<Account>) -> Vec<String> {
    match &entry.recorded {
        Recorded::Events(events) => {
            let told = events.iter().map(|event| {
                let arguments = event.arguments().unwrap();
                format!("{} {} {arguments}", event.name(), event.version())
            });
            told.collect()
        }
        Recorded::Forgotten => vec!["forgotten".to_owned()],
        Recorded::Unreadable(why) => vec![format!("unreadable: {why}")],
        other => vec![format!("{other:?}")],
    }
}

#[tokio::test]
async fn events_are_read_in_order_page_by_page() {
    let system = alone(Memory::new());
    let alice = system.entity::<Account>("alice");
    for cents in 1..=10 {
        alice.deposit(cents).await.unwrap();
        system.entity::<Account>("bob").deposit(1).await.unwrap();
    }
    let entries = all(system.history::<Account>("alice").page_size(3)).await;
    assert_eq!(entries.len(), 10);
    for (n, entry) in (1..).zip(&entries) {
        assert_eq!(entry.seq, n);
        assert!(!entry.erases);
        assert!(entry.at > 1_600_000_000_000);
        let deposited = format!(r#"deposited 2 {{"cents":{n}}}"#);
        assert_eq!(
            told(entry),
            [deposited, format!(r#"noted 1 {{"note":"+{n}"}}"#)]
        );
    }
    assert!(entries.is_sorted_by(|a, b| a.position < b.position));
    let Recorded::Events(events) = &entries[3].recorded else {
        panic!("no events: {entries:?}");
    };
    assert!(matches!(
        events[0].decode().unwrap()[..],
        [AccountEvent::Deposited { cents: 4 }]
    ));
    let late = all(system.history::<Account>("alice").after(8)).await;
    assert_eq!(
        late.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [9, 10]
    );
    assert_eq!(all(system.history::<Account>("nobody")).await.len(), 0);
}

#[tokio::test]
async fn a_state_is_read_as_its_fields() {
    let system = alone(Memory::new());
    let note = system.entity::<Note>("n");
    note.add("milk".to_owned()).await.unwrap();
    note.add("\"eggs\"".to_owned()).await.unwrap();
    note.lines().await.unwrap();
    let fields: Vec<String> = all(system.history::<Note>("n"))
        .await
        .into_iter()
        .map(|entry| match entry.recorded {
            Recorded::State(state) => state.fields().unwrap(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        fields,
        [r#"{"lines":["milk"]}"#, r#"{"lines":["milk","\"eggs\""]}"#]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_read_from_every_node_and_by_a_client() {
    let nodes = bank("read", 3, &Memory::new()).await;
    let client = ClusterClient::connect("read", [nodes[2].address()]);
    let client = soon("a client", client).await.unwrap();
    for cents in 1..=5 {
        let alice = client.entity::<Account>("alice");
        soon("a deposit", alice.deposit(cents)).await.unwrap();
    }
    let histories = nodes.iter().map(|node| node.history::<Account>("alice"));
    for history in histories.chain([client.history::<Account>("alice")]) {
        let entries = all(history.page_size(2)).await;
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5]);
        assert_eq!(told(&entries[4])[1], r#"noted 1 {"note":"+5"}"#);
    }
    let client_of_it = client.history::<Ghost>("g").next_page().await.unwrap_err();
    let name = "Ghost".to_owned();
    assert_eq!(client_of_it, StoredError::NotStored { name });
    soon("the client closes", client.shutdown()).await;
    testkit::shutdown(nodes).await;
}

/// Old versions, and what no version of the code knows.
#[tokio::test]
async fn a_record_that_cannot_be_read_says_why_and_the_next_ones_follow() {
    let store = Memory::new();
    let euros = || Euros { euros: 3 };
    append(&store, "alice", 1, 1, event_body("deposited", 1, euros())).await;
    append(&store, "alice", 1, 2, vec![0xc1]).await;
    append(&store, "alice", 1, 3, event_body("stolen", 7, euros())).await;
    append(
        &store,
        "alice",
        1,
        4,
        event_body("deposited", 2, vec![0xc1]),
    )
    .await;
    append(&store, "alice", 1, 5, event_body("deposited", 1, euros())).await;
    let system = alone(store);
    let entries = all(system.history::<Account>("alice")).await;
    assert_eq!(entries.len(), 5);
    let decoded = |at: usize| match &entries[at].recorded {
        Recorded::Events(events) => events[0].decode(),
        other => panic!("no events: {other:?}"),
    };
    assert_eq!(told(&entries[0]), [r#"deposited 1 {"euros":3}"#]);
    for upcast in [decoded(0), decoded(4)] {
        assert!(matches!(
            upcast.unwrap()[..],
            [AccountEvent::Deposited { cents: 300 }]
        ));
    }
    assert!(
        told(&entries[1])[0].starts_with("unreadable: "),
        "{:?}",
        told(&entries[1])
    );
    assert_eq!(told(&entries[2]), [r#"stolen 7 {"euros":3}"#]);
    let unknown = decoded(2).unwrap_err().to_string();
    assert!(
        unknown.starts_with("event `stolen` of version 7: "),
        "{unknown}"
    );
    let broken = decoded(3).unwrap_err().to_string();
    assert!(
        broken.starts_with("event `deposited` of version 2: "),
        "{broken}"
    );
}

#[tokio::test]
async fn a_record_that_is_too_large_to_be_sent_is_left_out() {
    let store = Memory::new();
    append(&store, "alice", 1, 1, vec![0xc0; 7 * 1024 * 1024]).await;
    append(
        &store,
        "alice",
        1,
        2,
        event_body("deposited", 1, Euros { euros: 1 }),
    )
    .await;
    let system = alone(store);
    let entries = all(system.history::<Account>("alice")).await;
    let told: Vec<String> = entries.iter().flat_map(told).collect();
    assert_eq!(
        told,
        [
            "unreadable: it has 7340032 bytes, which is more than a node sends",
            r#"deposited 1 {"euros":1}"#
        ]
    );
}

#[tokio::test]
async fn a_history_goes_on_once_its_store_is_back() {
    let (memory, store) = connected();
    for seq in 1..=4 {
        let body = event_body("deposited", 1, Euros { euros: seq });
        append(&memory, "alice", 1, seq, body).await;
    }
    let system = alone(store.clone());
    let mut history = system.history::<Account>("alice").page_size(2);
    assert_eq!(history.next_page().await.unwrap().unwrap().len(), 2);
    store.set(away());
    let down = history.next_page().await.unwrap_err();
    assert!(matches!(down, StoredError::Unavailable { .. }), "{down}");
    store.set(Faults::default());
    let rest = history.next_page().await.unwrap().unwrap();
    assert_eq!(rest[0].seq, 3);
    let empty = system.history::<Account>("").next_page().await.unwrap_err();
    assert!(matches!(empty, StoredError::InvalidId(_)), "{empty}");
}
