//! The times of reminders, and a walk: entities set, handle and forget reminders, owners write
//! parts and are succeeded, and records are forgotten. Nothing that is pending must get lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{prelude::*, test_runner::TestCaseError};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    timetable::{Advance, Missed, Timetable},
    *,
};
use crate::infra::mutants::breaking;

const LIMITS: ReminderLimits = ReminderLimits {
    under_way: 4,
    pause: Duration::from_millis(10),
    pause_max: Duration::from_millis(80),
    pause_max_broken: Duration::from_secs(1),
    part: 2,
    part_bytes: 1_000,
};

fn advance(timetable: &Timetable, missed: Missed, due: u64, now: u64) -> (bool, Option<u64>) {
    let advance = timetable.advance(missed, due, now);
    let Advance {
        is_handled, next, ..
    } = advance.expect("it is known when it is due next");
    (is_handled, next)
}

#[test]
fn a_reminder_is_handled_for_the_last_time_or_for_the_first_that_counts() {
    let every = Timetable::Every { millis: 10_000 };
    let at = |timetable: &Timetable, missed| timetable.advance(missed, 5_000, 46_000).unwrap().at;
    assert_eq!(at(&every, Missed::Once), 45_000);
    assert_eq!(at(&every, Missed::Skip), 45_000);
    assert_eq!(at(&every, Missed::All(10)), 5_000);
    assert_eq!(at(&every, Missed::All(2)), 35_000);
    assert_eq!(at(&Timetable::Once, Missed::All(2)), 5_000);
    // A clock was ahead.
    assert_eq!(every.advance(Missed::Once, 5_000, 2_000).unwrap().at, 5_000);
}

#[test]
fn what_is_due_once_is_not_due_again() {
    let once = |missed, now| advance(&Timetable::Once, missed, 1_000, now);
    assert_eq!(once(Missed::Once, 1_000), (true, None));
    assert_eq!(once(Missed::All(3), 9_000_000), (true, None));
    assert_eq!(once(Missed::Skip, 61_000), (true, None));
    assert_eq!(once(Missed::Skip, 61_001), (false, None));
}

#[test]
fn periods_are_counted_from_the_first_time() {
    let every = Timetable::Every { millis: 10_000 };
    let every = |missed, now| advance(&every, missed, 5_000, now);
    assert_eq!(every(Missed::Once, 5_000), (true, Some(15_000)));
    assert_eq!(every(Missed::Once, 5_999), (true, Some(15_000)));
    // Four times were missed.
    assert_eq!(every(Missed::Once, 46_000), (true, Some(55_000)));
    assert_eq!(every(Missed::All(10), 46_000), (true, Some(15_000)));
    assert_eq!(every(Missed::All(2), 46_000), (true, Some(45_000)));
    assert_eq!(every(Missed::All(0), 46_000), (true, Some(55_000)));
    // The last of them is not too late for a handler.
    assert_eq!(every(Missed::Skip, 46_000), (true, Some(55_000)));
    // A clock was ahead.
    assert_eq!(every(Missed::Once, 2_000), (true, Some(15_000)));
}

#[test]
fn what_is_older_than_a_minute_is_skipped_where_that_is_wanted() {
    let hourly = Timetable::Every { millis: 3_600_000 };
    let hourly = |now| advance(&hourly, Missed::Skip, 0, now);
    assert_eq!(hourly(7_230_000), (true, Some(10_800_000)));
    assert_eq!(hourly(7_300_000), (false, Some(10_800_000)));
}

#[cfg(feature = "cron")]
mod by_cron {
    use jiff::Timestamp;

    use super::*;
    use crate::protocol::reminders::{cron, timetable::InvalidCron};

    fn at(time: &str) -> u64 {
        let time: Timestamp = time.parse().expect("a time");
        time.as_millisecond().try_into().expect("after 1970")
    }

    fn lisbon(expression: &str) -> Timetable {
        Timetable::Cron {
            expression: expression.into(),
            zone: "Europe/Lisbon".into(),
        }
    }

    #[test]
    fn an_expression_names_times_of_its_zone() {
        let nine = lisbon("0 9 * * *");
        let (winter, summer) = (at("2026-01-15T09:00:00Z"), at("2026-07-15T08:00:00Z"));
        let next = advance(&nine, Missed::Once, winter, winter);
        assert_eq!(next, (true, Some(at("2026-01-16T09:00:00Z"))));
        let next = advance(&nine, Missed::Once, summer, summer);
        assert_eq!(next, (true, Some(at("2026-07-16T08:00:00Z"))));
    }

    #[test]
    fn a_time_that_the_clock_skips_is_due_after_the_gap() {
        // On 29 March 2026 the clocks of Lisbon go from one o'clock to two.
        let half_past_one = lisbon("30 1 * * *");
        let before = at("2026-03-28T01:30:00Z");
        let next = advance(&half_past_one, Missed::Once, before, before);
        assert_eq!(next, (true, Some(at("2026-03-29T01:00:00Z"))));
    }

    #[test]
    fn a_time_that_the_clock_shows_twice_is_due_once() {
        // On 25 October 2026 they go from two back to one.
        let half_past_one = lisbon("30 1 * * *");
        let first = at("2026-10-25T00:30:00Z");
        let next = advance(&half_past_one, Missed::Once, first, first);
        assert_eq!(next, (true, Some(at("2026-10-26T01:30:00Z"))));
    }

    #[test]
    fn missed_times_are_counted_back() {
        let daily = lisbon("0 9 * * *");
        let (due, now) = (at("2026-01-01T09:00:00Z"), at("2026-01-10T12:00:00Z"));
        let all = advance(&daily, Missed::All(3), due, now);
        assert_eq!(all, (true, Some(at("2026-01-09T09:00:00Z"))));
        let all = advance(&daily, Missed::All(100), due, now);
        assert_eq!(all, (true, Some(at("2026-01-02T09:00:00Z"))));
        let skipped = advance(&daily, Missed::Skip, due, now);
        assert_eq!(skipped, (false, Some(at("2026-01-11T09:00:00Z"))));
        let just = at("2026-01-10T09:00:30Z");
        let last = advance(&daily, Missed::Skip, due, just);
        assert_eq!(last, (true, Some(at("2026-01-11T09:00:00Z"))));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let first = |expression, zone| cron::first(expression, zone, at("2026-01-01T00:00:00Z"));
        assert!(matches!(
            first("every day", "UTC"),
            Err(InvalidCron::Expression { .. })
        ));
        assert!(matches!(
            first("61 * * * *", "UTC"),
            Err(InvalidCron::Expression { .. })
        ));
        assert!(matches!(
            first("0 9 * * *", "Europe/Atlantis"),
            Err(InvalidCron::Zone { zone }) if zone == "Europe/Atlantis"
        ));
        assert!(matches!(
            first("0 9 31 2 *", "UTC"),
            Err(InvalidCron::Never { .. })
        ));
        assert_eq!(first("30 0 0 1 1 *", "UTC"), Ok(at("2026-01-01T00:00:30Z")));
    }
}

/// A record of an entity.
struct Record {
    entity: EntityId,
    seq: u64,
    changes: Vec<IndexChange<u64>>,
    erases: bool,
    is_forgotten: bool,
}

/// A record of the shard.
struct Ledger {
    seq: u64,
    through: u64,
    note: IndexNote<u64>,
}

/// A log, what is true of it, and its owner.
struct Walk {
    rng: StdRng,
    now: u64,
    log: Vec<Record>,
    ledgers: Vec<Ledger>,
    ledger_seq: u64,
    seqs: BTreeMap<EntityId, u64>,
    /// The pending reminders: the number of the record, and when they are due.
    truth: BTreeMap<ReminderKey, (u64, u64)>,
    owner: Reminders<u64>,
    handled: BTreeSet<(ReminderKey, u64)>,
    set: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: 1_000,
            log: Vec::new(),
            ledgers: Vec::new(),
            ledger_seq: 0,
            seqs: BTreeMap::new(),
            truth: BTreeMap::new(),
            owner: Reminders::new(Round::default(), LIMITS),
            handled: BTreeSet::new(),
            set: 0,
        }
    }

    fn key(&mut self) -> ReminderKey {
        ReminderKey {
            entity: EntityId::new(format!("e{}", self.rng.random_range(0..7))),
            name: format!("r{}", self.rng.random_range(0..2)).into(),
        }
    }

    /// Writes a record, and tells the owner of it.
    fn write(&mut self, entity: &EntityId, changes: Vec<IndexChange<u64>>, erases: bool) {
        let seq = self.seqs.entry(entity.clone()).or_default();
        *seq += 1;
        let seq = *seq;
        for change in &changes {
            let key = |name: &Arc<str>| ReminderKey {
                entity: entity.clone(),
                name: name.clone(),
            };
            match change {
                IndexChange::Set { name, due, .. } => {
                    self.truth.insert(key(name), (seq, *due));
                }
                IndexChange::Gone(name) => {
                    self.truth.remove(&key(name));
                }
            }
        }
        if erases {
            self.truth.retain(|key, _| key.entity != *entity);
        }
        self.log.push(Record {
            entity: entity.clone(),
            seq,
            changes: changes.clone(),
            erases,
            is_forgotten: false,
        });
        let at = self.log.len() as u64;
        self.owner.handle_record(at, (entity, seq), changes, erases);
    }

    fn set(&mut self, key: &ReminderKey, due: u64) -> IndexChange<u64> {
        self.set += 1;
        IndexChange::Set {
            name: key.name.clone(),
            due,
            payload: self.set,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..12) {
            0..=3 => {
                let key = self.key();
                let due = self.now + self.rng.random_range(0..100);
                let change = self.set(&key, due);
                self.write(&key.entity, vec![change], false);
            }
            4 => {
                let key = self.key();
                self.write(&key.entity, vec![IndexChange::Gone(key.name)], false);
            }
            5 if self.rng.random_bool(0.3) => {
                let key = self.key();
                self.write(&key.entity, Vec::new(), true);
            }
            5 | 6 => self.note(),
            7 => self.forget(),
            8 if self.rng.random_bool(0.3) => self.succeed()?,
            _ => self.remind()?,
        }
        self.now += self.rng.random_range(0..30);
        Ok(())
    }

    /// The owner writes a part.
    fn note(&mut self) {
        let through = self.log.len() as u64;
        self.ledger_seq += 1;
        let seq = self.ledger_seq;
        let note = self.owner.note(seq, through, |_| 300);
        let round = note.round;
        self.ledgers.push(Ledger { seq, through, note });
        if self.rng.random_bool(0.8) {
            self.owner.handle_noted(round);
            self.ledgers.retain(|ledger| ledger.seq >= round.first);
        }
    }

    /// Records that a snapshot contains are forgotten, or those of an entity that was erased.
    fn forget(&mut self) {
        let key = self.key();
        let last = self.seqs.get(&key.entity).copied().unwrap_or(0);
        let last = last.saturating_sub(self.rng.random_range(0..3));
        let through = self.owner.forgettable(&key.entity, last);
        let is_of = |it: &&mut Record| it.entity == key.entity;
        let erased = self.log.iter_mut().filter(is_of);
        let erased = erased.filter(|it| it.erases).map(|it| it.seq).max();
        let through = through.max(erased.unwrap_or(0));
        for record in self.log.iter_mut().filter(is_of) {
            record.is_forgotten |= record.seq <= through;
        }
    }

    /// Another owner reads what there is.
    fn succeed(&mut self) -> Result<(), String> {
        let last = self.ledgers.last();
        let round = last.map_or_else(Round::default, |ledger| ledger.note.round);
        let mut owner = Reminders::new(round, LIMITS);
        for Ledger { seq, through, note } in &self.ledgers {
            if let Some(part) = &note.part
                && *seq >= round.first
            {
                owner.handle_part(part.clone(), *through);
            }
        }
        for (at, record) in (1..).zip(&self.log) {
            if at > round.through && !record.is_forgotten {
                let of = (&record.entity, record.seq);
                owner.handle_record(at, of, record.changes.clone(), record.erases);
            }
        }
        self.owner = owner;
        self.check()
    }

    /// The owner knows of all that is pending.
    fn check(&self) -> Result<(), String> {
        for (key, (seq, due)) in &self.truth {
            let known = self.owner.find(key).map(|it| (it.set.seq, it.set.due));
            if known != Some((*seq, *due)) {
                return Err(format!("{key:?} is ({seq}, {due}), and known as {known:?}"));
            }
        }
        Ok(())
    }

    fn remind(&mut self) -> Result<(), String> {
        for due in self.owner.take_due(self.now) {
            let present = self.truth.get(&due.key).copied();
            let jitter = self.rng.random();
            let carried = match present {
                Some((seq, _)) if seq == due.seq && self.rng.random_bool(0.2) => {
                    Carried::Failed("it does not answer".to_owned())
                }
                Some((seq, at)) if seq == due.seq => {
                    if at > self.now {
                        return Err(format!("{due:?} is too early: {at} at {}", self.now));
                    }
                    if !self.handled.insert((due.key.clone(), seq)) {
                        return Err(format!("{due:?} is handled twice"));
                    }
                    let change = if self.rng.random_bool(0.5) {
                        let next = self.now + self.rng.random_range(1..100);
                        self.set(&due.key, next)
                    } else {
                        IndexChange::Gone(due.key.name.clone())
                    };
                    let entity = due.key.entity.clone();
                    self.write(&entity, vec![change], false);
                    Carried::Taken
                }
                _ => Carried::Void,
            };
            let now = (self.now, jitter);
            self.owner.handle_reminded(&due.key, due.seq, carried, now);
        }
        Ok(())
    }
}

fn walk(seed: u64) -> Result<(), String> {
    let mut walk = Walk::new(seed);
    for step in 0..300 {
        let done = walk.step().and_then(|()| walk.check());
        done.map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
    }
    // All that is pending is handled, or is due later.
    for _ in 0..100 {
        walk.now += 1_000;
        walk.remind()
            .map_err(|error| format!("seed {seed}: {error}"))?;
    }
    let late = walk
        .truth
        .values()
        .filter(|(_, due)| *due + 3_000 < walk.now);
    match late.count() {
        0 if walk.owner.len() == walk.truth.len() => Ok(()),
        0 => Err(format!("seed {seed}: void reminders are left")),
        late => Err(format!("seed {seed}: {late} are left")),
    }
}

proptest! {
    #[test]
    fn each_reminder_comes_once_whoever_owns_the_shard(seed: u64) {
        walk(seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn walks_find_each_rule_of_the_index_that_is_broken() {
    for rule in [
        "parts_of_reminders_are_empty",
        "reminders_are_forgotten_early",
    ] {
        let found = breaking(rule, || (0..100).find_map(|seed| walk(seed).err()));
        println!("{rule}: {}", found.expect(rule));
    }
}
