//! The types whose messages and events are made up.

#![expect(clippy::option_option, reason = "`Some(None)` has a form of its own")]

use std::collections::BTreeMap;

use casty::{fuzzing, fuzzing::seeds, prelude::*};

/// A part of an order.
#[message]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// What it is.
    pub name: String,
    /// How much it costs.
    pub price: f64,
    /// What belongs to it.
    pub parts: Vec<Item>,
    /// A remark, or none, or that there is to be none.
    pub note: Option<Option<String>>,
}

/// How an order is paid.
#[message]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Payment {
    /// Later.
    Open,
    /// By a card.
    Card {
        /// Its number.
        number: u128,
        /// Until when it is valid.
        until: (u8, i16),
    },
    /// In several parts.
    Parts(Vec<Payment>),
    /// As another one.
    Like(Box<Payment>),
    /// Not as another one.
    Not(Option<Box<Payment>>),
}

/// An entity that is sent values of all forms.
#[derive(Default)]
pub(crate) struct Desk;

#[entity(name = "fuzzing/desk")]
impl Desk {
    /// Nothing comes with it.
    #[message]
    pub(crate) fn ping(&self) {}

    /// Numbers of all widths.
    #[message]
    pub(crate) fn count(&mut self, small: i8, wide: u64, bare: Option<i64>, real: f32) -> i128 {
        let _ = (bare, real);
        i128::from(small) + i128::from(wide)
    }

    /// Types of its own.
    #[message]
    pub(crate) fn order(
        &mut self,
        items: Vec<Item>,
        payment: Payment,
        labels: BTreeMap<String, Option<char>>,
    ) -> Option<Payment> {
        let _ = (items, labels);
        Some(payment)
    }

    /// Maps whose keys are no texts, bytes, and times.
    #[message]
    pub(crate) fn keep(
        &mut self,
        prices: BTreeMap<(u16, bool), [i32; 2]>,
        bytes: Vec<u8>,
        every: Duration,
        unit: (),
    ) -> usize {
        let ((), _) = (unit, every);
        prices.len() + bytes.len()
    }
}

fn message(message: &DeskMsg) -> String {
    match message {
        DeskMsg::Ping {} => "ping".to_owned(),
        DeskMsg::Count {
            small,
            wide,
            bare,
            real,
        } => format!("{small} {wide} {bare:?} {real}"),
        DeskMsg::Order {
            items,
            payment,
            labels,
        } => format!("{items:?} {payment:?} {labels:?}"),
        DeskMsg::Keep {
            prices,
            bytes,
            every,
            unit,
        } => format!("{prices:?} {bytes:?} {every:?} {unit:?}"),
    }
}

/// A till, made of events.
#[message]
#[derive(Default)]
pub(crate) struct Till {
    cents: u64,
}

#[entity(name = "fuzzing/till", shards = 4, event_sourced)]
impl Till {
    /// Pays something.
    #[message]
    pub(crate) fn pay(&self, payment: Payment) -> Effect<Self, u64> {
        let paid = TillEvent::Paid { cents: 1, payment };
        Effect::persist(paid).reply(|till| till.cents)
    }

    #[event(version = 3)]
    fn paid(&mut self, cents: u64, payment: Payment) {
        let _ = payment;
        self.cents = self.cents.wrapping_add(cents);
    }

    #[upcast(from = 1)]
    fn paid_v1(euros: u32) -> TillEvent {
        let cents = u64::from(euros) * 100;
        let payment = Payment::Open;
        TillEvent::Paid { cents, payment }
    }

    #[upcast(from = 2)]
    fn paid_v2(euros: u32, notes: Vec<String>) -> Vec<TillEvent> {
        let paid = Self::paid_v1(euros);
        let more = notes.into_iter().map(|note| TillEvent::Noted { note });
        [paid].into_iter().chain(more).collect()
    }

    #[event]
    fn noted(&self, _note: String) {}
}

const EVENTS: &[(&str, u32)] = &[("paid", 3), ("paid", 1), ("paid", 2), ("noted", 1)];

fn event(event: &TillEvent) -> String {
    match event {
        TillEvent::Paid { cents, payment } => format!("{cents} {payment:?}"),
        TillEvent::Noted { note } => note.clone(),
    }
}

type Run = fn(&[u8]);

/// What a target does, by its name.
pub(crate) const TARGETS: &[(&str, Run)] = &[
    ("config", fuzzing::config),
    ("envelope", |bytes| {
        fuzzing::envelope::<DeskMsg>(bytes, message);
    }),
    ("event", |bytes| {
        fuzzing::event::<Till>(bytes, EVENTS, event);
    }),
    ("frame", fuzzing::frame),
    ("gossip", fuzzing::gossip),
    ("handshake", fuzzing::handshake),
    ("identity", fuzzing::identity),
    ("journal_record", fuzzing::journal_record),
    ("map_command", fuzzing::map_command),
    ("message", |bytes| {
        fuzzing::message::<DeskMsg>(bytes, message);
    }),
    ("replicated", fuzzing::replicated),
    ("segment", fuzzing::segment),
];

/// What the target of that name does with some bytes.
pub(crate) fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, run) = found.expect("a target of that name");
    run(bytes);
}

/// What the corpus of a target begins with.
#[allow(dead_code, reason = "a target has its corpus already")]
pub(crate) fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "message" => messages(),
        "envelope" => envelopes(),
        "event" => events(),
        other => seeds::seeds(other),
    }
}

fn payments() -> [Payment; 3] {
    [
        Payment::Open,
        Payment::Card {
            number: u128::MAX,
            until: (3, -1),
        },
        Payment::Parts(vec![
            Payment::Like(Box::new(Payment::Open)),
            Payment::Not(Some(Box::new(Payment::Not(None)))),
        ]),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let item = Item {
        name: "Käse".to_owned(),
        price: 1.5,
        parts: Vec::new(),
        note: Some(None),
    };
    let items = vec![Item {
        parts: vec![item.clone()],
        note: None,
        ..item
    }];
    let mut all = vec![
        DeskMsg::Ping {},
        DeskMsg::Count {
            small: -7,
            wide: u64::MAX,
            bare: Some(3),
            real: 0.5,
        },
        DeskMsg::Keep {
            prices: BTreeMap::from([((1, true), [2, -3])]),
            bytes: b"bytes".to_vec(),
            every: Duration::from_millis(1500),
            unit: (),
        },
    ];
    all.extend(payments().map(|payment| DeskMsg::Order {
        items: items.clone(),
        payment,
        labels: BTreeMap::from([("a".to_owned(), Some('ß')), ("b".to_owned(), None)]),
    }));
    all.iter().map(seeds::written).collect()
}

fn envelopes() -> Vec<Vec<u8>> {
    let chains = [
        Vec::new(),
        seeds::chain(),
        seeds::terms(),
        seeds::keyed_terms(),
    ];
    let frames = chains.iter().zip(messages().into_iter().cycle());
    frames
        .map(|(chain, message)| seeds::entity_frame("ada", chain, &message))
        .collect()
}

#[derive(serde::Serialize)]
struct Paid {
    cents: u64,
    payment: Payment,
}

#[derive(serde::Serialize)]
struct OldPaid {
    euros: u32,
    notes: Vec<String>,
}

#[derive(serde::Serialize)]
struct Noted {
    note: String,
}

fn events() -> Vec<Vec<u8>> {
    let notes = vec!["a".to_owned(), "b".to_owned()];
    let old = seeds::written(&OldPaid { euros: 3, notes });
    let note = seeds::written(&Noted {
        note: "late".to_owned(),
    });
    let mut all: Vec<_> = payments()
        .map(|payment| seeds::written(&Paid { cents: 5, payment }))
        .map(|paid| [&[0][..], &paid].concat())
        .into();
    all.extend([
        [&[1][..], &old].concat(),
        [&[2][..], &old].concat(),
        [&[3][..], &note].concat(),
        seeds::stored_event("noted", 1, &note),
        seeds::stored_event("paid", 2, &old),
        seeds::stored_event("paid", 9, &old),
    ]);
    all
}
