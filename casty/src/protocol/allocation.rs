//! Decides where shards should live. Sends nothing itself.
//!
//! Least-loaded first: a shard goes to the member with the fewest shards of its type, then with the fewest of all
//! types, then to the one that joined first. Deterministic for a given map.

use std::collections::BTreeMap;

use super::map::{Assignment, ClusterMap, Slot, Status};
use crate::id::{MemberId, ShardId};

/// Homes for those of `wanted` that have none. Empty if nobody can take them.
pub(crate) fn allocate(map: &ClusterMap, kind: &str, wanted: &[ShardId]) -> Vec<Assignment> {
    let Some(table) = map.kinds.get(kind) else {
        return Vec::new();
    };
    let mut candidates = candidates(map, kind);
    let mut assignments = Vec::new();
    for &shard in wanted {
        let Some(home) = table.get(shard.index()).filter(|home| home.owner.is_none()) else {
            continue;
        };
        if assignments.iter().any(|a: &Assignment| a.shard == shard) {
            continue;
        }
        let Some(best) = candidates
            .iter_mut()
            .min_by_key(|c| (c.of_kind, c.of_all, c.slot))
        else {
            break;
        };
        best.of_kind += 1;
        best.of_all += 1;
        assignments.push(Assignment {
            shard,
            expected: home.epoch,
            to: best.id.clone(),
        });
    }
    assignments
}

struct Candidate {
    slot: Slot,
    id: MemberId,
    of_kind: usize,
    of_all: usize,
}

fn candidates(map: &ClusterMap, kind: &str) -> Vec<Candidate> {
    let mut of_all = BTreeMap::<Slot, usize>::new();
    let mut of_kind = BTreeMap::<Slot, usize>::new();
    for (name, table) in &map.kinds {
        for owner in table.iter().filter_map(|home| home.owner) {
            *of_all.entry(owner).or_default() += 1;
            if name == kind {
                *of_kind.entry(owner).or_default() += 1;
            }
        }
    }
    let hosts = map
        .members
        .iter()
        .filter(|(_, m)| m.status == Status::Up && m.kinds.iter().any(|name| name == kind));
    hosts
        .map(|(id, member)| Candidate {
            slot: member.slot,
            id: id.clone(),
            of_kind: of_kind.get(&member.slot).copied().unwrap_or(0),
            of_all: of_all.get(&member.slot).copied().unwrap_or(0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Epoch,
        protocol::map::{
            Command,
            tests::{founded, join, member},
        },
    };

    fn shards(numbers: impl IntoIterator<Item = u32>) -> Vec<ShardId> {
        numbers.into_iter().map(ShardId).collect()
    }

    fn apply(map: &mut ClusterMap, assignments: Vec<Assignment>) {
        map.apply(&Command::Assign {
            kind: "Counter".into(),
            assignments,
        })
        .unwrap();
    }

    #[test]
    fn shards_go_to_the_least_loaded_in_turn() {
        let (mut map, b) = (founded(8), member("b", 1));
        join(&mut map, &b);
        let got = allocate(&map, "Counter", &shards([0, 1, 2]));
        let to = |shard, id: MemberId| Assignment {
            shard,
            expected: Epoch::ZERO,
            to: id,
        };
        assert_eq!(
            got,
            [
                to(ShardId(0), member("a", 1)),
                to(ShardId(1), b.clone()),
                to(ShardId(2), member("a", 1)),
            ]
        );
        apply(&mut map, got);
        assert_eq!(allocate(&map, "Counter", &shards([3])), [to(ShardId(3), b)]);
    }

    #[test]
    fn owned_shards_stay_put_and_doubles_count_once() {
        let mut map = founded(8);
        let first = allocate(&map, "Counter", &shards([1, 1]));
        assert_eq!(first.len(), 1);
        apply(&mut map, first);
        assert_eq!(allocate(&map, "Counter", &shards([1])), []);
    }

    #[test]
    fn nobody_gets_what_nobody_hosts() {
        let map = founded(8);
        assert_eq!(allocate(&map, "Unknown", &shards([0])), []);
        assert_eq!(allocate(&map, "Counter", &shards([99])), []);
    }

    #[test]
    fn members_on_their_way_out_get_nothing() {
        let (mut map, b) = (founded(8), member("b", 1));
        join(&mut map, &b);
        map.apply(&Command::Leave {
            member: member("a", 1),
        })
        .unwrap();
        let got = allocate(&map, "Counter", &shards(0..8));
        assert!(got.iter().all(|assignment| assignment.to == b) && got.len() == 8);
    }
}
