//! The attackers' side of a connection: by hand, byte for byte.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::id::{Incarnation, MemberId, NodeId};
use casty_tests::raw::{framed, greeting, length_after_preamble};
use rand::{SeedableRng, rngs::StdRng};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

use crate::{
    Failure,
    cluster::{CLUSTER, Target},
};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) type Wire = Box<dyn Stream>;

/// The generation of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    uuid: ByteBuf,
    pub(crate) generation: u64,
}

#[derive(Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shards: u32,
    pub(crate) fingerprint: u64,
}

#[derive(Clone, Serialize)]
pub(crate) struct Hello {
    pub(crate) cluster: String,
    pub(crate) identity: Option<Identity>,
    pub(crate) member: MemberId,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) lane: &'static str,
    pub(crate) keeps_seat: bool,
    pub(crate) catalog: Vec<Entry>,
    pub(crate) to: Option<MemberId>,
}

impl Hello {
    /// A modest stranger, that knows three types.
    pub(crate) fn on(lane: &'static str) -> Self {
        let entry = |name: &str| Entry {
            name: name.to_owned(),
            shards: 16,
            fingerprint: 0,
        };
        Self {
            cluster: CLUSTER.to_owned(),
            identity: None,
            member: member("mallory", 1),
            address: None,
            lane,
            keeps_seat: false,
            catalog: ["Visitor", "Counter", "Nobody"].map(entry).to_vec(),
            to: None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Welcome {
    identity: Option<Identity>,
}

type Refusal = serde::de::IgnoredAny;

/// A node's record of itself, in gossip.
#[derive(Serialize)]
pub(crate) struct Facts {
    pub(crate) version: u64,
    pub(crate) address: SocketAddr,
    pub(crate) catalog: Vec<Entry>,
    pub(crate) roles: Vec<String>,
    pub(crate) load: u64,
}

#[derive(Serialize)]
pub(crate) enum Proposal {
    Allocate { kind: String, shards: Vec<u32> },
}

#[derive(Serialize)]
pub(crate) enum Call {
    Inspect,
    Propose(Proposal),
}

/// What a member says on the control lane, as far as it is said here.
#[derive(Serialize)]
pub(crate) enum Request {
    Gossip(ByteBuf),
    Digest {
        from: MemberId,
        digest: BTreeMap<MemberId, u64>,
    },
    Facts(BTreeMap<MemberId, Facts>),
    Watch {
        version: u64,
    },
    Has {
        version: u64,
    },
    Call {
        id: u64,
        call: Call,
    },
}

/// A message to a `Visitor`.
#[derive(Serialize)]
pub(crate) enum Message {
    #[serde(rename = "call")]
    Call {},
    #[serde(rename = "nap")]
    Nap { millis: u64 },
    #[serde(rename = "page")]
    Page { kib: u32 },
}

pub(crate) fn member(name: &str, incarnation: u64) -> MemberId {
    MemberId {
        node: NodeId::new(name),
        incarnation: Incarnation(incarnation),
    }
}

pub(crate) fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain data is encoded")
}

pub(crate) fn control(request: &Request) -> Vec<u8> {
    framed(&[&[7], bytes(request).as_slice()].concat())
}

/// An entity frame, as `transport/frame.rs` describes it.
pub(crate) fn entity(kind: u16, epoch: u64, correlation: u64, id: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(kind.to_le_bytes());
    body.push(0);
    body.extend(epoch.to_le_bytes());
    body.extend(correlation.to_le_bytes());
    body.extend(u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(id.as_bytes());
    // No chain of waiting actors.
    body.extend(0_u16.to_le_bytes());
    body.extend(payload);
    framed(&body)
}

/// What the attackers did.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) dialed: AtomicU64,
    pub(crate) let_in: AtomicU64,
    pub(crate) bytes: AtomicU64,
    errors: AtomicU64,
}

/// The cards with which an attacker opens TLS.
struct Cards {
    none: TlsConnector,
    other: TlsConnector,
    client: TlsConnector,
}

/// What the attackers of one case share.
pub(crate) struct Attacker {
    pub(crate) targets: Vec<Target>,
    pub(crate) recordings: Vec<Vec<u8>>,
    cards: Option<Cards>,
    pub(crate) tally: Tally,
    turns: AtomicU64,
}

/// The certificate that is shown, where there is TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Card {
    None,
    OtherAuthority,
    Client,
}

impl Attacker {
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut targets = Vec::new();
        for line in fs::read_to_string(folder.join("targets"))?.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [name, incarnation, address] = words[..] else {
                return Err(format!("`{line}` names no target").into());
            };
            targets.push(Target {
                member: member(name, incarnation.parse()?),
                address: address.parse()?,
            });
        }
        let mut recordings = Vec::new();
        for file in fs::read_dir(folder.join("recordings"))? {
            recordings.push(fs::read(file?.path())?);
        }
        let (ours, other) = (folder.join("tls"), folder.join("other"));
        let cards = ours.exists().then(|| -> Result<_, Failure> {
            Ok(Cards {
                none: connector(None)?,
                other: connector(Some(&other))?,
                client: connector(Some(&ours))?,
            })
        });
        Ok(Self {
            targets,
            recordings,
            cards: cards.transpose()?,
            tally: Tally::default(),
            turns: AtomicU64::new(0),
        })
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.cards.is_some()
    }

    /// Randomness of its own for each attempt.
    pub(crate) fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// The node that is attacked next.
    pub(crate) fn target(&self, n: usize) -> &Target {
        &self.targets[n % self.targets.len()]
    }

    /// A connection without anything on it, from one of some thousand addresses of this machine:
    /// limits by address are tried as well as those in all.
    pub(crate) async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 9, turn[1] % 16, turn[0]], 0)))?;
        let stream = socket.connect(to).await?;
        self.tally.dialed.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    /// A connection on which casty's handshake may begin.
    pub(crate) async fn dial(&self, to: SocketAddr, card: Card) -> io::Result<Wire> {
        let stream = self.tcp(to).await?;
        stream.set_nodelay(true)?;
        let Some(cards) = &self.cards else {
            return Ok(Box::new(stream));
        };
        let connector = match card {
            Card::None => &cards.none,
            Card::OtherAuthority => &cards.other,
            Card::Client => &cards.client,
        };
        let name = ServerName::try_from("anything").map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// A connection whose hello was accepted, and the identity of the cluster.
    pub(crate) async fn enter(
        &self,
        to: SocketAddr,
        hello: &Hello,
    ) -> io::Result<(Wire, Option<Identity>)> {
        let mut wire = self.dial(to, Card::Client).await?;
        wire.write_all(&greeting()).await?;
        wire.write_all(&framed(&bytes(hello))).await?;
        wire.flush().await?;
        let mut head = [0; 16];
        wire.read_exact(&mut head).await?;
        let mut answer = vec![0; length_after_preamble(&head)];
        wire.read_exact(&mut answer).await?;
        let answer: Result<Welcome, Refusal> =
            rmp_serde::from_slice(&answer).map_err(io::Error::other)?;
        let welcome = answer.map_err(|_| io::Error::from(ErrorKind::PermissionDenied))?;
        self.tally.let_in.fetch_add(1, Ordering::Relaxed);
        Ok((wire, welcome.identity))
    }

    pub(crate) async fn say(&self, wire: &mut Wire, said: &[u8]) -> io::Result<()> {
        wire.write_all(said).await?;
        wire.flush().await?;
        self.tally
            .bytes
            .fetch_add(said.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Repeats an attack until its task is dropped.
    pub(crate) async fn repeat<F>(self: Arc<Self>, n: usize, attack: impl Fn(Arc<Self>, usize) -> F)
    where
        F: Future<Output = io::Result<()>>,
    {
        for turn in 0.. {
            if attack(self.clone(), n + turn).await.is_err() {
                self.tally.errors.fetch_add(1, Ordering::Relaxed);
                // A refused attacker does not spin: the processor is the cluster's.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    pub(crate) fn report(&self) -> String {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        format!(
            "{} dialed, {} let in, {} KiB sent, {} ended with an error",
            count(&self.tally.dialed),
            count(&self.tally.let_in),
            count(&self.tally.bytes) / 1024,
            count(&self.tally.errors)
        )
    }
}

/// Reads until the node closes the connection, or for so long.
pub(crate) async fn drain(wire: &mut Wire, limit: Duration) {
    let mut rest = vec![0; 16 * 1024];
    let reading = async { while wire.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    // Either is fine.
    let _ = tokio::time::timeout(limit, reading).await;
}

fn connector(keys: Option<&Path>) -> Result<TlsConnector, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)));
    let mut config = match keys {
        None => config.with_no_client_auth(),
        Some(keys) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(keys.join("mallory.pem"))?],
            PrivateKeyDer::from_pem_file(keys.join("mallory.key"))?,
        )?,
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any node for the right one.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
