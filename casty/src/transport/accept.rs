//! Lets the peers in that dial this node: establishes the connection, hears the peer's hello and
//! answers it, within one time limit. [`dial`](super::dial) is the other side.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    handshake::{self, HandshakeError, HandshakeRefusal, Hello, Welcome},
    identity::PeerRole,
    net::{Incoming, PeerIdentity, Stream},
};
use crate::{id::NodeId, infra::log_limit::LogLimit};

/// How often a process logs that there are too many. Places come free all the time, and so are
/// taken and missed in turns.
const FULL_LINES_EVERY: Duration = Duration::from_secs(1);

/// A connection that was let in.
pub(crate) struct Accepted {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) hello: Hello,
    /// What the dialer may do. A dialer of which nothing is verified may do everything.
    pub(crate) role: PeerRole,
    /// Its name, if that is verified.
    pub(crate) name: Option<NodeId>,
    /// When one of the two certificates ends, since the Unix epoch.
    pub(crate) until: Option<Duration>,
}

/// Bounds the number of connections that are in their handshake.
///
/// A handshake waits for its peer, so without a bound a crowd of silent peers would take all of
/// the process's memory and file descriptors.
pub(crate) struct Handshakes {
    places: Arc<Semaphore>,
    /// A line for each of a crowd of connections would be a flood of its own.
    lines: LogLimit,
}

/// The right of one connection to be in its handshake, until this is dropped.
#[must_use = "a dropped place bounds nothing"]
pub(crate) struct HandshakePlace(
    #[expect(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit,
);

impl Handshakes {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            lines: LogLimit::new(FULL_LINES_EVERY),
        }
    }

    /// A place for a connection.
    ///
    /// # Errors
    /// [`HandshakeError::TooMany`]: the connection has to be closed. The dialer tries again after
    /// its backoff.
    pub(crate) fn begin(&mut self, incoming: &Incoming) -> Result<HandshakePlace, HandshakeError> {
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(HandshakePlace(permit));
        }
        let error = HandshakeError::TooMany;
        if let Some(left_out) = self.lines.admit(Instant::now()) {
            tracing::warn!(from = %incoming.remote, %error, left_out, "a connection was refused");
        }
        Err(error)
    }
}

/// Establishes a connection, hears its hello and answers with what `judge` decides, within `limit`
/// altogether.
///
/// # Errors
/// [`HandshakeError::Refused`] with the refusal as the dialer was told it, and every way in which a
/// handshake fails.
///
/// # Cancel safety
/// A dropped future closes the connection.
pub(crate) async fn accept(
    incoming: Incoming,
    judge: impl FnOnce(&Hello, Option<&PeerIdentity>) -> Result<Welcome, HandshakeRefusal>,
    limit: Duration,
) -> Result<Accepted, HandshakeError> {
    let accepting = async {
        let mut connected = incoming.establish().await?;
        let hello = handshake::hear(&mut connected.stream, connected.peer.is_some()).await?;
        let answer = judge(&hello, connected.peer.as_ref());
        handshake::answer(&mut connected.stream, &answer).await?;
        match answer {
            Ok(_) => Ok(Accepted {
                stream: connected.stream,
                role: (connected.peer.as_ref()).map_or(PeerRole::Member, |peer| peer.role),
                name: connected.peer.as_ref().map(|peer| peer.name.clone()),
                hello: known_as(hello, connected.peer.as_ref()),
                until: connected.until,
            }),
            Err(refusal) => Err(HandshakeError::Refused(refusal)),
        }
    };
    tokio::time::timeout(limit, accepting)
        .await
        .unwrap_or(Err(HandshakeError::Timeout))
}

/// The hello of a client or of an operator, under a name that is verified. The one that it has
/// given itself may be that of a member.
fn known_as(mut hello: Hello, peer: Option<&PeerIdentity>) -> Hello {
    if let Some(peer) = peer.filter(|peer| peer.role != PeerRole::Member) {
        let name = format!("{peer} {}", hello.member.node);
        hello.member.node = NodeId::new(name);
    }
    hello
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use std::{io, net::SocketAddr, sync::Mutex};

    use super::*;
    use crate::{
        id::{Incarnation, MemberId},
        infra::sync::lock,
        transport::{
            dial::{Dialed, dial},
            handshake::{Doorkeeper, Lane},
            net::{Connected, Listener, Net, Target},
        },
    };

    const LIMIT: Duration = Duration::from_secs(1);

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 1))
    }

    fn member(name: &str) -> MemberId {
        MemberId {
            node: NodeId::new(name),
            incarnation: Incarnation(1),
        }
    }

    fn identity(name: Option<&str>) -> Option<PeerIdentity> {
        name.map(|name| PeerIdentity::member(NodeId::new(name)))
    }

    /// Connects once, to a peer of this identity.
    struct OneConnection(Mutex<Option<Connected>>);

    impl std::fmt::Debug for OneConnection {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("OneConnection")
        }
    }

    impl Net for OneConnection {
        fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Listener>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn connect<'a>(&'a self, _: &'a Target) -> BoxFuture<'a, io::Result<Connected>> {
            let connected = lock(&self.0).take();
            Box::pin(async { connected.ok_or(io::ErrorKind::ConnectionRefused.into()) })
        }

        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    /// The name that each side announces, and the name in its certificate.
    #[derive(Clone, Copy)]
    struct Names {
        announced: &'static str,
        certified: Option<&'static str>,
    }

    const fn honest(name: &'static str) -> Names {
        Names {
            announced: name,
            certified: Some(name),
        }
    }

    const FALSE: Names = Names {
        announced: "b",
        certified: Some("mallory"),
    };

    /// Both sides' results when one dials the other.
    async fn meet(
        dialer: Names,
        acceptor: Names,
        expected: Option<&str>,
    ) -> (
        Result<Dialed, HandshakeError>,
        Result<Accepted, HandshakeError>,
    ) {
        let (here, there) = tokio::io::duplex(1024);
        let net = OneConnection(Mutex::new(Some(Connected {
            stream: Box::new(here),
            peer: identity(acceptor.certified),
            until: None,
        })));
        let incoming = Incoming::new(address(), async move {
            Ok(Connected {
                stream: Box::new(there) as Box<dyn Stream>,
                peer: identity(dialer.certified),
                until: None,
            })
        });
        let target = Target {
            address: address(),
            expected: expected.map(NodeId::new),
        };
        let hello = || Hello {
            cluster: "c".into(),
            identity: None,
            member: member(dialer.announced),
            address: None,
            lane: Lane::Control,
            keeps_seat: false,
            catalog: Vec::new(),
            to: None,
            settings: None,
        };
        let me = member(acceptor.announced);
        let judge = |hello: &Hello, peer: Option<&PeerIdentity>| {
            let doorkeeper = Doorkeeper {
                cluster: "c",
                identity: None,
                member: &me,
                keeps_seat: false,
                catalog: &[],
                settings: None,
                is_down: &|_| false,
                since_epoch: Duration::ZERO,
            };
            doorkeeper.judge(hello, peer)?;
            Ok(Welcome {
                identity: None,
                member: me.clone(),
                keeps_seat: false,
                voters: Vec::new(),
                seeker: None,
            })
        };
        tokio::join!(
            dial(&net, &target, hello, LIMIT),
            accept(incoming, judge, LIMIT)
        )
    }

    #[test]
    fn a_client_that_takes_the_name_of_a_member_is_known_by_its_own() {
        let hello = Hello {
            cluster: "c".into(),
            identity: None,
            member: member("a"),
            address: None,
            lane: Lane::Control,
            keeps_seat: false,
            catalog: Vec::new(),
            to: None,
            settings: None,
        };
        let known_by =
            |peer: Option<PeerIdentity>| known_as(hello.clone(), peer.as_ref()).member.node;
        let client = PeerIdentity {
            role: PeerRole::Client,
            ..PeerIdentity::member(NodeId::new("web"))
        };
        assert_eq!(known_by(Some(client)), NodeId::new("client/web a"));
        assert_eq!(known_by(identity(Some("a"))), NodeId::new("a"));
        assert_eq!(known_by(None), NodeId::new("a"));
    }

    fn refused_as_mallory(error: &HandshakeError) -> bool {
        let HandshakeError::Refused(refusal) = error else {
            return false;
        };
        *refusal
            == HandshakeRefusal::FalseName {
                announced: NodeId::new("b"),
                certified: NodeId::new("mallory"),
            }
            && refusal.is_final()
    }

    #[tokio::test]
    async fn true_names_meet() {
        for expected in [None, Some("b")] {
            let (dialed, accepted) = meet(honest("a"), honest("b"), expected).await;
            assert_eq!(dialed.unwrap().welcome.member, member("b"));
            assert_eq!(accepted.unwrap().hello.member, member("a"));
        }
    }

    #[tokio::test]
    async fn a_network_that_verifies_nothing_takes_every_name() {
        let plain = |announced| Names {
            announced,
            certified: None,
        };
        let (dialed, accepted) = meet(plain("a"), plain("x"), Some("b")).await;
        assert!(dialed.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn a_dialer_with_a_false_name_is_refused_and_both_sides_know_why() {
        let (dialed, accepted) = meet(FALSE, honest("a"), Some("a")).await;
        assert!(refused_as_mallory(&dialed.err().unwrap()));
        assert!(refused_as_mallory(&accepted.err().unwrap()));
    }

    #[tokio::test]
    async fn a_dialer_that_finds_another_node_than_it_expected_says_nothing() {
        let (dialed, accepted) = meet(honest("a"), FALSE, Some("b")).await;
        let error = dialed.err().unwrap();
        assert_eq!(
            error.to_string(),
            "expected node `b` there, but its certificate says `mallory`"
        );
        assert!(error.is_about_identity() && !error.is_final());
        assert!(matches!(accepted, Err(HandshakeError::Closed)));
    }

    #[tokio::test]
    async fn a_node_that_answers_under_a_false_name_is_not_believed() {
        let (dialed, _) = meet(honest("a"), FALSE, None).await;
        let error = dialed.err().unwrap();
        assert_eq!(
            error.to_string(),
            "it announced itself as `b`, but its certificate says `mallory`"
        );
        assert!(error.is_about_identity() && !error.is_final());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_never_established_ends_at_the_limit() {
        let incoming = Incoming::new(address(), std::future::pending());
        let never = |_: &Hello, _: Option<&PeerIdentity>| Err(HandshakeRefusal::Down(member("x")));
        let accepted = accept(incoming, never, LIMIT).await;
        assert!(matches!(accepted, Err(HandshakeError::Timeout)));
    }

    #[test]
    fn handshakes_are_bounded_and_a_place_is_free_again_once_it_is_dropped() {
        let mut handshakes = Handshakes::new(2);
        let incoming = Incoming::new(address(), std::future::pending());
        let first = handshakes.begin(&incoming).unwrap();
        let _second = handshakes.begin(&incoming).unwrap();
        assert!(matches!(
            handshakes.begin(&incoming),
            Err(HandshakeError::TooMany)
        ));
        drop(first);
        assert!(handshakes.begin(&incoming).is_ok());
    }
}
