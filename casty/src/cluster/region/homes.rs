//! The homes of shards as this node's senders read them, and what a change of homes does.

use std::sync::{Arc, Weak};

use crate::{
    cluster::region::{ShardRegion, parked::Parked},
    id::{Epoch, ShardId},
    infra::{published::Published, sync::lock},
    message::answer::{Pending, RawAnswer},
    protocol::region::{Effect, Home, Region},
    transport::{
        frame::{EntityFrame, Frame},
        link::Link,
        outbox::Admission,
    },
};

/// The content of a fence. No message encodes to nothing.
pub(crate) const FENCE: &[u8] = &[];

/// Shards and the numbers of their fences.
type Fences = Vec<(ShardId, u64)>;

/// The home of a shard, as senders see it.
pub(super) enum FastHome {
    Unknown,
    Here,
    There(Arc<Link>, Epoch),
}

impl ShardRegion {
    /// Carries out the effects of a change of homes. `taken`: the shards that this node owns from
    /// now on.
    pub(super) fn change_homes(
        &self,
        machine: &mut Region<Parked>,
        effects: impl IntoIterator<Item = Effect<Parked>>,
        taken: &[(ShardId, Epoch)],
    ) {
        let (mut fences, mut others) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Fence { shard, number } => fences.push((shard, number)),
                other => others.push(other),
            }
        }
        // Kept messages go out before the messages of senders that see the new homes.
        self.carry_out(machine, others);
        for &(shard, epoch) in taken {
            self.local.take_over(shard, epoch);
        }
        let before = self.publish_homes(machine);
        if fences.is_empty() {
            return;
        }
        // A sender that has read the earlier homes may be about to queue a message for an old
        // owner. The fence must come behind that message. The wait is bounded: `try_send` holds the
        // homes while it queues one message, and drops them before it locks the machine.
        Published::wait_for_readers(&before);
        self.send_fences(&before, fences);
    }

    /// Asks the old owners of shards to answer once they have read everything that was sent to
    /// them. One fence covers all shards of a link, however many of them move.
    fn send_fences(&self, before: &[FastHome], fences: Fences) {
        let mut by_link: Vec<(&Arc<Link>, Fences)> = Vec::new();
        // Without a link no message is under way, so these fences have passed.
        let mut passed = Fences::new();
        for (shard, number) in fences {
            let Some(FastHome::There(link, _)) = before.get(shard.index()) else {
                passed.push((shard, number));
                continue;
            };
            match by_link
                .iter_mut()
                .find(|(other, _)| Arc::ptr_eq(other, link))
            {
                Some((_, fences)) => fences.push((shard, number)),
                None => by_link.push((link, vec![(shard, number)])),
            }
        }
        let passing = |fences| -> Box<dyn Pending> {
            let region = self.me.clone();
            Box::new(Passing { region, fences })
        };
        drop(passing(passed));
        for (link, fences) in by_link {
            let frame = Frame::Entity(EntityFrame {
                kind: self.kind,
                hops: 0,
                epoch: 0,
                correlation: 0,
                id: "",
                chain: &[],
                payload: FENCE,
            });
            let passing = passing(fences);
            // An error means that the link is gone, with all that was on it. `passing` is then
            // dropped here, which reports that the fence has passed.
            if let Ok(place) = link.reserve(&frame, Admission::Accepted) {
                place.put(Some(passing));
            }
        }
    }

    /// The old owner of these shards sends nothing back any more.
    fn handle_fenced(&self, fences: &[(ShardId, u64)]) {
        let mut machine = lock(&self.machine);
        for &(shard, number) in fences {
            let effects = machine.handle_fenced(shard, number);
            self.carry_out(&mut machine, effects);
        }
        self.publish_homes(&machine);
        drop(machine);
        self.room.notify_waiters();
    }

    /// Publishes the homes that the machine knows. Returns those published before.
    pub(super) fn publish_homes(&self, machine: &Region<Parked>) -> Arc<Vec<FastHome>> {
        let homes = (0..self.shards.get())
            .map(ShardId)
            .map(|shard| match machine.home(shard) {
                _ if machine.is_fenced(shard) => FastHome::Unknown,
                Home::Unknown => FastHome::Unknown,
                Home::Here(_) => FastHome::Here,
                Home::There(to, epoch) => self
                    .link(to)
                    .map_or(FastHome::Unknown, |link| FastHome::There(link, epoch)),
            })
            .collect();
        self.homes.swap(homes)
    }
}

/// A fence under way. The drop, after the answer or with the link, reports that it has passed.
struct Passing {
    region: Weak<ShardRegion>,
    fences: Fences,
}

impl Pending for Passing {
    fn complete(self: Box<Self>, _: RawAnswer) {}
}

impl Drop for Passing {
    fn drop(&mut self) {
        let Some(region) = self.region.upgrade() else {
            return;
        };
        let fences = std::mem::take(&mut self.fences);
        if fences.is_empty() {
            return;
        }
        // The report runs in a task of its own, since the caller may hold the lock of the machine
        // or of an outbox.
        let runtime = region.runtime.clone();
        runtime.spawn(Box::pin(async move { region.handle_fenced(&fences) }));
    }
}
