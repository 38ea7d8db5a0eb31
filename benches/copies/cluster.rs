//! Three nodes, of which the first may be this process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use casty::{
    SystemBuilder,
    admin::{Admin, ShardCopiesReport},
    prelude::*,
};

use crate::{
    entities::{Meter, Plain},
    support::{AnyError, Process, now, until_stdin_ends},
};

/// The first argument of a process that is a node.
pub(crate) const NODE: &str = "node";
pub(crate) const CLUSTER: &str = "copies";
/// A step that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(10);

fn builder(name: &str, folder: &Path) -> SystemBuilder {
    ActorSystem::builder(CLUSTER)
        .entity::<Meter>()
        .entity::<Plain>()
        .data_dir(folder.join(name))
        .node_id(name)
}

/// A node in this process: its name, the folder, its address, and the addresses of others.
///
/// It has one worker, as a follower of the floor has one thread: three nodes share the processors.
pub(crate) fn node(arguments: &[String]) -> Result<(), AnyError> {
    let [name, folder, listen, seeds @ ..] = arguments else {
        return Err("a node needs a name, a folder and an address".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let builder = builder(name, Path::new(folder)).listen(listen.as_str());
        let node = builder.seeds(seeds.to_vec()).start().await?;
        println!("{}", node.address());
        until_stdin_ends().await;
        node.shutdown().await?;
        Ok(())
    })
}

pub(crate) fn name(number: usize) -> String {
    format!("node-{number}")
}

/// A cluster. Its directories are removed with it.
pub(crate) struct Cluster {
    /// The node of this process, if it is one of the three.
    pub(crate) here: Option<ActorSystem>,
    pub(crate) admin: Admin,
    processes: Vec<Option<Process>>,
    addresses: Vec<SocketAddr>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Three nodes with empty directories, each of which votes.
    pub(crate) async fn start(is_one: bool) -> Result<Self, AnyError> {
        let folder = tempfile::tempdir()?;
        let mut here = None;
        let mut addresses = Vec::new();
        let mut processes = Vec::new();
        for number in 0..3 {
            if number == 0 && is_one {
                let node = builder(&name(0), folder.path()).start().await?;
                addresses.push(node.address());
                here = Some(node);
                processes.push(None);
                continue;
            }
            let process = launch(folder.path(), number, "127.0.0.1:0", &addresses)?;
            addresses.push(process.address.parse()?);
            processes.push(Some(process));
        }
        let cluster = Self {
            here,
            admin: Admin::connect(CLUSTER, &addresses).await?,
            processes,
            addresses,
            folder,
        };
        cluster.all_vote().await?;
        Ok(cluster)
    }

    /// The node of this process.
    pub(crate) fn here(&self) -> Result<&ActorSystem, AnyError> {
        Ok(self.here.as_ref().ok_or("this process is no node")?)
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn directory(&self, number: usize) -> PathBuf {
        self.folder.path().join(name(number))
    }

    /// Ends a process at once.
    pub(crate) fn kill(&mut self, number: usize) -> Result<(), AnyError> {
        if let Some(process) = self.processes[number].take() {
            process.signal("KILL")?;
        }
        Ok(())
    }

    /// Starts a node again, and returns once it listens.
    pub(crate) fn restart(&mut self, number: usize) -> Result<(), AnyError> {
        let others = self.addresses.iter().enumerate();
        let others: Vec<_> = others
            .filter(|(other, _)| *other != number)
            .map(|(_, address)| *address)
            .collect();
        let listen = self.addresses[number].to_string();
        self.processes[number] = Some(launch(self.folder.path(), number, &listen, &others)?);
        Ok(())
    }

    /// Waits until all nodes vote.
    pub(crate) async fn all_vote(&self) -> Result<(), AnyError> {
        let all = async || {
            let members = self.admin.members().await;
            let members = members.map(|report| report.members).unwrap_or_default();
            members.len() == 3 && members.iter().all(|member| member.votes)
        };
        until("all nodes vote", all).await
    }

    /// Waits until each shard that was used has three copies.
    pub(crate) async fn all_in_sync(&self) -> Result<(), AnyError> {
        let has_three = |it: &ShardCopiesReport| it.in_sync.len() == 3 && it.waits_for.is_empty();
        let all = async || self.all_copies(has_three).await;
        until("all shards have three copies", all).await
    }

    /// Waits until no shard counts on a node that was killed.
    pub(crate) async fn all_without(&self, number: usize) -> Result<(), AnyError> {
        let name = name(number);
        let is_without =
            |it: &ShardCopiesReport| it.in_sync.iter().all(|node| node.as_str() != name);
        let all = async || self.all_copies(is_without).await;
        until("no shard has a copy on the node", all).await
    }

    /// Whether that is so of the copies of each shard that was used.
    async fn all_copies(&self, is_so: impl Fn(&ShardCopiesReport) -> bool) -> bool {
        let Ok(report) = self.admin.shards().await else {
            return false;
        };
        let homes = report.kinds.iter().flat_map(|kind| &kind.homes);
        let mut copies = homes.filter_map(|home| home.copies.as_ref());
        copies.all(is_so)
    }

    /// The node that decides about the map, if it is known.
    pub(crate) async fn leader(&self) -> Option<String> {
        let members = self.admin.members().await.ok()?.members;
        let leader = members.into_iter().find(|member| member.leads)?;
        Some(leader.id.node.to_string())
    }

    /// Ends all nodes, and keeps the directories.
    pub(crate) async fn stop(mut self) -> Result<tempfile::TempDir, AnyError> {
        self.processes.clear();
        if let Some(here) = self.here.take() {
            here.shutdown().await?;
        }
        Ok(self.folder)
    }
}

fn launch(
    folder: &Path,
    number: usize,
    listen: &str,
    seeds: &[SocketAddr],
) -> Result<Process, AnyError> {
    let name = name(number);
    let folder = folder.to_str().ok_or("a folder whose name is no text")?;
    let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
    let mut arguments = vec![NODE, &name, folder, listen];
    arguments.extend(seeds.iter().map(String::as_str));
    Process::start(&arguments)
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<(), AnyError> {
    let since = now();
    while !is_so().await {
        if since.elapsed() > LIMIT {
            return Err(format!("it does not come about that {what}").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
