//! The floor: the same work written by hand, with tokio and nothing else.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

/// Room in each channel.
const CAPACITY: usize = 1024;

enum Message {
    Increment(i64),
    Add(i64, oneshot::Sender<i64>),
}

/// A counter behind a bounded channel.
#[derive(Clone)]
pub(crate) struct Local(mpsc::Sender<Message>);

impl Local {
    pub(crate) fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel(CAPACITY);
        spawn(async move {
            let mut value = 0;
            while let Some(message) = receiver.recv().await {
                match message {
                    Message::Increment(amount) => value += amount,
                    Message::Add(amount, answer) => {
                        value += amount;
                        let _ = answer.send(value);
                    }
                }
            }
        });
        Self(sender)
    }

    pub(crate) async fn tell(&self, amount: i64) {
        self.0.send(Message::Increment(amount)).await.ok();
    }

    pub(crate) async fn ask(&self, amount: i64) -> i64 {
        let (answer, answered) = oneshot::channel();
        self.0.send(Message::Add(amount, answer)).await.ok();
        answered.await.expect("an answer")
    }
}

#[derive(Serialize, Deserialize)]
struct Request {
    /// 0 for a tell.
    id: u64,
    amount: i64,
    #[serde(default, skip_serializing_if = "is_empty")]
    payload: ByteBuf,
}

fn is_empty(payload: &ByteBuf) -> bool {
    payload.is_empty()
}

#[derive(Serialize, Deserialize)]
struct Answer {
    id: u64,
    value: i64,
}

/// Serves one counter to each connection.
pub(crate) async fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            let (read, write) = stream.into_split();
            let (answers, queue) = mpsc::channel(CAPACITY);
            spawn(write_all(write, queue));
            spawn(async move {
                let (mut read, mut buffer, mut value) = (read, BytesMut::new(), 0);
                while let Some(Request { id, amount, .. }) = next(&mut read, &mut buffer).await {
                    value += amount;
                    if id != 0 {
                        answers.send(Answer { id, value }).await.ok();
                    }
                }
            });
        }
    });
    Ok(address)
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<i64>>>>;

/// A connection to such a server.
pub(crate) struct Remote {
    requests: mpsc::Sender<Request>,
    waiting: Waiting,
    last: std::sync::atomic::AtomicU64,
}

impl Remote {
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut read, write) = stream.into_split();
        let (requests, queue) = mpsc::channel(CAPACITY);
        spawn(write_all(write, queue));
        let waiting = Waiting::default();
        let answered = waiting.clone();
        spawn(async move {
            let mut buffer = BytesMut::new();
            while let Some(Answer { id, value }) = next(&mut read, &mut buffer).await {
                let waiting = answered.lock().expect("no panic").remove(&id);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(value);
                }
            }
        });
        Ok(Self {
            requests,
            waiting,
            last: 0.into(),
        })
    }

    pub(crate) async fn tell(&self, amount: i64) {
        self.tell_with(amount, ByteBuf::new()).await;
    }

    pub(crate) async fn ask(&self, amount: i64) -> i64 {
        self.ask_with(amount, ByteBuf::new()).await
    }

    pub(crate) async fn tell_with(&self, amount: i64, payload: ByteBuf) {
        let request = Request {
            id: 0,
            amount,
            payload,
        };
        self.requests.send(request).await.ok();
    }

    pub(crate) async fn ask_with(&self, amount: i64, payload: ByteBuf) -> i64 {
        let (answer, answered) = oneshot::channel();
        let id = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.waiting.lock().expect("no panic").insert(id, answer);
        let request = Request {
            id,
            amount,
            payload,
        };
        self.requests.send(request).await.ok();
        answered.await.expect("an answer")
    }
}

/// Writes frames. All queued frames go out at once.
async fn write_all<T: Serialize>(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<T>) {
    let (mut frames, mut batch) = (Vec::new(), Vec::with_capacity(CAPACITY));
    while queue.recv_many(&mut batch, CAPACITY).await > 0 {
        for value in batch.drain(..) {
            let start = frames.len();
            frames.extend([0; 4]);
            rmp_serde::encode::write_named(&mut frames, &value).expect("a value");
            let length = u32::try_from(frames.len() - start - 4).expect("a small frame");
            frames[start..start + 4].copy_from_slice(&length.to_le_bytes());
        }
        if to.write_all(&frames).await.is_err() {
            return;
        }
        frames.clear();
    }
}

async fn next<T: DeserializeOwned>(from: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Option<T> {
    loop {
        if let Some(prefix) = buffer.first_chunk::<4>() {
            let length = u32::from_le_bytes(*prefix) as usize;
            if buffer.len() >= 4 + length {
                let value = rmp_serde::from_slice(&buffer[4..4 + length]).ok();
                buffer.advance(4 + length);
                return value;
            }
        }
        buffer.reserve(64 * 1024);
        if from.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the floor has no tracker of tasks"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
