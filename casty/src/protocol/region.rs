//! Routes what is sent to entities of one type to their shards' homes; keeps it, in order and bounded, while a home
//! is unknown or on the move. Sends nothing itself.
//!
//! `T` is whatever is routed: the machine never looks into it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::id::{Epoch, ShardId};

use super::map::Slot;

/// Where a shard lives, as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nowhere yet, or this node has not heard.
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

/// What the shell has to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<T> {
    /// Hand the item to the shard on this node.
    Deliver {
        shard: ShardId,
        epoch: Epoch,
        item: T,
    },
    /// Send it to the owner.
    Send {
        shard: ShardId,
        to: Slot,
        epoch: Epoch,
        item: T,
    },
    /// Find out where the shard lives, or have it given a home. Asked again until the home is known.
    Resolve { shard: ShardId },
    /// Nobody could say in time where the shard lives.
    Fail { item: T },
}

#[derive(Debug)]
pub(crate) struct Region<T> {
    shards: Vec<Route<T>>,
    /// Items kept, over all shards.
    kept: usize,
    kept_max: usize,
    wait_max: Duration,
    /// When to look at the kept items again; never later than the first of them ends.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Route<T> {
    home: Home,
    /// Somebody has seen an epoch at least this great: an older home must not be believed.
    at_least: Epoch,
    kept: VecDeque<(Instant, T)>,
    /// Sent by somebody who knows a later home than this node does.
    ahead: VecDeque<(Instant, Epoch, T)>,
}

impl<T> Region<T> {
    /// Keeps at most `kept_max` items, each for at most `wait_max`.
    pub(crate) fn new(shards: u32, kept_max: usize, wait_max: Duration) -> Self {
        let route = || Route {
            home: Home::Unknown,
            at_least: Epoch::ZERO,
            kept: VecDeque::new(),
            ahead: VecDeque::new(),
        };
        let shards = (0..shards).map(|_| route()).collect();
        Self {
            shards,
            kept: 0,
            kept_max,
            wait_max,
            deadline: None,
        }
    }

    pub(crate) fn home(&self, shard: ShardId) -> Home {
        self.shards
            .get(shard.index())
            .map_or(Home::Unknown, |route| route.home)
    }

    /// Routes one item. Gives it back if it would have to be kept and there is no room.
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
        match route.home {
            Home::Here(epoch) => Ok(Some(Effect::Deliver { shard, epoch, item })),
            Home::There(to, epoch) => Ok(Some(Effect::Send {
                shard,
                to,
                epoch,
                item,
            })),
            Home::Unknown if full => Err(item),
            Home::Unknown => {
                let first = route.kept.is_empty();
                let until = now + self.wait_max;
                route.kept.push_back((until, item));
                self.count(until);
                Ok(first.then_some(Effect::Resolve { shard }))
            }
        }
    }

    fn count(&mut self, until: Instant) {
        self.kept += 1;
        self.deadline = Some(self.deadline.map_or(until, |deadline| deadline.min(until)));
    }

    /// Routes an item whose sender says that the shard has a home of `epoch`. Where this node has not heard of it,
    /// the item waits for the news, and for nothing else: a sender that lies delays only itself.
    pub(crate) fn handle_ahead(
        &mut self,
        shard: ShardId,
        epoch: Epoch,
        item: T,
        now: Instant,
    ) -> Result<Option<Effect<T>>, T> {
        if self.home(shard) != Home::Unknown && self.home(shard).epoch() >= epoch {
            return self.handle_item(shard, item, now);
        }
        let full = self.kept >= self.kept_max;
        let until = now + self.wait_max;
        match self.shards.get_mut(shard.index()) {
            Some(route) if !full => route.ahead.push_back((until, epoch, item)),
            _ => return Err(item),
        }
        self.count(until);
        Ok(None)
    }

    /// The map says where a shard lives. What was kept for it goes there, in order.
    ///
    /// A home older than what somebody has seen already is not believed.
    pub(crate) fn handle_home(&mut self, shard: ShardId, home: Home) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        if home != Home::Unknown && home.epoch() < route.at_least {
            return Vec::new();
        }
        route.home = home;
        route.at_least = route.at_least.max(home.epoch());
        if home == Home::Unknown {
            // What is kept goes on waiting, but nobody may be looking for a home yet.
            return if route.kept.is_empty() {
                vec![]
            } else {
                vec![Effect::Resolve { shard }]
            };
        }
        let mut items: Vec<T> = std::mem::take(&mut route.kept)
            .into_iter()
            .map(|(_, i)| i)
            .collect();
        let ahead = std::mem::take(&mut route.ahead);
        for (until, epoch, item) in ahead {
            if epoch <= home.epoch() {
                items.push(item);
            } else {
                route.ahead.push_back((until, epoch, item));
            }
        }
        self.kept -= items.len();
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

    /// The shard is not where it was before `at_least`: anything older is forgotten. Returns whether that leaves the
    /// home unknown.
    pub(crate) fn handle_newer(&mut self, shard: ShardId, at_least: Epoch) -> bool {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return false;
        };
        route.at_least = route.at_least.max(at_least);
        if route.home != Home::Unknown && route.home.epoch() < route.at_least {
            route.home = Home::Unknown;
        }
        route.home == Home::Unknown
    }

    /// Whether the shard is known to have left its home of `epoch`, or to be beyond it.
    pub(crate) fn is_past(&self, shard: ShardId, epoch: Epoch) -> bool {
        self.shards
            .get(shard.index())
            .is_none_or(|route| route.at_least > epoch)
    }

    /// Nobody can say where these shards live: what is kept for them fails.
    pub(crate) fn handle_no_home(&mut self, shard: ShardId) -> Vec<Effect<T>> {
        let Some(route) = self.shards.get_mut(shard.index()) else {
            return Vec::new();
        };
        self.kept -= route.kept.len();
        let kept = std::mem::take(&mut route.kept);
        kept.into_iter()
            .map(|(_, item)| Effect::Fail { item })
            .collect()
    }

    /// When [`handle_deadline`](Self::handle_deadline) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What has waited too long fails; for what still waits, a home is looked for again.
    pub(crate) fn handle_deadline(&mut self, now: Instant) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        let mut next: Option<Instant> = None;
        for (shard, route) in (0..).map(ShardId).zip(&mut self.shards) {
            while route.kept.front().is_some_and(|(until, _)| *until <= now) {
                if let Some((_, item)) = route.kept.pop_front() {
                    self.kept -= 1;
                    effects.push(Effect::Fail { item });
                }
            }
            while route.ahead.front().is_some_and(|(until, ..)| *until <= now) {
                if let Some((_, _, item)) = route.ahead.pop_front() {
                    self.kept -= 1;
                    effects.push(Effect::Fail { item });
                }
            }
            let fronts = [
                route.kept.front().map(|k| k.0),
                route.ahead.front().map(|a| a.0),
            ];
            next = fronts.into_iter().flatten().chain(next).min();
            if !route.kept.is_empty() {
                effects.push(Effect::Resolve { shard });
            }
        }
        self.deadline = next;
        effects
    }

    /// The latest epoch that is believed.
    pub(crate) fn known_epoch(&self, shard: ShardId) -> Epoch {
        match self.home(shard) {
            Home::Here(epoch) | Home::There(_, epoch) => epoch,
            Home::Unknown => Epoch::ZERO,
        }
    }

    /// Shards for which something waits.
    pub(crate) fn waiting(&self) -> Vec<ShardId> {
        (0..)
            .map(ShardId)
            .zip(&self.shards)
            .filter(|(_, route)| !route.kept.is_empty())
            .map(|(shard, _)| shard)
            .collect()
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
    fn nothing_older_than_what_was_seen_is_believed() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::There(Slot(2), epoch(1)));
        assert!(!region.is_past(SHARD, epoch(1)));
        assert!(region.handle_newer(SHARD, epoch(2)));
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
        assert_eq!(region.handle_home(SHARD, Home::Here(epoch(2))), [deliver]);
        assert!(!region.handle_newer(SHARD, epoch(2)));
    }

    #[test]
    fn an_item_from_somebody_ahead_waits_for_the_news_and_delays_nobody_else() {
        let (mut region, now) = (region(), Instant::now());
        region.handle_home(SHARD, Home::Here(epoch(1)));
        assert_eq!(region.handle_ahead(SHARD, epoch(2), "ahead", now), Ok(None));
        assert_eq!(
            region.handle_ahead(SHARD, Epoch(u64::MAX), "liar", now),
            Ok(None)
        );
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
        assert_eq!(
            region.handle_deadline(now + WAIT),
            [Effect::Fail { item: "liar" }]
        );
        assert_eq!((region.deadline(), region.kept), (None, 0));
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
