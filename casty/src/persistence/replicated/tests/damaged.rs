//! A copy that is damaged begins anew once nothing counts that it has confirmed.

use super::{tidied::stored, *};

const SEGMENT: &str = "0000000001.segment";

/// A copy is dropped because there are enough, and nothing is written afterwards: the owner still
/// knows that it has confirmed all there is. Then it is damaged, and wanted again.
async fn a_dropped_copy_is_damaged_and_wanted_again() -> Result<(), String> {
    let shard = Owned::new(41).await;
    let (world, log) = (&shard.world, &shard.log);
    shard.append(1, "ada", 1, "one").await;
    shard.until_in_sync(3).await;
    {
        // In one version of the map, so that the owner keeps what it knows of the copy.
        let third = world.store(2);
        let state = &mut *lock(&world.state);
        let home = state.homes.get_mut(log).expect("it has a home");
        home.wanted.insert(third);
    }
    let disk = world.disk(2);
    let file = disk.contents(SEGMENT).expect("a segment");
    let at = file.windows(3).position(|bytes| bytes == b"one");
    assert!(disk.flip(SEGMENT, at.expect("stored"), 3));
    // It finds that out when it reads.
    let third = world.process(2).expect("it runs");
    let read = third.read_log(log, 0, Page::default()).await;
    assert!(read.is_err(), "{read:?}");
    world.drop_copy(log, 2);

    let given_up = (log.clone(), FIRST, StopOwning::CopyDamaged);
    let is_decided = || {
        let is_given_up = lock(&world.state).stops.contains(&given_up);
        is_given_up || shard.in_sync().len() == 3
    };
    until("it is given up, or is a copy again", is_decided).await;
    // A copy that is still damaged confirms nothing, and is dropped again.
    if shard.in_sync().len() == 3
        && let Ok(read) = third.read_log(log, 0, Page::default()).await
        && read.len() != 1
    {
        return Err(format!("a store is in sync that has {read:?}"));
    }

    let (_, head) = shard.moves_to(1, Epoch(8)).await;
    assert_eq!(head, 1);
    world.want_all(log);
    shard.until_in_sync(3).await;
    let found = stored(world, 2).await;
    if found != ["one"] {
        return Err(format!("a store is in sync that has {found:?}"));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_damaged_copy_begins_anew_under_a_later_epoch() {
    a_dropped_copy_is_damaged_and_wanted_again()
        .await
        .expect("it has all that is stored");
}

#[test]
fn without_its_rule_a_damaged_copy_counts_as_sound() {
    finds(
        "a_damaged_copy_begins_anew_at_once",
        a_dropped_copy_is_damaged_and_wanted_again(),
    );
}
