//! Numbers that entities pass on to others, or are reminded of, until processes are killed; and
//! what has come of them afterwards.

use std::collections::BTreeMap;

use casty::{
    admin::Admin,
    prelude::*,
    remind::Remind,
    testkit::{STEP_LIMIT, eventually},
};

/// It passes numbers on to drawers, and is reminded of others.
#[message]
#[derive(Default)]
pub(crate) struct Teller {
    passed: Vec<u64>,
    /// What came back: the place of the number in its drawer.
    settled: Vec<(u64, usize)>,
    /// Outcomes that are no place.
    unanswered: Vec<String>,
    set: Vec<u64>,
    rung: Vec<u64>,
}

#[message]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TellerReport {
    passed: Vec<u64>,
    settled: Vec<(u64, usize)>,
    unanswered: Vec<String>,
    set: Vec<u64>,
    rung: Vec<u64>,
}

#[entity(event_sourced, snapshot_every = 40, retain = "snapshot", shards = 8)]
impl Teller {
    #[message]
    fn pass(&self, number: u64, to: DrawerRef) -> Effect<Self> {
        let passed = Effect::persist(TellerEvent::Passed { number });
        passed.send_for(to.take(number), move |outcome| TellerMsg::Settle {
            number,
            outcome,
        })
    }

    #[message]
    fn settle(&self, number: u64, outcome: Outcome<usize>) -> Effect<Self> {
        Effect::persist(match outcome.result() {
            Ok(place) => TellerEvent::Settled { number, place },
            Err(why) => TellerEvent::LeftOpen {
                why: format!("{number}: {why}"),
            },
        })
    }

    /// It is reminded within a second.
    #[message]
    fn set(&self, number: u64) -> Effect<Self> {
        let soon = Remind::after(Duration::from_millis(10 + number * 7919 % 900));
        let set = Effect::persist(TellerEvent::Noted { number });
        set.remind(number.to_string(), soon, TellerMsg::Ring { number })
    }

    #[message]
    fn ring(&self, number: u64) -> Effect<Self> {
        Effect::persist(TellerEvent::Rung { number })
    }

    #[message]
    fn report(&self) -> TellerReport {
        TellerReport {
            passed: self.passed.clone(),
            settled: self.settled.clone(),
            unanswered: self.unanswered.clone(),
            set: self.set.clone(),
            rung: self.rung.clone(),
        }
    }

    #[event]
    fn passed(&mut self, number: u64) {
        self.passed.push(number);
    }

    #[event]
    fn settled(&mut self, number: u64, place: usize) {
        self.settled.push((number, place));
    }

    #[event]
    fn left_open(&mut self, why: String) {
        self.unanswered.push(why);
    }

    #[event]
    fn noted(&mut self, number: u64) {
        self.set.push(number);
    }

    #[event]
    fn rung(&mut self, number: u64) {
        self.rung.push(number);
    }
}

/// It takes numbers.
#[message]
#[derive(Default)]
pub(crate) struct Drawer {
    taken: Vec<u64>,
}

#[entity(durable, snapshot_every = 40, retain = "snapshot", shards = 8)]
impl Drawer {
    #[message]
    fn take(&mut self, number: u64) -> usize {
        self.taken.push(number);
        self.taken.len()
    }

    #[message]
    fn taken(&self) -> Vec<u64> {
        self.taken.clone()
    }
}

const TELLERS: u64 = 6;
const DRAWERS: u64 = 4;
/// An entity has 64 reminders at most, and each lasts for a while.
const SET_EVERY: u64 = 16;

fn teller(system: &ActorSystem, number: u64) -> TellerRef {
    system.entity::<Teller>(format!("teller {}", number % TELLERS).as_str())
}

fn drawer(system: &ActorSystem, number: u64) -> DrawerRef {
    system.entity::<Drawer>(format!("drawer {}", number % DRAWERS).as_str())
}

/// Gives a number to its teller, to be passed on or to be reminded of.
pub(crate) async fn pass_or_set(system: &ActorSystem, number: u64) -> Result<(), AskError> {
    // Neighbours have one teller, so that several numbers wait for one drawer.
    let teller = teller(system, number / SET_EVERY);
    if number.is_multiple_of(SET_EVERY) {
        return teller.set(number).await;
    }
    teller.pass(number, drawer(system, number)).await
}

async fn report(system: &ActorSystem, number: u64) -> TellerReport {
    let report = teller(system, number).report().retry_for(STEP_LIMIT);
    report.await.unwrap()
}

/// All numbers that tellers have passed on, or are reminded of, once each of them is settled or has
/// rung: that was once, and in order.
pub(crate) async fn all(system: &ActorSystem) -> Vec<u64> {
    let mut tellers = Vec::new();
    for number in 0..TELLERS {
        let look = || report(system, number);
        let is_over = |it: &TellerReport| {
            it.settled.len() + it.unanswered.len() >= it.passed.len()
                && it.rung.len() >= it.set.len()
        };
        // There may be much of it: as long as there is more each time, it goes on.
        let done = |it: &TellerReport| it.settled.len() + it.unanswered.len() + it.rung.len();
        let mut last = look().await;
        while !is_over(&last) {
            let before = done(&last);
            let goes_on = |it: &TellerReport| is_over(it) || done(it) > before;
            last = eventually("more is settled, or has rung", look, goes_on).await;
        }
        tellers.push(last);
    }
    let mut drawers = Vec::new();
    for number in 0..DRAWERS {
        let taken = drawer(system, number).taken().retry_for(STEP_LIMIT).await;
        drawers.push(taken.unwrap());
    }
    let passed: usize = tellers.iter().map(|it| it.passed.len()).sum();
    let taken: usize = drawers.iter().map(Vec::len).sum();
    assert_eq!(taken, passed, "passed on, and taken");
    for (teller, name) in tellers.iter().zip(0..) {
        check(teller, name, &drawers);
    }
    assert!(passed > 0, "nothing was passed on");
    assert!(
        tellers.iter().any(|it| !it.set.is_empty()),
        "nothing was set"
    );
    let numbers = tellers.into_iter().flat_map(|it| [it.passed, it.set]);
    numbers.flatten().collect()
}

fn check(teller: &TellerReport, name: u64, drawers: &[Vec<u64>]) {
    assert_eq!(teller.unanswered, Vec::<String>::new(), "teller {name}");
    for (taken, drawer) in drawers.iter().zip(0..) {
        let is_own = |number: &&u64| **number / SET_EVERY % TELLERS == name;
        let taken: Vec<_> = taken.iter().filter(is_own).copied().collect();
        let is_for = |number: &&u64| **number % DRAWERS == drawer;
        let sent: Vec<_> = teller.passed.iter().filter(is_for).copied().collect();
        assert_eq!(
            taken, sent,
            "from teller {name} to drawer {drawer}, in order"
        );
    }
    let settled: BTreeMap<_, _> = teller.settled.iter().copied().collect();
    assert_eq!(settled.len(), teller.settled.len(), "teller {name}: twice");
    for number in &teller.passed {
        let taken = &drawers[usize::try_from(number % DRAWERS).unwrap()];
        let place = settled.get(number).map(|place| place - 1);
        let at = place.and_then(|place| taken.get(place));
        assert_eq!(at, Some(number), "teller {name} knows another place");
    }
    let (mut set, mut rung) = (teller.set.clone(), teller.rung.clone());
    set.sort_unstable();
    rung.sort_unstable();
    assert_eq!(rung, set, "teller {name}: each has rung once");
}

/// As [`all`], and no node knows of anything that is still to be done. Then all is as it was.
pub(crate) async fn all_and_nothing_is_left(node: &ActorSystem) -> Vec<u64> {
    let found = all(node).await;
    let admin = Admin::connect("diaries", [node.address()]).await.unwrap();
    let left = async || {
        let sends = admin.outbox().await.unwrap();
        let reminders = admin.reminders(Some("Teller"), 1).await.unwrap();
        let silent = sends.silent.len() + reminders.silent.len();
        (sends.sends, reminders.pending, silent)
    };
    eventually("nothing is left", left, |left| *left == (0, 0, 0)).await;
    assert_eq!(all(node).await, found);
    found
}
