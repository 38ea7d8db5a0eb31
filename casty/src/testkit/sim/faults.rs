//! The faults that a test can inject into nodes and the network.

use std::time::Duration;

use super::{
    Sim,
    clock::{At, WallClock},
    network::{HostId, Network},
};

impl Sim {
    /// Kills a node's process. Its peers notice only what an operating system does when a process
    /// dies: bytes that were written still arrive, connections are closed, and new ones are
    /// refused.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn crash(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "crash");
        self.end(at);
        // Futures that have not begun are lost with the process.
        self.nodes[at].inbox.clear();
    }

    /// Starts a crashed node again: a new process of the same name. The node's clock keeps its
    /// rate.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn restart(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "restart");
        self.end(at);
        let node = &mut self.nodes[at];
        node.starts += 1;
        node.process = Some((node.start)(node.starts));
    }

    /// Ends the process of a node, if it has one.
    pub(super) fn end(&mut self, at: usize) {
        let _at = At::new(self.elapsed);
        let node = &mut self.nodes[at];
        node.is_paused = false;
        if let Some(process) = node.process.take() {
            let host = node.host;
            // First, so that nothing that its tasks send while they are dropped leaves the host.
            self.network.with(|network| network.end_process(host));
            drop(process);
            // What was not synced is lost.
            node.disk.crash();
        }
    }

    /// Stops a node's process, as `SIGSTOP` does: none of its tasks run, though its clock goes on.
    /// Its connections stay open, and bytes from peers wait in socket buffers until these are full.
    ///
    /// Has no effect on a node that is paused or has crashed.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn pause(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "pause");
        let node = &mut self.nodes[at];
        node.is_paused = node.process.is_some();
    }

    /// Lets a paused node go on. On its clock, the time of the pause passes at once: timers that
    /// were due meanwhile fire late and together.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn resume(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "resume");
        self.nodes[at].is_paused = false;
    }

    /// Sets the rate of a node's clock: at 0.5, half a second passes on it in each second of true
    /// time. Only the clock is slow or fast, not the node's computer. Timers are exact to a
    /// millisecond.
    ///
    /// # Panics
    /// If there is no such node, or if the rate is not within 0.5 and 2.0.
    pub fn clock_rate(&mut self, name: &str, rate: f64) {
        assert!(
            (0.5..=2.0).contains(&rate),
            "a clock's rate is within 0.5 and 2.0, not {rate}"
        );
        let at = self.node(name);
        self.trace
            .note(self.elapsed, name, &format!("clock rate {rate}"));
        self.nodes[at].clock.set_rate(rate);
    }

    /// Moves a node's monotonic clock forward: timers that are due until then fire at once.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn clock_jump(&mut self, name: &str, by: Duration) {
        let at = self.node(name);
        self.trace
            .note(self.elapsed, name, &format!("clock jump {by:?}"));
        self.nodes[at].clock.jump(by);
    }

    /// Sets a node's wall clock: it shows this time since the Unix epoch, and goes on from there.
    /// Timers do not follow it. Without this it shows the true time, which begins in November 2023.
    ///
    /// A node numbers the generations that it founds by its wall clock, and its incarnations if
    /// [`use_wall_clocks`](Self::use_wall_clocks) was called.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn wall_clock(&mut self, name: &str, since_epoch: Duration) {
        let at = self.node(name);
        let note = format!("wall clock {since_epoch:?}");
        self.trace.note(self.elapsed, name, &note);
        self.nodes[at].wall_clock = WallClock::new(since_epoch, self.elapsed);
    }

    /// What a node's wall clock shows.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn wall_clock_of(&self, name: &str) -> Duration {
        self.nodes[self.node(name)].wall_clock.at(self.elapsed)
    }

    /// From now on nodes that are started take their incarnations from their wall clocks, as in
    /// production. Otherwise each start of a node has a number.
    pub fn use_wall_clocks(&mut self) {
        self.has_wall_clocks = true;
    }

    /// From now on the network verifies a node's connections as those of a node named
    /// `certified`, as if it had another node's certificate. Its peers then refuse it.
    ///
    /// # Panics
    /// If there is no such node.
    #[doc(hidden)]
    pub fn certify_as(&mut self, name: &str, certified: &str) {
        let host = self.host(name);
        let note = format!("certified as {certified}");
        self.trace.note(self.elapsed, name, &note);
        self.network
            .with(|network| network.set_identity(host, certified));
    }

    /// Loses everything that two nodes send to each other, without an error on either side.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn partition(&mut self, a: &str, b: &str) {
        let (at, bt) = (self.host(a), self.host(b));
        self.trace.note(self.elapsed, a, &format!("partition {b}"));
        self.network.with(|network| {
            network.cut(at, bt);
            network.cut(bt, at);
        });
    }

    /// Loses everything that one node sends to another. The other direction works.
    ///
    /// Bytes of the other node arrive until its socket buffer is full, since acknowledgements are
    /// lost.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn partition_one_way(&mut self, from: &str, to: &str) {
        let (a, b) = (self.host(from), self.host(to));
        self.trace
            .note(self.elapsed, from, &format!("partition one way {to}"));
        self.network.with(|network| network.cut(a, b));
    }

    /// Partitions a node from all others.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn isolate(&mut self, name: &str) {
        let _ = self.node(name);
        let names = self.nodes.iter().map(|node| node.name.clone());
        let others: Vec<_> = names.filter(|other| other != name).collect();
        for other in others {
            self.partition(name, &other);
        }
    }

    /// Holds back everything between two nodes until the network is [healed](Self::heal). Then it
    /// arrives, late and in order.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn stall(&mut self, a: &str, b: &str) {
        let (at, bt) = (self.host(a), self.host(b));
        self.trace.note(self.elapsed, a, &format!("stall {b}"));
        self.network.with(|network| {
            network.hold(at, bt);
            network.hold(bt, at);
        });
    }

    /// Damages some of what two nodes send to each other, until the network is
    /// [healed](Self::heal): connections end in the middle of a write, and bits flip.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn damage(&mut self, a: &str, b: &str) {
        let (at, bt) = (self.host(a), self.host(b));
        self.trace.note(self.elapsed, a, &format!("damage {b}"));
        self.network.with(|network| {
            network.damage(at, bt);
            network.damage(bt, at);
        });
    }

    /// Ends all faults of the network. Connections that have lost bytes stay broken: their nodes
    /// dial again.
    pub fn heal(&mut self) {
        self.trace.note(self.elapsed, "*", "heal");
        self.network.with(Network::heal);
    }

    pub(super) fn host(&self, name: &str) -> HostId {
        self.nodes[self.node(name)].host
    }
}
