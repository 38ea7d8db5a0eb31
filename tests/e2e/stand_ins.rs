//! Probes that stand for the entities of a type.

use casty::{
    prelude::*,
    testkit::{self, DeadLetters, Probe},
};

use crate::support::{node, soon};

#[derive(Default)]
struct Cashbook;

#[entity]
impl Cashbook {
    #[message]
    fn book(&mut self, cents: u64) -> Result<u64, String> {
        Ok(cents)
    }
}

/// An entity that has another one do its work.
#[derive(Default)]
struct Teller;

#[entity]
impl Teller {
    #[message]
    async fn sell(&mut self, ctx: &mut Context<Self>) -> String {
        let booked = ctx.entity::<Cashbook>("main").book(5).await;
        booked.map_or_else(|error| error.to_string(), |cents| cents.to_string())
    }

    /// A reference travels, and leads to the stand-in.
    #[message]
    fn ledger(&self, ctx: &mut Context<Self>) -> CashbookRef {
        ctx.entity::<Cashbook>("other")
    }
}

#[test]
fn a_probe_stands_for_all_entities_of_a_type() {
    testkit::paused(|system| async move {
        let before = system.entity::<Cashbook>("main");
        let mut ledgers = Probe::<Cashbook>::new(&system);
        let desk = system.entity::<Teller>("d");
        let selling = tokio::spawn(desk.sell().into_future());
        let asked = ledgers.expect().await;
        assert_eq!(asked.entity_id().as_str(), "main");
        assert!(matches!(asked.message, CashbookMsg::Book { cents: 5 }));
        asked.reply(Err::<u64, _>("closed".to_owned()));
        assert_eq!(selling.await.unwrap().as_deref(), Ok("closed"));
        let other = desk.ledger().await.unwrap();
        other.book(7).tell().await.unwrap();
        let told = ledgers.expect().await;
        assert!(!told.is_asked() && told.entity_id().as_str() == "other");
        let shards = system.shards::<Cashbook>();
        let envelope = ShardEnvelope::new("third", CashbookMsg::Book { cents: 1 });
        shards.tell(envelope).await.unwrap();
        assert_eq!(ledgers.expect().await.entity_id().as_str(), "third");
        assert_eq!(before.book(3).await, Ok(3), "a reference of before");
        // An invalid id is refused as ever.
        let nobody = system.entity::<Cashbook>("").book(1).await;
        assert!(matches!(nobody, Err(AskError::InvalidId(_))), "{nobody:?}");
    });
}

#[test]
fn a_dropped_stand_in_has_stopped() {
    testkit::paused(|system| async move {
        let mut letters = DeadLetters::of(&system);
        let ledgers = Probe::<Cashbook>::new(&system);
        let ledger = system.entity::<Cashbook>("a");
        ledger.book(1).tell().await.unwrap();
        drop(ledgers);
        let lost = letters.expect(|_| true).await;
        assert_eq!(
            (lost.to.to_string(), &*lost.message),
            ("Cashbook/a".into(), "book")
        );
        assert_eq!(ledger.book(1).await, Err(AskError::Stopped));
    });
}

#[tokio::test]
async fn a_stand_in_of_a_node_takes_what_this_node_sends() {
    let one = node("one").start().await.unwrap();
    soon("it forms", one.wait_for(1)).await.unwrap();
    let mut ledgers = Probe::<Cashbook>::new(&one);
    let asking = tokio::spawn(one.entity::<Teller>("d").sell().into_future());
    let asked = soon("an ask", ledgers.expect_within(testkit::STEP_LIMIT)).await;
    asked.reply(Ok::<_, String>(9_u64));
    assert_eq!(soon("an answer", asking).await.unwrap().as_deref(), Ok("9"));
    soon("shutdown", one.shutdown()).await.unwrap();
}
