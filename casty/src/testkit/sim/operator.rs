//! The operator of a simulated cluster, at a host of its own.

use std::sync::Arc;

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
        let at = self.operator();
        self.operations += 1;
        let seed = self.seed ^ self.operations << 32;
        let net = Arc::new(SimNet {
            host: self.nodes[at].host,
            shared: self.network.clone(),
        });
        self.nodes[at].inbox.put(move |_| async move {
            let admin = Admin::connect_over(net, seed, CLUSTER.to_owned(), nodes).await?;
            work(admin).await
        })
    }

    /// The operator's host, which has a process from the first operation on.
    fn operator(&mut self) -> usize {
        if let Some(at) = self.nodes.iter().position(|node| node.is_operator) {
            return at;
        }
        let is_taken = self.nodes.iter().any(|node| node.name == OPERATOR);
        assert!(!is_taken, "`{OPERATOR}` is the operator's host");
        let host = self.network.with(|network| {
            let host = network.add_host(OPERATOR);
            // An operator has no certificate of a node.
            network.forget_identity(host);
            host
        });
        let inbox = Arc::<Inbox>::default();
        let start = {
            let (inbox, trace) = (inbox.clone(), self.trace.clone());
            move |_| {
                let local = || {
                    let local = ActorSystem::builder(CLUSTER).start_local();
                    Box::pin(std::future::ready(local)) as _
                };
                Process::start(OPERATOR, local, inbox.clone(), trace.clone())
            }
        };
        self.nodes.push(SimNode {
            name: OPERATOR.to_owned(),
            host,
            inbox,
            starts: 1,
            process: Some(start(1)),
            start: Box::new(start),
            is_paused: false,
            clock: Clock::default(),
            wall_clock: WallClock::default(),
            is_operator: true,
        });
        self.nodes.len() - 1
    }
}
