//! The last moves of the shards of one type, as this node has learned of them.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    id::{NodeId, ShardId},
    protocol::map::Slot,
};

/// How many moves are remembered, of all shards of the type.
const REMEMBERED: usize = 512;

/// How many of them are told of one shard.
const TOLD: usize = 4;

/// The last moves, and the owners that they led to.
#[derive(Default)]
pub(super) struct LastMoves {
    /// By shard: the last owner, also while there is none.
    owners: Vec<Option<Slot>>,
    moves: VecDeque<(ShardId, Instant, Moved)>,
}

/// A move of a shard from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The node that had it was Down, or gone.
    pub(crate) by_failover: bool,
}

impl LastMoves {
    /// A shard has this owner, or is without one. `owners` gives the names of owners, and whether
    /// each is there still.
    pub(super) fn learn<'a>(
        &mut self,
        shard: ShardId,
        owner: Option<Slot>,
        owners: impl Fn(Slot) -> Option<(&'a NodeId, bool)>,
        now: Instant,
    ) {
        let Some(owner) = owner else { return };
        if self.owners.len() <= shard.index() {
            self.owners.resize(shard.index() + 1, None);
        }
        let before = self.owners[shard.index()].replace(owner);
        let Some(before) = before.filter(|before| *before != owner) else {
            return;
        };
        let (Some((from, is_there)), Some((to, _))) = (owners(before), owners(owner)) else {
            return;
        };
        if self.moves.len() == REMEMBERED {
            self.moves.pop_front();
        }
        let moved = Moved {
            from: from.clone(),
            to: to.clone(),
            by_failover: !is_there,
        };
        self.moves.push_back((shard, now, moved));
    }

    /// The last moves of a shard, the latest first, and how long ago each was learned of.
    pub(super) fn of(&self, shard: ShardId, now: Instant) -> Vec<(Duration, Moved)> {
        let moves = self.moves.iter().rev();
        let of_it = moves.filter(|it| it.0 == shard).take(TOLD);
        of_it
            .map(|(_, at, moved)| (now.saturating_duration_since(*at), moved.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_between_two_owners_whatever_was_between_them() {
        let names = [NodeId::new("a"), NodeId::new("b"), NodeId::new("c")];
        let owners = |slot: Slot| {
            let name = names.get(usize::try_from(slot.0).unwrap())?;
            Some((name, name.as_str() != "b"))
        };
        let mut moves = LastMoves::default();
        let (shard, begin) = (ShardId(7), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        moves.learn(shard, Some(Slot(0)), owners, at(0));
        assert_eq!(moves.of(shard, at(0)), [], "it was not moved here");
        moves.learn(shard, Some(Slot(1)), owners, at(1));
        moves.learn(shard, None, owners, at(2));
        moves.learn(shard, Some(Slot(1)), owners, at(3));
        moves.learn(shard, Some(Slot(2)), owners, at(4));
        moves.learn(ShardId(1), Some(Slot(2)), owners, at(5));
        let between = |from: usize, to: usize, by_failover| Moved {
            from: names[from].clone(),
            to: names[to].clone(),
            by_failover,
        };
        let expected = [
            (Duration::from_secs(6), between(1, 2, true)),
            (Duration::from_secs(9), between(0, 1, false)),
        ];
        assert_eq!(moves.of(shard, at(10)), expected);
        assert_eq!(moves.of(ShardId(1), at(10)), []);
        // The bound counts for all shards.
        for n in 0..u32::try_from(REMEMBERED).unwrap() {
            moves.learn(ShardId(100 + n), Some(Slot(0)), owners, at(11));
            moves.learn(ShardId(100 + n), Some(Slot(1)), owners, at(11));
        }
        assert_eq!(moves.of(shard, at(12)), []);
        assert_eq!(moves.moves.len(), REMEMBERED);
        for _ in 0..3 {
            moves.learn(shard, Some(Slot(0)), owners, at(12));
            moves.learn(shard, Some(Slot(2)), owners, at(12));
        }
        assert_eq!(moves.of(shard, at(12)).len(), TOLD);
    }
}
