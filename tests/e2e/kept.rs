//! Clusters whose voters keep their state on disk, in simulated time.

use std::collections::BTreeMap;

use casty::{
    error::{JoinError, StartError, StateDirError},
    id::MemberId,
    member::MemberStatus,
    prelude::*,
    testkit::{Arbiter, Sighting, Sim, View},
};
use casty_tests::Counter;
use tempfile::TempDir;

use crate::support::{eventually, node, soon};

/// Seeds that each test runs under.
const SEEDS: u64 = 2;

struct Cluster {
    sim: Sim,
    /// The clusters and generations that were seen to be founded.
    founded: Vec<(u128, u32)>,
    /// The directories of its nodes.
    state: TempDir,
}

impl Cluster {
    /// The nodes of `keep` keep their state on disk; the others do not.
    fn start(seed: u64, keep: &[&str], others: &[&str]) -> Self {
        casty_tests::log();
        let mut cluster = Self {
            sim: Sim::new(seed),
            founded: Vec::new(),
            state: tempfile::tempdir().unwrap(),
        };
        for name in keep {
            cluster.start_kept(name);
        }
        for name in others {
            cluster.sim.start(name);
        }
        cluster.settled(keep.len() + others.len());
        cluster
    }

    fn start_kept(&mut self, name: &str) {
        let path = self.state.path().join(name);
        self.sim
            .start_with(name, move |builder| builder.state_dir(&path));
    }

    /// Waits until the members are exactly `nodes` nodes, with the full number of voters.
    fn settled(&mut self, nodes: usize) {
        let votes = if nodes < 3 { 1 } else { (nodes.min(5) - 1) | 1 };
        let votes = if nodes == 4 { 3 } else { votes };
        self.sim.until("it has settled", |sim| {
            let views = sim.views();
            let settled = |view: &View| {
                view.up == nodes && view.voters == votes && view.homeless() == 0 && view.serving
            };
            views.len() == nodes && views.iter().all(settled)
        });
        // A change of voters needs a majority of both the old and the new voters.
        self.run_for(1);
        for (_, sighting) in self.sim.sightings() {
            if let Sighting::Founded {
                uuid, generation, ..
            } = sighting
            {
                self.founded.push((uuid, generation));
            }
        }
    }

    fn crash(&mut self, names: &[&str]) {
        for name in names {
            self.sim.crash(name);
        }
    }

    fn restart(&mut self, names: &[&str]) {
        for name in names {
            self.sim.restart(name);
        }
    }

    fn run_for(&mut self, seconds: u64) {
        self.sim.run_for(Duration::from_secs(seconds));
    }

    /// Asks many entities for the fencing tokens that they run under.
    fn tokens(&mut self, node: &str) -> BTreeMap<String, u64> {
        self.sim.on(node, |system| async move {
            let mut tokens = BTreeMap::new();
            for n in 0..12 {
                let id = n.to_string();
                let token = system.entity::<Fenced>(&id).token().await.unwrap();
                tokens.insert(id, token);
            }
            tokens
        })
    }

    fn members(&mut self, node: &str) -> BTreeMap<String, MemberId> {
        self.sim.on(node, |system| async move {
            let members = system.members().into_iter();
            let up = members.filter(|member| member.status == MemberStatus::Up);
            up.map(|up| (up.id.node.to_string(), up.id)).collect()
        })
    }

    fn view(&self, name: &str) -> View {
        let views = self.sim.views().into_iter();
        let mut views = views.filter(|view| view.member.node.as_str() == name);
        views.next().unwrap()
    }
}

/// Returns its fencing token.
#[derive(Default)]
struct Fenced;

#[entity(shards = 12)]
impl Fenced {
    #[message]
    fn token(&mut self, ctx: &mut Context<Self>) -> u64 {
        ctx.fencing_token().0
    }
}

fn grew(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> bool {
    before.iter().all(|(id, token)| after[id] > *token)
}

#[test]
fn after_all_were_killed_at_once_it_is_the_same_cluster() {
    for seed in 0..casty_tests::seeds(SEEDS) {
        let all = ["a", "b", "c"];
        let mut cluster = Cluster::start(seed, &all, &[]);
        let before = cluster.tokens("a");
        let (first, generation) = (cluster.members("a"), cluster.view("a").generation);
        cluster.crash(&all);
        cluster.run_for(1);
        cluster.restart(&["c", "b", "a"]);
        cluster.settled(3);
        let after = cluster.tokens("b");
        assert!(grew(&before, &after), "{before:?} {after:?}");
        assert_eq!(cluster.founded.len(), 1, "{:?}", cluster.founded);
        assert_eq!(cluster.view("a").generation, generation);
        let second = cluster.members("a");
        assert!(first.iter().all(|(name, id)| second[name] > *id));
        // Once more, from the state that was kept after the first restart.
        cluster.crash(&all);
        cluster.restart(&all);
        cluster.settled(3);
        assert!(grew(&after, &cluster.tokens("c")));
        assert_eq!(cluster.founded.len(), 1);
    }
}

#[test]
fn five_voters_come_back_and_so_does_a_sole_voter() {
    for all in [&["a"][..], &["a", "b"], &["a", "b", "c", "d", "e"]] {
        let mut cluster = Cluster::start(31, all, &[]);
        let before = cluster.tokens("a");
        cluster.crash(all);
        cluster.restart(all);
        cluster.settled(all.len());
        assert!(grew(&before, &cluster.tokens("a")));
        assert_eq!(cluster.founded.len(), 1);
    }
}

#[test]
fn a_member_that_lived_on_goes_on() {
    for seed in 0..casty_tests::seeds(SEEDS) {
        // The first three vote. The others do not.
        let mut cluster = Cluster::start(seed, &["a", "b", "c"], &["w"]);
        let before = cluster.tokens("w");
        let lived = cluster.members("w")["w"].clone();
        cluster.crash(&["a", "b", "c"]);
        cluster.run_for(2);
        cluster.restart(&["a", "b", "c"]);
        cluster.settled(4);
        assert_eq!(cluster.members("a")["w"], lived, "the same incarnation");
        let after = cluster.tokens("w");
        assert!(before.iter().all(|(id, token)| after[id] >= *token));
        assert_eq!(cluster.founded.len(), 1);
    }
}

#[test]
fn a_minority_of_those_that_voted_decides_nothing() {
    for seed in 0..casty_tests::seeds(SEEDS) {
        let mut cluster = Cluster::start(seed, &["a", "b", "c"], &[]);
        let version = cluster.view("a").version;
        cluster.crash(&["a", "b", "c"]);
        cluster.restart(&["b"]);
        cluster.run_for(20);
        let view = cluster.view("b");
        assert!(!view.serving && view.version <= version, "{view:?}");
        let answer = cluster.sim.on("b", |system| async move {
            system.entity::<Counter>("x").value().await
        });
        assert_eq!(answer, Err(AskError::NoQuorum));
        // One more voter makes a majority.
        cluster.restart(&["c"]);
        cluster.settled_but_for_a();
        cluster.restart(&["a"]);
        cluster.settled(3);
        assert_eq!(cluster.founded.len(), 1);
    }
}

impl Cluster {
    /// Two of three serve, and the third is declared Down.
    fn settled_but_for_a(&mut self) {
        self.sim.until("the others go on", |sim| {
            let views = sim.views();
            views.len() == 2 && views.iter().all(|view| view.serving && view.up == 2)
        });
    }
}

/// The seats that processes took, and whether they had kept them.
fn seats(sim: &mut Sim) -> Vec<(String, u32, bool)> {
    let sightings = sim.sightings().into_iter();
    let seats = sightings.filter_map(|(_, sighting)| match sighting {
        Sighting::Numbered {
            member,
            number,
            kept,
            ..
        } => Some((member.node.to_string(), number, kept)),
        _ => None,
    });
    seats.collect()
}

#[test]
fn a_node_that_is_back_soon_keeps_its_seat_and_a_replaced_node_does_not() {
    for seed in 0..casty_tests::seeds(SEEDS) {
        let mut cluster = Cluster::start(seed, &["a", "b", "c", "d"], &[]);
        cluster.crash(&["b"]);
        cluster.restart(&["b"]);
        cluster.settled(4);
        // The voters never missed it.
        cluster.crash(&["c"]);
        cluster.sim.until("another votes instead", |sim| {
            let views = sim.views();
            views.iter().all(|view| view.up == 3 && view.voters == 3)
        });
        drop(seats(&mut cluster.sim));
        cluster.restart(&["c"]);
        cluster.settled_with_seats(4);
        assert_eq!(cluster.founded.len(), 1);
        assert_eq!(cluster.members("a").len(), 4);
    }
}

impl Cluster {
    fn settled_with_seats(&mut self, nodes: usize) {
        self.sim.until("all are members", |sim| {
            let views = sim.views();
            views.len() == nodes && views.iter().all(|view| view.up == nodes && view.serving)
        });
    }
}

#[test]
fn a_node_that_left_in_order_starts_afresh() {
    for seed in 0..casty_tests::seeds(SEEDS) {
        let mut cluster = Cluster::start(seed, &["a", "b", "c"], &[]);
        let left = cluster
            .sim
            .on("b", |system| async move { system.shutdown().await });
        assert_eq!(left, Ok(()));
        cluster.run_for(1);
        cluster.crash(&["b"]);
        drop(seats(&mut cluster.sim));
        cluster.restart(&["b"]);
        cluster.settled_with_seats(3);
        let kept = seats(&mut cluster.sim).into_iter().filter(|seat| seat.2);
        assert_eq!(kept.count(), 0);
    }
}

#[test]
fn the_last_one_to_leave_ends_the_cluster() {
    let mut cluster = Cluster::start(41, &["a"], &[]);
    let left = cluster
        .sim
        .on("a", |system| async move { system.shutdown().await });
    assert_eq!(left, Ok(()));
    cluster.run_for(1);
    cluster.crash(&["a"]);
    cluster.restart(&["a"]);
    cluster.settled(1);
    assert_eq!(cluster.founded.len(), 2, "{:?}", cluster.founded);
}

#[test]
fn all_that_shut_down_at_once_come_back_to_the_same_cluster() {
    // Under 0 and 14 one of them holds the only vote when it leaves.
    for seed in [0, 1, 14] {
        let all = ["a", "b", "c"];
        let mut cluster = Cluster::start(seed, &all, &[]);
        let before = cluster.tokens("a");
        let leaving = all.map(|name| {
            cluster
                .sim
                .spawn_on(name, |system| async move { system.shutdown().await })
        });
        cluster.sim.until("they have ended", |_| {
            leaving.iter().all(casty::testkit::SimTask::is_done)
        });
        cluster.run_for(1);
        cluster.crash(&all);
        cluster.restart(&all);
        cluster.settled_with_seats(3);
        // No member was left to take the votes, so they were kept.
        assert!(grew(&before, &cluster.tokens("a")));
        let founded =
            |(_, sighting): &(Duration, Sighting)| matches!(sighting, Sighting::Founded { .. });
        assert!(!cluster.sim.sightings().iter().any(founded));
    }
}

#[tokio::test]
async fn another_cluster_of_the_same_name_is_refused_and_what_was_kept_stays() {
    let state = tempfile::tempdir().unwrap();
    let kept = || node("a").state_dir(state.path());
    let first = kept().start().await.unwrap();
    soon("it founds", first.wait_for(1)).await.unwrap();
    let second = kept().start().await.unwrap_err();
    assert!(
        matches!(&second, StartError::StateDir(StateDirError::InUse { .. })),
        "{second}"
    );
    drop(first);
    let other = node("b").start().await.unwrap();
    soon("it founds", other.wait_for(1)).await.unwrap();
    let astray = || kept().seeds([other.address()]).start();
    let astray = eventually("the first has ended", astray, Result::is_ok).await;
    let refused = soon("an answer", astray.unwrap().wait_for(1)).await;
    assert!(
        matches!(&refused, Err(JoinError::Refused { reason, .. }) if reason.contains("another cluster")),
        "{refused:?}"
    );
    // Without that seed it is the same cluster as before.
    let again = eventually("it has ended", || kept().start(), Result::is_ok).await;
    soon("it goes on", again.unwrap().wait_for(1))
        .await
        .unwrap();
    soon("shutdown", other.shutdown()).await.unwrap();
}

#[tokio::test]
async fn it_is_not_combined_with_a_tie_breaker() {
    let state = tempfile::tempdir().unwrap();
    let arbiter = Arbiter::default();
    let started = node("a")
        .state_dir(state.path())
        .tie_breaker(arbiter)
        .start()
        .await;
    let error = started.unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Setting {
                setting: "state_dir",
                ..
            }
        ),
        "{error}"
    );
}
