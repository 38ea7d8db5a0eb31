//! The effects of each input, compared as whole lists.

mod end;
mod enter;
mod go_on;
mod replaced;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Operation::*, *};
use crate::protocol::map::{
    Command,
    tests::{address, founded, join, lease, member},
};
use crate::{
    config::Availability,
    protocol::bootstrap::SeedAnswer,
    tie::{TieError, Verdict},
};

const MS: Duration = Duration::from_millis(1);
const BACKOFF: Duration = Duration::from_millis(20);
const MAP_WITHIN: Duration = Duration::from_secs(2);

/// One process with its machine, and what its node knows.
struct Process {
    machine: Membership,
    now: Instant,
    clock: u64,
    map: Option<Arc<ClusterMap>>,
    followed: u64,
    identity: Option<ClusterIdentity>,
    keeps_seat: bool,
    dead: BTreeSet<MemberId>,
    serves: bool,
}

fn config() -> MembershipConfig {
    MembershipConfig {
        seeds: vec!["seed".into()],
        expect: None,
        address: Some(address(2)),
        on_down: OnDown::Rejoin,
        availability: Availability::Consistent,
        has_tie_breaker: false,
        counts_incarnations: false,
        lease: lease(),
        map_within: MAP_WITHIN,
        backoff: BACKOFF,
        backoff_max: 10 * BACKOFF,
    }
}

/// `a`, which founded the cluster, and these.
fn cluster(others: &[MemberId]) -> ClusterMap {
    let mut map = founded(4);
    for other in others {
        join(&mut map, other);
    }
    map
}

fn b(incarnation: u64) -> MemberId {
    member("b", incarnation)
}

fn introduction(identity: ClusterIdentity) -> Introduction {
    Introduction {
        by: member("a", 1),
        identity,
        voters: vec![(member("a", 1), address(1))],
    }
}

fn answers(answer: SeedAnswer, cluster: Option<ClusterIdentity>) -> Outcome {
    Outcome::Greeted(vec![Greeted {
        place: "seed".into(),
        at: None,
        answer,
        cluster: cluster.map(introduction),
    }])
}

fn start(session: u64, operation: Operation) -> MembershipEffect {
    MembershipEffect::Start(Session(session), operation)
}

fn greet(session: u64, places: &[&str]) -> MembershipEffect {
    let places = places.iter().map(|place| (*place).to_owned());
    start(session, Greet(places.collect()))
}

fn unreachable<T>() -> Result<T, LeaderError> {
    Err(LeaderError::Unreachable("no leader".into()))
}

impl Process {
    /// A process of node `b` that has begun to look for its cluster.
    fn starting(config: MembershipConfig) -> Self {
        let mut process = Self {
            machine: Membership::new(config, b(1)),
            now: Instant::now(),
            clock: 1,
            map: None,
            followed: 0,
            identity: None,
            keeps_seat: false,
            dead: BTreeSet::new(),
            serves: false,
        };
        assert_eq!(process.machine.start(), [start(0, SitAgain)]);
        process
    }

    /// A process that asks its seed.
    fn seeking(config: MembershipConfig) -> Self {
        let mut process = Self::starting(config);
        assert_eq!(
            process.done(Outcome::Sat(Ok(vec![]))),
            [greet(0, &["seed"])]
        );
        process
    }

    /// A process that has proposed to join.
    fn joining(config: MembershipConfig) -> Self {
        let mut process = Self::seeking(config);
        let identity = founded(4).identity;
        process.identity = Some(identity);
        process.done(answers(SeedAnswer::Cluster, Some(identity)));
        process
    }

    /// A member of a cluster of `a`, `b` and these. Its first renewal is under way.
    fn member(config: MembershipConfig, others: &[MemberId]) -> Self {
        let mut process = Self::joining(config);
        process.done(Outcome::Decided(Ok(2)));
        let others: Vec<_> = [b(1)].into_iter().chain(others.iter().cloned()).collect();
        process.map = Some(Arc::new(cluster(&others)));
        assert_eq!(process.handle(MembershipInput::Map), [start(0, Up)]);
        assert_eq!(
            process.done(Outcome::Decided(Ok(3))),
            [MembershipEffect::Heard(3), start(0, Renew)]
        );
        process
    }

    fn handle(&mut self, input: MembershipInput) -> Vec<MembershipEffect> {
        let view = NodeView {
            now: self.now,
            clock: Incarnation(self.clock),
            jitter: 1.0,
            map: self.map.as_ref(),
            followed: self.followed,
            identity: self.identity,
            keeps_seat: self.keeps_seat,
            dead: &self.dead,
            serves: self.serves,
        };
        let effects = self.machine.handle(input, &view);
        // The part of the shell.
        for effect in &effects {
            if let MembershipEffect::Begin(_) = effect {
                (self.map, self.identity, self.keeps_seat) = (None, None, false);
            }
        }
        effects
    }

    /// The present operation has ended.
    fn done(&mut self, outcome: Outcome) -> Vec<MembershipEffect> {
        let session = self.machine.session();
        self.handle(MembershipInput::Done(session, outcome))
    }

    fn tick_after(&mut self, pause: Duration) -> Vec<MembershipEffect> {
        self.now += pause;
        self.handle(MembershipInput::Tick)
    }

    /// Ticks a moment before this pause is over.
    fn tick_before(&mut self, pause: Duration) -> Vec<MembershipEffect> {
        self.tick_after(pause.saturating_sub(MS))
    }

    fn change(&mut self, command: &Command) {
        let mut map = (**self.map.as_ref().unwrap()).clone();
        map.apply(command).unwrap();
        self.map = Some(Arc::new(map));
    }

    fn recover(&mut self, force: bool) -> Vec<MembershipEffect> {
        let command = Some(CommandId(9));
        self.handle(MembershipInput::Recover { command, force })
    }
}

/// This incarnation has ended: what follows, whatever the reason.
fn begins(session: u64, incarnation: u64) -> [MembershipEffect; 3] {
    [
        MembershipEffect::EndSession,
        MembershipEffect::Begin(b(incarnation)),
        start(session, ForgetSeat),
    ]
}
