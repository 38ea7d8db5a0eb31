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
