//! Routes messages to the homes of their shards, for one entity type on one node. While a home is
//! unknown or moving, it keeps the messages, in order and bounded. Sends nothing itself.
//!
//! When a shard moves, messages on their way to the old home may come back. A *fence* follows them
//! on the same link; until it is answered, nothing is sent to the new home. So returned messages go
//! to the new home first, and no message overtakes an older one.
//!
//! `T` is the routed message: the machine never looks into it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    id::{Epoch, ShardId},
    infra::mutants,
};

use super::map::Slot;

/// The home of a shard, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// The shard has no home yet, or this node has not heard of it.
    Unknown,
    Here(Epoch),
    There(Slot, Epoch),
}

impl Home {
    fn epoch(self) -> Epoch {
        match self {
            Self::Unknown => Epoch::ZERO,
            Self::Here(epoch) | Self::There(_, epoch) => epoch,
        }
    }
}

/// The effects for the shell, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<T> {
    /// Hand the item to the shard on this node.
    Deliver {
        shard: ShardId,
        epoch: Epoch,
        item: T,
    },
    /// Send the item to the owner.
    Send {
        shard: ShardId,
        to: Slot,
        epoch: Epoch,
        item: T,
    },
    /// Have the old owner answer once it has read everything sent to it for this shard before; then
    /// call [`handle_fenced`](Region::handle_fenced).
    Fence { shard: ShardId, number: u64 },
    /// Find out where the shard lives, or have the leader give it a home. Repeated until the home
    /// is known.
    Resolve { shard: ShardId },
    /// The item's time is over before a home was found.
    Fail { item: T },
}

#[derive(Debug)]
pub(crate) struct Region<T> {
    shards: Vec<ShardRoute<T>>,
    /// Items kept, over all shards.
    kept: usize,
    kept_max: usize,
    /// The bytes of the items in `ahead`, over all shards.
    ahead_bytes: usize,
    wait_max: Duration,
    /// When to look at the kept items again. Never later than the end of the first item's time.
    deadline: Option<Instant>,
    last_fence: u64,
}

#[derive(Debug)]
struct ShardRoute<T> {
    home: Home,
    /// The greatest epoch that this node has heard of. A home with a smaller epoch is out of date.
    at_least: Epoch,
    /// The number of the fence that the old owner has not answered yet.
    fence: Option<u64>,
    /// Items that the old owner sent back. They are older than everything in `kept`.
    returned: VecDeque<(Instant, T)>,
    kept: VecDeque<(Instant, T)>,
    /// Items whose sender knows a later home than this node does.
    ahead: VecDeque<Ahead<T>>,
}

/// An item whose sender knows a later home than this node does.
#[derive(Debug)]
struct Ahead<T> {
    until: Instant,
    epoch: Epoch,
    bytes: usize,
    item: T,
}

/// How many bytes of items wait at most for a later home, in one region. Windows bound what one
/// connection has waiting, and a peer that lies about epochs may open one connection after another.
/// It is what a node takes in while its map is some milliseconds late.
const AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;

impl<T> Region<T> {
    /// Keeps at most `kept_max` items, each for at most `wait_max`.
    pub(crate) fn new(shards: u32, kept_max: usize, wait_max: Duration) -> Self {
        let route = || ShardRoute {
            home: Home::Unknown,
            at_least: Epoch::ZERO,
            fence: None,
            returned: VecDeque::new(),
            kept: VecDeque::new(),
            ahead: VecDeque::new(),
        };
        let shards = (0..shards).map(|_| route()).collect();
        Self {
            shards,
            kept: 0,
            kept_max,
            ahead_bytes: 0,
            wait_max,
            deadline: None,
            last_fence: 0,
        }
    }

    /// Whether the shard's messages wait for an answer of its old owner.
    pub(crate) fn is_fenced(&self, shard: ShardId) -> bool {
        self.shards
            .get(shard.index())
            .is_some_and(|route| route.fence.is_some())
    }

    pub(crate) fn home(&self, shard: ShardId) -> Home {
        self.shards
            .get(shard.index())
            .map_or(Home::Unknown, |route| route.home)
    }

    /// Routes one item. Returns the item as an error if it would have to be kept and there is no
    /// room.
    pub(crate) fn handle_item(
        &mut self,
        shard: ShardId,
        item: T,
        now: Instant,
    ) -> Result<Option<Effect<T>>, T> {
        let full = self.kept >= self.kept_max;
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Err(item);
        };
        let home = match route.fence {
            Some(_) => Home::Unknown,
            None => route.home,
        };
        match home {
            Home::Here(epoch) => Ok(Some(Effect::Deliver { shard, epoch, item })),
            Home::There(to, epoch) => Ok(Some(Effect::Send {
                shard,
                to,
                epoch,
                item,
            })),
            Home::Unknown if full => Err(item),
            Home::Unknown => {
                let first = route.kept.is_empty() && route.home == Home::Unknown;
                let until = now + self.wait_max;
                route.kept.push_back((until, item));
                self.count(until);
                Ok(first.then_some(Effect::Resolve { shard }))
            }
        }
    }

    /// Routes an item of this node that came back from the shard's old home. The item was accepted
    /// before, so it is kept even if there is no room.
    pub(crate) fn handle_returned(
        &mut self,
        shard: ShardId,
        item: T,
        now: Instant,
    ) -> Result<Option<Effect<T>>, T> {
        let until = now + self.wait_max;
        match self.shards.get_mut(shard.index()) {
            Some(route) if route.fence.is_some() => {
                let first = route.home == Home::Unknown && route.is_empty();
                route.returned.push_back((until, item));
                self.count(until);
                Ok(first.then_some(Effect::Resolve { shard }))
            }
            _ => self.handle_item(shard, item, now),
        }
    }

    /// The old owner has answered the fence, or never will: nothing more comes back from it.
    pub(crate) fn handle_fenced(&mut self, shard: ShardId, number: u64) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        if route.fence != Some(number) {
            return Vec::new();
        }
        route.fence = None;
        route.returned.append(&mut route.kept);
        std::mem::swap(&mut route.returned, &mut route.kept);
        self.flush(shard)
    }

    fn count(&mut self, until: Instant) {
        self.kept += 1;
        self.look_at(until);
    }

    fn look_at(&mut self, until: Instant) {
        self.deadline = Some(self.deadline.map_or(until, |deadline| deadline.min(until)));
    }

    /// Routes an item whose sender knows a home of `epoch` for the shard. If this node has not
    /// heard of that home, only this item waits for it: a sender with a wrong epoch delays its own
    /// messages and no others.
    ///
    /// The item, which is so many `bytes` long, does not count against `kept_max`, but against a
    /// bound of its own. Returns the item as an error if there is no room.
    pub(crate) fn handle_ahead(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        item: T,
        bytes: usize,
        now: Instant,
    ) -> Result<Option<Effect<T>>, T> {
        // Items from other nodes do not wait behind a fence: it orders this node's own messages.
        match self.home(shard) {
            Home::Here(here) if here >= epoch => {
                let epoch = here;
                return Ok(Some(Effect::Deliver { shard, epoch, item }));
            }
            Home::There(to, there) if there >= epoch => {
                let epoch = there;
                return Ok(Some(Effect::Send {
                    shard,
                    to,
                    epoch,
                    item,
                }));
            }
            _ => {}
        }
        let until = now + self.wait_max;
        let has_room = self.ahead_bytes + bytes <= AHEAD_BYTES_MAX;
        match self.shards.get_mut(shard.index()) {
            Some(route) if has_room => route.ahead.push_back(Ahead {
                until,
                epoch,
                bytes,
                item,
            }),
            _ => return Err(item),
        }
        self.ahead_bytes += bytes;
        self.look_at(until);
        Ok(None)
    }

    /// The map names the shard's home. The items kept for the shard go there, in order.
    ///
    /// A home older than `at_least` is ignored.
    pub(crate) fn handle_home(&mut self, shard: ShardId, home: Home) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        if home != Home::Unknown && home.epoch() < route.at_least {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if route.home != home {
            effects.extend(route.leave(shard, &mut self.last_fence));
        }
        route.home = home;
        route.at_least = route.at_least.max(home.epoch());
        effects.extend(self.flush(shard));
        effects
    }

    /// Sends the kept items to the home that is known now, in order.
    fn flush(&mut self, shard: ShardId) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        let home = route.home;
        if home == Home::Unknown {
            // The items wait on, and it may be that nothing asks for the home yet.
            return if route.is_empty() {
                vec![]
            } else {
                vec![Effect::Resolve { shard }]
            };
        }
        let kept = match route.fence {
            Some(_) => VecDeque::new(),
            None => std::mem::take(&mut route.kept),
        };
        self.kept -= kept.len();
        let mut items: Vec<T> = kept.into_iter().map(|(_, item)| item).collect();
        // Items from other nodes, which this node does not order.
        let ahead = std::mem::take(&mut route.ahead);
        for waiting in ahead {
            if waiting.epoch <= home.epoch() {
                self.ahead_bytes -= waiting.bytes;
                items.push(waiting.item);
            } else {
                route.ahead.push_back(waiting);
            }
        }
        items
            .into_iter()
            .map(|item| match home {
                Home::There(to, epoch) => Effect::Send {
                    shard,
                    to,
                    epoch,
                    item,
                },
                Home::Here(epoch) => Effect::Deliver { shard, epoch, item },
                Home::Unknown => Effect::Fail { item },
            })
            .collect()
    }

    /// The shard's home has an epoch of at least `at_least`: an older home is forgotten.
    pub(crate) fn handle_newer(&mut self, shard: ShardId, at_least: Epoch) -> Option<Effect<T>> {
        let route = self.shards.get_mut(shard.index())?;
        route.at_least = route.at_least.max(at_least);
        if route.home == Home::Unknown || route.home.epoch() >= route.at_least {
            return None;
        }
        let fence = route.leave(shard, &mut self.last_fence);
        route.home = Home::Unknown;
        fence
    }

    /// Forgets which epochs it has heard of: those of another cluster are not comparable.
    pub(crate) fn forget_epochs(&mut self) {
        for route in &mut self.shards {
            route.at_least = Epoch::ZERO;
        }
    }

    /// Whether this node knows a greater epoch of the shard than `epoch`.
    pub(crate) fn is_past(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.shards
            .get(shard.index())
            .is_none_or(|route| route.at_least > epoch)
    }

    /// The shard's home cannot be found out: the items kept for it fail.
    pub(crate) fn handle_no_home(&mut self, shard: ShardId) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        let mut kept = std::mem::take(&mut route.returned);
        kept.append(&mut route.kept);
        self.kept -= kept.len();
        kept.into_iter()
            .map(|(_, item)| Effect::Fail { item })
            .collect()
    }

    /// When [`handle_deadline`](Self::handle_deadline) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Fails the items whose time is over, and asks again for the homes that the others wait for.
    pub(crate) fn handle_deadline(&mut self, now: Instant) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        let mut next: Option<Instant> = None;
        for (shard, route) in (0..).map(ShardId).zip(&mut self.shards) {
            for waiting in [&mut route.returned, &mut route.kept] {
                while waiting.front().is_some_and(|(until, _)| *until <= now) {
                    if let Some((_, item)) = waiting.pop_front() {
                        self.kept -= 1;
                        effects.push(Effect::Fail { item });
                    }
                }
            }
            while route.ahead.front().is_some_and(|it| it.until <= now) {
                if let Some(Ahead { bytes, item, .. }) = route.ahead.pop_front() {
                    self.ahead_bytes -= bytes;
                    effects.push(Effect::Fail { item });
                }
            }
            let fronts = [
                route.returned.front().map(|r| r.0),
                route.kept.front().map(|k| k.0),
                route.ahead.front().map(|it| it.until),
            ];
            next = fronts.into_iter().flatten().chain(next).min();
            if !route.is_empty() && route.home == Home::Unknown {
                effects.push(Effect::Resolve { shard });
            }
        }
        self.deadline = next;
        effects
    }

    /// Items kept, and the most that may be kept.
    #[cfg(feature = "sim")]
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.kept, self.kept_max)
    }

    /// The epoch of the home that this node knows.
    pub(crate) fn known_epoch(&self, shard: ShardId) -> Epoch {
        match self.home(shard) {
            Home::Here(epoch) | Home::There(_, epoch) => epoch,
            Home::Unknown => Epoch::ZERO,
        }
    }

    /// Shards whose items wait for a home.
    pub(crate) fn waiting(&self) -> Vec<ShardId> {
        (0..)
            .map(ShardId)
            .zip(&self.shards)
            .filter(|(_, route)| !route.is_empty() && route.home == Home::Unknown)
            .map(|(shard, _)| shard)
            .collect()
    }
}

impl<T> ShardRoute<T> {
    /// Whether no item of this node waits for a home.
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.returned.is_empty()
    }

    /// The shard's home changes. If messages may still be on their way to the old home, later
    /// messages have to wait for a fence.
    fn leave(&mut self, shard: ShardId, last_fence: &mut u64) -> Option<Effect<T>> {
        if self.fence.is_some()
            || !matches!(self.home, Home::There(..))
            || mutants::on("nothing_is_fenced")
        {
            return None;
        }
        *last_fence += 1;
        self.fence = Some(*last_fence);
        Some(Effect::Fence {
            shard,
            number: *last_fence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);
    const WAIT: Duration = Duration::from_secs(3);

    fn region() -> Region<&'static str> {
        Region::new(4, 3, WAIT)
    }

    fn epoch(n: u32) -> Epoch {
        Epoch::new(1, n)
    }

    fn fence(number: u64) -> Effect<&'static str> {
        Effect::Fence {
            shard: SHARD,
            number,
        }
    }

    #[test]
    fn a_known_home_is_used_at_once() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::Here(epoch(1)));
        assert_eq!(
            region.handle_item(SHARD, "a", now),
            Ok(Some(Effect::Deliver {
                shard: SHARD,
                epoch: epoch(1),
                item: "a"
            }))
        );
        region.handle_home(SHARD, Home::There(Slot(2), epoch(2)));
        let send = Effect::Send {
            shard: SHARD,
            to: Slot(2),
            epoch: epoch(2),
            item: "b",
        };
        assert_eq!(region.handle_item(SHARD, "b", now), Ok(Some(send)));
    }

    #[test]
    fn items_wait_for_a_home_and_go_there_in_order() {
        let (mut region, now) = (region(), Instant::now());
        assert_eq!(
            region.handle_item(SHARD, "a", now),
            Ok(Some(Effect::Resolve { shard: SHARD }))
        );
        assert_eq!(region.handle_item(SHARD, "b", now), Ok(None));
        let send = |item| Effect::Send {
            shard: SHARD,
            to: Slot(2),
            epoch: epoch(1),
            item,
        };
        let home = Home::There(Slot(2), epoch(1));
        assert_eq!(region.handle_home(SHARD, home), [send("a"), send("b")]);
        assert_eq!(region.handle_home(SHARD, home), []);
    }

    #[test]
    fn the_buffer_is_bounded_over_all_shards() {
        let (mut region, now) = (region(), Instant::now());
        for shard in 0..3 {
            region.handle_item(ShardId(shard), "x", now).unwrap();
        }
        assert_eq!(
            region.handle_item(SHARD, "one too many", now),
            Err("one too many")
        );
        region.handle_home(ShardId(0), Home::Here(epoch(1)));
        assert_eq!(region.handle_item(SHARD, "fits", now), Ok(None));
    }

    #[test]
    fn what_waits_too_long_fails_and_the_rest_is_asked_for_again() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_item(SHARD, "early", now).unwrap();
        region.handle_item(SHARD, "late", now + WAIT / 2).unwrap();
        assert_eq!(region.deadline(), Some(now + WAIT));
        assert_eq!(
            region.handle_deadline(now + WAIT),
            [
                Effect::Fail { item: "early" },
                Effect::Resolve { shard: SHARD }
            ]
        );
        assert_eq!(region.deadline(), Some(now + WAIT / 2 + WAIT));
        assert_eq!(
            region.handle_deadline(now + WAIT * 2),
            [Effect::Fail { item: "late" }]
        );
        assert_eq!(region.deadline(), None);
    }

    #[test]
    fn in_another_cluster_epochs_begin_again() {
        let mut region: Region<&str> = Region::new(4, 8, WAIT);
        region.handle_home(SHARD, Home::There(Slot(2), epoch(7)));
        region.handle_home(SHARD, Home::Unknown);
        region.forget_epochs();
        assert!(!region.is_past(SHARD, epoch(1)));
        region.handle_home(SHARD, Home::There(Slot(1), epoch(1)));
        assert_eq!(region.known_epoch(SHARD), epoch(1));
    }

    #[test]
    fn nothing_older_than_what_was_seen_is_believed() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::There(Slot(2), epoch(1)));
        assert!(!region.is_past(SHARD, epoch(1)));
        assert_eq!(region.handle_newer(SHARD, epoch(2)), Some(fence(1)));
        assert!(region.is_past(SHARD, epoch(1)));
        assert_eq!(
            region.handle_item(SHARD, "a", now),
            Ok(Some(Effect::Resolve { shard: SHARD }))
        );
        assert_eq!(
            region.handle_home(SHARD, Home::There(Slot(2), epoch(1))),
            []
        );
        let deliver = Effect::Deliver {
            shard: SHARD,
            epoch: epoch(2),
            item: "a",
        };
        // The old owner may still send an item back.
        assert_eq!(region.handle_home(SHARD, Home::Here(epoch(2))), []);
        assert_eq!(region.handle_fenced(SHARD, 1), [deliver]);
        assert_eq!(region.handle_newer(SHARD, epoch(2)), None);
    }

    #[test]
    fn what_comes_back_goes_before_what_was_sent_later() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::There(Slot(2), epoch(1)));
        assert_eq!(region.handle_newer(SHARD, epoch(2)), Some(fence(1)));
        let resolve = Effect::Resolve { shard: SHARD };
        assert_eq!(region.handle_returned(SHARD, "1", now), Ok(Some(resolve)));
        assert_eq!(
            region.handle_item(SHARD, "3", now),
            Ok(Some(Effect::Resolve { shard: SHARD }))
        );
        assert_eq!(
            region.handle_home(SHARD, Home::There(Slot(3), epoch(2))),
            []
        );
        assert!(region.is_fenced(SHARD));
        assert_eq!(region.handle_returned(SHARD, "2", now), Ok(None));
        assert_eq!(region.handle_item(SHARD, "4", now), Err("4"), "bounded");
        // The answer to another fence means nothing.
        assert_eq!(region.handle_fenced(SHARD, 7), []);
        let send = |item| Effect::Send {
            shard: SHARD,
            to: Slot(3),
            epoch: epoch(2),
            item,
        };
        let all = [send("1"), send("2"), send("3")];
        assert_eq!(region.handle_fenced(SHARD, 1), all);
        assert_eq!(region.handle_item(SHARD, "5", now), Ok(Some(send("5"))));
        assert_eq!((region.kept, region.is_fenced(SHARD)), (0, false));
    }

    #[test]
    fn a_fence_that_never_passes_costs_no_message_in_silence() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::There(Slot(2), epoch(1)));
        let moved = region.handle_home(SHARD, Home::There(Slot(3), epoch(2)));
        assert_eq!(moved, [fence(1)]);
        assert_eq!(region.handle_item(SHARD, "a", now), Ok(None));
        assert_eq!(region.handle_returned(SHARD, "b", now), Ok(None));
        // The home is known, so there is nothing to ask.
        assert_eq!(region.waiting(), []);
        let failed = region.handle_deadline(now + WAIT);
        assert_eq!(
            failed,
            [Effect::Fail { item: "b" }, Effect::Fail { item: "a" }]
        );
        assert_eq!(region.kept, 0);
    }

    #[test]
    fn an_item_from_a_sender_that_is_ahead_waits_for_the_map_and_delays_no_other() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::Here(epoch(1)));
        let ahead = region.handle_ahead(SHARD, epoch(2), "ahead", 7, now);
        assert_eq!(ahead, Ok(None));
        let liar = region.handle_ahead(SHARD, Epoch(u64::MAX), "liar", 9, now);
        assert_eq!((liar, region.ahead_bytes), (Ok(None), 16));
        let deliver = |epoch, item| Effect::Deliver {
            shard: SHARD,
            epoch,
            item,
        };
        let other = region.handle_item(SHARD, "other", now);
        assert_eq!(other, Ok(Some(deliver(epoch(1), "other"))));
        assert_eq!(
            region.handle_home(SHARD, Home::Here(epoch(2))),
            [deliver(epoch(2), "ahead")]
        );
        assert_eq!(region.ahead_bytes, 9);
        assert_eq!(
            region.handle_deadline(now + WAIT),
            [Effect::Fail { item: "liar" }]
        );
        assert_eq!((region.deadline(), region.kept), (None, 0));
        assert_eq!(region.ahead_bytes, 0);
    }

    #[test]
    fn items_that_are_ahead_have_a_bound_of_their_own() {
        let (mut region, now) = (region(), Instant::now());
        let half = AHEAD_BYTES_MAX / 2;
        for item in ["a", "b"] {
            let taken = region.handle_ahead(SHARD, epoch(2), item, half, now);
            assert_eq!(taken, Ok(None));
        }
        let refused = region.handle_ahead(SHARD, epoch(2), "c", 1, now);
        assert_eq!(refused, Err("c"));
        assert_eq!(region.handle_home(SHARD, Home::Here(epoch(2))).len(), 2);
        let taken = region.handle_ahead(SHARD, epoch(3), "d", half, now);
        assert_eq!(taken, Ok(None));
    }

    #[test]
    fn what_comes_over_a_connection_finds_room_and_takes_none_from_others() {
        let (mut region, now) = (region(), Instant::now());
        for item in ["a", "b", "c"] {
            region.handle_item(ShardId(0), item, now).unwrap();
        }
        assert_eq!(region.handle_ahead(SHARD, epoch(1), "d", 1, now), Ok(None));
        assert_eq!(region.kept, 3);
        let deliver = Effect::Deliver {
            shard: SHARD,
            epoch: epoch(1),
            item: "d",
        };
        assert_eq!(region.handle_home(SHARD, Home::Here(epoch(1))), [deliver]);
        assert_eq!(region.kept, 3);
    }

    #[test]
    fn a_lost_home_keeps_what_comes_next() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::Here(epoch(1)));
        assert_eq!(region.handle_home(SHARD, Home::Unknown), []);
        region.handle_item(SHARD, "a", now).unwrap();
        assert_eq!(
            region.handle_home(SHARD, Home::Unknown),
            [Effect::Resolve { shard: SHARD }]
        );
        assert_eq!(region.waiting(), [SHARD]);
        assert_eq!(region.handle_no_home(SHARD), [Effect::Fail { item: "a" }]);
        assert_eq!(region.waiting(), []);
    }
}
