//! A proxy that records what the dialers of one node send.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// The recordings that are kept, and the bytes of each.
const STREAMS_MAX: usize = 48;
const BYTES_MAX: usize = 256 * 1024;

type Recording = Arc<Mutex<Vec<u8>>>;

/// The recordings so far: the beginning of each connection.
#[derive(Clone, Default)]
pub(crate) struct Recordings(Arc<Mutex<Vec<Recording>>>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recordings {
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        lock(&self.0).iter().map(|one| lock(one).clone()).collect()
    }

    fn begin(&self) -> Option<Recording> {
        let mut all = lock(&self.0);
        (all.len() < STREAMS_MAX).then(|| {
            let recording = Recording::default();
            all.push(recording.clone());
            recording
        })
    }

    /// Passes connections on for as long as the runtime lives.
    #[expect(
        clippy::disallowed_methods,
        reason = "a proxy is no node: its tasks end with the runtime"
    )]
    pub(crate) fn serve(&self, listener: TcpListener, to: SocketAddr) {
        let recordings = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let recording = recordings.begin();
                tokio::spawn(async move { drop(pass(stream, to, recording).await) });
            }
        });
    }
}

async fn pass(
    mut dialer: TcpStream,
    to: SocketAddr,
    recording: Option<Recording>,
) -> io::Result<()> {
    let mut node = TcpStream::connect(to).await?;
    dialer.set_nodelay(true)?;
    node.set_nodelay(true)?;
    let ((mut from_dialer, mut to_dialer), (mut from_node, mut to_node)) =
        (dialer.split(), node.split());
    let answers = async {
        copy(&mut from_node, &mut to_dialer).await?;
        to_dialer.shutdown().await
    };
    tokio::try_join!(record(&mut from_dialer, &mut to_node, recording), answers)?;
    Ok(())
}

async fn record(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    recording: Option<Recording>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        if let Some(recording) = &recording {
            let mut kept = lock(recording);
            let room = BYTES_MAX - kept.len();
            kept.extend(&buffer[..read.min(room)]);
        }
    }
}
