//! What a test does to nodes and to the network.

use std::time::Duration;

use super::{
    Sim,
    clock::At,
    network::{HostId, Network},
};

impl Sim {
    /// Ends a node's process at once: nothing of it is left, and nobody is told, but for what an
    /// operating system does when a process dies: what was written still arrives, connections are
    /// closed, and new ones refused.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn crash(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "crash");
        self.end(at);
        // What it was told and had not begun is lost with it.
        self.nodes[at].inbox.clear();
    }

    /// Starts a crashed node again: a new process of the same name. Its clock is the node's, and
    /// goes as before.
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

    /// Ends a node's process, if it has one.
    pub(super) fn end(&mut self, at: usize) {
        let _at = At::new(self.elapsed);
        let node = &mut self.nodes[at];
        node.is_paused = false;
        if let Some(process) = node.process.take() {
            let host = node.host;
            // First, so that what its tasks do while they are dropped goes nowhere.
            self.network.with(|network| network.end_process(host));
            drop(process);
        }
    }

    /// Stops a node's process, as `SIGSTOP` does: none of its tasks run, though its clock goes on.
    /// Its connections stay open, and what peers send waits in socket buffers, until those are
    /// full.
    ///
    /// Does nothing to a node that is paused or has crashed.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn pause(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "pause");
        let node = &mut self.nodes[at];
        node.is_paused = node.process.is_some();
    }

    /// Lets a paused node go on. For it, all the time since has passed at once: its timers that
    /// were due meanwhile fire late, and together.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn resume(&mut self, name: &str) {
        let at = self.node(name);
        self.trace.note(self.elapsed, name, "resume");
        self.nodes[at].is_paused = false;
    }

    /// From now on a node's clock runs at that rate: at 0.5 half a second passes for it in each
    /// second of true time. The clock is slow or fast, not the node's computer. Timers are exact to
    /// a millisecond.
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

    /// A node's monotonic clock jumps forward: what is due until then is due at once.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn clock_jump(&mut self, name: &str, by: Duration) {
        let at = self.node(name);
        self.trace
            .note(self.elapsed, name, &format!("clock jump {by:?}"));
        self.nodes[at].clock.jump(by);
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

    /// Nothing gets through between two nodes, in either direction, and nothing says so.
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

    /// Nothing gets through from one node to another; the other direction works.
    ///
    /// So what the other node writes arrives, until its socket buffers are full: it does not hear
    /// that it was read.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn partition_one_way(&mut self, from: &str, to: &str) {
        let (a, b) = (self.host(from), self.host(to));
        self.trace
            .note(self.elapsed, from, &format!("partition one way {to}"));
        self.network.with(|network| network.cut(a, b));
    }

    /// Cuts a node off from all others.
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

    /// Holds back what is under way between two nodes, until it is [healed](Self::heal): late, and
    /// in order.
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

    /// Repairs every link. Connections that lost something while they were cut do not come back;
    /// their nodes dial anew.
    pub fn heal(&mut self) {
        self.trace.note(self.elapsed, "*", "heal");
        self.network.with(Network::heal);
    }

    pub(super) fn host(&self, name: &str) -> HostId {
        self.nodes[self.node(name)].host
    }
}
