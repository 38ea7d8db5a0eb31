//! casty, with default settings.

use std::time::Duration;

use casty::{ActorSystem, ClusterClient};
use casty_benches::{Counter, CounterRef, Local as Actor, LocalRef};

use crate::{
    AnyError,
    local::{Ask, Local, Tell},
    remote::Remote,
};

/// The last ask of a run waits for all that was told before.
const PATIENCE: Duration = Duration::from_secs(30);

impl Ask for CounterRef {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Tell for CounterRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }
}

impl Ask for LocalRef {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Tell for LocalRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }
}

/// Sharded entities.
pub(crate) struct Entities(ActorSystem);

impl Local for Entities {
    type Counter = CounterRef;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self(ActorSystem::local("compare")))
    }

    async fn counter(&self, number: usize) -> CounterRef {
        self.0.entity::<Counter>(number.to_string())
    }
}

/// Plain actors.
pub(crate) struct Actors(ActorSystem);

impl Local for Actors {
    type Counter = LocalRef;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self(ActorSystem::local("compare")))
    }

    async fn counter(&self, _number: usize) -> LocalRef {
        self.0.spawn(Actor::default())
    }
}

/// An entity on a member, asked by a client of the cluster.
pub(crate) struct Network;

pub(crate) struct Connected {
    counter: CounterRef,
    _client: ClusterClient,
}

impl Ask for Connected {
    async fn ask(&self, amount: i64) -> i64 {
        self.counter.ask(amount).await
    }
}

impl Tell for Connected {
    async fn tell(&self, amount: i64) {
        Tell::tell(&self.counter, amount).await;
    }
}

impl Remote for Network {
    type Counter = Connected;
    type Server = ActorSystem;

    async fn serve() -> Result<(String, ActorSystem), AnyError> {
        let node = ActorSystem::builder("compare")
            .entity::<Counter>()
            .start()
            .await?;
        node.wait_for(1).await?;
        Ok((node.address().to_string(), node))
    }

    async fn connect(place: String) -> Result<Connected, AnyError> {
        let client = ClusterClient::connect("compare", [place]).await?;
        Ok(Connected {
            counter: client.entity::<Counter>("one"),
            _client: client,
        })
    }
}
