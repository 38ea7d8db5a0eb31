//! The cluster that is attacked: three processes, and what the operating system knows of them.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use casty::{ClusterClient, admin::Admin, id::MemberId, member::MemberStatus, tls::PeerRole};
use casty_tests::process::{Launch, Process};
use tokio::{net::TcpListener, process::Command, time::timeout};

use crate::{Failure, certificates, proxy::Recordings};

/// The name that [`Launch`] gives each cluster.
pub(crate) const CLUSTER: &str = "storm";
/// A step that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

pub(crate) const NAMES: [&str; 3] = ["n0", "n1", "n2"];

/// A node, as an attacker knows it.
pub(crate) struct Target {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Cluster {
    folder: PathBuf,
    tls: bool,
    launch: Launch,
    processes: Vec<Process>,
    /// Where the processes listen; the last one advertises the address of a proxy.
    listen: Vec<SocketAddr>,
    pub(crate) client: ClusterClient,
    admin: Admin,
    pub(crate) recordings: Recordings,
}

/// What the operating system counts for one process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    /// Processor time so far, in hundredths of a second.
    pub(crate) ticks: u64,
    /// Bytes of its log so far.
    pub(crate) log: u64,
}

impl Cluster {
    pub(crate) async fn start(folder: &Path, tls: bool) -> Result<Self, Failure> {
        let (logs, keys) = (folder.join("logs"), folder.join("tls"));
        fs::create_dir_all(&logs)?;
        let mut launch = Launch::beside_me()?;
        launch.logs = Some(logs);
        let mut set = |name: &str, value: String| launch.environment.push((name.to_owned(), value));
        set("CASTY_LOG", "info".to_owned());
        if tls {
            let members = NAMES.map(|name| (PeerRole::Member, name));
            let others = [
                (PeerRole::Client, "web"),
                (PeerRole::Client, "mallory"),
                (PeerRole::Operator, "ada"),
            ];
            certificates::make(&keys, &[members.as_slice(), &others].concat())?;
            // Of another authority, which signs the same names.
            certificates::make(
                &folder.join("other"),
                &[members.as_slice(), &others].concat(),
            )?;
            set("CASTY_TLS_DIR", keys.display().to_string());
        }
        let recordings = Recordings::default();
        let (mut processes, mut listen) = (Vec::<Process>::new(), Vec::new());
        for (n, name) in NAMES.into_iter().enumerate() {
            let seeds: Vec<_> = processes.iter().map(|p| p.address.to_string()).collect();
            let (mut launch, mut at) = (launch.clone(), "127.0.0.1:0".to_owned());
            if n + 1 == NAMES.len() {
                let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                let shown = front.local_addr()?;
                // The same port of another address of this machine.
                let behind = SocketAddr::from(([127, 0, 0, 3], shown.port()));
                recordings.serve(front, behind);
                let advertise = ("CASTY_ADVERTISE".to_owned(), shown.to_string());
                launch.environment.push(advertise);
                at = behind.to_string();
                listen.push(behind);
            }
            let process = timeout(LIMIT, launch.start(name, &at, &seeds)).await??;
            if listen.len() == n {
                listen.push(process.address);
            }
            processes.push(process);
        }
        let shown: Vec<_> = processes.iter().map(|process| process.address).collect();
        let client = connect(&keys, tls, &shown).await?;
        let admin = if tls {
            let ada = certificates::of(&keys, "ada");
            Admin::connect_tls_within(Duration::from_secs(5), CLUSTER, &shown, ada).await?
        } else {
            Admin::connect(CLUSTER, &shown).await?
        };
        let cluster = Self {
            folder: folder.to_owned(),
            tls,
            launch,
            processes,
            listen,
            client,
            admin,
            recordings,
        };
        timeout(LIMIT, async {
            while cluster.votes().await != NAMES.len() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .map_err(|_| "the cluster does not form")?;
        Ok(cluster)
    }

    async fn votes(&self) -> usize {
        let members = self.admin.members().await;
        let of = |m: &casty::admin::MemberReport| m.votes && m.status == MemberStatus::Up;
        members.map_or(0, |seen| seen.members.iter().filter(|m| of(m)).count())
    }

    /// The members as the client sees them.
    pub(crate) fn members(&self) -> BTreeMap<MemberId, MemberStatus> {
        let members = self.client.members().into_iter();
        members.map(|member| (member.id, member.status)).collect()
    }

    /// The leader, if enough nodes answer.
    pub(crate) async fn leader(&self) -> Option<MemberId> {
        let seen = self.admin.members().await.ok()?;
        let leader = seen.members.into_iter().find(|member| member.leads)?;
        Some(leader.id)
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let ids = self.members().into_keys();
        let address = |id: &MemberId| NAMES.iter().position(|name| *name == id.node.as_str());
        ids.filter_map(|member| {
            let address = *self.listen.get(address(&member)?)?;
            Some(Target { member, address })
        })
        .collect()
    }

    /// What each process uses now.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        self.processes.iter().map(|it| self.usage_of(it)).collect()
    }

    fn usage_of(&self, process: &Process) -> Usage {
        let id = process.id().unwrap_or(0);
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name of the program, which may hold spaces.
        let fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
        let ticks = fields
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok());
        let logs = self.launch.logs.as_ref();
        let log = logs.and_then(|logs| fs::metadata(logs.join(&process.name)).ok());
        Usage {
            resident: process.resident_bytes().unwrap_or(0),
            ticks: ticks.sum(),
            log: log.map_or(0, |log| log.len()),
        }
    }

    /// The processes that have ended, and the panics so far.
    pub(crate) fn crashes(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for process in &mut self.processes {
            if let Ok(Some(status)) = process.ended() {
                found.push(format!("{} has ended: {status}", process.name));
            }
        }
        let panics = self
            .launch
            .panics
            .load(std::sync::atomic::Ordering::Relaxed);
        if panics > 0 {
            found.push(format!("{panics} panics"));
        }
        found
    }

    /// How many descriptors a process has open.
    pub(crate) fn descriptors(&self, n: usize) -> usize {
        let id = self.processes[n].id().unwrap_or(0);
        fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
    }

    /// Lets a process have no more descriptors than so many.
    pub(crate) async fn limit_descriptors(&self, n: usize, to: usize) -> Result<(), Failure> {
        let id = self.processes[n].id().unwrap_or(0);
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &id.to_string(), &format!("--nofile={to}:")]);
        let status = prlimit.status().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("prlimit: {status}").into())
        }
    }

    /// Whether a client that knows one node alone is let in.
    pub(crate) async fn lets_in(&self, n: usize) -> Result<(), Failure> {
        let client = connect(&self.folder.join("tls"), self.tls, &self.listen[n..=n]).await?;
        client.shutdown().await?;
        Ok(())
    }

    pub(crate) async fn leave(mut self) -> Result<(), Failure> {
        for process in self.processes.iter_mut().rev() {
            process.leave(LIMIT).await?;
        }
        Ok(())
    }
}

async fn connect(keys: &Path, tls: bool, to: &[SocketAddr]) -> Result<ClusterClient, Failure> {
    let connecting = async {
        if tls {
            let web = certificates::of(keys, "web");
            ClusterClient::connect_tls(CLUSTER, to, web).await
        } else {
            ClusterClient::connect(CLUSTER, to).await
        }
    };
    Ok(timeout(LIMIT, connecting).await??)
}
