use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Position, activation, number.
type Placed = (u64, usize, u64);

/// A record of a test: its log, its activation, its number there, its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    writer: usize,
    seq: u64,
    bytes: usize,
    has_failed: bool,
}

impl Ticket for Told {
    type Record = Placed;

    fn record(&self, position: u64) -> Self::Record {
        (position, self.writer, self.seq)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn writer(&self) -> usize {
        self.writer
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }
}

const A: LogId = LogId(1);
const B: LogId = LogId(2);

const fn told(writer: usize, seq: u64) -> Told {
    Told {
        writer,
        seq,
        bytes: 10,
        has_failed: false,
    }
}

fn bounds() -> Bounds {
    Bounds {
        records: 4,
        bytes: 1000,
        lanes: 1,
        lane_records: 3,
        claims: 2,
        patience: Duration::from_secs(3),
        operation: Duration::from_secs(10),
    }
}

type Effects = Vec<CommitEffect<Told>>;

/// What an input had as effects, and what begins then.
fn effects(machine: &mut Commits<Told>, now: Instant) -> Effects {
    machine.begin(now);
    machine.take_effects()
}

/// A machine with logs that are claimed, with these heads.
fn claimed(heads: &[(LogId, u64)], now: Instant) -> Commits<Told> {
    let mut machine = Commits::new(bounds());
    for (log, head) in heads {
        machine.handle_opened(*log, None);
        assert_eq!(effects(&mut machine, now), [CommitEffect::Claim(*log)]);
        machine.handle_claimed(*log, Ok(*head), 0.5, now);
        let held = CommitEffect::Stands(*log, Claim::Held);
        assert_eq!(effects(&mut machine, now), [held]);
    }
    machine
}

/// A part of a commit.
type PartOf<'a> = (LogId, &'a [Placed]);

fn commit(number: u64, parts: &[PartOf<'_>]) -> CommitEffect<Told> {
    let parts = parts.iter().map(|(log, records)| Part {
        log: *log,
        records: records.to_vec(),
    });
    CommitEffect::Commit(CommitId(number), parts.collect())
}

fn fail(ticket: Told, reason: &str, possibly: bool) -> CommitEffect<Told> {
    CommitEffect::Fail {
        ticket,
        reason: reason.into(),
        missing: Arc::default(),
        possibly,
    }
}

fn pending(log: LogId, reason: &str) -> CommitEffect<Told> {
    CommitEffect::Stands(log, Claim::Pending(Some(reason.to_owned())))
}

const ONE: CommitId = CommitId(0);
const LOST: &str = "connection lost";

fn unknown() -> Ended {
    Ended::Unknown(LOST.to_owned())
}

fn written(parts: usize) -> Ended {
    Ended::Answered(vec![true; parts])
}

#[test]
fn a_lone_record_is_committed_at_once_and_what_comes_meanwhile_together() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 7), (B, 0)], now);
    assert_eq!(machine.needed(), 1);
    machine.handle_record(A, told(1, 1), now);
    assert_eq!(
        effects(&mut machine, now),
        [commit(0, &[(A, &[(8, 1, 1)])])]
    );
    assert_eq!(machine.needed(), usize::MAX, "one commit at a time");
    for (log, record) in [(A, told(1, 2)), (B, told(2, 1)), (A, told(3, 1))] {
        machine.handle_record(log, record, now);
        assert_eq!(effects(&mut machine, now), [], "one commit at a time");
    }
    machine.handle_ended(ONE, &written(1));
    assert_eq!(
        effects(&mut machine, now),
        [
            CommitEffect::Confirm(told(1, 1), 8),
            commit(1, &[(B, &[(1, 2, 1)]), (A, &[(9, 1, 2), (10, 3, 1)])])
        ]
    );
    machine.handle_ended(CommitId(1), &written(2));
    assert_eq!(
        effects(&mut machine, now),
        [
            CommitEffect::Confirm(told(2, 1), 1),
            CommitEffect::Confirm(told(1, 2), 9),
            CommitEffect::Confirm(told(3, 1), 10)
        ]
    );
    assert_eq!(machine.deadline(), Some(now + bounds().patience), "to look");
    machine.handle_time(now + bounds().patience, 0.0);
    assert_eq!(machine.deadline(), None, "nothing waits");
}

#[test]
fn a_commit_is_bounded_and_a_log_with_much_does_not_keep_another_waiting() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 0), (B, 0)], now);
    for seq in 1..=6 {
        machine.handle_record(A, told(1, seq), now);
    }
    machine.handle_record(B, told(2, 1), now);
    let four = [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4)];
    assert_eq!(effects(&mut machine, now), [commit(0, &[(A, &four)])]);
    machine.handle_ended(ONE, &written(1));
    let next = effects(&mut machine, now).pop();
    let rest = [(5, 1, 5), (6, 1, 6)];
    assert_eq!(next, Some(commit(1, &[(B, &[(1, 2, 1)]), (A, &rest)])));
    machine.handle_ended(CommitId(1), &written(2));
    // Large records go alone, even those that are larger than the bound.
    let large = |seq, bytes| Told {
        bytes,
        ..told(3, seq)
    };
    for (seq, bytes) in [(1, 5000), (2, 600), (3, 600)] {
        machine.handle_record(A, large(seq, bytes), now);
    }
    for number in 2..5 {
        let begun = effects(&mut machine, now).pop();
        let position = number + 5;
        let record = (position, 3, number - 1);
        assert_eq!(begun, Some(commit(number, &[(A, &[record])])));
        machine.handle_ended(CommitId(number), &written(1));
    }
}

#[test]
fn a_further_lane_is_used_while_much_waits_and_never_twice_for_one_log() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 0), (B, 0)], now);
    machine.bounds.lanes = 2;
    machine.handle_record(A, told(1, 1), now);
    assert_eq!(
        effects(&mut machine, now),
        [commit(0, &[(A, &[(1, 1, 1)])])]
    );
    for seq in 1..=5 {
        machine.handle_record(A, told(3, seq), now);
    }
    assert_eq!(effects(&mut machine, now), [], "A is being written to");
    assert_eq!(machine.needed(), bounds().lane_records);
    for seq in 1..=2 {
        machine.handle_record(B, told(2, seq), now);
    }
    assert_eq!(effects(&mut machine, now), [], "too few");
    machine.handle_record(B, told(2, 3), now);
    let three = [(1, 2, 1), (2, 2, 2), (3, 2, 3)];
    assert_eq!(effects(&mut machine, now), [commit(1, &[(B, &three)])]);
    machine.handle_ended(CommitId(1), &written(1));
    machine.handle_ended(ONE, &written(1));
    let begun = effects(&mut machine, now).pop();
    let four = [(2, 3, 1), (3, 3, 2), (4, 3, 3), (5, 3, 4)];
    assert_eq!(begun, Some(commit(2, &[(A, &four)])));
}

#[test]
fn what_was_not_written_fails_with_what_follows_it_and_leaves_no_gap() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 3)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    machine.handle_record(A, told(1, 2), now);
    machine.handle_record(A, told(2, 1), now);
    machine.handle_ended(ONE, &Ended::NotWritten(LOST.to_owned()));
    assert_eq!(
        effects(&mut machine, now),
        [
            fail(told(1, 1), LOST, false),
            fail(told(1, 2), LOST, false),
            commit(1, &[(A, &[(4, 2, 1)])])
        ]
    );
    // The activation may have appended a further one before it knew.
    let late = Told {
        has_failed: true,
        ..told(1, 3)
    };
    machine.handle_record(A, late, now);
    let reason = "an earlier record of the activation was not stored";
    assert_eq!(effects(&mut machine, now), [fail(late, reason, false)]);
}

#[test]
fn after_an_unknown_outcome_the_head_of_a_claim_tells() {
    let now = Instant::now();
    for is_written in [true, false] {
        let mut machine = claimed(&[(A, 3)], now);
        machine.handle_record(A, told(1, 1), now);
        machine.handle_record(A, told(2, 1), now);
        effects(&mut machine, now);
        machine.handle_ended(ONE, &unknown());
        assert_eq!(
            effects(&mut machine, now),
            [pending(A, LOST), CommitEffect::Claim(A)]
        );
        machine.handle_record(A, told(1, 2), now);
        machine.handle_record(A, told(3, 1), now);
        assert_eq!(effects(&mut machine, now), [], "nothing before the claim");
        let held = CommitEffect::Stands(A, Claim::Held);
        if is_written {
            machine.handle_claimed(A, Ok(5), 0.0, now);
            assert_eq!(
                effects(&mut machine, now),
                [
                    CommitEffect::Confirm(told(1, 1), 4),
                    CommitEffect::Confirm(told(2, 1), 5),
                    held,
                    commit(1, &[(A, &[(6, 1, 2), (7, 3, 1)])])
                ]
            );
        } else {
            machine.handle_claimed(A, Ok(3), 0.0, now);
            let reason = "the store has not written it";
            assert_eq!(
                effects(&mut machine, now),
                [
                    fail(told(1, 1), reason, false),
                    fail(told(2, 1), reason, false),
                    fail(told(1, 2), reason, false),
                    held,
                    commit(1, &[(A, &[(4, 3, 1)])])
                ]
            );
        }
    }
}

#[test]
fn where_the_store_stays_away_records_are_possibly_stored_and_the_log_waits_on() {
    let now = Instant::now();
    for is_written in [true, false] {
        let mut machine = claimed(&[(A, 3)], now);
        machine.handle_record(A, told(1, 1), now);
        effects(&mut machine, now);
        machine.handle_ended(ONE, &unknown());
        effects(&mut machine, now);
        let away = ClaimFailure::Unavailable("no route".to_owned());
        machine.handle_claimed(A, Err(away.clone()), 1.0, now);
        assert_eq!(effects(&mut machine, now), [pending(A, "no route")]);
        assert_eq!(machine.deadline(), Some(now + PAUSE));
        let later = now + bounds().patience;
        machine.handle_time(later, 0.0);
        let reason = "it is not known whether the store has written it, and the store has not answered since";
        assert_eq!(
            effects(&mut machine, later),
            [fail(told(1, 1), reason, true), CommitEffect::Claim(A)]
        );
        machine.handle_record(A, told(2, 1), later);
        assert_eq!(effects(&mut machine, later), []);
        let head = if is_written { 4 } else { 3 };
        machine.handle_claimed(A, Ok(head), 0.0, later);
        let next = commit(1, &[(A, &[(head + 1, 2, 1)])]);
        assert_eq!(
            effects(&mut machine, later),
            [CommitEffect::Stands(A, Claim::Held), next]
        );
    }
}

#[test]
fn the_nodes_that_are_missed_are_named_until_the_log_is_held_again() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 3)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    let missing: Arc<[String]> = vec!["node-2".to_owned()].into();
    machine.handle_ended(ONE, &Ended::NotEnoughCopies(missing.to_vec()));
    effects(&mut machine, now);
    let named = |effects: Effects| -> Vec<(u64, bool, bool)> {
        let failed = effects.into_iter().filter_map(|effect| match effect {
            CommitEffect::Fail {
                ticket,
                missing: told,
                possibly,
                ..
            } => Some((ticket.seq, possibly, told == missing)),
            _ => None,
        });
        failed.collect()
    };
    // The one that was written may be stored, and one that came behind it is not.
    machine.handle_record(A, told(2, 1), now);
    let later = now + bounds().patience;
    machine.handle_time(later, 0.0);
    assert_eq!(
        named(effects(&mut machine, later)),
        [(1, true, true), (1, false, true)]
    );
    machine.handle_claimed(A, Ok(4), 0.0, later);
    effects(&mut machine, later);
    machine.handle_record(A, told(3, 1), later);
    effects(&mut machine, later);
    machine.handle_ended(CommitId(1), &Ended::Unknown(LOST.to_owned()));
    machine.handle_time(later + bounds().patience, 0.0);
    assert_eq!(named(effects(&mut machine, later)), [(1, true, false)]);
}

#[test]
fn a_refusal_is_looked_into_and_a_fenced_log_refuses_at_once() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 3), (B, 0)], now);
    machine.handle_record(A, told(1, 1), now);
    machine.handle_record(B, told(2, 1), now);
    effects(&mut machine, now);
    machine.handle_record(A, told(3, 1), now);
    machine.handle_ended(ONE, &Ended::Answered(vec![false, true]));
    let reason = "the store has refused it: the shard may have another owner";
    assert_eq!(
        effects(&mut machine, now),
        [
            pending(A, "the store has refused a record"),
            fail(told(1, 1), reason, false),
            CommitEffect::Confirm(told(2, 1), 1),
            CommitEffect::Claim(A)
        ]
    );
    let fenced = ClaimFailure::Final("fenced".to_owned());
    machine.handle_claimed(A, Err(fenced), 0.0, now);
    assert_eq!(
        effects(&mut machine, now),
        [
            CommitEffect::Stands(A, Claim::Refused("fenced".to_owned())),
            fail(told(3, 1), "fenced", false)
        ]
    );
    machine.handle_record(A, told(4, 1), now);
    assert_eq!(
        effects(&mut machine, now),
        [fail(told(4, 1), "fenced", false)]
    );
    machine.handle_gone(A);
    assert_eq!(effects(&mut machine, now), [CommitEffect::Forget(A)]);
}

#[test]
fn a_store_that_has_lost_records_is_not_written_to() {
    let now = Instant::now();
    for head in [0, 2, 4, 6] {
        let mut machine = claimed(&[(A, 3)], now);
        machine.handle_record(A, told(1, 1), now);
        machine.handle_record(A, told(1, 2), now);
        effects(&mut machine, now);
        machine.handle_ended(ONE, &unknown());
        effects(&mut machine, now);
        machine.handle_claimed(A, Ok(head), 0.0, now);
        let effects = effects(&mut machine, now);
        let astray = CommitEffect::Astray {
            log: A,
            head,
            expected: 3,
        };
        assert_eq!(effects[0], astray);
        let refused =
            |effect: &CommitEffect<_>| matches!(effect, CommitEffect::Stands(A, Claim::Refused(_)));
        assert!(refused(&effects[1]), "{effects:?}");
        let failed = effects[2..].iter();
        let possibly =
            failed.filter(|effect| matches!(effect, CommitEffect::Fail { possibly: true, .. }));
        assert_eq!(possibly.count(), 2);
    }
}

#[test]
fn a_commit_or_a_claim_without_an_answer_is_given_up() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 3)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    let later = now + bounds().operation;
    machine.handle_time(later, 0.0);
    let reason = "the store has not answered for 10s";
    let found = effects(&mut machine, later);
    assert_eq!(
        found[..2],
        [CommitEffect::GiveUpCommit(ONE), pending(A, reason)]
    );
    // A late answer is of no interest: it may not be true any more.
    machine.handle_ended(ONE, &written(1));
    assert_eq!(effects(&mut machine, later), []);
    let later = later + bounds().operation;
    machine.handle_time(later, 1.0);
    let found = effects(&mut machine, later);
    assert_eq!(
        found[..2],
        [CommitEffect::GiveUpClaim(A), pending(A, reason)]
    );
    let next = machine.deadline().unwrap();
    assert!(later < next && next <= later + PAUSE);
}

#[test]
fn few_claims_run_at_once_and_each_failure_makes_a_longer_pause() {
    let mut now = Instant::now();
    let mut machine = Commits::<Told>::new(bounds());
    for log in 1..=5 {
        machine.handle_opened(LogId(log), None);
    }
    let claims = |logs: &[u64]| -> Effects {
        logs.iter()
            .map(|log| CommitEffect::Claim(LogId(*log)))
            .collect()
    };
    assert_eq!(effects(&mut machine, now), claims(&[1, 2]));
    machine.handle_claimed(LogId(2), Ok(0), 0.0, now);
    let held = CommitEffect::Stands(LogId(2), Claim::Held);
    let found = effects(&mut machine, now);
    assert_eq!((&found[0], found.len()), (&held, 2));
    for log in 3..=5 {
        machine.handle_gone(LogId(log));
    }
    // One of them was being claimed.
    assert_eq!(effects(&mut machine, now).len(), 4);
    let mut pause = PAUSE;
    for _ in 0..10 {
        let away = ClaimFailure::Unavailable("away".to_owned());
        machine.handle_claimed(LogId(1), Err(away), 1.0, now);
        assert_eq!(effects(&mut machine, now), [pending(LogId(1), "away")]);
        assert_eq!(machine.deadline(), Some(now + pause));
        now += pause;
        machine.handle_time(now, 0.0);
        assert_eq!(effects(&mut machine, now), claims(&[1]));
        pause = (pause * 2).min(PAUSE_MAX);
    }
    assert_eq!(pause, PAUSE_MAX);
}

#[test]
fn a_log_that_is_gone_is_written_to_the_end_and_forgotten() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 0)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    machine.handle_record(A, told(2, 1), now);
    machine.handle_gone(A);
    machine.handle_ended(ONE, &written(1));
    effects(&mut machine, now);
    machine.handle_ended(CommitId(1), &written(1));
    assert_eq!(
        effects(&mut machine, now),
        [
            CommitEffect::Confirm(told(2, 1), 2),
            CommitEffect::Forget(A)
        ]
    );
    machine.handle_record(A, told(3, 1), now);
    let reason = "the shard is not on this node any more";
    assert_eq!(
        effects(&mut machine, now),
        [fail(told(3, 1), reason, false)]
    );
}

#[test]
fn a_shard_that_is_owned_anew_drops_what_its_earlier_ownership_has_queued() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 0)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    machine.handle_record(A, told(2, 1), now);
    machine.handle_opened(B, Some(A));
    let reason = "the shard was taken from this activation";
    assert_eq!(
        effects(&mut machine, now),
        [fail(told(2, 1), reason, false), CommitEffect::Claim(B)]
    );
    machine.handle_ended(ONE, &written(1));
    assert_eq!(
        effects(&mut machine, now),
        [
            CommitEffect::Confirm(told(1, 1), 1),
            CommitEffect::Forget(A)
        ]
    );
}

#[test]
fn at_the_end_what_is_queued_is_written_and_nothing_else() {
    let now = Instant::now();
    let mut machine = claimed(&[(A, 0)], now);
    machine.handle_record(A, told(1, 1), now);
    effects(&mut machine, now);
    machine.handle_record(A, told(1, 2), now);
    machine.handle_closing();
    machine.handle_record(A, told(1, 3), now);
    let reason = "the node shuts down";
    assert_eq!(
        effects(&mut machine, now),
        [fail(told(1, 3), reason, false)]
    );
    for number in 0..2 {
        assert!(!machine.is_closed());
        machine.handle_ended(CommitId(number), &written(1));
        effects(&mut machine, now);
    }
    assert!(machine.is_closed());
}

/// A store, and all that a machine has been told and has said.
struct Model {
    machine: Commits<Told>,
    now: Instant,
    logs: BTreeMap<LogId, ModelLog>,
    commits: BTreeMap<CommitId, Vec<Part<Placed>>>,
    claims: BTreeSet<LogId>,
    /// The number of the next record of each activation, and whether one has failed.
    writers: BTreeMap<usize, (u64, bool)>,
    /// What has not been decided yet, with its log.
    open: BTreeMap<(usize, u64), LogId>,
    confirmed: BTreeMap<(LogId, u64), (usize, u64)>,
    /// Failed as certainly not written.
    failed: BTreeSet<(usize, u64)>,
}

#[derive(Default)]
struct ModelLog {
    written: Vec<Placed>,
    /// What may be written before the next claim.
    unfinished: Vec<Placed>,
    is_fenced: bool,
}

impl Model {
    fn new(logs: u64) -> Self {
        let mut model = Self {
            machine: Commits::new(Bounds {
                lanes: 2,
                ..bounds()
            }),
            now: Instant::now(),
            logs: BTreeMap::new(),
            commits: BTreeMap::new(),
            claims: BTreeSet::new(),
            writers: BTreeMap::new(),
            open: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            failed: BTreeSet::new(),
        };
        for log in (0..logs).map(LogId) {
            model.logs.insert(log, ModelLog::default());
            model.machine.handle_opened(log, None);
        }
        model.go_on();
        model
    }

    /// Carries effects out as the shell does, and begins what may begin.
    fn go_on(&mut self) {
        for _ in 0..2 {
            for effect in self.machine.take_effects() {
                self.carry_out(effect);
            }
            self.machine.begin(self.now);
        }
        for effect in self.machine.take_effects() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: CommitEffect<Told>) {
        match effect {
            CommitEffect::Claim(log) => {
                assert!(self.claims.insert(log), "claimed twice at a time");
                assert!(self.claims.len() <= bounds().claims);
            }
            CommitEffect::GiveUpClaim(log) => assert!(self.claims.remove(&log)),
            CommitEffect::Commit(commit, parts) => {
                let records = parts.iter().map(|part| part.records.len()).sum::<usize>();
                assert!(records <= bounds().records);
                for part in &parts {
                    let log = &self.logs[&part.log];
                    assert!(log.unfinished.is_empty(), "written to while in doubt");
                    let busy = self.commits.values().flatten();
                    assert!(busy.into_iter().all(|other| other.log != part.log));
                    for (record, position) in part.records.iter().zip(log.written.len() + 1..) {
                        assert_eq!(record.0, position as u64, "positions are dense");
                    }
                }
                self.commits.insert(commit, parts);
                assert!(self.commits.len() <= 2);
            }
            CommitEffect::GiveUpCommit(commit) => {
                for part in self.commits.remove(&commit).expect("it runs") {
                    let log = self.logs.get_mut(&part.log).expect("a log");
                    log.unfinished = part.records;
                }
            }
            CommitEffect::Confirm(Told { writer, seq, .. }, position) => {
                let log = self.open.remove(&(writer, seq)).expect("it is open");
                self.confirmed.insert((log, position), (writer, seq));
            }
            CommitEffect::Fail {
                ticket: Told { writer, seq, .. },
                possibly,
                ..
            } => {
                self.open.remove(&(writer, seq)).expect("it is open");
                self.writers.entry(writer).or_default().1 = true;
                if !possibly {
                    self.failed.insert((writer, seq));
                }
            }
            CommitEffect::Astray { .. } => panic!("this store loses nothing"),
            CommitEffect::Stands(..) | CommitEffect::Forget(_) => {}
        }
    }

    fn record(&mut self, writer: usize) {
        let log = LogId((writer % self.logs.len()) as u64);
        let (seq, has_failed) = self.writers.entry(writer).or_default();
        *seq += 1;
        let (seq, has_failed) = (*seq, *has_failed);
        self.open.insert((writer, seq), log);
        let ticket = Told {
            has_failed,
            bytes: if seq % 3 == 0 { 600 } else { 10 },
            ..told(writer, seq)
        };
        self.machine.handle_record(log, ticket, self.now);
    }

    /// A commit ends. `how`: written, not written, or unknown, in three ways.
    fn end(&mut self, which: usize, how: u8) {
        let commits: Vec<_> = self.commits.keys().copied().collect();
        let Some(commit) = commits.get(which % commits.len().max(1)) else {
            return;
        };
        let parts = self.commits.remove(commit).expect("it runs");
        let mut answers = Vec::new();
        for part in parts {
            let log = self.logs.get_mut(&part.log).expect("a log");
            match how {
                0..=3 if log.is_fenced => answers.push(false),
                0..=3 => {
                    log.written.extend(part.records);
                    answers.push(true);
                }
                5 if !log.is_fenced => log.written.extend(part.records),
                4..=6 => {}
                _ => log.unfinished = part.records,
            }
        }
        let ended = match how {
            0..=3 => Ended::Answered(answers),
            4 => Ended::NotWritten(LOST.to_owned()),
            _ => unknown(),
        };
        self.machine.handle_ended(*commit, &ended);
    }

    /// A claim ends. It has waited for what is unfinished, which is written or not.
    fn claim(&mut self, which: usize, works: bool, is_written: bool) {
        let claims: Vec<_> = self.claims.iter().copied().collect();
        let Some(log) = claims.get(which % claims.len().max(1)) else {
            return;
        };
        self.claims.remove(log);
        let state = self.logs.get_mut(log).expect("a log");
        let claimed = if works {
            let unfinished = std::mem::take(&mut state.unfinished);
            if is_written && !state.is_fenced {
                state.written.extend(unfinished);
            }
            if state.is_fenced {
                Err(ClaimFailure::Final("fenced".to_owned()))
            } else {
                Ok(state.written.len() as u64)
            }
        } else {
            Err(ClaimFailure::Unavailable("away".to_owned()))
        };
        self.machine.handle_claimed(*log, claimed, 0.5, self.now);
    }

    fn check(&self) {
        for ((log, position), record) in &self.confirmed {
            let written = self.logs[log].written.iter();
            let written = written.map(|(position, writer, seq)| (*position, (*writer, *seq)));
            let written = written.collect::<BTreeMap<_, _>>().get(position).copied();
            assert_eq!(written, Some(*record), "confirmed at {position} of {log:?}");
        }
        for log in self.logs.values() {
            let mut last = BTreeMap::new();
            for (_, writer, seq) in &log.written {
                let last = last.entry(writer).or_insert(0);
                assert_eq!(*seq, *last + 1, "the records of activation {writer}");
                *last = *seq;
                assert!(
                    !self.failed.contains(&(*writer, *seq)),
                    "{writer}/{seq} was said to be not written"
                );
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Records(Vec<usize>),
    End(usize, u8),
    Claim(usize, bool, bool),
    Time(u64),
    Fence(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(0_usize..9, 1..5).prop_map(Step::Records),
        6 => (any::<usize>(), 0_u8..9).prop_map(|(which, how)| Step::End(which, how)),
        4 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, works, is_written)| Step::Claim(which, works, is_written)),
        2 => (1_u64..8000).prop_map(Step::Time),
        1 => (0_u64..60).prop_map(Step::Fence),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a store does: positions are dense, what was confirmed is written, what failed as
    /// not written never is, no record follows a failed one, and each record is decided.
    #[test]
    fn the_store_and_the_activations_agree(
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let mut model = Model::new(3);
        for step in steps {
            match step {
                Step::Records(writers) => {
                    for writer in writers {
                        model.record(writer);
                    }
                }
                Step::End(which, how) => model.end(which, how),
                Step::Claim(which, works, is_written) => model.claim(which, works, is_written),
                Step::Time(millis) => {
                    model.now += Duration::from_millis(millis);
                    model.machine.handle_time(model.now, 0.3);
                }
                Step::Fence(which) => {
                    if let Some(log) = model.logs.get_mut(&LogId(which)) {
                        log.is_fenced = true;
                        // A claim of another owner has waited for it.
                        log.written.append(&mut log.unfinished);
                    }
                }
            }
            model.go_on();
            model.check();
        }
        // The store is well from now on.
        for _ in 0..200 {
            model.end(0, 0);
            model.go_on();
            model.claim(0, true, true);
            model.go_on();
            if let Some(deadline) = model.machine.deadline() {
                model.now = model.now.max(deadline);
                model.machine.handle_time(model.now, 0.3);
            }
            model.go_on();
            model.check();
        }
        prop_assert!(model.open.is_empty(), "never decided: {:?}", model.open);
        prop_assert_eq!(model.machine.deadline(), None);
        prop_assert!(model.machine.ready.is_empty());
        model.machine.handle_closing();
        prop_assert!(model.machine.is_closed());
    }
}
