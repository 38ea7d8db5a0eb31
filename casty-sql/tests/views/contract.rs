//! What a store of views has to do.

use casty::{
    id::{EntityId, Epoch},
    projection::{ParkedEvent, ProjectedShard, ProjectionStore, ViewError},
};

/// A shard of its own for each test, and version.
fn shard(version: u32) -> ProjectedShard {
    ProjectedShard {
        projection: "a projection".to_owned(),
        version,
        kind: "Account".to_owned(),
        shard: 7,
    }
}

fn is_stale<T: std::fmt::Debug>(refused: Result<T, ViewError>) {
    assert!(
        matches!(refused, Err(ViewError::Stale { .. })),
        "{refused:?}"
    );
}

/// Everything that a runner relies on. `parked` reads the entities and the reasons of what is
/// parked.
pub(crate) async fn check<S: ProjectionStore>(
    store: &S,
    parked: impl AsyncFn() -> Vec<(String, String)>,
) {
    // Epochs use all 64 bits.
    let (old, new) = (Epoch((1 << 63) - 1), Epoch(1 << 63));
    let (one, two) = (shard(1), shard(2));
    store.open().await.expect("opened");
    store.open().await.expect("opened twice");
    assert_eq!(store.claim(&one, old).await, Ok(0));
    assert_eq!(store.claim(&one, old).await, Ok(0), "claimed again");
    let begun = store.begin().await.expect("begun");
    store.commit(begun, &one, old, 0, 5).await.expect("moved");
    assert_eq!(store.claim(&one, old).await, Ok(5));
    assert_eq!(store.claim(&two, old).await, Ok(0), "a version of its own");

    // Only from where it is.
    for from in [0, 4, 6] {
        let begun = store.begin().await.expect("begun");
        is_stale(store.commit(begun, &one, old, from, 9).await);
    }
    // Not by a runner that was replaced.
    assert_eq!(store.claim(&one, new).await, Ok(5));
    is_stale(store.claim(&one, old).await);
    let begun = store.begin().await.expect("begun");
    is_stale(store.commit(begun, &one, old, 5, 6).await);
    let begun = store.begin().await.expect("begun");
    store.commit(begun, &one, new, 5, 6).await.expect("moved");

    // What is parked is parked with the offset, or not at all.
    let event = ParkedEvent {
        entity: EntityId::new("zero \0 byte"),
        position: 7,
        at: 1_700_000_000_000,
        body: vec![0, 1, 2].into(),
        reason: "it is bad".to_owned(),
    };
    let mut begun = store.begin().await.expect("begun");
    store.park(&mut begun, &one, &event).await.expect("parked");
    store.roll_back(begun).await;
    assert_eq!(parked().await, []);
    let mut begun = store.begin().await.expect("begun");
    store.park(&mut begun, &one, &event).await.expect("parked");
    is_stale(store.commit(begun, &one, old, 6, 7).await);
    assert_eq!(parked().await, []);
    let mut begun = store.begin().await.expect("begun");
    store.park(&mut begun, &one, &event).await.expect("parked");
    store.commit(begun, &one, new, 6, 7).await.expect("moved");
    let parked = parked().await;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].1, "it is bad");
    assert_eq!(store.claim(&one, new).await, Ok(7));
}
