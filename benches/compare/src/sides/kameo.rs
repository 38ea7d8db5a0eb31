//! kameo, and its remote actors between processes.

use kameo::{
    Actor, RemoteActor,
    actor::{ActorRef, RemoteActorRef, Spawn},
    mailbox,
    message::{Context, Message},
    remote::{self, messaging},
    remote_message,
};
use libp2p::{
    Multiaddr, SwarmBuilder,
    futures::StreamExt,
    noise,
    swarm::{Swarm, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::CAPACITY;
use crate::{
    AnyError,
    cases::IN_FLIGHT,
    local::{Ask, Local, Tell},
    remote::{CONNECT_TIMEOUT, Remote},
};

#[derive(Default, Actor, RemoteActor)]
pub(crate) struct Counter {
    value: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Increment {
    amount: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Add {
    amount: i64,
}

#[remote_message]
impl Message<Increment> for Counter {
    type Reply = ();

    async fn handle(&mut self, message: Increment, _: &mut Context<Self, ()>) {
        self.value += message.amount;
    }
}

#[remote_message]
impl Message<Add> for Counter {
    type Reply = i64;

    async fn handle(&mut self, message: Add, _: &mut Context<Self, i64>) -> i64 {
        self.value += message.amount;
        self.value
    }
}

impl Ask for ActorRef<Counter> {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = ActorRef::ask(self, Add { amount }).await;
        answer.expect("an answer")
    }
}

impl Tell for ActorRef<Counter> {
    async fn tell(&self, amount: i64) {
        let told = ActorRef::tell(self, Increment { amount }).await;
        told.expect("room");
    }
}

pub(crate) struct Process;

impl Local for Process {
    type Counter = ActorRef<Counter>;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self)
    }

    async fn counter(&self, _number: usize) -> ActorRef<Counter> {
        Counter::spawn_with_mailbox(Counter::default(), mailbox::bounded(CAPACITY))
    }
}

/// A swarm as `kameo::remote::bootstrap` makes it, without a search of the local network: the other
/// process is dialed.
pub(crate) struct Network;

impl Ask for RemoteActorRef<Counter> {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = RemoteActorRef::ask(self, &Add { amount }).await;
        answer.expect("an answer")
    }
}

impl Tell for RemoteActorRef<Counter> {
    async fn tell(&self, amount: i64) {
        let told = RemoteActorRef::tell(self, &Increment { amount })
            .send_ack()
            .await;
        told.expect("an acknowledgement");
    }
}

impl Remote for Network {
    type Counter = RemoteActorRef<Counter>;
    type Server = ActorRef<Counter>;

    const TELLS_IN_FLIGHT: usize = IN_FLIGHT;

    async fn serve() -> Result<(String, ActorRef<Counter>), AnyError> {
        let mut swarm = swarm()?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address
                    .with_p2p(*swarm.local_peer_id())
                    .map_err(|_| "no peer id")?;
            }
        };
        tokio::spawn(drive(swarm, None));
        let counter = Counter::spawn_with_mailbox(Counter::default(), mailbox::bounded(CAPACITY));
        // A reference is encoded as bytes, but a place is a line of text.
        let reference = rmp_serde::to_vec(&counter.into_remote_ref().await)?;
        let reference = serde_json::to_string(&reference)?;
        Ok((format!("{address} {reference}"), counter))
    }

    async fn connect(place: String) -> Result<RemoteActorRef<Counter>, AnyError> {
        let (address, reference) = place.split_once(' ').ok_or("no reference")?;
        let address: Multiaddr = address.parse()?;
        let mut swarm = swarm()?;
        swarm.dial(DialOpts::from(address))?;
        let (connected, connection) = oneshot::channel();
        tokio::spawn(drive(swarm, Some(connected)));
        tokio::time::timeout(CONNECT_TIMEOUT, connection).await??;
        let reference: Vec<u8> = serde_json::from_str(reference)?;
        Ok(rmp_serde::from_slice(&reference)?)
    }
}

fn swarm() -> Result<Swarm<remote::Behaviour>, AnyError> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_behaviour(|key| {
            remote::Behaviour::new(key.public().to_peer_id(), messaging::Config::default())
        })?
        .build();
    swarm.behaviour().try_init_global()?;
    Ok(swarm)
}

async fn drive(mut swarm: Swarm<remote::Behaviour>, mut connected: Option<oneshot::Sender<()>>) {
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await
            && let Some(connected) = connected.take()
        {
            let _ = connected.send(());
        }
    }
}
