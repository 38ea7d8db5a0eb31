//! A durable state is stored by what has changed in it.

use std::collections::BTreeMap;

use casty::{
    history::Recorded,
    id::{EntityId, Epoch},
    persistence::{Append, Appended, Journal, Log, Memory, Page, Record},
    prelude::*,
    testkit::soon,
};

use crate::accounts::alone;

/// A shelf of books.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    room: String,
    books: BTreeMap<String, u32>,
    #[serde(default)]
    looks: u32,
}

#[entity(name = "changed/shelf", durable, shards = 1)]
impl Shelf {
    #[message]
    fn fill(&mut self, books: u32) {
        self.room = format!("the one with {books} books");
        self.books = (0..books)
            .map(|book| (format!("book {book:03}"), book))
            .collect();
    }

    #[message]
    fn put(&mut self, book: String, pages: u32) {
        self.books.insert(book, pages);
    }

    #[message]
    fn take(&mut self, book: String) -> Option<u32> {
        self.books.remove(&book)
    }

    #[message]
    fn look(&mut self) -> (u32, usize, u32) {
        self.looks += 1;
        let pages = self.books.values().sum();
        (self.looks, self.books.len(), pages)
    }

    #[message]
    fn rest(&self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// A lift, which knows its rides in each state.
#[entity(name = "changed/lift", durable, shards = 1)]
mod lift {
    use casty::prelude::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Rides {
        house: String,
        number: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Still {
        floor: u32,
        sign: String,
    }

    #[state]
    #[message]
    pub(crate) struct Moving {
        to: u32,
    }

    #[behavior(otherwise = reject)]
    impl Still {
        #[message]
        fn name(&mut self, house: String, rides: &mut Rides) {
            self.sign = format!("the lift of {house}");
            rides.house = house;
        }

        #[message]
        fn lower(&mut self, rides: &mut Rides) -> (u32, u32) {
            self.floor = self.floor.saturating_sub(1);
            rides.number += 1;
            (self.floor, rides.number)
        }

        #[message]
        fn ride(self, to: u32, rides: &mut Rides) -> Moving {
            rides.number += 1;
            Moving { to }
        }

        #[message]
        fn rest(&self, ctx: &mut Context<Lift>) {
            ctx.stop();
        }
    }

    #[behavior(otherwise = reject)]
    impl Moving {
        #[message]
        fn arrive(self, rides: &Rides) -> Still {
            Still {
                floor: self.to,
                sign: rides.house.clone(),
            }
        }
    }
}

fn log(kind: &str) -> Log {
    Log {
        kind: kind.into(),
        shard: 0,
    }
}

/// How many bytes each record has.
async fn sizes(store: &Memory, kind: &str, id: &str) -> Vec<usize> {
    let (log, id) = (log(kind), EntityId::new(id));
    let records = store
        .read_entity(&log, &id, 0, Page::default())
        .await
        .unwrap();
    records.iter().map(|record| record.body.len()).collect()
}

/// What the records of a shelf say.
async fn said(system: &ActorSystem, id: &str) -> Vec<String> {
    let mut history = system.history::<Shelf>(id);
    let mut said = Vec::new();
    while let Some(page) = soon("a page", history.next_page()).await.unwrap() {
        said.extend(page.into_iter().map(|entry| match entry.recorded {
            Recorded::State(_) => "whole".to_owned(),
            Recorded::Changed(changed) => changed.fields().unwrap(),
            other => format!("{other:?}"),
        }));
    }
    said
}

#[tokio::test]
async fn what_has_not_changed_is_not_written() {
    let store = Memory::new();
    let system = alone(store.clone());
    let shelf = system.entity::<Shelf>("s");
    shelf.fill(100).await.unwrap();
    assert_eq!(shelf.look().await.unwrap(), (1, 100, 4950));
    shelf.put("book 0505".to_owned(), 7).await.unwrap();
    shelf.put("book 099".to_owned(), 1).await.unwrap();
    assert_eq!(shelf.take("book 000".to_owned()).await.unwrap(), Some(0));
    // The next activation reads the whole state and all changes, and goes on with changes.
    shelf.rest().await.unwrap();
    let of_all = (2, 100, 4950 + 7 - 98);
    assert_eq!(shelf.look().await.unwrap(), of_all);
    assert_eq!(
        said(&system, "s").await,
        [
            "whole",
            r#"{"looks":1}"#,
            r#"{"books":{"book 0505":7}}"#,
            r#"{"books":{"book 099":1}}"#,
            r#"{"books":{"book 000":null}}"#,
            r#"{"looks":2}"#,
        ]
    );
    let sizes = sizes(&store, "changed/shelf", "s").await;
    assert!(sizes[0] > 1000, "{sizes:?}");
    assert!(sizes[1..].iter().all(|bytes| *bytes < 100), "{sizes:?}");
}

#[tokio::test]
async fn a_new_state_is_written_whole() {
    let store = Memory::new();
    let system = alone(store.clone());
    let lift = system.entity::<Lift>("l");
    lift.name("a house with a name".to_owned()).await.unwrap();
    lift.ride(3).await.unwrap();
    lift.arrive().await.unwrap();
    assert_eq!(lift.lower().await.unwrap(), (2, 2));
    lift.rest().await.unwrap();
    assert_eq!(lift.lower().await.unwrap(), (1, 3));
    let sizes = sizes(&store, "changed/lift", "l").await;
    assert_eq!(sizes.len(), 5);
    assert!(
        sizes[3..].iter().all(|bytes| *bytes < sizes[2]),
        "{sizes:?}"
    );
}

#[derive(serde::Serialize)]
struct Body {
    state: State,
}

#[derive(serde::Serialize)]
struct State {
    name: &'static str,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// As an earlier version of the code has written it, whose shelf had one field less.
#[derive(serde::Serialize)]
struct EarlierShelf {
    room: &'static str,
    books: BTreeMap<String, u32>,
}

#[tokio::test]
async fn what_earlier_code_has_written_is_first_written_anew() {
    let store = Memory::new();
    let shelf = EarlierShelf {
        room: "the hall of the old house",
        books: BTreeMap::from([("a book".to_owned(), 5)]),
    };
    let state = State {
        name: "",
        bytes: rmp_serde::to_vec_named(&shelf).unwrap(),
    };
    let (log, epoch) = (log("changed/shelf"), Epoch(1));
    store.claim(&log, epoch, "a test").await.unwrap();
    let record = Record {
        position: 1,
        epoch,
        entity: EntityId::new("s"),
        seq: 1,
        at: 1_700_000_000_000,
        body: rmp_serde::to_vec_named(&Body { state }).unwrap().into(),
    };
    let part = Append {
        log,
        epoch,
        records: vec![record],
    };
    assert_eq!(store.append(vec![part]).await, Ok(vec![Appended::Written]));

    let system = alone(store);
    let shelf = system.entity::<Shelf>("s");
    assert_eq!(shelf.look().await.unwrap(), (1, 1, 5));
    assert_eq!(shelf.look().await.unwrap(), (2, 1, 5));
    assert_eq!(
        said(&system, "s").await,
        ["whole", "whole", r#"{"looks":2}"#]
    );
}
