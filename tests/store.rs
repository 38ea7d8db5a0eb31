//! A store outside of casty that fences: it accepts a write only under the greatest token it has
//! seen.
//!
//! The protocol is lines over TCP. `add ID TOKEN AMOUNT` is answered with `ok TOTAL`, or with
//! `fenced` if the store has seen a greater token.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use casty::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::OnceCell,
};

/// The environment variable that tells a process with purses the store's address.
pub const STORE: &str = "CASTY_STORE";

/// The contents of the store.
#[derive(Debug, Default)]
pub struct Books {
    /// The greatest token and the sum of each purse.
    pub purses: BTreeMap<String, (u64, u64)>,
    /// Writes under a smaller token than an earlier write.
    pub fenced: u64,
    /// The last such write, as text.
    pub last_fenced: String,
}

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    books: Arc<Mutex<Books>>,
    /// The address it listens at.
    pub address: SocketAddr,
}

impl Store {
    /// Serves on a free port of this address, as long as the runtime lives.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(address: Ipv4Addr) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        Ok(Self::serve(listener))
    }

    /// Serves the connections of a listener.
    #[expect(
        clippy::disallowed_methods,
        reason = "a store is no node: its tasks end with the runtime"
    )]
    pub fn serve(listener: TcpListener) -> Self {
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let books = Arc::<Mutex<Books>>::default();
        let store = Self {
            books: books.clone(),
            address,
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let books = books.clone();
                // A process that was killed closes its connection in the middle of a line.
                tokio::spawn(async move { drop(answer(stream, &books).await) });
            }
        });
        store
    }

    /// What was written so far.
    ///
    /// # Panics
    /// If the task of a connection panicked.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no connection panics")
    }
}

async fn answer(stream: TcpStream, books: &Mutex<Books>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            ["add", id, token, amount] => match (token.parse(), amount.parse()) {
                (Ok(token), Ok(amount)) => add(books, id, token, amount),
                _ => "no number\n".to_owned(),
            },
            _ => "unknown\n".to_owned(),
        };
        writer.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

fn add(books: &Mutex<Books>, id: &str, token: u64, amount: u64) -> String {
    let mut books = books.lock().expect("no connection panics");
    let purse = books.purses.entry(id.to_owned()).or_default();
    if token < purse.0 {
        let seen = purse.0;
        books.fenced += 1;
        books.last_fenced = format!("{id}: {token} after {seen}");
        return "fenced\n".to_owned();
    }
    purse.0 = token;
    purse.1 += amount;
    format!("ok {}\n", purse.1)
}

/// An account whose balance is in the store, so that it survives every activation.
#[derive(Default)]
pub struct Purse;

#[entity(shards = 64)]
impl Purse {
    /// Adds `amount` and returns the balance.
    #[message]
    pub async fn add(&mut self, amount: u64, ctx: &mut Context<Self>) -> Result<u64, String> {
        let token = ctx.fencing_token().0;
        let line = format!("add {} {token} {amount}\n", ctx.entity_id());
        write(line).await.map_err(|error| error.to_string())
    }

    /// The node that the purse lives on.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

type Connection = tokio::sync::Mutex<BufReader<TcpStream>>;

async fn write(line: String) -> io::Result<u64> {
    static CONNECTION: OnceCell<Connection> = OnceCell::const_new();
    let connection = CONNECTION
        .get_or_try_init(|| async {
            let address = std::env::var(STORE).map_err(io::Error::other)?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(Connection::new(BufReader::new(stream)))
        })
        .await?;
    let mut connection = connection.lock().await;
    connection.get_mut().write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_line(&mut answer).await?;
    let total = answer.strip_prefix("ok ").map(|total| total.trim().parse());
    match total {
        Some(Ok(total)) => Ok(total),
        _ => Err(io::Error::other(answer.trim().to_owned())),
    }
}
