//! The network between simulated nodes: hosts, links, and connections that behave like TCP's.
//!
//! A pure machine: time is an argument, randomness comes from the seed, and wakers are collected
//! for the caller. There is no retransmission: a lost segment leaves a hole, and its connection
//! delivers nothing more, without an error on either side.

mod calls;
mod conditions;
mod end;
mod links;
mod socket;
#[cfg(test)]
mod tests;
mod traffic;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    task::Waker,
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};

pub(super) use self::socket::{Shared, SimNet};
use self::{end::End, links::Links};
use crate::id::NodeId;
pub use crate::testkit::sim::network::conditions::Conditions;

/// Bytes that may be written to a connection and not read yet: the size of both socket buffers.
pub(super) const SOCKET_BYTES: usize = 256 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 128;

/// The range of ports for dialers.
const PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostId(usize);

/// One end of a connection: the dialer's end has an even number, the accepting end the next odd
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EndId(u64);

impl EndId {
    fn peer(self) -> Self {
        Self(self.0 ^ 1)
    }
}

#[derive(Debug)]
struct Host {
    name: String,
    ip: IpAddr,
    /// The name that peers verify: the host's own, unless a test gives it a false one. `None`:
    /// peers verify nothing, as on a network without certificates.
    identity: Option<NodeId>,
    /// Connects, and then never does its part of establishing the connection.
    stays_silent: bool,
    listeners: BTreeMap<u16, Backlog>,
    port: u16,
    written: Written,
}

/// The bytes that a host's processes have written to other hosts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// The number of writes; each is a segment of its own.
    pub(super) segments: u64,
}

/// Connections that wait to be accepted.
#[derive(Debug)]
struct Backlog {
    /// The listener's number.
    number: u64,
    waiting: VecDeque<EndId>,
    acceptor: Option<Waker>,
}

impl Backlog {
    fn new(number: u64) -> Self {
        Self {
            number,
            waiting: VecDeque::new(),
            acceptor: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Network {
    now: Duration,
    conditions: Conditions,
    rng: StdRng,
    hosts: Vec<Host>,
    links: Links,
    /// The number of listeners so far.
    bound: u64,
    /// The number of connections so far.
    dialed: u64,
    /// Both ends of a connection stay until neither is of use any more.
    ends: BTreeMap<EndId, End>,
    /// Arrivals at ends, by time and then in the order of sending.
    due: BinaryHeap<Reverse<(Duration, u64, EndId)>>,
    sent: u64,
    woken: Vec<Waker>,
}

impl Network {
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            now: Duration::ZERO,
            conditions,
            rng: StdRng::seed_from_u64(seed),
            hosts: Vec::new(),
            links: Links::default(),
            bound: 0,
            dialed: 0,
            ends: BTreeMap::new(),
            due: BinaryHeap::new(),
            sent: 0,
            woken: Vec::new(),
        }
    }

    pub(super) fn add_host(&mut self, name: &str) -> HostId {
        let count = self.hosts.len();
        let [high, low] = u16::try_from(count + 1)
            .expect("that many nodes fit nowhere else either")
            .to_be_bytes();
        self.hosts.push(Host {
            name: name.to_owned(),
            identity: Some(NodeId::new(name)),
            stays_silent: false,
            ip: Ipv4Addr::new(10, 0, high, low).into(),
            listeners: BTreeMap::new(),
            port: *PORTS.start(),
            written: Written::default(),
        });
        HostId(count)
    }

    pub(super) fn ip(&self, host: HostId) -> IpAddr {
        self.hosts[host.0].ip
    }

    /// From now on peers verify a host's connections as those of another name.
    pub(super) fn set_identity(&mut self, host: HostId, name: &str) {
        self.hosts[host.0].identity = Some(NodeId::new(name));
    }

    /// From now on peers verify nothing of a host: its processes may take any name.
    pub(super) fn forget_identity(&mut self, host: HostId) {
        self.hosts[host.0].identity = None;
    }

    /// From now on no connection that a host dials is ever established.
    #[cfg(test)]
    pub(super) fn silence(&mut self, host: HostId) {
        self.hosts[host.0].stays_silent = true;
    }

    pub(super) fn written(&self, host: HostId) -> Written {
        self.hosts[host.0].written
    }

    /// Takes the wakers of tasks that can go on. The caller wakes them outside of the network's
    /// lock, since a waker may run any code.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}

/// Time, and faults of links.
impl Network {
    /// Delivers all segments that have arrived by then.
    pub(super) fn handle_time(&mut self, now: Duration) {
        self.now = now;
        while let Some(&Reverse((at, _, end))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            self.arrive(end);
        }
    }

    /// Cuts a link in one direction. Segments under way are lost.
    pub(super) fn cut(&mut self, from: HostId, to: HostId) {
        self.links.cut(from, to);
        self.lose_flight(from, to);
    }

    /// Holds back all segments from one host to the other.
    pub(super) fn hold(&mut self, from: HostId, to: HostId) {
        self.links.hold(from, to);
    }

    /// From now on a link damages some of what is sent over it.
    pub(super) fn damage(&mut self, from: HostId, to: HostId) {
        self.links.damage(from, to);
    }

    /// Repairs every link. Segments that were held arrive at once.
    pub(super) fn heal(&mut self) {
        self.links.heal();
        for at in self.between(|_, _| true) {
            if let Some(end) = self.ends.get(&at)
                && !end.flight.is_empty()
            {
                self.sent += 1;
                self.due.push(Reverse((self.now, self.sent, at)));
            }
            self.wake_writer(at);
        }
    }

    /// Lets the conditions break or repair a link, as they may with each message.
    fn roll(&mut self, a: HostId, b: HostId) {
        let before = self.links.is_broken(a, b);
        let broken = self.conditions.broken(before, &mut self.rng);
        if broken == before {
            return;
        }
        self.links.set_broken(a, b, broken);
        if broken {
            self.lose_flight(a, b);
            self.lose_flight(b, a);
        } else {
            for at in self.between(|x, y| (x, y) == (a, b) || (x, y) == (b, a)) {
                self.wake_writer(at);
            }
        }
    }

    fn lose_flight(&mut self, from: HostId, to: HostId) {
        for at in self.between(|x, y| (x, y) == (from, to)) {
            if let Some(end) = self.ends.get_mut(&at) {
                end.lose_flight();
            }
            self.forget_if_dead(at);
        }
    }

    /// The receiving ends of connections between such hosts.
    fn between(&self, such: impl Fn(HostId, HostId) -> bool) -> Vec<EndId> {
        let ends = self.ends.iter();
        let ends = ends.filter(|(id, end)| such(self.ends[&id.peer()].host, end.host));
        ends.map(|(id, _)| *id).collect()
    }
}
