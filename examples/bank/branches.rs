//! Three nodes in processes of their own, which are killed while money moves between accounts.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use casty::{ClusterClient, admin::Admin, prelude::*};
use tokio::{
    io::{AsyncReadExt as _, stdin},
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    AnyError,
    account::Account,
    transfers::{Order, Progress, Transfer},
};

const NAME: &str = "bank-branches";
const BRANCHES: usize = 3;
const CLIENTS: u64 = 8;
const ACCOUNTS: u64 = 12;

/// The account to which nothing can be paid.
const CLOSED: u64 = 5;

/// What each account has at first.
const DEPOSIT: u64 = 1000;

/// How long anything may take before this is an error.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a client waits before it asks again.
const PAUSE: Duration = Duration::from_millis(20);

/// How many transfers are begun in each part of a round.
const PART: u64 = 60;

/// Runs a node until its standard input ends.
pub async fn serve(folder: &Path, number: usize, addresses: &str) -> Result<(), AnyError> {
    let addresses: Vec<&str> = addresses.split(',').collect();
    let name = format!("branch-{number}");
    let node = ActorSystem::builder(NAME)
        .data_dir(folder.join(&name))
        .node_id(name)
        .listen(*addresses.get(number).ok_or("no address for this branch")?)
        .seeds(&addresses)
        .start()
        .await?;
    // Not even a parent that is killed leaves it behind.
    stdin().read_to_end(&mut Vec::new()).await?;
    drop(node);
    Ok(())
}

/// Kills nodes while money moves, and looks whether all of it is there.
pub async fn run(folder: &Path, rounds: usize) -> Result<(), AnyError> {
    let mut branches = Branches::start(folder)?;
    let cluster = ClusterClient::connect(NAME, &branches.addresses).await?;
    open_accounts(&cluster).await?;
    let mut desk = Desk::open(Desk::clients(&cluster));
    for round in 1..=rounds {
        branches.all_vote().await?;
        desk.goes_on().await?;
        let is_all = round % 3 == 0;
        let killed: Vec<usize> = if is_all {
            (0..BRANCHES).collect()
        } else {
            vec![round % BRANCHES]
        };
        let since = Instant::now();
        for branch in &killed {
            branches.kill(*branch).await?;
        }
        if !is_all {
            // The others have all that it had.
            desk.goes_on().await?;
        }
        for branch in &killed {
            branches.open(*branch)?;
        }
        desk.goes_on().await?;
        let (who, seconds) = (if is_all { "all" } else { "one" }, since.elapsed());
        println!("  round {round}: {who} killed, back after {seconds:.1?}");
        if round % 10 == 0 {
            let clients = desk.close().await?;
            check(&cluster, &clients).await?;
            desk = Desk::open(clients);
        }
    }
    check(&cluster, &desk.close().await?).await?;
    cluster.shutdown().await?;
    Ok(())
}

// ---- The nodes.

struct Branches {
    folder: PathBuf,
    addresses: Vec<SocketAddr>,
    processes: Vec<Option<Child>>,
}

impl Branches {
    fn start(folder: &Path) -> Result<Self, AnyError> {
        // Held together, so that they differ.
        let ports: Result<Vec<_>, _> = (0..BRANCHES)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect();
        let addresses: Result<_, _> = ports?.iter().map(TcpListener::local_addr).collect();
        let mut branches = Self {
            folder: folder.to_owned(),
            addresses: addresses?,
            processes: (0..BRANCHES).map(|_| None).collect(),
        };
        for branch in 0..BRANCHES {
            branches.open(branch)?;
        }
        Ok(branches)
    }

    fn open(&mut self, branch: usize) -> Result<(), AnyError> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let process = Command::new(std::env::current_exe()?)
            .arg("--data-dir")
            .arg(&self.folder)
            .args(["--branch", &branch.to_string(), &addresses.join(",")])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        self.processes[branch] = Some(process);
        Ok(())
    }

    /// Ends it as `kill -9` does.
    async fn kill(&mut self, branch: usize) -> Result<(), AnyError> {
        if let Some(mut process) = self.processes[branch].take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Waits until each node votes: before that, the one that dies may be the only voter.
    async fn all_vote(&self) -> Result<(), AnyError> {
        let votes = async {
            loop {
                if self.voters().await == BRANCHES {
                    return;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, votes)
            .await
            .map_err(|_| "not all nodes vote".into())
    }

    async fn voters(&self) -> usize {
        let Ok(admin) = Admin::connect(NAME, &self.addresses).await else {
            return 0;
        };
        let members = admin.members().await.map(|report| report.members);
        let members = members.unwrap_or_default();
        members.iter().filter(|member| member.votes).count()
    }
}

// ---- The clients.

async fn open_accounts(cluster: &ClusterClient) -> Result<(), AnyError> {
    for number in 0..ACCOUNTS {
        let account = cluster.entity::<Account>(account(number).as_str());
        // With a key it is safe to ask again, whatever has become of the call.
        let deposit = account.deposit(DEPOSIT).key("opening");
        deposit.retry_for(PATIENCE).await?;
        if number == CLOSED {
            account.close().key("closing").retry_for(PATIENCE).await?;
        }
    }
    Ok(())
}

fn account(number: u64) -> String {
    format!("account-{}", number % ACCOUNTS)
}

/// A client, who asks for one transfer after the other.
struct Client {
    cluster: ClusterClient,
    number: u64,
    /// How many transfers it has asked for. All of them were taken on.
    asked: u64,
}

impl Client {
    /// Asks for transfers until the desk closes.
    async fn work(mut self, desk: Arc<Counters>) -> Result<Self, String> {
        while !desk.is_closing.load(Ordering::Relaxed) {
            self.asked += 1;
            let from = self.number * 5 + self.asked * 7;
            let order = Order {
                from: account(from),
                to: account(from + 1 + self.asked % (ACCOUNTS - 1)),
                amount: 1 + self.asked * 13 % 200,
            };
            // Its node may die while it is asked. The key makes it begin once.
            let transfer = self.cluster.entity::<Transfer>(self.transfer(self.asked));
            let begun = transfer.begin(order).key("begin").retry_for(PATIENCE).await;
            begun.map_err(|error| format!("a transfer does not begin: {error}"))?;
            self.outcome(self.asked).await?;
            desk.ended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self)
    }

    fn transfer(&self, number: u64) -> String {
        format!("client-{}-{number}", self.number)
    }

    /// Waits until a transfer has come to an end.
    async fn outcome(&self, number: u64) -> Result<Progress, String> {
        let transfer = self.cluster.entity::<Transfer>(self.transfer(number));
        let until = Instant::now() + PATIENCE;
        loop {
            match transfer.progress().await {
                Ok(Progress::Open | Progress::UnderWay) | Err(_) if Instant::now() < until => {
                    sleep(PAUSE).await;
                }
                Ok(Progress::Open | Progress::UnderWay) => {
                    return Err(format!("{} does not go on", self.transfer(number)));
                }
                Ok(progress) => return Ok(progress),
                Err(error) => return Err(format!("{}: {error}", self.transfer(number))),
            }
        }
    }
}

/// What the clients share.
#[derive(Default)]
struct Counters {
    /// How many transfers were asked for, and came to an end.
    ended: AtomicU64,
    is_closing: AtomicBool,
}

/// All clients.
struct Desk {
    counters: Arc<Counters>,
    working: JoinSet<Result<Client, String>>,
}

impl Desk {
    fn clients(cluster: &ClusterClient) -> Vec<Client> {
        let client = |number| Client {
            cluster: cluster.clone(),
            number,
            asked: 0,
        };
        (0..CLIENTS).map(client).collect()
    }

    fn open(clients: Vec<Client>) -> Self {
        let counters = Arc::<Counters>::default();
        let mut working = JoinSet::new();
        for client in clients {
            working.spawn(client.work(counters.clone()));
        }
        Self { counters, working }
    }

    /// Waits until so many further transfers have come to an end.
    async fn goes_on(&mut self) -> Result<(), AnyError> {
        let enough = self.ended() + PART;
        let until = Instant::now() + PATIENCE;
        while self.ended() < enough {
            if Instant::now() > until {
                return Err(format!("only {} of {enough} transfers", self.ended()).into());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn ended(&self) -> u64 {
        self.counters.ended.load(Ordering::Relaxed)
    }

    /// Lets the clients end what they have begun.
    async fn close(mut self) -> Result<Vec<Client>, AnyError> {
        self.counters.is_closing.store(true, Ordering::Relaxed);
        let mut clients = Vec::new();
        while let Some(client) = self.working.join_next().await {
            clients.push(client??);
        }
        Ok(clients)
    }
}

// ---- The end.

/// Whether no money is missing, and each transfer was made once, and none that was taken on is
/// forgotten.
async fn check(cluster: &ClusterClient, clients: &[Client]) -> Result<(), AnyError> {
    let (mut begun, mut paid, mut returned) = (0, 0, 0);
    for client in clients {
        for number in 1..=client.asked {
            begun += 1;
            match client.outcome(number).await? {
                Progress::Paid => paid += 1,
                Progress::Returned => returned += 1,
                _ => {}
            }
        }
    }
    let (sum, entries) = settled(cluster).await?;
    println!(
        "  {begun} transfers, {paid} of them paid, {returned} given back; all accounts have {sum}"
    );
    if sum != ACCOUNTS * DEPOSIT {
        return Err(format!("they should have {}", ACCOUNTS * DEPOSIT).into());
    }
    // A deposit is one entry, and a transfer two.
    if entries != ACCOUNTS + 2 * paid {
        return Err(format!("{entries} entries, and {paid} transfers were paid").into());
    }
    Ok(())
}

/// What all accounts have together, and their entries, once nothing is set aside any more: the last
/// message of a transfer may still be on its way.
async fn settled(cluster: &ClusterClient) -> Result<(u64, u64), AnyError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (mut sum, mut reserved, mut entries) = (0, 0, 0);
        for number in 0..ACCOUNTS {
            let account = cluster.entity::<Account>(account(number).as_str());
            let statement = account.statement().retry_for(PATIENCE).await?;
            sum += statement.balance;
            reserved += statement.reserved;
            entries += statement.entries;
        }
        if reserved == 0 {
            return Ok((sum, entries));
        }
        if Instant::now() > until {
            return Err(format!("{reserved} are set aside for transfers that have ended").into());
        }
        sleep(PAUSE).await;
    }
}
