use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::infra::mutants::{self, breaking};

const LIMITS: OutboxLimits = OutboxLimits {
    window: 4,
    under_way: 6,
    pause: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
    pause_max_broken: Duration::from_secs(4),
};

fn receiver(name: &str) -> Receiver {
    Receiver {
        kind: "Jar".into(),
        entity: EntityId::new(name),
    }
}

fn mark(position: u64, index: u32) -> SendMark {
    SendMark {
        epoch: Epoch(1),
        position,
        index,
    }
}

fn marks(carries: &[Carry<&'static str>]) -> Vec<(SendMark, Option<SendMark>)> {
    carries.iter().map(|it| (it.mark, it.after)).collect()
}

#[tokio::test(start_paused = true)]
async fn sends_to_one_receiver_go_in_order_and_say_what_they_follow() {
    let mut outbox = Outbox::new(0, LIMITS);
    let ada = receiver("ada");
    outbox.handle_record((Epoch(1), 1), vec![(ada.clone(), "a"), (ada.clone(), "b")]);
    outbox.handle_record((Epoch(1), 2), vec![(ada.clone(), "c")]);
    let carries = outbox.take_carries();
    assert_eq!(
        marks(&carries),
        [
            (mark(1, 0), None),
            (mark(1, 1), Some(mark(1, 0))),
            (mark(2, 0), Some(mark(1, 1)))
        ]
    );
    assert!(outbox.take_carries().is_empty());
    let now = (Instant::now(), 1.0);
    // That the second is taken says that the first is.
    outbox.handle_carried(&ada, mark(1, 1), 0, Carried::Taken, now);
    assert_eq!(outbox.left().collect::<Vec<_>>(), [2]);
    outbox.handle_carried(&ada, mark(1, 0), 0, Carried::Failed("late".into()), now);
    // The third may have been turned away for it: it goes again, and follows nothing that waits.
    assert_eq!(outbox.deadline(), Some(now.0 + LIMITS.pause));
    outbox.handle_time(now.0 + LIMITS.pause);
    assert_eq!(marks(&outbox.take_carries()), [(mark(2, 0), None)]);
    outbox.handle_carried(&ada, mark(2, 0), 1, Carried::Taken, now);
    assert_eq!((outbox.len(), outbox.deadline()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn tries_that_fail_come_after_growing_pauses_and_say_why() {
    let mut outbox = Outbox::new(0, LIMITS);
    let ada = receiver("ada");
    outbox.handle_record((Epoch(1), 1), vec![(ada.clone(), "a")]);
    let mut now = Instant::now();
    let mut pauses = Vec::new();
    for round in 0..8 {
        assert_eq!(outbox.take_carries().len(), 1);
        let failed = Carried::Failed("no one is at home".into());
        outbox.handle_carried(&ada, mark(1, 0), round, failed, (now, 1.0));
        let again = outbox.deadline().expect("it is tried again");
        pauses.push(again - now);
        now = again;
        outbox.handle_time(now);
    }
    assert!(pauses.is_sorted() && pauses.last() == Some(&LIMITS.pause_max));
    let waiting = outbox.waiting();
    assert_eq!((waiting.len(), waiting[0].failures), (1, 8));
    assert_eq!(waiting[0].reason.as_deref(), Some("no one is at home"));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_carried_at_once_and_says_so() {
    let mut outbox = Outbox::new(0, LIMITS);
    let ada = receiver("ada");
    outbox.handle_record((Epoch(1), 1), vec![(ada.clone(), "a"), (ada.clone(), "b")]);
    assert_eq!(outbox.give_up(&receiver("bob")), None);
    assert_eq!(outbox.give_up(&ada), None, "no try has failed");
    outbox.take_carries();
    let now = (Instant::now(), 1.0);
    let broken = || Carried::Broken("it panics".into());
    outbox.handle_carried(&ada, mark(1, 0), 0, broken(), now);
    assert!(outbox.take_carries().is_empty(), "it waits");
    assert_eq!(outbox.give_up(&ada), Some("a"));
    assert_eq!(outbox.deadline(), None);
    let carries = outbox.take_carries();
    assert_eq!(marks(&carries), [(mark(1, 0), None)]);
    assert!(carries[0].is_given_up);
    // It did not arrive: it is still given up, and goes again soon.
    outbox.handle_carried(&ada, mark(1, 0), 1, broken(), now);
    assert_eq!(outbox.deadline(), Some(now.0 + LIMITS.pause));
    outbox.handle_time(now.0 + LIMITS.pause);
    assert!(outbox.take_carries()[0].is_given_up);
    outbox.handle_carried(&ada, mark(1, 0), 2, Carried::Taken, now);
    // What was sent after it is handled.
    assert!(!outbox.take_carries()[0].is_given_up);
}

#[test]
fn a_receiver_takes_each_send_once_and_none_before_its_time() {
    assert_eq!(judge(None, mark(1, 0), None), Judged::New);
    assert_eq!(judge(None, mark(2, 0), Some(mark(1, 0))), Judged::Gap);
    assert_eq!(
        judge(Some(mark(1, 0)), mark(2, 0), Some(mark(1, 0))),
        Judged::New
    );
    assert_eq!(judge(Some(mark(2, 0)), mark(1, 0), None), Judged::Repeat);
    // A log that was begun anew.
    let later = SendMark {
        epoch: Epoch(2),
        ..mark(1, 0)
    };
    assert_eq!(judge(Some(mark(9, 0)), later, None), Judged::New);
}

/// What a receiver has handled, and the mark of the last send that it has taken.
#[derive(Default)]
struct Jar {
    known: Option<SendMark>,
    handled: Vec<&'static str>,
}

impl Jar {
    fn take(&mut self, carry: &Carry<&'static str>) -> Carried {
        match judge(self.known, carry.mark, carry.after) {
            Judged::New => {
                self.known = Some(carry.mark);
                self.handled.push(carry.payload);
                Carried::Taken
            }
            Judged::Repeat => Carried::Taken,
            Judged::Gap => Carried::Failed("one before it has not come".into()),
        }
    }

    /// Takes what the outbox carries until nothing is left. Of what is carried together, the last
    /// one arrives first.
    fn take_all(&mut self, outbox: &mut Outbox<&'static str>) {
        let mut now = Instant::now();
        while outbox.len() > 0 {
            for carry in outbox.take_carries().into_iter().rev() {
                let carried = self.take(&carry);
                let time = (now, 1.0);
                outbox.handle_carried(&carry.to, carry.mark, carry.round, carried, time);
            }
            now = outbox.deadline().unwrap_or(now);
            outbox.handle_time(now);
        }
    }
}

/// Sends of these records to one receiver, as far as it has handled them.
fn handled(records: &[&[&'static str]]) -> Vec<&'static str> {
    let (mut outbox, mut jar) = (Outbox::new(0, LIMITS), Jar::default());
    for (sends, position) in records.iter().zip(1..) {
        let sends = sends.iter().map(|send| (receiver("ada"), *send));
        outbox.handle_record((Epoch(1), position), sends.collect());
    }
    jar.take_all(&mut outbox);
    jar.handled
}

/// The trace X21, by rule S2: sends at 1 and 2, and the first one is late. A receiver that took the
/// second one by its mark alone would take the first one for a repeat.
#[test]
fn a_send_that_is_late_is_not_skipped() {
    let run = || handled(&[&["first"], &["second"]]);
    assert_eq!(run(), ["first", "second"]);
    let broken = breaking("sends_say_nothing_of_earlier_ones", run);
    assert_eq!(broken, ["second"], "the first one is skipped for ever");
}

/// The trace X21, by rule S2: two sends of one record to one receiver have marks of their own.
#[test]
fn a_second_send_of_one_record_is_not_skipped() {
    let run = || handled(&[&["first", "second"]]);
    assert_eq!(run(), ["first", "second"]);
    let broken = breaking("sends_of_a_record_have_one_mark", run);
    assert_eq!(broken.len(), 1, "one of them is skipped for ever");
}

/// The trace X23, by rule S4: the receiver has handled a send, and the answer is late. The repeat
/// is answered once the record is durable. A source that is told at once forgets the send, and the
/// record is cut.
#[tokio::test(start_paused = true)]
async fn a_send_is_not_forgotten_before_the_record_of_its_receiver_is_durable() {
    let run = || {
        let (mut outbox, mut entity) = (Outbox::new(0, LIMITS), Entity::default());
        let (ada, now) = (receiver("ada"), (Instant::now(), 1.0));
        outbox.handle_record((Epoch(1), 1), vec![(ada.clone(), 7)]);
        let carry = outbox.take_carries().remove(0);
        assert_eq!(entity.take(&carry), None);
        let late = Carried::Failed("late".into());
        outbox.handle_carried(&ada, carry.mark, carry.round, late, now);
        outbox.handle_time(now.0 + LIMITS.pause);
        let again = outbox.take_carries().remove(0);
        if let Some(carried) = entity.take(&again) {
            outbox.handle_carried(&ada, again.mark, again.round, carried, now);
        }
        for (mark, round, carried) in entity.settle(true) {
            outbox.handle_carried(&ada, mark, round, carried, now);
        }
        outbox.len()
    };
    assert_eq!(run(), 1, "it is carried again");
    assert_eq!(
        breaking("repeats_are_answered_at_once", run),
        0,
        "it is lost"
    );
}

/// The trace X24, by rule S5: a log that was given up begins anew at position 1, and its receiver
/// knows a mark there already. `ClusterMap` gives the later epoch.
#[test]
fn the_first_send_of_a_log_begun_anew_is_not_skipped() {
    let mut jar = Jar::default();
    for (epoch, sends) in [
        (Epoch(4), ["first", "second"]),
        (Epoch(5), ["third", "fourth"]),
    ] {
        let mut outbox = Outbox::new(0, LIMITS);
        for (send, position) in sends.into_iter().zip(1..) {
            outbox.handle_record((epoch, position), vec![(receiver("ada"), send)]);
        }
        jar.take_all(&mut outbox);
    }
    assert_eq!(jar.handled, ["first", "second", "third", "fourth"]);
}

type Sends = Vec<(Receiver, u64)>;

fn record(log: &[(Epoch, Sends)], position: u64) -> (Epoch, Sends) {
    let at = usize::try_from(position - 1).expect("a few");
    log[at].clone()
}

/// A receiver, which may fail over to what is durable.
#[derive(Default)]
struct Entity {
    /// What it has handled, with its mark.
    handled: Vec<(SendMark, u64)>,
    /// How much of that is durable.
    durable: usize,
    /// Sends that are answered once all of it is.
    waiting: Vec<(SendMark, u64)>,
}

impl Entity {
    /// The answer, if it is given at once.
    fn take(&mut self, carry: &Carry<u64>) -> Option<Carried> {
        let last = self.handled.last().map(|(mark, _)| *mark);
        match judge(last, carry.mark, carry.after) {
            Judged::New => self.handled.push((carry.mark, carry.payload)),
            // S4, which the cell of an entity keeps.
            Judged::Repeat if self.durable == self.handled.len() => return Some(Carried::Taken),
            Judged::Repeat if mutants::on("repeats_are_answered_at_once") => {
                return Some(Carried::Taken);
            }
            Judged::Repeat => {}
            Judged::Gap => return Some(Carried::Failed("a gap".into())),
        }
        self.waiting.push((carry.mark, carry.round));
        None
    }

    /// The answers to what has waited, once it is durable, or cut.
    fn settle(&mut self, is_cut: bool) -> Vec<(SendMark, u64, Carried)> {
        if is_cut {
            self.handled.truncate(self.durable);
        }
        self.durable = self.handled.len();
        let answers = std::mem::take(&mut self.waiting).into_iter();
        let answer = |(mark, round)| {
            let carried = if is_cut {
                Carried::Failed("it is cut".into())
            } else {
                Carried::Taken
            };
            (mark, round, carried)
        };
        answers.map(answer).collect()
    }
}

/// Receivers of which each may fail over to what is durable, beside a source that may fail over
/// too. What each has handled in the end.
fn storm(seed: u64) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let names = ["ada", "bob"];
    // The log of the source, all of it durable.
    let mut log: Vec<(Epoch, Vec<(Receiver, u64)>)> = Vec::new();
    let mut expected: BTreeMap<Receiver, Vec<u64>> = BTreeMap::new();
    let mut receivers: BTreeMap<Receiver, Entity> = BTreeMap::new();
    let mut epoch = Epoch(1);
    let mut ledger = (0, Vec::new());
    let mut outbox = Outbox::new(0, LIMITS);
    let mut network: Vec<Carry<u64>> = Vec::new();
    let mut answers: Vec<(Receiver, SendMark, u64, Carried)> = Vec::new();
    let mut now = Instant::now();
    let mut next = 0;
    for step in 0..100_000 {
        let is_quiet = step > 1000;
        if is_quiet && outbox.len() == 0 {
            break;
        }
        match rng.random_range(0..if is_quiet { 7 } else { 12 }) {
            0 | 1 => {
                // Messages come in any order, and stay to come again.
                if !network.is_empty() {
                    let at = rng.random_range(0..network.len());
                    let carry = match rng.random_range(0..4) {
                        0 if !is_quiet => network[at].clone(),
                        _ => network.remove(at),
                    };
                    let entity = receivers.entry(carry.to.clone()).or_default();
                    if let Some(carried) = entity.take(&carry) {
                        answers.push((carry.to, carry.mark, carry.round, carried));
                    }
                }
            }
            2 | 3 => {
                if !answers.is_empty() {
                    let at = rng.random_range(0..answers.len());
                    let (to, mark, round, carried) = answers.swap_remove(at);
                    outbox.handle_carried(&to, mark, round, carried, (now, rng.random()));
                }
            }
            4 => network.extend(outbox.take_carries()),
            5 => {
                now += Duration::from_millis(rng.random_range(0..200));
                outbox.handle_time(now);
                let is_waited_for = receivers.values().any(|it| !it.waiting.is_empty());
                if is_quiet && network.is_empty() && answers.is_empty() && !is_waited_for {
                    now += LIMITS.pause_max * 2;
                    outbox.handle_time(now);
                }
            }
            // What entities have handled is durable, or one of them fails over.
            6 | 7 => {
                let is_cut = !is_quiet && rng.random_range(0..3) == 0;
                for (to, entity) in &mut receivers {
                    let settled = entity.settle(is_cut).into_iter();
                    answers.extend(settled.map(|(mark, round, it)| (to.clone(), mark, round, it)));
                }
            }
            8 => {
                let sends: Vec<_> = (0..rng.random_range(0..3))
                    .map(|_| {
                        next += 1;
                        let to = receiver(names[rng.random_range(0..names.len())]);
                        expected.entry(to.clone()).or_default().push(next);
                        (to, next)
                    })
                    .collect();
                log.push((epoch, sends.clone()));
                outbox.handle_record((epoch, log.len() as u64), sends);
            }
            9 => {
                // A message is lost, and its sender waits no more.
                if !network.is_empty() {
                    let at = rng.random_range(0..network.len());
                    let carry = network.swap_remove(at);
                    let failed = Carried::Failed("late".into());
                    answers.push((carry.to, carry.mark, carry.round, failed));
                }
            }
            10 => ledger = (outbox.through(), outbox.left().collect()),
            _ => {
                // Another owner, which begins with what was noted. Late messages stay.
                epoch = Epoch(epoch.0 + 1);
                answers.clear();
                let (through, left) = &ledger;
                outbox = Outbox::new(*through, LIMITS);
                for &position in left {
                    let (epoch, sends) = record(&log, position);
                    outbox.handle_left((epoch, position), sends);
                }
                for position in through + 1..=log.len() as u64 {
                    let (epoch, sends) = record(&log, position);
                    outbox.handle_record((epoch, position), sends);
                }
            }
        }
    }
    for (to, sent) in &expected {
        let found: Vec<_> = receivers.get(to).map_or(Vec::new(), |entity| {
            entity.handled.iter().map(|(_, payload)| *payload).collect()
        });
        if found != *sent {
            return Err(format!("seed {seed}: {to:?} has {found:?}, not {sent:?}"));
        }
    }
    match outbox.len() {
        0 => Ok(()),
        left => Err(format!("seed {seed}: {left} are left")),
    }
}

proptest! {
    #[test]
    fn each_send_is_handled_once_and_in_order(seed: u64) {
        storm(seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn storms_find_each_rule_of_sends_that_is_broken() {
    for rule in [
        "sends_say_nothing_of_earlier_ones",
        "repeated_sends_are_handled",
        "sends_of_a_record_have_one_mark",
        "repeats_are_answered_at_once",
    ] {
        let found = breaking(rule, || (0..50).find_map(|seed| storm(seed).err()));
        println!("{rule}: {}", found.expect(rule));
    }
}
