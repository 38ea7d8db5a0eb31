//! The handshake on a new connection: both nodes introduce themselves, and the accepting node
//! decides whether to talk to the dialer.
//!
//! Both sides first send a preamble of eight bytes: `CSTY`, the protocol version, and a check of
//! both. So even versions that share nothing else can report clearly that they do not match. Then
//! follows one MessagePack value each way, with the prefix of a [frame](super::frame). A dialer may
//! give up for good because of what a handshake says, so a damaged handshake must say nothing.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, SeqAccess, Visitor},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

use crate::{
    config::Settings,
    id::{CatalogEntry, ClusterIdentity, Generation, MemberId, NodeId, Seeker},
    infra::{mutants, printable::Printable},
    message::codec,
    transport::{
        check::{self, Damaged, PREFIX_BYTES},
        identity::PeerRole,
        net::{PeerIdentity, Untrusted},
    },
};

/// The version of the protocol: handshake and frames.
pub(crate) const PROTOCOL: u16 = 2;

const MAGIC: [u8; 4] = *b"CSTY";

const PREAMBLE_BYTES: usize = 8;

/// The longest message of a handshake.
const HELLO_BYTES_MAX: usize = 1024 * 1024;

/// The longest hello of a process of which nothing is verified: a stranger may not cost this
/// process more than 64 KiB, as bytes and decoded.
pub(crate) const UNVERIFIED_BYTES_MAX: usize = 16 * 1024;

/// The most entity types of a program.
pub(crate) const CATALOG_MAX: usize = 400;

/// What a message is read with at a time.
const STEP_BYTES: usize = 4 * 1024;

/// The purpose of a connection. Each lane has its own queue, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Lane {
    /// Gossip, the cluster map.
    Control,
    /// Messages and their replies.
    Messages,
    /// Large messages.
    Bulk,
    /// What stores say to each other.
    Copies,
}

/// The settings that all nodes of a cluster have to agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedSettings {
    pub(crate) lease: Duration,
    /// [`clock_drift`](crate::Settings::clock_drift), in millionths.
    pub(crate) clock_drift: u32,
}

impl SharedSettings {
    pub(crate) fn of(settings: &Settings) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to 0.5"
        )]
        let clock_drift = (settings.clock_drift * 1e6).round() as u32;
        Self {
            lease: settings.lease,
            clock_drift,
        }
    }

    /// Each with its name and its value.
    fn values(&self) -> [(&'static str, String); 2] {
        let drift = f64::from(self.clock_drift) / 1e6;
        [
            ("lease", format!("{:?}", self.lease)),
            ("clock_drift", drift.to_string()),
        ]
    }

    /// The first that differs, its value here, and that of the other side.
    fn difference(&self, theirs: &Self) -> Option<(&'static str, String, String)> {
        let mut both = self.values().into_iter().zip(theirs.values());
        both.find_map(|((name, ours), (_, theirs))| {
            (ours != theirs).then_some((name, ours, theirs))
        })
    }
}

/// The dialer's introduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) cluster: String,
    /// The cluster that the dialer has joined, if any.
    pub(crate) identity: Option<ClusterIdentity>,
    pub(crate) member: MemberId,
    /// The address of the dialer; `None` for a client.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) lane: Lane,
    /// The dialer votes in the seat of its node's previous process: it has kept that process's
    /// durable state.
    #[serde(default)]
    pub(crate) keeps_seat: bool,
    /// Numbers the entity types in this connection's frames.
    #[serde(deserialize_with = "catalog")]
    pub(crate) catalog: Vec<CatalogEntry>,
    /// The process that the dialer means to reach, where it knows.
    pub(crate) to: Option<MemberId>,
    /// Of a node.
    #[serde(default)]
    pub(crate) settings: Option<SharedSettings>,
}

/// Reads a catalog that is not too long. Its length, as the peer announces it, costs no memory.
fn catalog<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CatalogEntry>, D::Error> {
    struct Bounded;

    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<CatalogEntry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {CATALOG_MAX} entity types")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut catalog = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if catalog.len() == CATALOG_MAX {
                    return Err(de::Error::invalid_length(CATALOG_MAX + 1, &self));
                }
                catalog.push(entry);
            }
            Ok(catalog)
        }
    }

    from.deserialize_seq(Bounded)
}

/// The answer of the accepting side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// `None`: the node has not joined a cluster yet.
    pub(crate) identity: Option<ClusterIdentity>,
    pub(crate) member: MemberId,
    /// As in [`Hello`].
    #[serde(default)]
    pub(crate) keeps_seat: bool,
    /// The voters, which decide about the cluster map, and their addresses.
    pub(crate) voters: Vec<(MemberId, SocketAddr)>,
    /// The node is in no cluster, and may found one.
    #[serde(default)]
    pub(crate) seeker: Option<Seeker>,
}

/// Why a node does not talk to the dialer. Sent to the dialer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum HandshakeRefusal {
    #[error(
        "it belongs to cluster `{}`, this node to `{}`",
        Printable(theirs),
        Printable(ours)
    )]
    ClusterName { ours: String, theirs: String },
    #[error(
        "it belongs to another cluster of the same name ({theirs}, this node's is {ours}); two clusters never merge"
    )]
    OtherCluster { ours: Uuid, theirs: Uuid },
    #[error(
        "it belongs to generation {theirs} of the cluster, this node to generation {ours}: the cluster was recovered in between"
    )]
    Generation {
        ours: Generation,
        theirs: Generation,
    },
    #[error("the process there is `{found}`, not `{expected}`: it has restarted")]
    OtherMember {
        expected: MemberId,
        found: MemberId,
        /// As in [`Hello`].
        #[serde(default)]
        keeps_seat: bool,
    },
    #[error(
        "entity type `{}` has {theirs} shards there and {ours} here; the number must be the same on all nodes",
        Printable(name)
    )]
    Shards {
        name: String,
        ours: u32,
        theirs: u32,
    },
    #[error(
        "the setting `{}` is {} there and {} here; it must be the same on all nodes",
        Printable(setting),
        Printable(theirs),
        Printable(ours)
    )]
    Setting {
        setting: String,
        ours: String,
        theirs: String,
    },
    #[error("the cluster declared `{0}` down; a new incarnation may join")]
    Down(MemberId),
    #[error("the dialer announced itself as `{announced}`, but its certificate says `{certified}`")]
    FalseName {
        announced: NodeId,
        certified: NodeId,
    },
    #[error(
        "the dialer's certificate is for cluster `{}`, this one is `{}`",
        Printable(certified),
        Printable(cluster)
    )]
    CertifiedElsewhere { certified: String, cluster: String },
    /// A client or an operator that would be a node.
    #[error(
        "the dialer announced itself as node `{announced}`, but its certificate is for `{}`; a node needs \
         `casty://CLUSTER/member/NODE`",
        Printable(certified)
    )]
    NoMember {
        announced: NodeId,
        certified: String,
    },
    #[error(
        "the incarnation of `{announced}` is a time more than a year ahead of this node's wall clock; correct the clock that is wrong and start that node again"
    )]
    FutureIncarnation { announced: MemberId },
}

impl HandshakeRefusal {
    /// Whether the same attempt can never succeed.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::OtherMember { .. } | Self::Generation { .. })
    }

    /// The same refusal, as seen from the other side.
    fn turned(self) -> Self {
        match self {
            Self::ClusterName { ours, theirs } => Self::ClusterName {
                ours: theirs,
                theirs: ours,
            },
            Self::OtherCluster { ours, theirs } => Self::OtherCluster {
                ours: theirs,
                theirs: ours,
            },
            Self::Generation { ours, theirs } => Self::Generation {
                ours: theirs,
                theirs: ours,
            },
            Self::Shards { name, ours, theirs } => Self::Shards {
                name,
                ours: theirs,
                theirs: ours,
            },
            Self::Setting {
                setting,
                ours,
                theirs,
            } => Self::Setting {
                setting,
                ours: theirs,
                theirs: ours,
            },
            same @ (Self::OtherMember { .. }
            | Self::Down(_)
            | Self::FalseName { .. }
            | Self::CertifiedElsewhere { .. }
            | Self::NoMember { .. }
            | Self::FutureIncarnation { .. }) => same,
        }
    }
}

/// Judges the hello of a dialer by what the accepting node knows of itself.
pub(crate) struct Doorkeeper<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) identity: Option<ClusterIdentity>,
    pub(crate) member: &'a MemberId,
    pub(crate) keeps_seat: bool,
    pub(crate) catalog: &'a [CatalogEntry],
    pub(crate) settings: Option<&'a SharedSettings>,
    pub(crate) is_down: &'a dyn Fn(&MemberId) -> bool,
    /// This node's wall clock.
    pub(crate) since_epoch: Duration,
}

/// How far an incarnation, which is a time of a wall clock, may be ahead of this node's. A process
/// with a greater one could never be followed by another of its name.
const AHEAD_MAX: Duration = Duration::from_hours(24 * 365);

impl Doorkeeper<'_> {
    /// What a certificate says must fit what the dialer says. A process without an address hosts
    /// nothing, and is no node.
    fn judge_identity(&self, hello: &Hello, peer: &PeerIdentity) -> Result<(), HandshakeRefusal> {
        if let Some(certified) = peer.cluster.as_ref().filter(|it| *it != self.cluster) {
            return Err(HandshakeRefusal::CertifiedElsewhere {
                certified: certified.clone(),
                cluster: self.cluster.to_owned(),
            });
        }
        let is_node = hello.address.is_some() || hello.keeps_seat;
        if peer.role != PeerRole::Member && is_node {
            return Err(HandshakeRefusal::NoMember {
                announced: hello.member.node.clone(),
                certified: peer.to_string(),
            });
        }
        Ok(())
    }

    /// Whether the dialer may come in, whose identity the network has verified as `peer`. The
    /// refusal is worded for the dialer.
    pub(crate) fn judge(
        &self,
        hello: &Hello,
        peer: Option<&PeerIdentity>,
    ) -> Result<(), HandshakeRefusal> {
        // First: a hello under a false name must have no effect at all.
        if let Some(peer) = peer {
            self.judge_identity(hello, peer)?;
        }
        if let Some(certified) = other_name(&hello.member, peer) {
            return Err(HandshakeRefusal::FalseName {
                announced: hello.member.node.clone(),
                certified,
            });
        }
        let latest = self.since_epoch.saturating_add(AHEAD_MAX).as_millis();
        if u128::from(hello.member.incarnation.0) > latest {
            return Err(HandshakeRefusal::FutureIncarnation {
                announced: hello.member.clone(),
            });
        }
        self.judge_as_seen_here(hello)
            .map_err(HandshakeRefusal::turned)
    }

    fn judge_as_seen_here(&self, hello: &Hello) -> Result<(), HandshakeRefusal> {
        if hello.cluster != self.cluster {
            return Err(HandshakeRefusal::ClusterName {
                ours: self.cluster.to_owned(),
                theirs: hello.cluster.clone(),
            });
        }
        // The generation is checked before the member. The node that recovered the cluster has a
        // new incarnation, and nodes of the old generation still ask for the old one. They have to
        // learn that there is a new generation.
        if let (Some(ours), Some(theirs)) = (self.identity, hello.identity)
            && ours.uuid == theirs.uuid
            && ours != theirs
        {
            return Err(HandshakeRefusal::Generation {
                ours: ours.generation,
                theirs: theirs.generation,
            });
        }
        if let Some(expected) = hello.to.as_ref().filter(|to| *to != self.member) {
            return Err(HandshakeRefusal::OtherMember {
                expected: expected.clone(),
                found: self.member.clone(),
                keeps_seat: self.keeps_seat && self.identity == hello.identity,
            });
        }
        if let (Some(ours), Some(theirs)) = (self.identity, hello.identity)
            && ours != theirs
        {
            return Err(HandshakeRefusal::OtherCluster {
                ours: ours.uuid,
                theirs: theirs.uuid,
            });
        }
        if let (Some(ours), Some(theirs)) = (self.settings, &hello.settings)
            && let Some((setting, ours, theirs)) = ours.difference(theirs)
            && !mutants::on("settings_are_not_compared")
        {
            return Err(HandshakeRefusal::Setting {
                setting: setting.to_owned(),
                ours,
                theirs,
            });
        }
        let mine: BTreeMap<_, _> = self.catalog.iter().map(|e| (&e.name, e.shards)).collect();
        for entry in &hello.catalog {
            if let Some(&ours) = mine.get(&entry.name).filter(|ours| **ours != entry.shards) {
                return Err(HandshakeRefusal::Shards {
                    name: entry.name.clone(),
                    ours,
                    theirs: entry.shards,
                });
            }
        }
        if (self.is_down)(&hello.member) {
            return Err(HandshakeRefusal::Down(hello.member.clone()));
        }
        Ok(())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(io::Error),
    #[error("it does not speak casty's protocol")]
    Magic,
    #[error("it speaks protocol version {theirs}, this node version {PROTOCOL}")]
    Version { theirs: u16 },
    #[error("its handshake cannot be read: {}", Printable(.0))]
    Malformed(String),
    #[error("its handshake cannot be read: {0}")]
    Damaged(#[from] Damaged),
    #[error("{0}")]
    Refused(HandshakeRefusal),
    /// Seen by the dialer, before it says anything.
    #[error("expected node `{expected}` there, but its certificate says `{found}`")]
    WrongPeer { expected: NodeId, found: NodeId },
    /// Seen by the dialer. What the accepting side sees is a
    /// [refusal](HandshakeRefusal::FalseName).
    #[error("it announced itself as `{announced}`, but its certificate says `{certified}`")]
    FalseName {
        announced: NodeId,
        certified: NodeId,
    },
    #[error(transparent)]
    Untrusted(Untrusted),
    #[error("the other side closed the connection during the handshake")]
    Closed,
    #[error("too many connections are in their handshake")]
    TooMany,
    #[error("there are too many connections, in all or from its address")]
    TooManyConnections,
    #[error("the handshake took too long")]
    Timeout,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Untrusted>());
        if let Some(untrusted) = inner {
            return Self::Untrusted(untrusted.clone());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl HandshakeError {
    /// Whether the same attempt can never succeed.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            // By then another process may listen there.
            Self::WrongPeer { .. }
            | Self::FalseName { .. }
            | Self::Io(_)
            | Self::Closed
            | Self::TooMany
            | Self::TooManyConnections
            | Self::Damaged(_)
            | Self::Timeout => false,
            Self::Magic | Self::Version { .. } | Self::Malformed(_) | Self::Untrusted(_) => true,
            Self::Refused(refusal) => refusal.is_final(),
        }
    }

    /// Whether a name was claimed that the network does not confirm.
    pub(crate) fn is_about_identity(&self) -> bool {
        matches!(
            self,
            Self::WrongPeer { .. }
                | Self::FalseName { .. }
                | Self::Untrusted(_)
                | Self::Refused(
                    HandshakeRefusal::FalseName { .. }
                        | HandshakeRefusal::CertifiedElsewhere { .. }
                        | HandshakeRefusal::NoMember { .. }
                )
        )
    }
}

/// The verified name of a node that claims to be `claimed`, where that is another one. Clients and
/// operators may take any name: they are known to the cluster by their certificates.
fn other_name(claimed: &MemberId, peer: Option<&PeerIdentity>) -> Option<NodeId> {
    let certified = peer.filter(|peer| peer.role == PeerRole::Member)?;
    let differs = certified.name != claimed.node && !mutants::on("names_are_not_verified");
    differs.then(|| certified.name.clone())
}

/// Whether the dialer has reached the node that it expected.
pub(crate) fn check_reached(
    expected: Option<&NodeId>,
    peer: Option<&PeerIdentity>,
) -> Result<(), HandshakeError> {
    match (expected, peer) {
        (Some(expected), Some(peer))
            if *expected != peer.name && !mutants::on("names_are_not_verified") =>
        {
            Err(HandshakeError::WrongPeer {
                expected: expected.clone(),
                found: peer.name.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Whether the node that answers is the one whose identity the network has verified.
pub(crate) fn check_welcome(
    welcome: &Welcome,
    peer: Option<&PeerIdentity>,
) -> Result<(), HandshakeError> {
    match other_name(&welcome.member, peer) {
        Some(certified) => Err(HandshakeError::FalseName {
            announced: welcome.member.node.clone(),
            certified,
        }),
        None => Ok(()),
    }
}

/// Sends the hello and reads the answer.
pub(crate) async fn dial<S>(stream: &mut S, hello: &Hello) -> Result<Welcome, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    put_preamble(stream, PROTOCOL).await?;
    // Read before the hello is sent. A peer of another version closes at once; closing with unread
    // bytes would reset the connection, and the peer's preamble would be lost.
    take_preamble(stream).await?;
    put(stream, hello).await?;
    let answer: Result<Welcome, HandshakeRefusal> = take(stream, HELLO_BYTES_MAX).await?;
    answer.map_err(HandshakeError::Refused)
}

/// Reads the hello. The dialer learns this side's version in any case. `is_known`: the network has
/// verified it.
pub(crate) async fn hear<S>(stream: &mut S, is_known: bool) -> Result<Hello, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    put_preamble(stream, PROTOCOL).await?;
    take_preamble(stream).await?;
    let bytes_max = if is_known {
        HELLO_BYTES_MAX
    } else {
        UNVERIFIED_BYTES_MAX
    };
    take(stream, bytes_max).await
}

/// Answers a hello.
pub(crate) async fn answer<S>(
    stream: &mut S,
    answer: &Result<Welcome, HandshakeRefusal>,
) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
{
    put(stream, answer).await
}

async fn put_preamble<S: AsyncWrite + Unpin>(stream: &mut S, version: u16) -> io::Result<()> {
    stream.write_all(&preamble(version)).await?;
    stream.flush().await
}

pub(crate) fn preamble(version: u16) -> [u8; PREAMBLE_BYTES] {
    let ([m, a, g, i], [low, high]) = (MAGIC, version.to_le_bytes());
    let [check, more, ..] = crc32c::crc32c(&[m, a, g, i, low, high]).to_le_bytes();
    [m, a, g, i, low, high, check, more]
}

const ONLY_IT_SPEAKS_TLS: &str =
    "it speaks TLS, and this process does not: give this one `.tls(..)`";

/// Whether these are the first bytes of a TLS alert or of a TLS handshake.
fn speaks_tls(heard: &[u8]) -> bool {
    matches!(heard, [0x15 | 0x16, 3, ..])
}

/// The version that a preamble announces.
fn read_preamble(heard: [u8; PREAMBLE_BYTES]) -> Result<u16, HandshakeError> {
    let [magic @ .., low, high, _, _] = heard;
    let version = u16::from_le_bytes([low, high]);
    if heard == preamble(version) {
        return Ok(version);
    }
    // Another protocol is not told from a damaged preamble by the check.
    let alike = magic.iter().zip(MAGIC).filter(|(a, b)| **a == *b).count();
    match alike {
        4 if mutants::on("damage_is_not_noticed") => Ok(version),
        3.. => Err(Damaged::Content.into()),
        _ => Err(HandshakeError::Magic),
    }
}

async fn take_preamble<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), HandshakeError> {
    let mut heard = [0; PREAMBLE_BYTES];
    let mut count = 0;
    while count < PREAMBLE_BYTES {
        let read = stream.read(&mut heard[count..]).await?;
        count += read;
        if speaks_tls(&heard[..count]) {
            return Err(HandshakeError::Untrusted(Untrusted::Plain(
                ONLY_IT_SPEAKS_TLS,
            )));
        }
        if read == 0 {
            return Err(HandshakeError::Closed);
        }
    }
    match read_preamble(heard)? {
        PROTOCOL => Ok(()),
        theirs => Err(HandshakeError::Version { theirs }),
    }
}

async fn put<S, T>(stream: &mut S, value: &T) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let bytes = codec::to_vec(value).map_err(|error| HandshakeError::Malformed(error.0))?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= HELLO_BYTES_MAX)
        .ok_or_else(|| HandshakeError::Malformed("too large".to_owned()))?;
    stream.write_all(&check::prefix(length, &bytes)).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// How many bytes a hello has.
pub(crate) fn hello_bytes(hello: &Hello) -> usize {
    codec::to_vec(hello).map_or(usize::MAX, |bytes| bytes.len())
}

async fn take<S, T>(stream: &mut S, bytes_max: usize) -> Result<T, HandshakeError>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await?;
    let length = check::length(prefix)?;
    if length > bytes_max {
        return Err(HandshakeError::Malformed(format!(
            "{length} bytes long, and at most {bytes_max} are taken"
        )));
    }
    // Grows with what arrives, and no further: a length alone must cost no memory.
    let mut bytes = Vec::new();
    let mut stream = stream.take(length as u64);
    while bytes.len() < length {
        bytes.reserve_exact(STEP_BYTES.min(length - bytes.len()));
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
    check::body(prefix, &bytes)?;
    codec::decode(&bytes).map_err(|error| HandshakeError::Malformed(error.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};

    fn member(name: &str) -> MemberId {
        MemberId {
            node: NodeId::new(name),
            incarnation: Incarnation(1),
        }
    }

    fn hello() -> Hello {
        Hello {
            cluster: "c".into(),
            identity: None,
            member: member("a"),
            address: None,
            lane: Lane::Control,
            keeps_seat: false,
            catalog: vec![CatalogEntry {
                name: "Counter".into(),
                shards: 10,
                fingerprint: 1,
                copies: None,
            }],
            to: None,
            settings: None,
        }
    }

    #[test]
    fn a_certificate_of_another_cluster_or_part_is_refused() {
        let me = member("b");
        let judge = |hello: &Hello, cluster: &str, role| {
            let peer = PeerIdentity {
                cluster: Some(cluster.to_owned()),
                role,
                ..PeerIdentity::member(NodeId::new("a"))
            };
            Doorkeeper {
                cluster: "c",
                identity: None,
                member: &me,
                keeps_seat: false,
                catalog: &[],
                settings: None,
                is_down: &|_| false,
                since_epoch: NOW,
            }
            .judge(hello, Some(&peer))
        };
        let client = hello();
        let node = Hello {
            address: Some(SocketAddr::from(([10, 0, 0, 1], 1))),
            ..hello()
        };
        assert_eq!(judge(&node, "c", PeerRole::Member), Ok(()));
        assert_eq!(judge(&client, "c", PeerRole::Client), Ok(()));
        assert_eq!(judge(&client, "c", PeerRole::Operator), Ok(()));
        assert!(matches!(
            judge(&node, "d", PeerRole::Member),
            Err(HandshakeRefusal::CertifiedElsewhere { .. })
        ));
        for role in [PeerRole::Client, PeerRole::Operator] {
            let refusal = judge(&node, "c", role).unwrap_err();
            assert!(matches!(refusal, HandshakeRefusal::NoMember { .. }) && refusal.is_final());
        }
        let seated = Hello {
            keeps_seat: true,
            ..hello()
        };
        assert!(judge(&seated, "c", PeerRole::Client).is_err());
    }

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    #[test]
    fn an_incarnation_of_the_far_future_is_refused_and_one_of_a_clock_that_is_ahead_is_not() {
        let born = |at: Duration| {
            let mut hello = hello();
            hello.member.incarnation = Incarnation(u64::try_from(at.as_millis()).unwrap());
            hello
        };
        let hour = Duration::from_hours(1);
        assert_eq!(judge(&born(NOW + hour), None, false), Ok(()));
        assert_eq!(judge(&born(NOW + AHEAD_MAX), None, false), Ok(()));
        let late = born(NOW + AHEAD_MAX + hour);
        let announced = late.member.clone();
        let refusal = HandshakeRefusal::FutureIncarnation { announced };
        assert_eq!(judge(&late, None, false), Err(refusal));
    }

    fn identity(n: u128) -> ClusterIdentity {
        ClusterIdentity {
            uuid: Uuid::from_u128(n),
            generation: Generation::new(1, 0),
        }
    }

    fn judge(
        hello: &Hello,
        mine: Option<ClusterIdentity>,
        down: bool,
    ) -> Result<(), HandshakeRefusal> {
        let me = member("b");
        let catalog = [CatalogEntry {
            name: "Counter".into(),
            shards: 10,
            fingerprint: 2,
            copies: None,
        }];
        let is_down = |_: &MemberId| down;
        Doorkeeper {
            cluster: "c",
            identity: mine,
            member: &me,
            keeps_seat: true,
            catalog: &catalog,
            settings: None,
            is_down: &is_down,
            since_epoch: NOW,
        }
        .judge(hello, None)
    }

    #[test]
    fn a_matching_hello_is_welcome() {
        assert_eq!(judge(&hello(), None, false), Ok(()));
        let joined = Hello {
            identity: Some(identity(1)),
            ..hello()
        };
        assert_eq!(judge(&joined, Some(identity(1)), false), Ok(()));
        assert_eq!(judge(&hello(), Some(identity(1)), false), Ok(()));
    }

    #[test]
    fn another_cluster_name_is_refused_in_the_dialers_words() {
        let other = Hello {
            cluster: "d".into(),
            ..hello()
        };
        let refusal = judge(&other, None, false).unwrap_err();
        assert_eq!(
            refusal,
            HandshakeRefusal::ClusterName {
                ours: "d".into(),
                theirs: "c".into()
            }
        );
        assert_eq!(
            refusal.to_string(),
            "it belongs to cluster `c`, this node to `d`"
        );
    }

    #[test]
    fn two_clusters_of_one_name_do_not_merge() {
        let other = Hello {
            identity: Some(identity(1)),
            ..hello()
        };
        assert!(matches!(
            judge(&other, Some(identity(2)), false),
            Err(HandshakeRefusal::OtherCluster { .. })
        ));
    }

    fn number(number: u32) -> Generation {
        Generation::new(number, 0)
    }

    #[test]
    fn generations_of_one_cluster_are_told_apart() {
        let of = |generation| ClusterIdentity {
            generation,
            ..identity(1)
        };
        let newer = Hello {
            identity: Some(of(number(2))),
            ..hello()
        };
        let refusal = judge(&newer, Some(of(number(1))), false).unwrap_err();
        assert_eq!(
            refusal,
            HandshakeRefusal::Generation {
                ours: number(2),
                theirs: number(1)
            }
        );
        assert!(!refusal.is_final());
    }

    #[test]
    fn a_dialer_of_an_old_generation_learns_of_the_new_one_whichever_member_it_asks_for() {
        let of = |generation| ClusterIdentity {
            generation,
            ..identity(1)
        };
        let older = Hello {
            identity: Some(of(number(1))),
            to: Some(member("old")),
            ..hello()
        };
        let refusal = judge(&older, Some(of(number(2))), false).unwrap_err();
        assert_eq!(
            refusal,
            HandshakeRefusal::Generation {
                ours: number(1),
                theirs: number(2)
            }
        );
    }

    #[test]
    fn a_restarted_process_is_not_the_one_that_was_meant() {
        let meant = Hello {
            to: Some(member("old")),
            ..hello()
        };
        let refusal = judge(&meant, None, false).unwrap_err();
        assert!(matches!(refusal, HandshakeRefusal::OtherMember { .. }) && !refusal.is_final());
    }

    #[test]
    fn shard_counts_must_agree() {
        let mut other = hello();
        other.catalog[0].shards = 20;
        let refusal = judge(&other, None, false).unwrap_err();
        assert_eq!(
            refusal,
            HandshakeRefusal::Shards {
                name: "Counter".into(),
                ours: 20,
                theirs: 10
            }
        );
    }

    #[test]
    fn settings_that_all_nodes_share_must_agree() {
        let shared = |lease, clock_drift| {
            SharedSettings::of(&Settings {
                lease: Duration::from_millis(lease),
                clock_drift,
                ..Settings::default()
            })
        };
        let (ours, me) = (shared(1200, 0.05), member("b"));
        let judge = |theirs: Option<SharedSettings>| {
            let hello = Hello {
                settings: theirs,
                ..hello()
            };
            Doorkeeper {
                cluster: "c",
                identity: None,
                member: &me,
                keeps_seat: false,
                catalog: &[],
                settings: Some(&ours),
                is_down: &|_| false,
                since_epoch: NOW,
            }
            .judge(&hello, None)
        };
        assert_eq!(judge(None), Ok(()), "a client shares nothing");
        assert_eq!(judge(Some(ours.clone())), Ok(()));
        let refusal = judge(Some(shared(1500, 0.05))).unwrap_err();
        assert!(refusal.is_final());
        assert_eq!(
            refusal.to_string(),
            "the setting `lease` is 1.2s there and 1.5s here; it must be the same on all nodes",
            "worded for the dialer"
        );
        let refusal = judge(Some(shared(1200, 0.1))).unwrap_err();
        assert!(
            refusal
                .to_string()
                .starts_with("the setting `clock_drift` is 0.05 there")
        );
    }

    /// What a process reads of a hello of so many types.
    async fn heard_of(types: usize, is_known: bool) -> Result<Hello, HandshakeError> {
        let (mut ours, mut theirs) = tokio::io::duplex(4 * 1024 * 1024);
        let mut long = hello();
        let entry = |n| CatalogEntry {
            name: format!("types/{n:040}"),
            ..long.catalog[0].clone()
        };
        long.catalog = (0..types).map(entry).collect();
        put_preamble(&mut theirs, PROTOCOL).await.unwrap();
        put(&mut theirs, &long).await.unwrap();
        hear(&mut ours, is_known).await
    }

    #[tokio::test]
    async fn a_stranger_says_no_more_than_a_little_and_no_process_has_too_many_types() {
        assert_eq!(heard_of(150, false).await.unwrap().catalog.len(), 150);
        let long = heard_of(399, false).await.unwrap_err();
        assert!(
            long.to_string().contains("at most 16384 are taken"),
            "{long}"
        );
        assert_eq!(heard_of(399, true).await.unwrap().catalog.len(), 399);
        let many = heard_of(CATALOG_MAX + 1, true).await.unwrap_err();
        assert!(
            many.to_string().contains("at most 400 entity types"),
            "{many}"
        );
    }

    #[tokio::test]
    async fn what_is_read_of_a_hello_takes_no_more_memory_than_it_has_bytes() {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let text = "x".repeat(10_000);
        put(&mut theirs, &text).await.unwrap();
        let read: String = take(&mut ours, UNVERIFIED_BYTES_MAX).await.unwrap();
        assert_eq!(read, text);
        // An array of 2^32 - 1 entries, of which nothing comes.
        let lie = [0xdd, 0xff, 0xff, 0xff, 0xff];
        let mut bytes = codec::to_vec(&hello()).unwrap();
        let name = b"catalog";
        let at = bytes.windows(name.len()).position(|it| it == name);
        let at = at.unwrap() + name.len();
        assert_eq!(bytes[at], 0x91, "an array of one");
        bytes.splice(at..=at, lie);
        let lying: Result<Hello, _> = codec::decode(&bytes);
        assert!(lying.is_err());
    }

    #[test]
    fn a_downed_member_stays_out() {
        assert_eq!(
            judge(&hello(), None, true),
            Err(HandshakeRefusal::Down(member("a")))
        );
    }

    #[tokio::test]
    async fn another_version_is_named() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        put_preamble(&mut theirs, 9).await.unwrap();
        let error = dial(&mut ours, &hello()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Version { theirs: 9 }) && error.is_final());
    }

    #[tokio::test]
    async fn other_protocols_are_noticed() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs
            .write_all(b"HTTP/1.1 400 Bad Request\r\n")
            .await
            .unwrap();
        assert!(matches!(
            dial(&mut ours, &hello()).await,
            Err(HandshakeError::Magic)
        ));
    }

    #[tokio::test]
    async fn a_lying_length_is_an_error() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        put_preamble(&mut theirs, PROTOCOL).await.unwrap();
        let lie = check::prefix(0xff_ffff, b"");
        theirs.write_all(&lie).await.unwrap();
        assert!(matches!(
            hear(&mut ours, false).await,
            Err(HandshakeError::Malformed(_))
        ));
    }

    /// What the hearing side makes of a dialer's bytes.
    async fn heard(bytes: &[u8]) -> Result<Hello, HandshakeError> {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        hear(&mut ours, false).await
    }

    #[tokio::test]
    async fn a_flipped_bit_in_a_handshake_is_damage_and_no_reason_to_give_up() {
        let mut sent = preamble(PROTOCOL).to_vec();
        let hello = codec::to_vec(&hello()).unwrap();
        sent.extend(check::prefix(u32::try_from(hello.len()).unwrap(), &hello));
        sent.extend(hello);
        assert!(heard(&sent).await.is_ok());
        for bit in 0..sent.len() * 8 {
            sent[bit / 8] ^= 1 << (bit % 8);
            let error = heard(&sent).await.unwrap_err();
            assert!(
                matches!(error, HandshakeError::Damaged(_)) && !error.is_final(),
                "bit {bit}: {error}"
            );
            sent[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[tokio::test]
    async fn hello_and_welcome_cross() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let welcome = Welcome {
            identity: Some(identity(3)),
            member: member("b"),
            keeps_seat: false,
            voters: Vec::new(),
            seeker: None,
        };
        let told = Ok(welcome.clone());
        let server = async {
            let heard = hear(&mut theirs, false).await.unwrap();
            answer(&mut theirs, &told).await.unwrap();
            heard
        };
        let greeting = hello();
        let (got, heard) = tokio::join!(dial(&mut ours, &greeting), server);
        assert_eq!((got.unwrap(), heard), (welcome, hello()));
    }
}
