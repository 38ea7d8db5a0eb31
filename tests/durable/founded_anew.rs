//! Clusters that are founded anew on the same store, by nodes that have forgotten the last one.

use casty::{persistence::Memory, prelude::*};

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tally {
    count: u64,
}

#[entity(name = "founded_anew/tally", event_sourced, shards = 4)]
impl Tally {
    #[message]
    fn count(&self) -> Effect<Self, u64> {
        Effect::persist(TallyEvent::Counted {}).reply(|tally| tally.count)
    }

    #[event]
    fn counted(&mut self) {
        self.count += 1;
    }
}

#[tokio::test]
async fn a_cluster_that_is_founded_with_a_clock_behind_goes_on_with_what_is_stored() {
    let journal = Memory::new();
    // Milliseconds since the epoch, as each process believes: the second one in the same second,
    // the third one an hour before.
    let now = 1_800_000_000_000;
    for (incarnation, count) in [(now, 1), (now + 1, 2), (now - 3_600_000, 3)] {
        let node = ActorSystem::builder("founded-anew")
            .node_id("only")
            .incarnation(incarnation)
            .journal(journal.clone())
            .start()
            .await
            .unwrap();
        let tally = node.entity::<Tally>("t");
        let counted = tally.count().retry_for(Duration::from_secs(20)).await;
        assert_eq!(counted, Ok(count));
        node.shutdown().await.unwrap();
    }
}
