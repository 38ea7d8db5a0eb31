//! When a send leaves: rule S1 of the design.

use std::{future::pending, time::Duration};

use tokio::sync::watch;

use super::*;
use crate::{
    persistence::{
        Log, Memory,
        faults::{Faults, Faulty, FaultyStore},
        record_body::RecordBody,
        shard_log::{Entry, Progress, ShardLog},
        store::Store,
    },
    protocol::outbox::SendMark,
};

/// It notes what it is given, and never says what became of it.
#[derive(Default)]
struct Noting(watch::Sender<Vec<(SendMark, String)>>);

impl Courier for Noting {
    fn carry(
        &self,
        _: Receiver,
        letter: Arc<Letter>,
        terms: OnceTerms,
    ) -> BoxFuture<'static, Carried> {
        let OnceTerms::Send(terms) = terms else {
            unreachable!("no reminder is set");
        };
        let carried = (terms.mark, letter.send.message.clone());
        self.0.send_modify(|all| all.push(carried));
        Box::pin(pending())
    }
}

/// A node with a connection of its own to the store.
struct Node {
    connection: Faulty,
    store: Arc<Store>,
    courier: Arc<Noting>,
}

impl Node {
    fn new(faulty: &FaultyStore, name: &str) -> Self {
        let connection = faulty.connection(1);
        let store = Store::new(Arc::new(connection.clone()), name.to_owned());
        let courier = Arc::new(Noting::default());
        assert!(store.courier().set(courier.clone()).is_ok());
        Self {
            connection,
            store,
            courier,
        }
    }

    fn open(&self, epoch: u64) -> Arc<ShardLog> {
        let kind = "test/Stored".into();
        self.store.open_log(Log { kind, shard: 1 }, Epoch(epoch))
    }

    fn carried(&self) -> Vec<(SendMark, String)> {
        self.courier.0.borrow().clone()
    }

    /// Waits until so many sends have left, and returns all that have.
    async fn has_carried(&self, count: usize) -> Vec<(SendMark, String)> {
        let mut carried = self.courier.0.subscribe();
        let has_left = carried.wait_for(|carried| carried.len() >= count);
        let in_time = tokio::time::timeout(Duration::from_mins(1), has_left).await;
        in_time.expect("sends leave").expect("a courier").clone()
    }
}

/// Appends the first record of an entity, which sends a message of its name, and waits for what
/// becomes of it.
async fn append(log: &Arc<ShardLog>, name: &str) -> Arc<Progress> {
    let progress = Progress::new(0);
    log.room(&progress).await;
    let sends = vec![WrittenSend {
        kind: "test/Stored".into(),
        entity: "receiver".into(),
        message: name.to_owned(),
        bytes: Vec::new().into(),
        answer: None,
        trace: None,
    }];
    let body = RecordBody {
        sends: sends.clone(),
        ..RecordBody::default()
    };
    let entry = Entry {
        entity: EntityId::new(name),
        seq: 1,
        at: 1,
        body: body.encode().expect("it is small"),
        news: ShardNews {
            sends,
            ..ShardNews::default()
        },
    };
    log.append(entry, &progress);
    progress.settled().await;
    progress
}

fn first_at(position: u64) -> SendMark {
    SendMark {
        epoch: Epoch(1),
        position,
        index: 0,
    }
}

/// The trace X22, by rule S1: the record of `p` is cut, and the record of `q` takes its position. A
/// receiver that has `p` by then would take `q` for a repeat of it.
#[tokio::test(start_paused = true)]
async fn a_send_whose_record_is_cut_does_not_leave() {
    let node = Node::new(&FaultyStore::new(Arc::new(Memory::new())), "a");
    let log = node.open(1);
    log.claimed().await.expect("it can be claimed");
    // The ledger is before it.
    assert_eq!(append(&log, "o").await.position(), 2);
    let before = (first_at(2), "o".to_owned());
    assert_eq!(node.has_carried(1).await, std::slice::from_ref(&before));
    node.connection.set(Faults {
        not_written: 1.0,
        ..Faults::default()
    });
    let cut = append(&log, "p").await;
    assert!(!cut.failed().expect("it is not written").possibly);
    node.connection.set(Faults::default());
    assert_eq!(append(&log, "q").await.position(), 3);
    let expected = [before, (first_at(3), "q".to_owned())];
    assert_eq!(node.has_carried(2).await, expected);
}

/// The trace X22, by rules S1 and T4: what a new owner finds in its log may be cut by a later one
/// until its claim is answered. With copies that is once all stores in sync have all of it, as in
/// the trace X15.
#[tokio::test(start_paused = true)]
async fn a_new_owner_does_not_send_before_its_claim_is_answered() {
    let faulty = FaultyStore::new(Arc::new(Memory::new()));
    let (old, new) = (Node::new(&faulty, "a"), Node::new(&faulty, "b"));
    let log = old.open(1);
    log.claimed().await.expect("it can be claimed");
    append(&log, "p").await;
    let expected = [(first_at(2), "p".to_owned())];
    assert_eq!(old.has_carried(1).await, expected);
    new.connection.set(Faults {
        claim_delay: Duration::from_secs(1),
        ..Faults::default()
    });
    let log = new.open(2);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(faulty.claims().iter().all(|claim| claim.epoch == Epoch(1)));
    assert_eq!(new.carried(), []);
    log.claimed().await.expect("it can be claimed");
    // The epoch of a mark is that of its record.
    assert_eq!(new.has_carried(1).await, expected);
}
