//! A projection on one node: a runner for each shard that the node owns, as long as it owns it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    id::{Epoch, ShardId},
    infra::cancel::unless,
    projection::{
        runner::{Runner, Shared},
        typed::Work,
    },
};

/// How often shards without an owner are looked for. A request for an owner may be lost, and no
/// news come then.
const LOOK: Duration = Duration::from_secs(1);

/// The shards that have no owner.
pub(super) type Homeless = Box<dyn Fn() -> Vec<ShardId> + Send + Sync>;

/// A projection on one node.
pub(super) struct Supervisor {
    pub(super) shared: Arc<Shared>,
    pub(super) make: Box<dyn Fn(ShardId) -> Box<dyn Work> + Send + Sync>,
    pub(super) homeless: Homeless,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// The runner of a shard.
struct Running {
    epoch: Epoch,
    stop: CancellationToken,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let region = self.shared.region.clone();
        let mut running = BTreeMap::new();
        let mut runners = 0;
        loop {
            // Before the shards are looked at: a change after that notifies.
            let changed = region.ownership().notified();
            for shard in (0..region.shards().get()).map(ShardId) {
                let owned = region.owned_at(shard);
                let present = running.get(&shard).map(|it: &Running| it.epoch);
                if owned == present {
                    continue;
                }
                if let Some(before) = running.remove(&shard) {
                    before.stop.cancel();
                }
                if let Some(epoch) = owned {
                    runners += 1;
                    let stop = self.stop.child_token();
                    let begun = Running {
                        epoch,
                        stop: stop.clone(),
                    };
                    running.insert(shard, begun);
                    self.start(shard, runners, stop);
                }
            }
            for shard in (self.homeless)() {
                region.find_owner(shard);
            }
            if unless(&self.stop, timeout(LOOK, changed)).await.is_none() {
                return;
            }
        }
    }

    fn start(&self, shard: ShardId, number: u64, stop: CancellationToken) {
        let runner = Runner {
            shared: self.shared.clone(),
            shard,
            number,
            work: (self.make)(shard),
            stop,
        };
        let handle = self.shared.runtime.handle();
        self.tasks.spawn_on(runner.run(), handle);
    }
}
