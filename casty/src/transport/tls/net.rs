//! A network whose connections are encrypted and authenticated on both sides.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    Tls,
    certificate::CertificateInfo,
    error::TlsError,
    files::Files,
    loaded::{Contents, Loaded},
    stream::{Above, BelowTls},
    times::Warned,
    uri::Identity,
    words,
};
use crate::{
    id::NodeId,
    infra::{mutants, sync::lock, wall_clock},
    transport::{
        identity::{PeerIdentity, PeerRole},
        net::{Connected, Incoming, Listener, Net, Stream, Target, Untrusted},
    },
};

/// How often the files are read again.
const READ_EVERY: Duration = Duration::from_secs(30);

/// How long, and how much, a side that refuses its peer reads on, so that the peer gets the alert.
/// Closing a socket with unread bytes would reset the connection.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 64 * 1024;

/// The network that TLS runs over.
#[derive(Debug)]
pub(crate) struct Below {
    pub(crate) net: Arc<dyn Net>,
    /// Its processes have one thread, and files are read on it.
    pub(crate) is_simulated: bool,
}

/// TLS over another network.
#[derive(Clone)]
pub(crate) struct TlsNet(Arc<Secured>);

struct Secured {
    below: Below,
    files: Files,
    cluster: String,
    current: ArcSwap<Loaded>,
    /// Read the files now.
    now: Notify,
    watched: Mutex<Watched>,
}

/// What was said of the files.
#[derive(Default)]
struct Watched {
    warned: Warned,
    /// The contents that were refused last, and said to be.
    refused: Option<u64>,
}

impl fmt::Debug for TlsNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsNet").field(&self.0.files).finish()
    }
}

impl TlsNet {
    /// Reads the files, for a process of this cluster and with this part in it. Blocks while it
    /// reads.
    pub(crate) fn new(
        below: Below,
        tls: Tls,
        cluster: &str,
        role: PeerRole,
    ) -> Result<Self, TlsError> {
        let files = tls.0;
        let loaded = Loaded::read(&files)?;
        let fits = loaded.identity.cluster() == cluster && loaded.identity.role() == role;
        if !fits {
            let needed = Identity::new(cluster, role, "NAME").to_string();
            return Err(TlsError::OtherProcess {
                found: loaded.identity,
                needed,
            });
        }
        Ok(Self(Arc::new(Secured {
            below,
            files,
            cluster: cluster.to_owned(),
            current: ArcSwap::from_pointee(loaded),
            now: Notify::new(),
            watched: Mutex::default(),
        })))
    }

    /// Whether the certificate has the name of this node.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), TlsError> {
        let found = &self.0.current.load().identity;
        if found.name() == name {
            return Ok(());
        }
        Err(TlsError::OtherProcess {
            found: found.clone(),
            needed: Identity::new(found.cluster(), found.role(), name).to_string(),
        })
    }

    /// The name in the certificate.
    pub(crate) fn name(&self) -> String {
        self.0.current.load().identity.name().to_owned()
    }
}

impl Net for TlsNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
        Box::pin(async move {
            let below = self.0.below.net.bind(address).await?;
            let shared = self.0.clone();
            Ok(Arc::new(TlsListener { below, shared }) as Arc<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let below = self.0.below.net.connect(target).await?;
            let loaded = self.0.current.load_full();
            let connector = TlsConnector::from(loaded.client.clone());
            // Sent to nobody, and compared with nothing.
            let name = ServerName::IpAddress(target.address.ip().into());
            let mut stream = connector
                .connect(name, BelowTls::new(below.stream))
                .await
                .map_err(words::explain)?;
            let (below, session) = stream.get_mut();
            below.set_known();
            let (peer, until) = identity(session.peer_certificates(), &loaded)?;
            // The peer checks the same of this process, and says so in its refusal.
            let is_node = peer.role == PeerRole::Member;
            if !is_node || peer.cluster.as_ref() != Some(&self.0.cluster) {
                let found = peer.cluster.as_deref().unwrap_or_default();
                let reason =
                    format!("it is for `casty://{found}/{peer}`, and no node of this cluster");
                return Err(Untrusted::Peer(reason).into());
            }
            Ok(Connected {
                stream: Box::new(Above(stream)),
                peer: Some(peer),
                until: Some(until),
            })
        })
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.0.below.net.resolve(name)
    }

    fn certificate_until(&self) -> Option<Duration> {
        Some(self.0.current.load().until())
    }

    fn read_again(&self) {
        self.0.now.notify_one();
    }

    fn upkeep(&self) -> Option<BoxFuture<'static, ()>> {
        let shared = self.0.clone();
        Some(Box::pin(async move {
            shared.tell_of_end();
            loop {
                let pause = tokio::time::sleep(READ_EVERY);
                tokio::select! {
                    biased;
                    () = shared.now.notified() => {}
                    () = pause => {}
                }
                if shared.below.is_simulated {
                    shared.read_again();
                    continue;
                }
                // Files may be on a network, and reading them may take long.
                let reading = shared.clone();
                let read = tokio::task::spawn_blocking(move || reading.read_again());
                if let Err(error) = read.await {
                    tracing::error!(%error, "certificates cannot be read again");
                }
            }
        }))
    }
}

impl Secured {
    /// Reads the files, and uses them from now on if they are others and fit together. Blocks.
    fn read_again(&self) {
        let current = self.current.load_full();
        let contents = Contents::read(&self.files);
        let hash = contents.as_ref().map_or(0, Contents::hash);
        if hash != current.hash && !mutants::on("files_are_read_once") {
            let loaded = contents.and_then(|contents| Loaded::new(&self.files, &contents));
            match loaded.and_then(|loaded| same_process(&current, loaded)) {
                Ok(loaded) => {
                    tracing::info!(
                        identity = %loaded.identity,
                        serial = loaded.info.serial,
                        "new certificates, keys or authorities are in use from now on"
                    );
                    self.current.store(Arc::new(loaded));
                    lock(&self.watched).refused = None;
                }
                Err(error) => self.keep(hash, &error),
            }
        }
        self.tell_of_end();
    }

    /// Says once why the files that are there now are not used.
    fn keep(&self, hash: u64, error: &TlsError) {
        if lock(&self.watched).refused.replace(hash) != Some(hash) {
            tracing::warn!(
                %error,
                "the certificate, the key or the authorities were replaced and cannot be used; the old ones stay in use"
            );
        }
    }

    fn tell_of_end(&self) {
        let until = self.current.load().until();
        let left = until.saturating_sub(wall_clock::since_epoch());
        // Bound first: the lock is not held while a line is written.
        let is_due = lock(&self.watched).warned.is_due(left);
        if is_due {
            let hours = left.as_secs() / 3600;
            tracing::warn!(
                days = hours / 24,
                hours = hours % 24,
                "the certificate of this process ends soon: replace its files"
            );
        }
    }
}

/// A process keeps its name.
fn same_process(current: &Loaded, loaded: Loaded) -> Result<Loaded, TlsError> {
    if loaded.identity == current.identity {
        return Ok(loaded);
    }
    Err(TlsError::OtherProcess {
        found: loaded.identity,
        needed: current.identity.to_string(),
    })
}

/// The identity of a peer whose certificate was judged, and when the first of both certificates
/// ends.
fn identity(
    certificates: Option<&[CertificateDer<'_>]>,
    ours: &Loaded,
) -> io::Result<(PeerIdentity, Duration)> {
    let none = || Untrusted::Peer("it has none".to_owned());
    let leaf = certificates.and_then(<[_]>::first).ok_or_else(none)?;
    let info = CertificateInfo::read(leaf).map_err(Untrusted::Peer)?;
    let named = info
        .named()
        .map_err(|error| Untrusted::Peer(error.to_string()))?;
    let peer = PeerIdentity {
        cluster: Some(named.cluster().to_owned()),
        role: named.role(),
        name: NodeId::new(named.name()),
        until: Some(info.not_after),
    };
    Ok((peer, info.not_after.min(ours.until())))
}

struct TlsListener {
    below: Arc<dyn Listener>,
    shared: Arc<Secured>,
}

impl Listener for TlsListener {
    fn address(&self) -> SocketAddr {
        self.below.address()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let incoming = self.below.accept().await?;
            let (remote, loaded) = (incoming.remote, self.shared.current.load_full());
            Ok(Incoming::new(remote, establish(incoming, loaded)))
        })
    }
}

async fn establish(incoming: Incoming, loaded: Arc<Loaded>) -> io::Result<Connected> {
    let below = incoming.establish().await?;
    let acceptor = TlsAcceptor::from(loaded.server.clone());
    let accepting = acceptor.accept(BelowTls::new(below.stream)).into_fallible();
    let mut stream = match accepting.await {
        Ok(stream) => stream,
        Err((error, below)) => {
            linger(below).await;
            return Err(words::explain(error));
        }
    };
    let (below, session) = stream.get_mut();
    below.set_known();
    let (peer, until) = identity(session.peer_certificates(), &loaded)?;
    Ok(Connected {
        stream: Box::new(Above(stream)),
        peer: Some(peer),
        until: Some(until),
    })
}

/// Lets a peer that was refused read why.
async fn linger(mut below: impl Stream) {
    let lingering = async {
        below.shutdown().await?;
        tokio::io::copy(&mut below.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection ends here.
    let _ = tokio::time::timeout(LINGER, lingering).await;
}
