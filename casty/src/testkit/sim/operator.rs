//! The operator of a simulated cluster, at a host of its own.

use std::sync::Arc;

use casty_log::disk::SimDisk;

use super::{
    CLUSTER, PORT, Sim, SimTask,
    clock::{Clock, WallClock},
    network::SimNet,
    node::SimNode,
    process::{Inbox, Process},
};
use crate::{
    ActorSystem,
    admin::{Admin, AdminError},
};

/// The name of the operator's host.
const OPERATOR: &str = "operator";

impl Sim {
    /// Runs an operator's commands while the test goes on: connects to the cluster through these
    /// nodes, as the program `casty` does, and then does `work`.
    ///
    /// The operator has a host of its own, `operator`, which can be cut off from nodes as nodes can
    /// be from each other.
    ///
    /// ```
    /// use casty::testkit::Sim;
    ///
    /// let mut sim = Sim::new(7);
    /// for name in ["a", "b"] {
    ///     sim.start(name);
    /// }
    /// sim.until_up(2);
    /// sim.crash("a");
    /// let promoted = sim.operate(["b"], |admin| async move { admin.promote("b").await });
    /// sim.until("`b` goes on alone", |_| promoted.is_done());
    /// assert!(promoted.take().is_some_and(|promoted| promoted.is_ok()));
    /// ```
    ///
    /// # Panics
    /// If a node is named `operator`.
    pub fn operate<T, F>(
        &mut self,
        nodes: impl IntoIterator<Item = impl AsRef<str>>,
        work: impl FnOnce(Admin) -> F + Send + 'static,
    ) -> SimTask<Result<T, AdminError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AdminError>> + Send + 'static,
    {
        let nodes = nodes.into_iter();
        let nodes = nodes.map(|name| format!("{}:{PORT}", name.as_ref()));
        let nodes: Vec<String> = nodes.collect();
        let (at, net, seed) = self.outsider(OPERATOR);
        self.nodes[at].inbox.put(move |_| async move {
            let admin = Admin::connect_over(net, seed, CLUSTER.to_owned(), nodes).await?;
            work(admin).await
        })
    }

    /// The host of processes that are no nodes, the network as seen from there, and a seed. The
    /// host is added at its first use.
    pub(super) fn outsider(&mut self, name: &'static str) -> (usize, Arc<SimNet>, u64) {
        let at = match self.nodes.iter().position(|node| node.name == name) {
            Some(at) => {
                assert!(self.nodes[at].is_outside, "`{name}` is no node's name");
                at
            }
            None => self.add_outsider(name),
        };
        self.operations += 1;
        let net = SimNet {
            host: self.nodes[at].host,
            shared: self.network.clone(),
        };
        (at, Arc::new(net), self.seed ^ self.operations << 32)
    }

    fn add_outsider(&mut self, name: &'static str) -> usize {
        let host = self.network.with(|network| {
            let host = network.add_host(name);
            // It has no certificate of a node.
            network.forget_identity(host);
            host
        });
        let inbox = Arc::<Inbox>::default();
        let start = {
            let (inbox, trace) = (inbox.clone(), self.trace.clone());
            move |_| {
                let local = || {
                    let local = ActorSystem::local(CLUSTER);
                    Box::pin(std::future::ready(Ok(local))) as _
                };
                Process::start(name, local, inbox.clone(), trace.clone())
            }
        };
        self.nodes.push(SimNode {
            name: name.to_owned(),
            host,
            inbox,
            starts: 1,
            process: Some(start(1)),
            start: Box::new(start),
            is_paused: false,
            disk: SimDisk::new(0),
            clock: Clock::default(),
            wall_clock: WallClock::default(),
            is_outside: true,
        });
        self.nodes.len() - 1
    }
}
