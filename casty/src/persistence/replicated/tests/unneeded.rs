//! What a store has of a shard goes once it is no copy any more, and not before.

use super::{
    tidied::{comes_to, stored},
    *,
};

/// Longer than any pause.
const LONG: Duration = Duration::from_mins(3);

/// A shard that the third store does not copy any more. It has the first of these records.
async fn dropped(seed: u64) -> Owned {
    let shard = Owned::new(seed).await;
    let world = &shard.world;
    shard.append(1, "ada", 1, "one").await;
    let snapshot = Snapshot {
        seq: 1,
        at: 5,
        body: "a state".into(),
    };
    let ada = EntityId::from_text("ada".into());
    shard
        .owner
        .save(&shard.log, FIRST, &ada, snapshot)
        .await
        .expect("saved");
    world.crash(2);
    shard.append(2, "ada", 2, "two").await;
    assert!(!shard.in_sync().contains(&world.store(2)), "it was dropped");
    world.start(2).await;
    shard
}

/// The two stores in sync answer, and more is durable than the third one has.
async fn an_old_copy_goes_and_comes_again() -> Result<(), String> {
    let shard = dropped(21).await;
    let (world, log) = (&shard.world, &shard.log);
    assert_eq!(stored(world, 2).await, ["one"]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(stored(world, 2).await, ["one"], "after a pause only");
    comes_to(world, 2, &[]).await?;
    let process = world.process(2).expect("it runs");
    let ada = EntityId::from_text("ada".into());
    assert_eq!(process.load(log, &ada).await, Ok(None));
    // It is made a copy from the beginning.
    world.want_all(log);
    shard.until_in_sync(3).await;
    assert_eq!(stored(world, 2).await, ["one", "two"]);
    tokio::time::sleep(LONG).await;
    assert_eq!(stored(world, 2).await, ["one", "two"]);
    Ok(())
}

/// It may be the last resort of an operator.
async fn an_old_copy_stays_while_another_store_is_away() -> Result<(), String> {
    let shard = dropped(22).await;
    let world = &shard.world;
    world.crash(1);
    tokio::time::sleep(LONG).await;
    let found = stored(world, 2).await;
    if found != ["one"] {
        return Err(format!("it has {found:?}"));
    }
    world.start(1).await;
    // A restarted copy has promised the epoch.
    comes_to(world, 2, &[]).await
}

/// What it confirmed may still make it a copy.
async fn an_old_copy_stays_while_it_has_all_that_is_durable() -> Result<(), String> {
    let shard = Owned::new(23).await;
    let (world, log) = (&shard.world, &shard.log);
    shard.append(1, "ada", 1, "one").await;
    world.drop_copy(log, 2);
    tokio::time::sleep(LONG).await;
    let found = stored(world, 2).await;
    if found != ["one"] {
        return Err(format!("it has {found:?}"));
    }
    shard.append(2, "ada", 2, "two").await;
    comes_to(world, 2, &[]).await
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_is_deleted_after_a_pause() {
    an_old_copy_goes_and_comes_again().await.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_is_kept_until_all_stores_in_sync_answer() {
    let kept = an_old_copy_stays_while_another_store_is_away().await;
    kept.expect("kept");
}

#[tokio::test(start_paused = true)]
async fn an_old_copy_that_may_count_is_kept() {
    let kept = an_old_copy_stays_while_it_has_all_that_is_durable().await;
    kept.expect("kept");
}

#[test]
fn without_its_rules_an_old_copy_goes_too_early() {
    finds(
        "old_copies_go_while_others_are_away",
        an_old_copy_stays_while_another_store_is_away(),
    );
    finds(
        "old_copies_go_that_may_count",
        an_old_copy_stays_while_it_has_all_that_is_durable(),
    );
}
