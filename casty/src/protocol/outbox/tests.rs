use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::infra::mutants::breaking;

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

type Sends = Vec<(Receiver, u64)>;

fn record(log: &[(Epoch, Sends)], position: u64) -> (Epoch, Sends) {
    let at = usize::try_from(position - 1).expect("a few");
    log[at].clone()
}

/// What a receiver has handled with its mark, and how much of that is durable.
type Handled = (Vec<(SendMark, u64)>, usize);

/// Receivers of which each may fail over to what is durable, beside a source that may fail over
/// too. What each has handled in the end.
fn storm(seed: u64) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let names = ["ada", "bob"];
    // The log of the source, all of it durable.
    let mut log: Vec<(Epoch, Vec<(Receiver, u64)>)> = Vec::new();
    let mut expected: BTreeMap<Receiver, Vec<u64>> = BTreeMap::new();
    let mut handled: BTreeMap<Receiver, Handled> = BTreeMap::new();
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
        match rng.random_range(0..if is_quiet { 6 } else { 10 }) {
            0 | 1 => {
                // Messages come in any order, and stay to come again.
                if !network.is_empty() {
                    let at = rng.random_range(0..network.len());
                    let carry = match rng.random_range(0..4) {
                        0 if !is_quiet => network[at].clone(),
                        _ => network.remove(at),
                    };
                    let (known, durable) = handled.entry(carry.to.clone()).or_default();
                    let last = known.last().map(|(mark, _)| *mark);
                    let carried = match judge(last, carry.mark, carry.after) {
                        Judged::New => {
                            known.push((carry.mark, carry.payload));
                            *durable = known.len();
                            Carried::Taken
                        }
                        Judged::Repeat => {
                            *durable = known.len();
                            Carried::Taken
                        }
                        Judged::Gap => Carried::Failed("a gap".into()),
                    };
                    answers.push((carry.to, carry.mark, carry.round, carried));
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
                if is_quiet && network.is_empty() && answers.is_empty() {
                    now += LIMITS.pause_max * 2;
                    outbox.handle_time(now);
                }
            }
            6 => {
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
            7 => {
                // A message is lost, and its sender waits no more.
                if !network.is_empty() {
                    let at = rng.random_range(0..network.len());
                    let carry = network.swap_remove(at);
                    let failed = Carried::Failed("late".into());
                    answers.push((carry.to, carry.mark, carry.round, failed));
                }
            }
            8 => ledger = (outbox.through(), outbox.left().collect()),
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
        let found: Vec<_> = handled.get(to).map_or(Vec::new(), |(known, _)| {
            known.iter().map(|(_, payload)| *payload).collect()
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
    ] {
        let found = breaking(rule, || (0..50).find_map(|seed| storm(seed).err()));
        println!("{rule}: {}", found.expect(rule));
    }
}
