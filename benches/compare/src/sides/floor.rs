//! tokio and nothing else.

use crate::{
    AnyError,
    local::{Ask, Local, Tell},
    raw,
    remote::Remote,
};

pub(crate) struct Process;

impl Ask for raw::Local {
    async fn ask(&self, amount: i64) -> i64 {
        raw::Local::ask(self, amount).await
    }
}

impl Tell for raw::Local {
    async fn tell(&self, amount: i64) {
        raw::Local::tell(self, amount).await;
    }
}

impl Local for Process {
    type Counter = raw::Local;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self)
    }

    async fn counter(&self, _number: usize) -> raw::Local {
        raw::Local::start()
    }
}

pub(crate) struct Network;

impl Ask for raw::Remote {
    async fn ask(&self, amount: i64) -> i64 {
        raw::Remote::ask(self, amount).await
    }
}

impl Tell for raw::Remote {
    async fn tell(&self, amount: i64) {
        raw::Remote::tell(self, amount).await;
    }
}

impl Remote for Network {
    type Counter = raw::Remote;
    type Server = ();

    async fn serve() -> Result<(String, ()), AnyError> {
        Ok((raw::serve().await?.to_string(), ()))
    }

    async fn connect(place: String) -> Result<raw::Remote, AnyError> {
        Ok(raw::Remote::connect(&place).await?)
    }
}
