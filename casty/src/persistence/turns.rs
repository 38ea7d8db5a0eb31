//! Turns to read entities from the store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use crate::{infra::sync::lock, persistence::Log};

/// Says which entity is read next, if more are to be read than may be at a time.
///
/// Entities of one shard come one after the other, since what a store keeps of a shard lies
/// together: the records of an entity are spread over those of its shard, and a store of pages has
/// the pages of an entity in memory when it reads the next one of the shard. The shards are gone
/// through in rounds. An entity that comes when the round is past its shard, or at it, waits for
/// the next round: no entity waits for ever.
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    /// How many more may be taken now.
    free: usize,
    waiting: BTreeMap<Place, oneshot::Sender<Turn>>,
    /// The round and the shard of the last one that had waited.
    at: Option<(u64, Log)>,
    last: u64,
}

/// The round, the shard, and a number in the order in which they came.
type Place = (u64, Log, u64);

/// Gives itself back when it is dropped.
pub(crate) struct Turn(Option<Arc<Mutex<State>>>);

impl Turns {
    pub(super) fn new(free: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free,
            waiting: BTreeMap::new(),
            at: None,
            last: 0,
        })))
    }

    /// # Cancel safety
    /// Safe: the place is lost.
    pub(super) async fn turn(&self, log: &Log) -> Turn {
        let given = {
            let mut state = lock(&self.0);
            if state.free > 0 {
                state.free -= 1;
                return Turn(Some(self.0.clone()));
            }
            let (give, given) = oneshot::channel();
            let place = state.place(log);
            state.waiting.insert(place, give);
            given
        };
        // A turn is given back with all that wait still there, so none is dropped.
        given.await.unwrap_or(Turn(None))
    }
}

impl State {
    fn place(&mut self, log: &Log) -> Place {
        self.last += 1;
        let round = match &self.at {
            None => 0,
            Some((round, at)) if log > at => *round,
            Some((round, _)) => round + 1,
        };
        (round, log.clone(), self.last)
    }

    /// The next one that waits. If none does, there is one more turn.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let Some(((round, log, _), next)) = self.waiting.pop_first() else {
            self.free += 1;
            return None;
        };
        self.at = Some((round, log));
        Some(next)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(state) = self.0.take() else { return };
        loop {
            let next = lock(&state).next();
            let Some(next) = next else { return };
            match next.send(Self(Some(state.clone()))) {
                Ok(()) => return,
                // It waits no more: the turn is for another one.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::BoxFuture};

    use super::*;

    fn log(shard: u32) -> Log {
        let kind = "Account".into();
        Log { kind, shard }
    }

    /// Places of these shards in this order, and which of them have a turn.
    struct Queue<'a>(Vec<(u32, Option<BoxFuture<'a, Turn>>)>);

    impl<'a> Queue<'a> {
        fn ask(&mut self, turns: &'a Turns, shard: u32) {
            let asked = async move { turns.turn(&log(shard)).await };
            self.0.push((shard, Some(asked.boxed())));
            assert!(self.taken().is_none(), "there is no free turn");
        }

        fn taken(&mut self) -> Option<(u32, Turn)> {
            self.0.iter_mut().find_map(|(shard, asked)| {
                let turn = asked.as_mut()?.now_or_never()?;
                *asked = None;
                Some((*shard, turn))
            })
        }
    }

    #[test]
    fn entities_of_a_shard_follow_each_other_and_a_late_one_waits_for_the_next_round() {
        let turns = Turns::new(1);
        let mut turn = turns.turn(&log(7)).now_or_never().expect("a free turn");
        let mut queue = Queue(Vec::new());
        for shard in [5, 2, 5, 9, 2] {
            queue.ask(&turns, shard);
        }
        let mut order = Vec::new();
        for number in 0..8 {
            if number == 3 {
                // The round is at shard 5.
                for shard in [5, 3, 6] {
                    queue.ask(&turns, shard);
                }
            }
            drop(turn);
            let (shard, next) = queue.taken().expect("the next one");
            order.push(shard);
            turn = next;
        }
        assert_eq!(order, [2, 2, 5, 5, 6, 9, 3, 5]);
    }

    #[test]
    fn a_turn_passes_over_those_that_wait_no_more_and_is_free_again() {
        let turns = Turns::new(2);
        let first = turns.turn(&log(1)).now_or_never().expect("a free turn");
        let second = turns.turn(&log(1)).now_or_never().expect("a free turn");
        let mut queue = Queue(Vec::new());
        for shard in [1, 2, 3] {
            queue.ask(&turns, shard);
        }
        // One that waits is given up, and then one that was given its turn.
        queue.0.remove(0);
        drop(first);
        queue.0.remove(0);
        let (shard, third) = queue.taken().expect("the next one");
        assert_eq!(shard, 3);
        drop((second, third));
        for _ in 0..2 {
            let turn = turns.turn(&log(4)).now_or_never();
            std::mem::forget(turn.expect("a free turn"));
        }
        assert!(turns.turn(&log(4)).now_or_never().is_none());
    }
}
