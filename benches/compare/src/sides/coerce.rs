//! coerce, and its feature `remote` between processes.

use async_trait::async_trait;
use coerce::{
    actor::{
        Actor, ActorRef, IntoActorId, LocalActorRef,
        context::ActorContext,
        message::{Handler, Message, MessageUnwrapErr, MessageWrapErr},
        scheduler::ActorType,
        system::ActorSystem,
    },
    remote::{
        RemoteActorRef,
        net::server::RemoteServer,
        system::{NodeId, RemoteActorSystem},
    },
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::{
    AnyError,
    local::{Ask, Local, Tell},
    remote::{Remote, free_port},
};

#[derive(Default)]
pub(crate) struct Counter {
    value: i64,
}

impl Actor for Counter {}

#[derive(Serialize, Deserialize)]
struct Increment {
    amount: i64,
}

#[derive(Serialize, Deserialize)]
struct Add {
    amount: i64,
}

impl Message for Increment {
    type Result = ();

    fn as_bytes(&self) -> Result<Vec<u8>, MessageWrapErr> {
        encoded(self)
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, MessageUnwrapErr> {
        decoded(&bytes)
    }

    fn read_remote_result(_: Vec<u8>) -> Result<(), MessageUnwrapErr> {
        Ok(())
    }

    fn write_remote_result((): ()) -> Result<Vec<u8>, MessageWrapErr> {
        Ok(Vec::new())
    }
}

impl Message for Add {
    type Result = i64;

    fn as_bytes(&self) -> Result<Vec<u8>, MessageWrapErr> {
        encoded(self)
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, MessageUnwrapErr> {
        decoded(&bytes)
    }

    fn read_remote_result(bytes: Vec<u8>) -> Result<i64, MessageUnwrapErr> {
        decoded(&bytes)
    }

    fn write_remote_result(result: i64) -> Result<Vec<u8>, MessageWrapErr> {
        encoded(&result)
    }
}

/// MessagePack, as on the other sides; coerce leaves the choice to its users.
fn encoded(value: &impl Serialize) -> Result<Vec<u8>, MessageWrapErr> {
    rmp_serde::to_vec_named(value).map_err(|_| MessageWrapErr::SerializationErr)
}

fn decoded<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, MessageUnwrapErr> {
    rmp_serde::from_slice(bytes).map_err(|_| MessageUnwrapErr::DeserializationErr)
}

#[async_trait]
impl Handler<Increment> for Counter {
    async fn handle(&mut self, message: Increment, _: &mut ActorContext) {
        self.value += message.amount;
    }
}

#[async_trait]
impl Handler<Add> for Counter {
    async fn handle(&mut self, message: Add, _: &mut ActorContext) -> i64 {
        self.value += message.amount;
        self.value
    }
}

impl Ask for LocalActorRef<Counter> {
    async fn ask(&self, amount: i64) -> i64 {
        self.send(Add { amount }).await.expect("an answer")
    }
}

impl Tell for LocalActorRef<Counter> {
    async fn tell(&self, amount: i64) {
        self.notify(Increment { amount }).expect("an actor");
    }
}

pub(crate) struct Process(ActorSystem);

impl Local for Process {
    type Counter = LocalActorRef<Counter>;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self(ActorSystem::new()))
    }

    async fn counter(&self, _number: usize) -> LocalActorRef<Counter> {
        let made = self.0.new_anon_actor(Counter::default()).await;
        made.expect("an actor")
    }
}

pub(crate) struct Network;

pub(crate) struct Connected {
    counter: ActorRef<Counter>,
    _server: RemoteServer,
}

impl Ask for Connected {
    async fn ask(&self, amount: i64) -> i64 {
        self.counter.send(Add { amount }).await.expect("an answer")
    }
}

impl Tell for Connected {
    async fn tell(&self, amount: i64) {
        let told = self.counter.notify(Increment { amount }).await;
        told.expect("a node");
    }
}

const COUNTER: &str = "counter";
const SERVER: NodeId = 1;
const CLIENT: NodeId = 2;

impl Remote for Network {
    type Counter = Connected;
    type Server = (RemoteServer, LocalActorRef<Counter>);

    async fn serve() -> Result<(String, Self::Server), AnyError> {
        let system = system("server", SERVER);
        let counter = system
            .actor_system()
            .new_actor(
                COUNTER.into_actor_id(),
                Counter::default(),
                ActorType::Tracked,
            )
            .await
            .map_err(|error| error.to_string())?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let server = system.cluster_worker().listen_addr(&address).start().await;
        Ok((address, (server, counter)))
    }

    async fn connect(place: String) -> Result<Connected, AnyError> {
        let system = system("client", CLIENT);
        let server = system
            .clone()
            .cluster_worker()
            .listen_addr(format!("127.0.0.1:{}", free_port()?))
            .with_seed_addr(place)
            .start()
            .await;
        let counter = RemoteActorRef::new(COUNTER.into_actor_id(), SERVER, system).into();
        Ok(Connected {
            counter,
            _server: server,
        })
    }
}

/// The builder is not `Send`, so it is used up before this thread goes on.
fn system(tag: &str, id: NodeId) -> RemoteActorSystem {
    let building = RemoteActorSystem::builder()
        .with_tag(tag)
        .with_id(id)
        .with_actor_system(ActorSystem::new())
        .with_handlers(|handlers| {
            handlers
                .with_handler::<Counter, Increment>("Counter.Increment")
                .with_handler::<Counter, Add>("Counter.Add")
        })
        .build();
    tokio::task::block_in_place(|| Handle::current().block_on(building))
}
