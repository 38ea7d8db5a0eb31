//! Three nodes that keep copies of each other's entities, killed under load: one after the other,
//! and all at once.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    admin::Admin,
    prelude::*,
    testkit::{eventually, shutdown, soon},
};

use crate::{
    noted::{OF_A_PROCESS, Said, all, give, note},
    passed,
};

/// Tells a child that it is one: the folder, its number, the addresses, and its first number.
const CHILD: &str = "CASTY_CLUSTER_CHILD";
const NODES: usize = 3;
const CLIENTS: u64 = 4;

fn builder(folder: &Path, number: usize, addresses: &[SocketAddr]) -> casty::SystemBuilder {
    let name = format!("node-{number}");
    ActorSystem::builder("diaries")
        .data_dir(folder.join(&name))
        .node_id(name)
        .listen(addresses[number])
        .seeds(addresses.to_vec())
}

/// What a child was told, and its first number. `None` in the process of the tests.
async fn work() -> Option<(ActorSystem, u64)> {
    let work = std::env::var(CHILD).ok()?;
    let work: Vec<&str> = work.lines().collect();
    let addresses: Vec<SocketAddr> = work[2].split(',').map(|it| it.parse().unwrap()).collect();
    let first: u64 = work[3].parse().unwrap();
    let node = builder(Path::new(work[0]), work[1].parse().unwrap(), &addresses);
    Some((node.start().await.unwrap(), first))
}

// A node may be alone for a while, so numbers may be refused.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    if let Some((system, first)) = work().await {
        give(first, CLIENTS, async |number| note(&system, number).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_with_sends() {
    if let Some((system, first)) = work().await {
        let pass = async |number| passed::pass_or_set(&system, number).await;
        give(first, CLIENTS, pass).await;
    }
}

struct Cluster {
    /// The test that children run.
    child: &'static str,
    folder: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    children: Vec<Option<Child>>,
    started: u64,
    said: Arc<Mutex<Said>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..NODES {
            self.kill(node);
        }
    }
}

impl Cluster {
    fn new(child: &'static str) -> Self {
        // Held together, so that they differ.
        let ports: Vec<_> = (0..NODES)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let addresses = ports
            .iter()
            .map(|port| port.local_addr().unwrap())
            .collect();
        Self {
            child,
            folder: tempfile::tempdir().unwrap(),
            addresses,
            children: (0..NODES).map(|_| None).collect(),
            started: 0,
            said: Arc::default(),
            readers: Vec::new(),
        }
    }

    fn start(&mut self, node: usize) {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let first = self.started * OF_A_PROCESS;
        self.started += 1;
        let work = format!(
            "{}\n{node}\n{}\n{first}",
            self.folder.path().display(),
            addresses.join(",")
        );
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.child, "--nocapture"])
            .env(CHILD, work)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = self.said.clone();
        self.readers.push(std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.note(&line);
            }
        }));
        self.children[node] = Some(child);
    }

    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many further numbers are stored.
    async fn goes_on(&self, by: usize, when: &str) {
        let enough = self.said().stored() + by;
        let stored = async || self.said().stored();
        let what = format!("{by} numbers are stored {when}");
        eventually(&what, stored, |stored| *stored >= enough).await;
    }

    /// Waits until each node votes: before that, one that dies may be the only voter.
    async fn all_vote(&self) {
        let voters = || async {
            let Ok(admin) = Admin::connect("diaries", &self.addresses).await else {
                return 0;
            };
            let members = admin.members().await;
            let members = members.map(|report| report.members).unwrap_or_default();
            members.iter().filter(|member| member.votes).count()
        };
        eventually("all nodes vote", voters, |voters| *voters == NODES).await;
        // What has begun by then is done.
        self.goes_on(30, "while all vote").await;
    }

    /// Kills one node after the other, and every third time all of them.
    async fn kill_all(&mut self) {
        let kills = std::env::var("CASTY_CLUSTER_KILLS").map_or(3, |kills| kills.parse().unwrap());
        for node in 0..NODES {
            self.start(node);
        }
        self.goes_on(100, "at first").await;
        for round in 0..kills {
            self.all_vote().await;
            // Each round ends at another moment.
            self.goes_on(1 + round * 7919 % 97, "before a kill").await;
            if round % 3 == 2 {
                for node in 0..NODES {
                    self.kill(node);
                }
                for node in 0..NODES {
                    self.start(node);
                }
                self.goes_on(50, "after all were killed").await;
                continue;
            }
            let node = round % NODES;
            self.kill(node);
            self.goes_on(50, "without one of three").await;
            self.start(node);
            self.goes_on(50, "when it is back").await;
        }
    }

    /// Ends all nodes, and starts them in this process. `all` says what is stored.
    async fn check(&mut self, all: impl AsyncFn(&ActorSystem) -> Vec<u64>) {
        for node in 0..NODES {
            self.kill(node);
        }
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let start = || builder(self.folder.path(), number, &self.addresses).start();
            let started = eventually("it starts", start, Result::is_ok).await;
            nodes.push(started.unwrap());
        }
        for node in &nodes {
            soon("the cluster forms", node.wait_for(NODES))
                .await
                .unwrap();
        }
        let found = all(&nodes[0]).await;
        self.said().check(&found, "after all kills");
        shutdown(nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_killed_nodes_have_confirmed_is_in_their_directories_once() {
    let mut cluster = Cluster::new("kills_of_a_cluster::child");
    cluster.kill_all().await;
    cluster.check(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_killed_nodes_have_sent_is_taken_and_what_they_have_set_is_due_once() {
    let mut cluster = Cluster::new("kills_of_a_cluster::child_with_sends");
    cluster.kill_all().await;
    cluster.check(passed::all_and_nothing_is_left).await;
}
