//! The flight recorder of stored entities.

use casty::{
    prelude::*,
    recorder::Recording,
    testkit::{self, replay_with},
};

#[message]
#[derive(Default)]
struct Ledger {
    total: i64,
}

#[entity(name = "recorder/ledger", event_sourced, record = 8)]
impl Ledger {
    #[message]
    fn add(&self, amount: i64) -> Result<Effect<Self, i64>, String> {
        if amount == 0 {
            return Err("nothing".to_owned());
        }
        Ok(Effect::persist(LedgerEvent::Added { amount }).reply(|ledger: &Self| ledger.total))
    }

    #[event]
    fn added(&mut self, amount: i64) {
        self.total += amount;
    }
}

/// The ledger of a later version.
#[message]
#[derive(Default)]
struct Doubles {
    total: i64,
}

#[entity(name = "recorder/doubles", durable)]
impl Doubles {
    #[message]
    fn add(&mut self, amount: i64) -> Result<i64, String> {
        if amount == 0 {
            return Err("nothing".to_owned());
        }
        self.total += amount * 2;
        Ok(self.total)
    }
}

/// Makes a snapshot of each second record.
#[message]
#[derive(Default)]
struct Till {
    coins: i64,
    notes: Vec<String>,
}

#[entity(name = "recorder/till", event_sourced, snapshot_every = 2)]
impl Till {
    #[message]
    fn add(&self, coins: i64) -> Effect<Self, i64> {
        Effect::persist(TillEvent::Put { coins }).reply(|till: &Self| till.coins)
    }

    #[message]
    fn close(&self) -> Effect<Self> {
        Effect::none().erase()
    }

    #[event]
    fn put(&mut self, coins: i64) {
        self.coins += coins;
    }
}

/// Of a later version, which makes something else of the same events.
#[message]
#[derive(Default)]
struct DoubleTill {
    coins: i64,
    notes: Vec<String>,
}

#[entity(name = "recorder/double till", event_sourced)]
impl DoubleTill {
    #[message]
    fn open(&self) -> Effect<Self> {
        Effect::none()
    }

    #[event]
    fn put(&mut self, coins: i64) {
        assert!(coins != 13, "no such coin");
        self.coins += 2 * coins;
    }
}

/// Of a later version, which has forgotten an event.
#[message]
#[derive(Default)]
struct OtherTill {
    coins: i64,
}

#[entity(name = "recorder/other till", event_sourced)]
impl OtherTill {
    #[message]
    fn open(&self) -> Effect<Self> {
        Effect::none()
    }

    #[event]
    fn taken(&mut self, coins: i64) {
        self.coins -= coins;
    }
}

/// What is stored of it is the state, and what changes in it.
#[message]
#[derive(Default)]
struct Shelf {
    name: String,
    books: u32,
}

#[entity(
    name = "recorder/shelf",
    durable,
    snapshot_every = 3,
    retain = "snapshot"
)]
impl Shelf {
    #[message]
    fn add(&mut self, books: u32) -> u32 {
        "a name that is long enough not to be written again with each record"
            .clone_into(&mut self.name);
        self.books += books;
        self.books
    }
}

/// What is stored, once there is a snapshot as of this record.
async fn stored(system: &ActorSystem, kind: &str, snapshot: &str) -> Recording {
    loop {
        let recording = system.stored_recording(kind, "b").await.unwrap();
        if recording.to_string().contains(snapshot) {
            return recording;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_journal_is_read_by_the_code_of_today() {
    let (recording, erased) = testkit::paused(async |system| {
        let till = system.entity::<Till>("b");
        for (coins, sum) in [(1, 1), (2, 3), (4, 7)] {
            assert_eq!(till.add(coins).await, Ok(sum));
        }
        let recording = stored(&system, "recorder/till", "a snapshot as of record 2").await;
        till.close().await.unwrap();
        assert_eq!(till.add(13).await, Ok(13));
        let erased = stored(&system, "recorder/till", "records").await;
        (recording, erased)
    });
    let again = replay_with::<Till>(&recording, |builder| builder);
    again.expect_same();
    assert_eq!((again.messages(), again.records()), (0, 3));
    let file = Recording::from_bytes(&recording.to_bytes()).unwrap();
    assert_eq!((file.turns(), file.records()), (0, 3));

    let difference = |replayed: testkit::Replayed| replayed.difference().unwrap().to_string();
    assert_eq!(
        difference(replay_with::<DoubleTill>(&recording, |builder| builder)),
        "record 2, which the snapshot contains last: the state as of it is another: `coins` is 6, it was 3"
    );
    let unknown = difference(replay_with::<OtherTill>(&recording, |builder| builder));
    assert!(
        unknown.starts_with("record 1: event `put` of version 1: ")
            && unknown.contains("there is no such event"),
        "{unknown}"
    );

    // What was erased is gone, and what came afterwards begins anew.
    let again = replay_with::<Till>(&erased, |builder| builder);
    again.expect_same();
    assert!(again.records() >= 1, "{again}: {erased}");
    let panics = difference(replay_with::<DoubleTill>(&erased, |builder| builder));
    assert!(
        panics.ends_with("event `put` of version 1: it panics: no such coin"),
        "{panics}"
    );
}

#[test]
fn the_journal_of_a_durable_entity_is_read_from_its_snapshot_on() {
    let recording = testkit::paused(async |system| {
        let shelf = system.entity::<Shelf>("b");
        for books in 1..=5 {
            shelf.add(books).await.unwrap();
        }
        stored(&system, "recorder/shelf", "a snapshot as of record 3").await
    });
    let again = replay_with::<Shelf>(&recording, |builder| builder);
    again.expect_same();
    assert!(again.records() >= 2, "{again}");
    // An event-sourced till has no such state.
    let other = replay_with::<Till>(&recording, |builder| builder);
    assert!(other.difference().is_some(), "{other}");
}

fn recorded() -> Recording {
    testkit::paused(async |system| {
        let ledger = system.entity::<Ledger>("b");
        assert_eq!(ledger.add(5).await, Ok(5));
        assert!(ledger.add(0).await.is_err());
        assert_eq!(ledger.add(-2).await, Ok(3));
        let recording = system.recording("recorder/ledger", "b").await;
        recording.unwrap().expect("it is recorded")
    })
}

#[test]
fn a_recording_of_a_stored_entity_is_replayed_without_its_store() {
    let recording = recorded();
    let again = replay_with::<Ledger>(&recording, |builder| builder);
    again.expect_same();
    assert_eq!(again.messages(), 3, "{recording}");
    let other = replay_with::<Doubles>(&recording, |builder| builder);
    let difference = other
        .difference()
        .expect("the code has changed")
        .to_string();
    assert_eq!(
        difference,
        "message 1, `add {amount: 5}`: it replies {Ok: 10}; in the recording it replies {Ok: 5}"
    );
}
