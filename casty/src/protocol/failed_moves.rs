//! Moves of shards that failed: the owner kept the shard, because the states of its entities could
//! not be sent. Such a shard is not revoked again at once: each try interrupts its entities, and
//! the reason may never go away.
//!
//! Only the leader knows this, and the next leader begins anew.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    id::{Epoch, ShardId},
    protocol::map::{Assignment, ClusterMap, ShardHome, Slot},
};

/// The pause after the first failure. It doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The longest pause where the owner leaves. It may shut down, and waits for this no longer than
/// [`Settings::shutdown_timeout`](crate::Settings::shutdown_timeout); or it is drained, and serves
/// meanwhile what each try interrupts.
const LEAVING_PAUSE_MAX: Duration = Duration::from_secs(5);

type Key = (String, ShardId);

/// The moves of a cluster, as its leader sees them.
#[derive(Debug, Default)]
pub(crate) struct FailedMoves {
    /// Each with its owner, and the epoch at which it is to leave it.
    under_way: BTreeMap<Key, (Slot, Epoch)>,
    failed: BTreeMap<Key, Failure>,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    pause: Duration,
}

impl FailedMoves {
    /// The leader asks owners to give these shards up.
    pub(crate) fn handle_revoked(&mut self, map: &ClusterMap, moves: &[Assignment]) {
        for Assignment {
            kind,
            shard,
            expected,
            ..
        } in moves
        {
            let key = (kind.clone(), *shard);
            if let Some(owner) = home(map, &key).and_then(|home| home.owner) {
                self.under_way.insert(key, (owner, *expected));
            }
        }
    }

    /// What has become of the moves.
    pub(crate) fn handle_map(&mut self, map: &ClusterMap, now: Instant) {
        let failed = &mut self.failed;
        self.under_way.retain(|key, (owner, epoch)| {
            let home = home(map, key);
            if home.is_some_and(|home| home.epoch == *epoch) {
                return true;
            }
            if home.is_some_and(|home| home.owner == Some(*owner)) {
                let pause = failed.get(key).map_or(PAUSE, |last| last.pause * 2);
                let pause = pause.min(PAUSE_MAX);
                failed.insert(key.clone(), Failure { since: now, pause });
            } else {
                failed.remove(key);
            }
            false
        });
        for (kind, table) in &map.kinds {
            for (shard, home) in (0..).map(ShardId).zip(table.iter()) {
                if let (Some(owner), Some(_)) = (home.owner, home.moving) {
                    let key = (kind.clone(), shard);
                    self.under_way.insert(key, (owner, home.epoch));
                }
            }
        }
    }

    /// Whether it is time to move this shard. `is_leaving`: its owner leaves, and will be gone
    /// soon.
    pub(crate) fn may_move(
        &self,
        kind: &str,
        shard: ShardId,
        is_leaving: bool,
        now: Instant,
    ) -> bool {
        // Usually none has failed, and this is asked for each shard.
        if self.failed.is_empty() {
            return true;
        }
        let failure = self.failed.get(&(kind.to_owned(), shard));
        failure.is_none_or(|failure| {
            let most = if is_leaving {
                LEAVING_PAUSE_MAX
            } else {
                PAUSE_MAX
            };
            failure.since + failure.pause.min(most) <= now
        })
    }
}

fn home<'a>(map: &'a ClusterMap, (kind, shard): &Key) -> Option<&'a ShardHome> {
    map.kinds.get(kind)?.get(shard.index())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::MemberId,
        protocol::map::{
            Command,
            tests::{assignment, founded, join, member},
        },
    };

    const SHARD: ShardId = ShardId(0);

    fn epoch(map: &ClusterMap) -> Epoch {
        map.kinds["Counter"][SHARD.index()].epoch
    }

    /// `a` has the shard, and `b` is a member.
    fn two() -> (ClusterMap, MemberId, MemberId) {
        let mut map = founded(2);
        let (a, b) = (member("a", 1), member("b", 1));
        join(&mut map, &b);
        let assignments = vec![assignment(0, Epoch::ZERO, &a)];
        map.apply(&Command::Assign { assignments }).unwrap();
        (map, a, b)
    }

    fn revoke(map: &mut ClusterMap, moves: &mut FailedMoves, to: &MemberId) {
        let revoked = vec![assignment(0, epoch(map), to)];
        moves.handle_revoked(map, &revoked);
        map.apply(&Command::Revoke { moves: revoked }).unwrap();
    }

    fn keep(map: &mut ClusterMap, owner: &MemberId) {
        let shards = vec![(SHARD, epoch(map))];
        let (member, kind) = (owner.clone(), "Counter".to_owned());
        let keep = Command::Keep {
            member,
            kind,
            shards,
        };
        map.apply(&keep).unwrap();
    }

    #[test]
    fn a_shard_that_could_not_move_is_left_alone_for_longer_and_longer() {
        let (mut map, a, b) = two();
        let (mut moves, mut now) = (FailedMoves::default(), Instant::now());
        let may = |moves: &FailedMoves, at| moves.may_move("Counter", SHARD, false, at);
        let mut pause = PAUSE;
        for failures in 1..20 {
            assert!(may(&moves, now));
            revoke(&mut map, &mut moves, &b);
            // The leader need not see the map in between.
            if failures % 2 == 0 {
                moves.handle_map(&map, now);
                assert!(may(&moves, now), "nothing has failed yet");
            }
            keep(&mut map, &a);
            moves.handle_map(&map, now);
            let nearly = pause.saturating_sub(Duration::from_millis(1));
            assert!(!may(&moves, now + nearly));
            assert!(may(&moves, now + pause));
            let other = ShardId(1);
            assert!(
                moves.may_move("Counter", other, false, now),
                "the other one"
            );
            // An owner that leaves cannot wait that long, and is not interrupted all the time.
            let soon = pause.min(LEAVING_PAUSE_MAX);
            let nearly = soon.saturating_sub(Duration::from_millis(1));
            assert!(!moves.may_move("Counter", SHARD, true, now + nearly));
            assert!(moves.may_move("Counter", SHARD, true, now + soon));
            (now, pause) = (now + pause, (pause * 2).min(PAUSE_MAX));
        }
        assert_eq!(pause, PAUSE_MAX);
    }

    #[test]
    fn a_move_that_succeeds_is_no_failure_and_ends_the_pauses() {
        let (mut map, a, b) = two();
        let (mut moves, now) = (FailedMoves::default(), Instant::now());
        revoke(&mut map, &mut moves, &b);
        keep(&mut map, &a);
        moves.handle_map(&map, now);
        // A leader that took over knows the move from the map alone.
        let mut successor = FailedMoves::default();
        revoke(&mut map, &mut moves, &b);
        successor.handle_map(&map, now);
        let release = Command::Release {
            member: a,
            kind: "Counter".into(),
            shards: vec![(SHARD, epoch(&map))],
        };
        map.apply(&release).unwrap();
        for moves in [&mut moves, &mut successor] {
            moves.handle_map(&map, now);
            assert!(moves.may_move("Counter", SHARD, false, now));
            assert!(moves.failed.is_empty() && moves.under_way.is_empty());
        }
    }
}
