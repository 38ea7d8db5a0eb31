//! How much room the stores of a shard need when its entities write for long.

use super::*;

const ENTITIES: u64 = 5;
/// What is on the disk of a record that is forgotten, besides the id of its entity.
const MARK: u64 = 56;
const BODY: usize = 2000;
const ROUNDS: u64 = 150;
const SEGMENT: u64 = 64 * 1024;

/// Twice what is needed, half as much again while old segments are copied, and some segments.
fn bound(records: u64) -> u64 {
    let id = "entity-0".len() as u64;
    let marks = records * (MARK + id);
    let whole = (ENTITIES * 10 + ENTITIES) * (MARK + id + BODY as u64);
    (marks + whole) * 5 / 2 + 8 * SEGMENT
}

/// Each entity writes ten records a round, saves a snapshot, and forgets what that contains.
async fn used(lost: bool) -> (Vec<u64>, u64) {
    let (world, log) = (World::new(3, FINE, 41, &kinds()).await, log(0));
    assert!(world.assign(&log, FIRST, 0));
    let owner = world.process(0).expect("it runs");
    assert_eq!(claim(&owner, &log, FIRST).await, Ok(0));
    if lost {
        lock(&world.state).tidies_lost.insert(1, u32::MAX);
    }
    let mut position = 0;
    for round in 0..ROUNDS {
        for number in 0..ENTITIES {
            let name = format!("entity-{number}");
            let records: Vec<_> = (1..=10)
                .map(|at| {
                    let body = "x".repeat(BODY);
                    record(position + at, FIRST, &name, round * 10 + at, &body)
                })
                .collect();
            position += 10;
            let part = Append {
                log: log.clone(),
                epoch: FIRST,
                records,
            };
            assert_eq!(owner.append(vec![part]).await, Ok(vec![Appended::Written]));
            let entity = EntityId::from_text(Arc::from(name));
            let seq = round * 10 + 10;
            let snapshot = Snapshot {
                seq,
                at: 1,
                body: vec![7; BODY].into(),
            };
            owner
                .save(&log, FIRST, &entity, snapshot)
                .await
                .expect("saved");
            let forgotten = owner.forget(&log, FIRST, &entity, seq, false).await;
            forgotten.expect("forgotten");
        }
    }
    // No message tells that the copies have done all of it: in one of the tests they never do.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let used = (0..3).map(|node| world.disk(node).used()).collect();
    (used, position)
}

#[tokio::test(start_paused = true)]
async fn the_disks_of_all_copies_have_a_small_multiple_of_what_is_needed() {
    let (used, records) = used(false).await;
    let written = records * BODY as u64;
    for used in used {
        assert!(
            used <= bound(records),
            "{used} bytes, where {} may be",
            bound(records)
        );
        assert!(
            used * 3 < written,
            "{used} of {written} bytes that were written"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_told_nothing_needs_more() {
    let (used, records) = used(true).await;
    assert!(
        used[0] <= bound(records) && used[1] > bound(records),
        "{used:?}"
    );
}
