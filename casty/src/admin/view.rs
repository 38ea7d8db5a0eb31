//! The answers of a cluster's nodes in one round of questions, and what follows from them. Asks no
//! node itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use uuid::Uuid;

use super::{
    AdminError, CopiesReport, DrainProgress, HomeReport, KindReport, MapVersion, MemberReport,
    Members, Outsider, ShardCopiesReport, ShardHomes, ShardTotals, StayingShard,
};
use crate::{
    cluster::peers::wire::Inspection,
    id::{Epoch, MemberId, ShardId},
    protocol::{
        copies::StoreNo,
        map::{ClusterMap, Slot, Status},
    },
    system::MemberStatus,
};

/// One node's answer, and the address it was asked at.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) address: SocketAddr,
    pub(super) inspection: Inspection,
}

impl Answered {
    fn member(&self) -> &MemberId {
        &self.inspection.member
    }

    fn map_version(&self) -> Option<MapVersion> {
        self.inspection.map.as_ref().map(version_of)
    }
}

fn version_of(map: &ClusterMap) -> MapVersion {
    MapVersion {
        generation: map.identity.generation.number(),
        version: map.version,
    }
}

/// One round of answers, all from one cluster.
#[derive(Debug)]
pub(super) struct View {
    answers: Vec<Answered>,
    /// The addresses that gave no answer in time.
    silent: BTreeSet<SocketAddr>,
    /// The most advanced of their maps.
    map: ClusterMap,
}

impl View {
    /// `given`: the addresses that the operator named. All other addresses were learned from maps,
    /// so another process may be listening there by now. `cluster`: the cluster of earlier rounds.
    pub(super) fn new(
        mut answers: Vec<Answered>,
        given: &BTreeSet<SocketAddr>,
        cluster: Option<Uuid>,
    ) -> Result<Self, AdminError> {
        // A process may have been asked at several addresses. The given address counts.
        answers.sort_by_cached_key(|answer| {
            let learned = !given.contains(&answer.address);
            (answer.member().clone(), learned, answer.address)
        });
        answers.dedup_by(|a, b| a.member() == b.member());
        let uuid_of = |answer: &Answered| Some(answer.inspection.map.as_ref()?.identity.uuid);
        let cluster = if let Some(cluster) = cluster {
            cluster
        } else {
            let mut named = answers.iter().filter(|a| given.contains(&a.address));
            let known = |answer| Some((answer, uuid_of(answer)?));
            let (first, uuid) = named.find_map(known).ok_or(AdminError::NoMap)?;
            let other = |answer: &&Answered| uuid_of(answer).is_some_and(|other| other != uuid);
            if let Some(second) = named.find(other) {
                return Err(AdminError::TwoClusters {
                    first: first.member().clone(),
                    second: second.member().clone(),
                });
            }
            uuid
        };
        answers.retain(|answer| uuid_of(answer).is_none_or(|uuid| uuid == cluster));
        let maps = answers.iter().filter_map(|a| a.inspection.map.as_ref());
        let map = maps.max_by_key(|map| version_of(map)).cloned();
        Ok(Self {
            answers,
            silent: BTreeSet::new(),
            map: map.ok_or(AdminError::NoMap)?,
        })
    }

    pub(super) fn cluster(&self) -> Uuid {
        self.map.identity.uuid
    }

    pub(super) fn map(&self) -> &ClusterMap {
        &self.map
    }

    pub(super) fn version(&self) -> MapVersion {
        version_of(&self.map)
    }

    pub(super) fn with_silent(self, silent: BTreeSet<SocketAddr>) -> Self {
        Self { silent, ..self }
    }

    /// The nodes that gave no answer in time, by their names where the map has them.
    pub(super) fn silent(&self) -> Vec<String> {
        let name = |address: &SocketAddr| {
            let mut present = self.map.present();
            let named = present.find(|(_, member)| member.address == *address);
            named.map_or_else(|| address.to_string(), |(id, _)| id.node.to_string())
        };
        self.silent.iter().map(name).collect()
    }

    /// For how many milliseconds a store's last process has been gone, as far as one of the nodes
    /// knows.
    pub(super) fn gone_for(&self, holder: &MemberId) -> Option<u64> {
        let answers = self.answers.iter();
        let known = answers.filter_map(|answer| answer.inspection.gone.get(holder).copied());
        known.max()
    }

    /// The answer of this very process.
    pub(super) fn answer_of(&self, member: &MemberId) -> Option<&Answered> {
        self.answers.iter().find(|a| a.member() == member)
    }

    /// The process that runs under this member's name, whether or not it is a member.
    pub(super) fn newest_of(&self, member: &MemberId) -> Option<&Answered> {
        let same = self
            .answers
            .iter()
            .filter(|a| a.member().node == member.node);
        same.max_by_key(|answer| answer.member().incarnation)
    }

    /// A node whose map is more advanced than that of `member`, if there is one.
    pub(super) fn more_advanced_than(&self, member: &MemberId) -> Option<&MemberId> {
        let mine = self.answer_of(member).and_then(Answered::map_version);
        let best = self
            .answers
            .iter()
            .max_by_key(|answer| answer.map_version())?;
        (best.map_version() > mine).then(|| best.member())
    }

    /// The node that says it leads, and holds a lease. A leader that was cut off keeps believing
    /// that it leads, but its lease ends.
    pub(super) fn leader_that_answered(&self) -> Option<&MemberId> {
        let leads = |answer: &&Answered| {
            let inspection = &answer.inspection;
            inspection.serves
                && inspection.leader.as_ref() == Some(answer.member())
                && self.is_current(answer)
        };
        let leaders = self.answers.iter().filter(leads);
        leaders
            .max_by_key(|answer| answer.map_version())
            .map(Answered::member)
    }

    /// [`leader_that_answered`](Self::leader_that_answered), or a leader that cannot be asked from
    /// here and grants leases to members that can.
    pub(super) fn leader(&self) -> Option<&MemberId> {
        self.leader_that_answered().or_else(|| {
            let serving = self.answers.iter().filter(|a| a.inspection.serves);
            serving
                .filter(|answer| self.is_current(answer))
                .filter_map(|answer| answer.inspection.leader.as_ref())
                .find(|leader| self.answer_of(leader).is_none() && self.is_present(leader))
        })
    }

    fn is_current(&self, answer: &Answered) -> bool {
        let generation = answer.map_version().map(|version| version.generation);
        generation == Some(self.version().generation)
    }

    fn is_present(&self, member: &MemberId) -> bool {
        let status = self.map.status(member);
        status.is_some_and(|status| status != Status::Down)
    }

    /// The members that are not Down.
    pub(super) fn present(&self) -> Vec<MemberId> {
        let members = self.map.members.keys();
        members.filter(|id| self.is_present(id)).cloned().collect()
    }

    /// The member that an operator means: by name, by name and incarnation, or by address.
    pub(super) fn find(&self, node: &str) -> Result<MemberId, AdminError> {
        let present = || {
            let members = self.map.members.iter();
            members.filter(|(id, _)| self.is_present(id))
        };
        let named = present().find(|(id, _)| id.node.as_str() == node || id.to_string() == node);
        let listening = || present().find(|(_, member)| member.address.to_string() == node);
        let found = named.or_else(listening).map(|(id, _)| id.clone());
        found.ok_or_else(|| AdminError::UnknownMember {
            node: node.to_owned(),
            members: self.present(),
        })
    }

    /// The process that an operator means: a member, or a process that answered and is none yet.
    pub(super) fn find_process(&self, node: &str) -> Result<MemberId, AdminError> {
        self.find(node).or_else(|unknown| {
            let is_meant = |answer: &&Answered| {
                let member = answer.member();
                member.node.as_str() == node
                    || member.to_string() == node
                    || answer.address.to_string() == node
            };
            let meant = self.answers.iter().filter(is_meant);
            let newest = meant.max_by_key(|answer| answer.member().incarnation);
            newest.map(|answer| answer.member().clone()).ok_or(unknown)
        })
    }

    /// How much a member still has that another member could take. `None` once the member is
    /// forgotten.
    pub(super) fn drain_progress(&self, member: &MemberId) -> Option<DrainProgress> {
        let slot = self.map.member(member)?.slot;
        let others = || self.map.up().filter(|id| *id != member);
        let mut progress = DrainProgress {
            shards_left: 0,
            copies_left: 0,
            shards_kept: 0,
            votes: self.map.voters.contains_key(member),
        };
        for (kind, table) in &self.map.kinds {
            let owned = table.iter().filter(|home| home.owner == Some(slot)).count();
            if others().any(|id| self.map.hosts(id, kind)) {
                progress.shards_left += owned;
            } else {
                progress.shards_kept += owned;
            }
        }
        if let Some(store) = self.map.store_no(member) {
            let elsewhere = |(kind, _): &(&String, _)| others().any(|id| self.map.hosts(id, kind));
            let copies = self.map.copies.iter().filter(elsewhere);
            let places = copies.flat_map(|(_, copies)| copies.shards.iter());
            let here = places.filter(|places| places.in_sync.has(store));
            progress.copies_left = here.count();
        }
        Some(progress)
    }

    /// The shards that stay on a member which is to give them up, as it says itself.
    pub(super) fn staying_on(&self, member: &MemberId) -> Vec<StayingShard> {
        let answer = self.answer_of(member);
        let kept = answer
            .into_iter()
            .flat_map(|answer| &answer.inspection.kept);
        kept.map(|kept| StayingShard {
            kind: kept.kind.clone(),
            shard: kept.shard,
            reason: kept.reason.clone(),
        })
        .collect()
    }

    pub(super) fn members(&self) -> Members {
        let leader = self.leader().cloned();
        let members = self.map.members.iter();
        let members = members
            .map(|(id, member)| {
                let answer = self.answer_of(id).map(|answer| &answer.inspection);
                let told = self.answers.iter();
                let told = told.filter_map(|a| a.inspection.entities.get(id)).max();
                let roles_by_others = || {
                    let mut others = self.answers.iter();
                    others.find_map(|answer| answer.inspection.roles.get(id))
                };
                let dead_to = self.answers.iter();
                let dead_to = dead_to.filter(|a| a.inspection.dead.contains(id));
                MemberReport {
                    address: member.address,
                    status: MemberStatus::of(member.status),
                    votes: self.map.voters.contains_key(id),
                    leads: leader.as_ref() == Some(id),
                    answered: answer.is_some(),
                    map: answer.and_then(|answer| answer.map.as_ref().map(version_of)),
                    serves: answer.map(|answer| answer.serves),
                    shards: self.map.owned(member.slot),
                    entities: answer
                        .and_then(|answer| answer.entities.get(id))
                        .or(told)
                        .copied(),
                    roles: answer
                        .and_then(|answer| answer.roles.get(id))
                        .or_else(roles_by_others)
                        .cloned(),
                    dead_to: dead_to.map(|a| a.member().node.clone()).collect(),
                    certificate_until: answer
                        .and_then(|answer| answer.certificate_until)
                        .map(|until| until.as_secs()),
                    id: id.clone(),
                }
            })
            .collect();
        let outside = self.answers.iter();
        let outside = outside
            .filter(|answer| self.map.member(answer.member()).is_none())
            .map(|answer| Outsider {
                id: answer.member().clone(),
                address: answer.address,
            })
            .collect();
        Members {
            map: self.version(),
            leader,
            members,
            outside,
        }
    }

    pub(super) fn shards(&self) -> ShardHomes {
        shard_homes(&self.map)
    }
}

fn shard_copies(map: &ClusterMap, kind: &str, shard: ShardId) -> Option<ShardCopiesReport> {
    let places = map.copies.get(kind)?.shards.get(shard.index())?;
    let node = |store: StoreNo| {
        let place = map.stores.get(&store)?;
        Some(place.holder.node.clone())
    };
    let waits_for = map.waits_for(kind, shard).into_iter();
    Some(ShardCopiesReport {
        in_sync: places.in_sync.stores().filter_map(node).collect(),
        wanted: places.wanted.and_then(node),
        waits_for: waits_for.filter_map(node).collect(),
    })
}

/// The homes of all shards, by a map.
pub(crate) fn shard_homes(map: &ClusterMap) -> ShardHomes {
    let named = |slot: Option<Slot>| Some(map.by_slot(slot?)?.0.clone());
    let kinds = map.kinds.iter().map(|(name, table)| KindReport {
        name: name.clone(),
        shards: table.len(),
        copies: map.copies.get(name).map(|copies| CopiesReport {
            copies: copies.settings.most(),
            copies_min: usize::from(copies.min),
        }),
        homes: (0..)
            .map(ShardId)
            .zip(table.iter())
            .filter(|(_, home)| home.epoch != Epoch::ZERO)
            .map(|(shard, home)| HomeReport {
                shard,
                owner: named(home.owner),
                epoch: home.epoch,
                moving_to: named(home.moving),
                copies: shard_copies(map, name, shard),
            })
            .collect(),
    });
    let members = map.members.iter().map(|(id, member)| {
        let owned = |table: &[crate::protocol::map::ShardHome]| {
            let owned = table.iter().filter(|home| home.owner == Some(member.slot));
            owned.count()
        };
        let kinds = map.kinds.iter();
        let kinds: BTreeMap<String, usize> = kinds
            .map(|(name, table)| (name.clone(), owned(table)))
            .filter(|(_, count)| *count > 0)
            .collect();
        ShardTotals {
            id: id.clone(),
            total: kinds.values().sum(),
            kinds,
        }
    });
    ShardHomes {
        map: version_of(map),
        kinds: kinds.collect(),
        members: members.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{ClusterIdentity, Generation, NodeId},
        protocol::{
            allocation,
            map::{
                Command,
                tests::{
                    address, assignment,
                    copies::{founded_with, kept, up},
                    founded, join, member, site,
                },
            },
        },
    };

    fn says(name: &str, port: u16, map: Option<&ClusterMap>) -> Answered {
        Answered {
            address: address(port),
            inspection: Inspection {
                member: member(name, 1),
                leader: None,
                map: map.cloned(),
                entities: BTreeMap::new(),
                roles: BTreeMap::new(),
                dead: BTreeSet::new(),
                serves: true,
                kept: Vec::new(),
                gone: BTreeMap::new(),
                certificate_until: None,
            },
        }
    }

    fn led_by(name: &str, mut answer: Answered, serves: bool) -> Answered {
        answer.inspection.leader = Some(member(name, 1));
        answer.inspection.serves = serves;
        answer
    }

    fn view(answers: &[Answered]) -> Result<View, AdminError> {
        View::new(answers.to_vec(), &BTreeSet::from([address(1)]), None)
    }

    /// `a` has founded the cluster, and the others have joined.
    fn cluster(names: &[&str]) -> ClusterMap {
        let mut map = founded(4);
        for name in names {
            join(&mut map, &member(name, 1));
        }
        map
    }

    #[test]
    fn a_process_that_answers_under_two_addresses_is_one_and_was_named() {
        let map = cluster(&[]);
        let twice = [says("a", 1, Some(&map)), says("a", 0, Some(&map))];
        let members = view(&twice).unwrap().members();
        assert_eq!(members.members.len(), 1);
        assert_eq!(members.outside, []);
    }

    #[test]
    fn the_map_that_counts_is_the_most_advanced_one() {
        let (old, map) = (cluster(&[]), cluster(&["b"]));
        let view = view(&[says("a", 1, Some(&old)), says("b", 2, Some(&map))]).unwrap();
        assert_eq!(view.version().version, map.version);
        assert_eq!(
            view.more_advanced_than(&member("a", 1)),
            Some(&member("b", 1))
        );
        assert_eq!(view.more_advanced_than(&member("b", 1)), None);
        let identity = ClusterIdentity {
            generation: Generation::new(map.identity.generation.number() + 1, 1),
            ..map.identity
        };
        let reborn = old.reborn(identity, member("c", 1), &site(3, None), &[]);
        let all = [says("b", 1, Some(&map)), says("c", 3, Some(&reborn))];
        let view = self::view(&all).unwrap();
        assert_eq!(view.version().generation, identity.generation.number());
        assert_eq!(view.members().outside[0].id, member("b", 1));
    }

    #[test]
    fn nodes_of_two_clusters_are_not_mixed() {
        let map = cluster(&["b"]);
        let mut other = cluster(&[]);
        other.identity.uuid = Uuid::from_u128(2);
        let answers = vec![says("a", 1, Some(&map)), says("b", 2, Some(&other))];
        // `b`'s address was learned from a map, and another process listens there now.
        let learned = view(&answers).unwrap();
        assert_eq!(
            learned.answer_of(&member("b", 1)).map(Answered::member),
            None
        );
        let given = BTreeSet::from([address(1), address(2)]);
        let error = View::new(answers.clone(), &given, None).unwrap_err();
        let (first, second) = (member("a", 1), member("b", 1));
        assert_eq!(error, AdminError::TwoClusters { first, second });
        let later = View::new(answers, &given, Some(other.identity.uuid)).unwrap();
        assert_eq!(later.cluster(), other.identity.uuid);
        let nothing = view(&[says("a", 1, None)]).unwrap_err();
        assert_eq!(nothing, AdminError::NoMap);
    }

    #[test]
    fn a_leader_holds_a_lease() {
        let map = cluster(&["b"]);
        let a = |serves| led_by("a", says("a", 1, Some(&map)), serves);
        let b = |serves| led_by("a", says("b", 1, Some(&map)), serves);
        let leader = |answers: &[Answered]| {
            let view = view(answers).unwrap();
            (view.leader().cloned(), view.leader_that_answered().cloned())
        };
        let founder = Some(member("a", 1));
        assert_eq!(
            leader(&[a(true), b(true)]),
            (founder.clone(), founder.clone())
        );
        // `b` was cut off from the others.
        assert_eq!(leader(&[a(false), b(true)]), (None, None));
        // The leader cannot be asked from here.
        assert_eq!(leader(&[b(true)]), (founder, None));
        assert_eq!(leader(&[b(false)]), (None, None));
    }

    #[test]
    fn members_are_found_by_name_incarnation_and_address() {
        let mut map = cluster(&["b"]);
        map.apply(&Command::Down {
            member: member("b", 1),
        })
        .unwrap();
        join(&mut map, &member("b", 2));
        let view = view(&[says("a", 1, Some(&map))]).unwrap();
        for text in ["b", "b#2", "127.0.0.1:2"] {
            assert_eq!(view.find(text), Ok(member("b", 2)), "{text}");
        }
        let unknown = view.find("b#1").unwrap_err();
        let members = vec![member("a", 1), member("b", 2)];
        let node = "b#1".to_owned();
        assert_eq!(unknown, AdminError::UnknownMember { node, members });
    }

    #[test]
    fn a_process_that_is_no_member_yet_is_found_by_the_name_that_it_answered_with() {
        let map = cluster(&["b"]);
        let mut next = says("b", 2, Some(&map));
        next.inspection.member = member("b", 7);
        let view = view(&[says("a", 1, Some(&map)), next]).unwrap();
        assert_eq!(view.find_process("b"), Ok(member("b", 1)));
        assert_eq!(view.find_process("b#7"), Ok(member("b", 7)));
        assert!(view.find("b#7").is_err(), "nothing but a member is drained");
        assert!(view.find_process("c").is_err());
    }

    #[test]
    fn a_drain_waits_for_shards_that_another_member_hosts() {
        let (mut map, a) = (cluster(&["b"]), member("a", 1));
        let assignments = vec![assignment(0, Epoch::ZERO, &a)];
        map.apply(&Command::Assign { assignments }).unwrap();
        let progress = |map: &ClusterMap| {
            let view = view(&[says("a", 1, Some(map))]).unwrap();
            view.drain_progress(&a).unwrap()
        };
        let shards = |map: &ClusterMap| {
            let progress = progress(map);
            (progress.shards_left, progress.shards_kept, progress.votes)
        };
        assert_eq!(shards(&map), (1, 0, true));
        map.apply(&Command::Down {
            member: member("b", 1),
        })
        .unwrap();
        assert_eq!(shards(&map), (0, 1, true));
    }

    #[test]
    fn the_copies_of_a_shard_are_shown_and_what_it_waits_for() {
        let mut map = founded_with(&kept(1, 2, 2));
        for (name, store) in [("b", 2), ("c", 3)] {
            up(&mut map, &member(name, 1), store, kept(1, 2, 2));
        }
        let assignments = allocation::allocate(&map, "Account", &[ShardId(0)]);
        map.apply(&Command::Assign { assignments }).unwrap();
        let copies = |map: &ClusterMap| {
            let kinds = view(&[says("a", 1, Some(map))]).unwrap().shards().kinds;
            let (stored, plain) = (&kinds[0], &kinds[1]);
            assert_eq!((plain.copies, plain.homes.len()), (None, 0));
            let settings = stored.copies.unwrap();
            assert_eq!((settings.copies, settings.copies_min), (2, 1));
            stored.homes[0].copies.clone().unwrap()
        };
        let nodes = |names: &[&str]| names.iter().map(|name| NodeId::new(*name)).collect();
        let with = |waits_for| ShardCopiesReport {
            in_sync: nodes(&["a", "b"]),
            wanted: None,
            waits_for,
        };
        assert_eq!(copies(&map), with(nodes(&[])));
        let progress = view(&[says("a", 1, Some(&map))]).unwrap();
        let left = |name| {
            progress
                .drain_progress(&member(name, 1))
                .unwrap()
                .copies_left
        };
        assert_eq!(["a", "b", "c"].map(left), [1, 1, 0]);
        for (down, waits_for) in [("b", nodes(&["b"])), ("a", nodes(&["a", "b"]))] {
            map.apply(&Command::Down {
                member: member(down, 1),
            })
            .unwrap();
            assert_eq!(copies(&map), with(waits_for));
        }
    }
}
