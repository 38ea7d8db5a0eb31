//! ractor, and `ractor_cluster` between processes.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, pg, rpc::CallResult};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use tokio::time::{Instant, sleep};

use crate::{
    AnyError,
    local::{Ask, Local, Tell},
    remote::{CONNECT_PAUSE, CONNECT_TIMEOUT, Remote, free_port},
};

/// The process group of the other process's counter.
const GROUP: &str = "counters";
const COOKIE: &str = "compare";

struct Counter;

#[derive(RactorClusterMessage)]
pub(crate) enum Message {
    Increment(i64),
    #[rpc]
    Add(i64, RpcReplyPort<i64>),
}

impl Actor for Counter {
    type Msg = Message;
    type State = i64;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        (): (),
    ) -> Result<i64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        value: &mut i64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Increment(amount) => *value += amount,
            Message::Add(amount, answer) => {
                *value += amount;
                answer.send(*value)?;
            }
        }
        Ok(())
    }
}

impl Ask for ActorRef<Message> {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.call(|answer| Message::Add(amount, answer), None).await;
        match answer.expect("an actor") {
            CallResult::Success(value) => value,
            CallResult::Timeout | CallResult::SenderError => panic!("no answer"),
        }
    }
}

impl Tell for ActorRef<Message> {
    async fn tell(&self, amount: i64) {
        self.cast(Message::Increment(amount)).expect("an actor");
    }
}

pub(crate) struct Process;

impl Local for Process {
    type Counter = ActorRef<Message>;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self)
    }

    async fn counter(&self, _number: usize) -> ActorRef<Message> {
        let spawned = Actor::spawn(None, Counter, ()).await;
        spawned.expect("an actor").0
    }
}

pub(crate) struct Network;

pub(crate) struct Connected {
    counter: ActorRef<Message>,
    _node: ActorRef<NodeServerMessage>,
}

impl Ask for Connected {
    async fn ask(&self, amount: i64) -> i64 {
        self.counter.ask(amount).await
    }
}

impl Tell for Connected {
    async fn tell(&self, amount: i64) {
        self.counter.tell(amount).await;
    }
}

impl Remote for Network {
    type Counter = Connected;
    type Server = (ActorRef<NodeServerMessage>, ActorRef<Message>);

    async fn serve() -> Result<(String, Self::Server), AnyError> {
        let port = free_port()?;
        let node = node("server", port).await?;
        let (counter, _) = Actor::spawn(None, Counter, ()).await?;
        pg::join(GROUP.to_owned(), vec![counter.get_cell()]);
        Ok((format!("127.0.0.1:{port}"), (node, counter)))
    }

    async fn connect(place: String) -> Result<Connected, AnyError> {
        let node = node("client", free_port()?).await?;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while let Err(error) = ractor_cluster::client_connect(&node, &place).await {
            if Instant::now() > deadline {
                return Err(error.to_string().into());
            }
            sleep(CONNECT_PAUSE).await;
        }
        let counter = loop {
            if let Some(counter) = pg::get_members(&GROUP.to_owned()).pop() {
                break counter.into();
            }
            if Instant::now() > deadline {
                return Err("the other node's counter does not appear".into());
            }
            sleep(CONNECT_PAUSE).await;
        };
        Ok(Connected {
            counter,
            _node: node,
        })
    }
}

async fn node(name: &str, port: u16) -> Result<ActorRef<NodeServerMessage>, AnyError> {
    let server = NodeServer::new(
        port,
        COOKIE.to_owned(),
        name.to_owned(),
        "localhost".to_owned(),
        None,
        None,
    )
    .with_listen_addr([127, 0, 0, 1].into());
    Ok(Actor::spawn(None, server, ()).await?.0)
}
