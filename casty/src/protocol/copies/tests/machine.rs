//! Inputs of one machine, and all that follows.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{id::Epoch, protocol::copies::*};

const E1: Epoch = Epoch(1);
const E2: Epoch = Epoch(2);
const E3: Epoch = Epoch(3);

fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

fn limits() -> CopyLimits {
    CopyLimits {
        in_flight_bytes: 50,
        page_bytes: 60,
        undurable_bytes: 150,
        resend_after: Duration::from_secs(1),
        drop_after: Duration::from_secs(3),
        propose_again: Duration::from_secs(1),
        keep_dropped: Duration::from_mins(10),
    }
}

/// Store 1, whose log has records of these epochs.
fn machine(promised: Epoch, epochs: &[Epoch]) -> ShardCopy {
    let mut runs = EpochRuns::default();
    for epoch in epochs {
        runs.push(*epoch);
    }
    ShardCopy::recovered(store(1), promised, runs, limits())
}

/// Store 1 owns the shard, and these stores are in sync.
fn view(epoch: Epoch, in_sync: &[u128]) -> CopiesView {
    CopiesView {
        epoch,
        is_owner: true,
        in_sync: in_sync.iter().copied().map(store).collect(),
        set_version: 0,
        wanted: BTreeSet::new(),
        copies_min: effective_min(2, in_sync.len()),
        life: Life::default(),
    }
}

fn point(position: u64, epoch: Epoch) -> LogPoint {
    LogPoint { position, epoch }
}

fn record(epoch: Epoch) -> CopiedRecord {
    let body = Bytes::from_static(b"body");
    CopiedRecord { epoch, body }
}

fn append(epoch: Epoch, start: u64, prev: LogPoint, records: &[Epoch]) -> CopyMessage {
    CopyMessage::Append(Append {
        epoch,
        start,
        life: Epoch::ZERO,
        prev,
        records: records.iter().copied().map(record).collect(),
    })
}

fn send(to: u128, message: CopyMessage) -> CopyEffect {
    let to = store(to);
    CopyEffect::Send { to, message }
}

fn write(mark: u64, promise: Option<Epoch>, cut: Option<u64>, after: u64) -> CopyWrite {
    CopyWrite {
        mark: WriteMark(mark),
        clear: false,
        promise,
        install: None,
        cut,
        after,
        records: Vec::new(),
    }
}

const fn confirm(epoch: Epoch, position: u64) -> CopyMessage {
    CopyMessage::Confirm { epoch, position }
}

/// Store 1 owns the shard under e2 with stores 1 and 2, and its takeover is complete. Its log has
/// one record.
fn owner(now: Instant) -> ShardCopy {
    let mut owner = machine(E1, &[E1]);
    owner.handle_view(view(E2, &[1, 2]), now);
    let fence = write(1, Some(E2), None, 1);
    assert_eq!(owner.take_effects(), [CopyEffect::Write(fence)]);
    owner.handle_synced(WriteMark(1), now);
    let probe = append(E2, 1, point(1, E1), &[]);
    assert_eq!(owner.take_effects(), [send(2, probe)], "after the fence");
    assert_eq!(owner.waits_for(), [store(2)]);
    owner.handle_message(store(2), confirm(E2, 1), now);
    assert_eq!(owner.take_effects(), [CopyEffect::MayLeave(1)]);
    owner
}

#[test]
fn a_record_is_written_and_sent_at_once_and_leaves_when_both_stores_have_it() {
    let now = Instant::now();
    let mut owner = owner(now);
    assert_eq!(owner.append(vec![record(E2).body], now), Ok(2));
    let mut expected = write(2, None, None, 1);
    expected.records.push(record(E2));
    let sent = append(E2, 1, point(1, E1), &[E2]);
    let both = [CopyEffect::Write(expected), send(2, sent)];
    assert_eq!(owner.take_effects(), both);
    owner.handle_message(store(2), confirm(E2, 2), now);
    assert_eq!(owner.take_effects(), [], "the own sync counts");
    owner.handle_synced(WriteMark(2), now);
    assert_eq!(owner.take_effects(), [CopyEffect::MayLeave(2)]);
    assert_eq!(owner.waits_for(), []);
}

#[test]
fn what_is_on_the_way_is_bounded_and_the_rest_is_read_when_there_is_room() {
    let now = Instant::now();
    let mut owner = owner(now);
    for _ in 0..3 {
        assert!(owner.append(vec![record(E2).body], now).is_ok());
    }
    // Two records are more than the bound.
    let effects = owner.take_effects();
    let sent = effects.iter();
    let sent = sent.filter(|effect| matches!(effect, CopyEffect::Send { .. }));
    assert_eq!(sent.count(), 2);
    owner.handle_message(store(2), confirm(E2, 3), now);
    let read = CopyEffect::Read {
        to: store(2),
        epoch: E2,
        after: 3,
        bytes: 60,
    };
    assert_eq!(owner.take_effects(), [read]);
    owner.handle_read(store(2), E2, 3, vec![record(E2)], now);
    let page = append(E2, 1, point(3, E2), &[E2]);
    assert_eq!(owner.take_effects(), [send(2, page)]);
    // Nothing is synced, and the bound of what is not durable is reached.
    for _ in 0..2 {
        assert!(owner.append(vec![record(E2).body], now).is_ok());
    }
    let full = owner.append(vec![record(E2).body], now);
    assert_eq!(full, Err(AppendRefused::Full));
    owner.handle_synced(WriteMark(4), now);
    assert!(owner.append(vec![record(E2).body], now).is_ok());
}

#[test]
fn what_is_not_confirmed_is_sent_again_and_then_the_copy_is_dropped() {
    let now = Instant::now();
    let mut owner = machine(E1, &[]);
    owner.handle_view(view(E2, &[1, 2, 3]), now);
    owner.handle_synced(WriteMark(1), now);
    owner.handle_message(store(3), confirm(E2, 0), now);
    owner.take_effects();
    let probe = || send(2, append(E2, 0, LogPoint::default(), &[]));
    let second = Duration::from_secs(1);
    assert_eq!(owner.deadline(), Some(now + second));
    owner.handle_time(now + second);
    assert_eq!(owner.take_effects(), [probe()]);
    owner.handle_time(now + 3 * second);
    let change = SetChange {
        epoch: E2,
        set_version: 0,
        store: store(2),
    };
    let dropped = CopyEffect::Propose(CopyProposal::Drop(change));
    assert_eq!(owner.take_effects(), [dropped, probe()]);
    assert_eq!(owner.may_leave(), None, "it is required all the same");
    let without = CopiesView {
        set_version: 1,
        ..view(E2, &[1, 3])
    };
    owner.handle_view(without, now + 3 * second);
    assert_eq!(owner.take_effects(), [CopyEffect::MayLeave(0)]);
}

#[test]
fn what_is_lost_after_a_part_was_confirmed_is_sent_again() {
    let now = Instant::now();
    let mut owner = owner(now);
    for _ in 0..2 {
        assert!(owner.append(vec![record(E2).body], now).is_ok());
    }
    owner.handle_message(store(2), confirm(E2, 2), now);
    owner.take_effects();
    let later = now + Duration::from_secs(1);
    assert_eq!(owner.deadline(), Some(later));
    owner.handle_time(later);
    let read = CopyEffect::Read {
        to: store(2),
        epoch: E2,
        after: 2,
        bytes: 60,
    };
    assert_eq!(owner.take_effects(), [read]);
}

#[test]
fn a_hint_leads_to_where_the_logs_part() {
    let now = Instant::now();
    let mut owner = machine(E2, &[E1, E2, E2]);
    owner.handle_view(view(E3, &[1, 2]), now);
    owner.handle_synced(WriteMark(1), now);
    let probe = append(E3, 3, point(3, E2), &[]);
    assert_eq!(owner.take_effects().pop(), Some(send(2, probe.clone())));
    let mut copy = machine(E1, &[E1, E1]);
    copy.handle_message(store(1), probe, now);
    let differs = CopyMessage::Differs {
        epoch: E3,
        prev: 3,
        runs: vec![LogPoint::default(), point(2, E1)],
    };
    // The promise is written, and the hint need not wait for it.
    let fence = CopyEffect::Write(write(1, Some(E3), None, 2));
    assert_eq!(copy.take_effects(), [fence, send(1, differs.clone())]);
    owner.handle_message(store(2), differs, now);
    let lower = append(E3, 3, point(1, E1), &[]);
    assert_eq!(owner.take_effects(), [send(2, lower.clone())]);
    copy.handle_message(store(1), lower, now);
    assert_eq!(copy.take_effects(), [], "not before the promise is synced");
    copy.handle_synced(WriteMark(1), now);
    assert_eq!(copy.take_effects(), [send(1, confirm(E3, 1))]);
}

#[test]
fn a_copy_that_needs_trimmed_records_gets_a_snapshot() {
    let now = Instant::now();
    let mut owner = owner(now);
    owner.handle_trimmed(1, now);
    let wanted = CopiesView {
        wanted: [store(3)].into(),
        ..view(E2, &[1, 2])
    };
    owner.handle_view(wanted, now);
    let probe = append(E2, 1, point(1, E1), &[]);
    assert_eq!(owner.take_effects(), [send(3, probe.clone())]);
    let mut copy = ShardCopy::recovered(store(3), Epoch::ZERO, EpochRuns::default(), limits());
    copy.handle_message(store(1), probe, now);
    let Some(CopyEffect::Send { message, .. }) = copy.take_effects().pop() else {
        panic!("it differs");
    };
    owner.handle_message(store(3), message, now);
    let ship = CopyEffect::Ship {
        to: store(3),
        epoch: E2,
        at_least: 1,
        at_most: 1,
    };
    assert_eq!(owner.take_effects(), [ship]);
    copy.handle_snapshot(store(1), E2, point(1, E1), now);
    let mut installed = write(2, None, None, 1);
    installed.install = Some(point(1, E1));
    assert_eq!(copy.take_effects(), [CopyEffect::Write(installed)]);
    copy.handle_snapshot(store(1), E2, point(1, E1), now);
    assert_eq!(copy.take_effects(), [], "it has it");
    copy.handle_synced(WriteMark(2), now);
    assert_eq!(copy.take_effects(), [send(1, confirm(E2, 1))]);
    owner.handle_shipped(store(3), E2, now);
    owner.take_effects();
    owner.handle_message(store(3), confirm(E2, 1), now);
    let change = SetChange {
        epoch: E2,
        set_version: 0,
        store: store(3),
    };
    let added = CopyEffect::Propose(CopyProposal::Add(change));
    assert_eq!(owner.take_effects(), [added]);
}

#[test]
fn an_owner_stops_at_the_first_sign_of_a_later_epoch() {
    let now = Instant::now();
    let superseded = CopyEffect::Stop(E2, StopOwning::Superseded(E3));
    let mut told = owner(now);
    told.handle_message(store(2), CopyMessage::Refused { promised: E2 }, now);
    assert_eq!(told.take_effects(), [], "its own epoch");
    told.handle_message(store(2), CopyMessage::Refused { promised: E3 }, now);
    assert_eq!(told.take_effects(), std::slice::from_ref(&superseded));
    let mut fenced = owner(now);
    fenced.handle_message(store(2), append(E3, 0, LogPoint::default(), &[]), now);
    let cut = CopyEffect::Write(write(2, Some(E3), Some(0), 0));
    assert_eq!(fenced.take_effects(), [superseded, cut]);
    let refused = fenced.append(vec![record(E2).body], now);
    assert_eq!(refused, Err(AppendRefused::NotOwner));
    let mut seen = owner(now);
    let other = CopiesView {
        is_owner: false,
        ..view(E3, &[1, 2])
    };
    seen.handle_view(other, now);
    assert_eq!(seen.take_effects(), [CopyEffect::Stop(E2, StopOwning::Map)]);
}

#[test]
fn an_epoch_that_the_store_has_promised_is_not_owned() {
    let now = Instant::now();
    for promised in [E2, E3] {
        let mut late = machine(promised, &[]);
        late.handle_view(view(E2, &[1, 2]), now);
        let stop = CopyEffect::Stop(E2, StopOwning::Promised(promised));
        assert_eq!(late.take_effects(), [stop]);
        assert_eq!(late.owns(), None);
    }
}

#[test]
fn nothing_is_appended_once_the_shard_is_handed_over() {
    let now = Instant::now();
    let mut owner = owner(now);
    owner.hand_over();
    assert_eq!(owner.may_leave(), None);
    let refused = owner.append(vec![record(E2).body], now);
    assert_eq!(refused, Err(AppendRefused::HandedOver));
}

#[test]
fn a_store_that_failed_owns_and_confirms_nothing() {
    let now = Instant::now();
    let mut owner = owner(now);
    owner.handle_failed();
    let stop = CopyEffect::Stop(E2, StopOwning::StoreFailed);
    assert_eq!(owner.take_effects(), [stop]);
    let mut copy = machine(E1, &[]);
    copy.handle_message(store(2), append(E2, 0, LogPoint::default(), &[E2]), now);
    assert_eq!(copy.take_effects().len(), 1, "a write");
    copy.handle_failed();
    copy.handle_synced(WriteMark(1), now);
    copy.handle_message(store(2), append(E2, 0, LogPoint::default(), &[E2]), now);
    copy.handle_view(view(E3, &[1, 2]), now);
    assert_eq!(copy.take_effects(), []);
}

#[test]
fn an_append_that_no_owner_sends_is_not_taken() {
    let now = Instant::now();
    let mut copy = machine(E2, &[E1, E2]);
    let from = |message| (store(2), message);
    let cases = [
        from(append(E2, 0, point(1, E1), &[E3])),
        from(append(E3, 0, point(1, E1), &[E2, E1])),
        from(append(E2, 0, point(0, Epoch::ZERO), &[E1, E1])),
    ];
    for (sender, message) in cases {
        copy.handle_message(sender, message, now);
        let effects = copy.take_effects();
        assert!(
            matches!(&effects[..], [CopyEffect::Malformed(of, _)] if *of == sender),
            "{effects:?}"
        );
        assert_eq!(copy.head(), 2);
    }
}

/// It was sent twice, and the process of the copy has started again meanwhile.
#[test]
fn a_late_snapshot_takes_nothing_from_a_log_that_is_trimmed_above_it() {
    let mut runs = EpochRuns::after(point(5, E1));
    runs.push(E2);
    let mut copy = ShardCopy::recovered(store(3), E2, runs, limits());
    copy.handle_snapshot(store(1), E2, point(3, E1), Instant::now());
    assert_eq!(copy.take_effects(), []);
    assert_eq!(copy.head(), 6);
}

/// The life of a shard that was given up after e1.
fn after_e1(begins_empty: bool) -> Life {
    Life {
        after: E1,
        begins_empty,
    }
}

#[test]
fn a_store_of_an_earlier_life_clears_its_log_before_it_does_anything_in_a_later_one() {
    let now = Instant::now();
    let cleared = |mark| CopyWrite {
        clear: true,
        ..write(mark, Some(E2), None, 0)
    };
    let first = |promised, begins_empty| {
        let mut owner = machine(promised, &[E1]);
        let view = CopiesView {
            life: after_e1(begins_empty),
            ..view(E2, &[1])
        };
        owner.handle_view(view, now);
        (owner.take_effects(), owner.head())
    };
    let kept = write(1, Some(E2), None, 1);
    assert_eq!(first(E1, true), (vec![CopyEffect::Write(cleared(1))], 0));
    assert_eq!(first(E1, false), (vec![CopyEffect::Write(kept)], 1));
    // As a copy it clears whatever the life began with, also where the log does not fit.
    for (prev, fits) in [(point(0, Epoch::ZERO), true), (point(1, E1), false)] {
        let mut copy = machine(E1, &[E1, E1]);
        let CopyMessage::Append(probe) = append(E2, 1, prev, &[]) else {
            unreachable!("an append");
        };
        let probe = CopyMessage::Append(Append { life: E1, ..probe });
        copy.handle_message(store(2), probe.clone(), now);
        let effects = copy.take_effects();
        assert_eq!(effects[0], CopyEffect::Write(cleared(1)), "{prev:?}");
        assert_eq!((copy.head(), effects.len()), (0, if fits { 1 } else { 2 }));
        copy.handle_synced(WriteMark(1), now);
        let told = copy.take_effects();
        let confirmed = [send(2, confirm(E2, 0))];
        assert_eq!(told, if fits { &confirmed[..] } else { &[] });
        copy.handle_message(store(2), probe, now);
        let again = copy.take_effects();
        assert!(!again.iter().any(|it| matches!(it, CopyEffect::Write(_))));
    }
}

#[test]
fn the_last_owner_of_a_life_that_was_given_up_owns_nothing_any_more() {
    let now = Instant::now();
    let given_up = CopiesView {
        life: after_e1(true),
        set_version: 1,
        ..view(E1, &[2])
    };
    let mut owner = machine(Epoch::ZERO, &[]);
    owner.handle_view(view(E1, &[1]), now);
    owner.take_effects();
    owner.handle_view(given_up.clone(), now);
    assert_eq!(
        owner.take_effects(),
        [CopyEffect::Stop(E1, StopOwning::Map)]
    );
    let mut late = machine(Epoch::ZERO, &[]);
    late.handle_view(given_up, now);
    assert_eq!(late.take_effects(), []);
    let wrong = Append {
        epoch: E2,
        start: 0,
        life: E2,
        prev: point(0, Epoch::ZERO),
        records: Vec::new(),
    };
    late.handle_message(store(2), CopyMessage::Append(wrong), now);
    let (append, life) = (E2, E2);
    let malformed = MalformedAppend::Life { append, life };
    assert_eq!(
        late.take_effects(),
        [CopyEffect::Malformed(store(2), malformed)]
    );
}
