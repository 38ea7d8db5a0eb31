//! rio-rs, with membership and placement in memory.

use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use rio_rs::{
    client::Client,
    cluster::storage::{Member, local::LocalStorage},
    object_placement::local::LocalObjectPlacement,
    prelude::{
        AppData, ClientBuilder, Handler, MembershipStorage, Message, NoopError,
        PeerToPeerClusterProvider, Registry, Server, ServiceObject, TypeName, WithId,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    AnyError,
    local::{Ask, Local},
    remote::{CONNECT_PAUSE, CONNECT_TIMEOUT, Remote},
};

#[derive(Default, TypeName, WithId)]
struct Counter {
    id: String,
    value: i64,
}

#[derive(TypeName, Message, Serialize, Deserialize)]
struct Add {
    amount: i64,
}

/// The data that the process's objects share, set once.
static SHARED: OnceLock<Arc<AppData>> = OnceLock::new();

#[async_trait]
impl Handler<Add> for Counter {
    type Returns = i64;
    type Error = NoopError;

    async fn handle(&mut self, message: Add, shared: Arc<AppData>) -> Result<i64, NoopError> {
        SHARED.get_or_init(|| shared);
        self.value += message.amount;
        Ok(self.value)
    }
}

#[async_trait]
impl ServiceObject for Counter {}

/// An object, asked as another object of the same process would.
pub(crate) struct Neighbour {
    shared: Arc<AppData>,
    id: String,
}

impl Ask for Neighbour {
    async fn ask(&self, amount: i64) -> i64 {
        Counter::send::<_, _, NoopError>(&self.shared, "Counter", &self.id, &Add { amount })
            .await
            .expect("an answer")
    }
}

pub(crate) struct Process {
    shared: Arc<AppData>,
    _server: JoinHandle<()>,
}

impl Local for Process {
    type Counter = Neighbour;

    async fn start() -> Result<Self, AnyError> {
        let (address, server) = serve().await?;
        connect(&address).await?.ask(0).await;
        Ok(Self {
            shared: SHARED.get().ok_or("no object was asked")?.clone(),
            _server: server,
        })
    }

    async fn counter(&self, number: usize) -> Neighbour {
        Neighbour {
            shared: self.shared.clone(),
            id: number.to_string(),
        }
    }
}

/// A client handles one request at a time, so each request takes an idle client.
pub(crate) struct Clients {
    members: LocalStorage,
    idle: Mutex<Vec<Client<LocalStorage>>>,
}

impl Ask for Clients {
    async fn ask(&self, amount: i64) -> i64 {
        let idle = self.idle.lock().expect("no panic").pop();
        let mut client = match idle {
            Some(client) => client,
            None => ClientBuilder::new()
                .members_storage(self.members.clone())
                .build()
                .expect("a client"),
        };
        let answer = client
            .send::<i64, NoopError>("Counter", "one", &Add { amount })
            .await;
        self.idle.lock().expect("no panic").push(client);
        answer.expect("an answer")
    }
}

pub(crate) struct Network;

impl Remote for Network {
    type Counter = Clients;
    type Server = JoinHandle<()>;

    async fn serve() -> Result<(String, JoinHandle<()>), AnyError> {
        serve().await
    }

    async fn connect(place: String) -> Result<Clients, AnyError> {
        connect(&place).await
    }
}

async fn serve() -> Result<(String, JoinHandle<()>), AnyError> {
    let members = LocalStorage::default();
    let mut registry = Registry::new();
    registry.add_type::<Counter>();
    registry.add_handler::<Counter, Add>();
    let mut server = Server::builder()
        .address("0.0.0.0:0".to_owned())
        .registry(registry)
        .app_data(AppData::new())
        .cluster_provider(
            PeerToPeerClusterProvider::builder()
                .members_storage(members.clone())
                .build(),
        )
        .object_placement_provider(LocalObjectPlacement::default())
        .build();
    server.prepare().await?;
    let listener = server.bind().await?;
    let address = format!("127.0.0.1:{}", listener.local_addr()?.port());
    let serving = tokio::spawn(async move {
        if let Err(error) = server.run(listener).await {
            eprintln!("rio-rs: {error}");
        }
    });
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    while members.active_members().await?.is_empty() {
        if Instant::now() > deadline {
            return Err("the server does not become a member".into());
        }
        sleep(CONNECT_PAUSE).await;
    }
    Ok((address, serving))
}

/// The client is told the address of the server, since the storage in memory is of one process.
async fn connect(address: &str) -> Result<Clients, AnyError> {
    let (ip, port) = address.split_once(':').ok_or("no port")?;
    let members = LocalStorage::default();
    let mut member = Member::new(ip.to_owned(), port.to_owned());
    member.set_active(true);
    members.push(member).await?;
    Ok(Clients {
        members,
        idle: Mutex::default(),
    })
}
