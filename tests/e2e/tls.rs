//! Connections that are encrypted and authenticated, and those that are refused.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use casty::{
    access::{Access, Permit},
    admin::{Admin, AdminError},
    error::{ConnectError, JoinError, StartError},
    member::MemberStatus,
    prelude::*,
    testkit::{Sim, true_time},
    tls::{Identity, PeerRole, Tls, TlsError},
};
use casty_tests::Counter;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose as Usage, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    claims::{Call, Hello, Request, bytes, control},
    raw::{framed, greeting, length_after_preamble},
    support::{Logs, soon},
};

const BOTH: &[Usage] = &[Usage::ServerAuth, Usage::ClientAuth];
const DIALING: &[Usage] = &[Usage::ClientAuth];

/// An authority, and the files of those for whom it signs.
pub(crate) struct Authority {
    files: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) name: &'static str,
    /// From when, and for how long, what it signs is valid.
    begin: OffsetDateTime,
    lasts: Duration,
}

impl Authority {
    pub(crate) fn new(name: &'static str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self {
            files: tempfile::tempdir().unwrap(),
            issuer,
            name,
            begin: OffsetDateTime::now_utc() - Duration::from_mins(5),
            lasts: Duration::from_hours(24 * 365),
        };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a certificate and its key. Returns the files of the process.
    fn sign(&self, of: &str, uri: &str, usages: &[Usage], serial: u64) -> Tls {
        let (certificate, key) = self.make(uri, usages, serial);
        fs::write(self.path(&format!("{of}.pem")), certificate).unwrap();
        fs::write(self.path(&format!("{of}.key")), key).unwrap();
        self.files_of(of)
    }

    fn make(&self, uri: &str, usages: &[Usage], serial: u64) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = usages.to_vec();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = self.begin;
        params.not_after = self.begin + self.lasts;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn files_of(&self, of: &str) -> Tls {
        let named = |end: &str| self.path(&format!("{of}.{end}"));
        Tls::from_files(named("pem"), named("key"), self.path("ca.pem"))
    }

    pub(crate) fn member(&self, node: &str) -> Tls {
        let uri = Identity::new(self.name, PeerRole::Member, node).to_string();
        self.sign(node, &uri, BOTH, 1)
    }

    pub(crate) fn process(&self, role: PeerRole, name: &str) -> Tls {
        let uri = Identity::new(self.name, role, name).to_string();
        self.sign(name, &uri, DIALING, 2)
    }

    /// A list on which this serial number is.
    fn revoke(&self, serial: u64) -> PathBuf {
        self.revoke_at(OffsetDateTime::now_utc(), serial)
    }

    fn revoke_at(&self, now: OffsetDateTime, serial: u64) -> PathBuf {
        let list = CertificateRevocationListParams {
            this_update: now - Duration::from_mins(5),
            next_update: now + Duration::from_hours(24),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: now - Duration::from_mins(5),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path("revoked.pem");
        fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

/// Each client may send to counters.
fn node(cluster: &str, tls: Tls) -> casty::SystemBuilder {
    casty_tests::log();
    let access = Access::new().every_client(Permit::to::<Counter>());
    ActorSystem::builder(cluster).tls(tls).access(access)
}

/// Two nodes that talk by TLS.
async fn two(authority: &Authority) -> [ActorSystem; 2] {
    let first = node(authority.name, authority.member("a"))
        .start()
        .await
        .unwrap();
    let second = node(authority.name, authority.member("b")).seeds([first.address()]);
    let second = second.start().await.unwrap();
    for node in [&first, &second] {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    [first, second]
}

async fn shutdown(nodes: [ActorSystem; 2]) {
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}

/// Why a process does not join.
async fn refused(joining: ActorSystem) -> String {
    let joined = soon("a refusal", joining.wait_for(1)).await;
    let Err(JoinError::Refused { reason, .. }) = joined else {
        panic!("{joined:?}");
    };
    reason
}

#[tokio::test]
async fn nodes_with_certificates_form_a_cluster_and_a_client_uses_it() {
    let authority = Authority::new("tls-together");
    let nodes = two(&authority).await;
    // Of their certificates, as no name was given.
    assert_eq!(
        nodes.each_ref().map(|node| node.node_id().to_string()),
        ["a", "b"]
    );
    let tls = authority.process(PeerRole::Client, "web");
    let client = ClusterClient::connect_tls("tls-together", [nodes[0].address()], tls);
    let client = soon("a connection", client).await.unwrap();
    for n in 0..20 {
        let id = format!("c{n}");
        assert_eq!(client.entity::<Counter>(&id).add(1).await, Ok(1));
        assert_eq!(nodes[0].entity::<Counter>(&id).add(1).await, Ok(2));
        assert_eq!(nodes[1].entity::<Counter>(&id).add(1).await, Ok(3));
    }
    client.shutdown().await.unwrap();
    shutdown(nodes).await;
}

#[tokio::test]
async fn an_operator_sees_when_certificates_end() {
    let authority = Authority::new("tls-operator");
    let nodes = two(&authority).await;
    let connect = |tls| {
        let (limit, to) = (Duration::from_secs(5), [nodes[0].address()]);
        Admin::connect_tls_within(limit, "tls-operator", to, tls)
    };
    let tls = authority.process(PeerRole::Operator, "ada");
    let admin = connect(tls).await.unwrap();
    let end = authority.begin + authority.lasts;
    for member in admin.members().await.unwrap().members {
        assert_eq!(
            member.certificate_until,
            u64::try_from(end.unix_timestamp()).ok()
        );
    }
    // A client is no operator, whatever it would like to be.
    let client = authority.process(PeerRole::Client, "web");
    let Err(AdminError::Tls { reason }) = connect(client).await else {
        panic!("a client is let in");
    };
    assert!(
        reason.contains("casty://tls-operator/client/web"),
        "{reason}"
    );
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new("tls-other"), Authority::new("tls-other"));
    let nodes = two(&authority).await;
    // It trusts the nodes, and they do not trust it.
    let tls = other.member("c");
    fs::copy(authority.path("ca.pem"), authority.path("both.pem")).unwrap();
    let both = [authority.issuer.pem(), other.issuer.pem()].concat();
    fs::write(other.path("ca.pem"), both).unwrap();
    let third = node("tls-other", tls).seeds([nodes[0].address()]);
    let reason = refused(third.start().await.unwrap()).await;
    assert!(
        reason.contains("none of the authorities that the peer knows"),
        "{reason}"
    );
    // Nor does it trust them.
    fs::write(other.path("ca.pem"), other.issuer.pem()).unwrap();
    let third = node("tls-other", other.files_of("c")).seeds([nodes[0].address()]);
    let reason = refused(third.start().await.unwrap()).await;
    assert!(reason.contains("none of the known authorities"), "{reason}");
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_node_has_the_name_in_its_certificate() {
    let authority = Authority::new("tls-names");
    let named = node("tls-names", authority.member("a"))
        .node_id("b")
        .start()
        .await;
    assert!(matches!(
        named,
        Err(StartError::Tls(TlsError::OtherProcess { .. }))
    ));
    let elsewhere = authority.sign("x", "casty://elsewhere/member/x", BOTH, 1);
    let error = node("tls-names", elsewhere).start().await.unwrap_err();
    assert!(
        error.to_string().contains("casty://elsewhere/member/x"),
        "{error}"
    );
    let client = authority.process(PeerRole::Client, "web");
    let started = node("tls-names", client).start().await;
    assert!(matches!(
        started,
        Err(StartError::Tls(TlsError::OtherProcess { .. }))
    ));
}

#[tokio::test]
async fn what_every_peer_would_refuse_is_an_error_of_the_start() {
    let mut authority = Authority::new("tls-start");
    let uri = "casty://tls-start/member/a";
    let error = |tls| async {
        node("tls-start", tls)
            .start()
            .await
            .unwrap_err()
            .to_string()
    };
    let dialing = authority.sign("a", uri, DIALING, 1);
    let said = error(dialing).await;
    assert!(
        said.contains("serverAuth") && said.contains("Public authorities"),
        "{said}"
    );
    let nameless = authority.sign("a", "https://example.org", BOTH, 1);
    let said = error(nameless).await;
    assert!(said.contains("https://example.org"), "{said}");
    let tls = authority
        .sign("a", uri, BOTH, 7)
        .revoked(authority.revoke(7));
    let said = error(tls).await;
    assert!(said.contains("it is revoked"), "{said}");
    let mut other_key = authority.sign("a", uri, BOTH, 1);
    fs::write(
        authority.path("a.key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    let said = error(other_key.clone()).await;
    assert!(said.contains("is not that of the certificate"), "{said}");
    authority.lasts = Duration::from_mins(1);
    other_key = authority.sign("a", uri, BOTH, 1);
    let said = error(other_key).await;
    assert!(said.contains("has expired"), "{said}");
    authority.begin += Duration::from_hours(2);
    let early = authority.sign("a", uri, BOTH, 1);
    let said = error(early).await;
    assert!(said.contains("not valid yet"), "{said}");
    fs::remove_file(authority.path("a.key")).unwrap();
    let said = error(authority.files_of("a")).await;
    assert!(said.contains("a.key"), "{said}");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::new("tls-revoked");
    let revoked = authority.revoke(66);
    let first = node("tls-revoked", authority.member("a").revoked(&revoked));
    let first = first.start().await.unwrap();
    first.wait_for(1).await.unwrap();
    let lost = authority.sign("lost", "casty://tls-revoked/member/lost", BOTH, 66);
    let joining = node("tls-revoked", lost).seeds([first.address()]);
    let reason = refused(joining.start().await.unwrap()).await;
    assert!(reason.contains("it is revoked"), "{reason}");
    let other = node("tls-revoked", authority.member("b")).seeds([first.address()]);
    let other = other.start().await.unwrap();
    soon("a certificate that is not on the list", other.wait_for(2))
        .await
        .unwrap();
    shutdown([first, other]).await;
}

#[tokio::test]
async fn a_process_without_tls_and_a_node_with_it_say_what_is_wrong() {
    let authority = Authority::new("tls-plain");
    let secured = node("tls-plain", authority.member("a"))
        .start()
        .await
        .unwrap();
    secured.wait_for(1).await.unwrap();
    let plain = ActorSystem::builder("tls-plain").seeds([secured.address()]);
    let reason = refused(plain.start().await.unwrap()).await;
    assert!(
        reason.contains("it speaks TLS, and this process does not"),
        "{reason}"
    );
    let plain = ActorSystem::builder("tls-plain").start().await.unwrap();
    plain.wait_for(1).await.unwrap();
    let tls = authority.process(PeerRole::Client, "web");
    let client = ClusterClient::connect_tls("tls-plain", [plain.address()], tls);
    let error = soon("an error", client).await.unwrap_err();
    assert!(
        error.to_string().contains("it does not speak TLS"),
        "{error}"
    );
    assert!(matches!(error, ConnectError::Join(_)), "{error:?}");
    shutdown([secured, plain]).await;
}

#[tokio::test]
async fn without_tls_a_node_listens_on_loopback_alone() {
    let listen = |address: &str| ActorSystem::builder("exposed").listen(address);
    let error = listen("0.0.0.0:0").start().await.unwrap_err();
    assert!(matches!(error, StartError::Insecure { .. }), "{error:?}");
    assert!(error.to_string().contains("`.insecure()`"), "{error}");
    let wanted = listen("0.0.0.0:0")
        .advertise("127.0.0.1:25520")
        .insecure()
        .start()
        .await;
    wanted.unwrap().shutdown().await.unwrap();
    let authority = Authority::new("exposed");
    let secured = listen("0.0.0.0:0")
        .advertise("127.0.0.1:25520")
        .tls(authority.member("a"));
    secured.start().await.unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn an_unknown_peer_is_cut_off_after_a_handshakes_worth_of_bytes() {
    let authority = Authority::new("tls-noise");
    let first = node("tls-noise", authority.member("a"))
        .start()
        .await
        .unwrap();
    for bytes in [greeting(), vec![0x16, 3, 1, 0xff, 0xff], vec![0; 100]] {
        let mut stream = TcpStream::connect(first.address()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // A TLS record that announces more than it brings.
        let _ = stream.write_all(&vec![7; 100_000]).await;
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    }
    soon("it goes on", first.wait_for(1)).await.unwrap();
    first.shutdown().await.unwrap();
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

/// A process that speaks the protocol by hand, with the certificate of a client: it takes the name
/// of a member and says this on a lane. Returns whether it is answered.
async fn says(authority: &Authority, to: &ActorSystem, lane: &'static str, said: &[u8]) -> bool {
    let uri = format!("casty://{}/client/mallory", authority.name);
    let (certificate, key) = authority.make(&uri, DIALING, 9);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let stream = TcpStream::connect(to.address()).await.unwrap();
    let name = ServerName::try_from("anything").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let members = to.members();
    let hello = Hello {
        cluster: authority.name,
        identity: None,
        member: members[1].id.clone(),
        address: None,
        lane,
        catalog: Vec::new(),
        to: None,
    };
    stream.write_all(&greeting()).await.unwrap();
    stream.write_all(&framed(&bytes(&hello))).await.unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.unwrap();
    let mut welcome = vec![0; length_after_preamble(&head)];
    stream.read_exact(&mut welcome).await.unwrap();
    assert_eq!(welcome[..4], *b"\x81\xa2Ok");
    stream.write_all(said).await.unwrap();
    // An answer, or the end.
    let read = soon("an answer or the end", stream.read(&mut head)).await;
    matches!(read, Ok(bytes) if bytes > 0)
}

#[tokio::test]
async fn a_client_is_not_heard_where_members_alone_speak() {
    let authority = Authority::new("tls-client");
    let nodes = two(&authority).await;
    let map = control(&Request::Watch { version: 0 });
    assert!(
        says(&authority, &nodes[0], "Control", &map).await,
        "it may follow the map"
    );
    // A node would answer it.
    let inspect = Request::Call {
        id: 1,
        call: Call::Inspect,
    };
    let digest = Request::Digest {
        from: nodes[0].members()[1].id.clone(),
        digest: BTreeMap::new(),
    };
    for (lane, said) in [
        ("Control", control(&inspect)),
        ("Bulk", control(&inspect)),
        ("Control", control(&Request::Facts(BTreeMap::new()))),
        ("Control", control(&digest)),
        ("Copies", control(&Request::Watch { version: 0 })),
    ] {
        assert!(!says(&authority, &nodes[0], lane, &said).await, "{lane}");
    }
    assert_eq!(nodes[1].entity::<Counter>("c").add(1).await, Ok(1));
    shutdown(nodes).await;
}

/// Replaced while messages are under way: the next connections use the new files, and so, a little
/// later, do those that stand.
#[test]
fn certificates_are_replaced_without_a_restart_and_without_a_lost_message() {
    for seed in 0..casty_tests::seeds(2) {
        casty_tests::log();
        let mut authority = Authority::new("sim");
        let mut sim = Sim::new(seed);
        // A certificate lasts for a minute and a half.
        authority.begin = now_in(&sim);
        authority.lasts = Duration::from_secs(5 * 60 + 90);
        for name in ["a", "b"] {
            let tls = authority.member(name);
            sim.start_with(name, move |builder| {
                builder.strict_wire(false).tls(tls.clone())
            });
        }
        sim.until_up(2);
        let until = sim.elapsed() + Duration::from_secs(150);
        let (mut napping, mut telling) = (Vec::new(), Vec::new());
        for name in ["a", "b"] {
            for n in 0..4 {
                let id = format!("{name}-{n}");
                napping.push(sim.spawn_on(name, move |system| nap_until(system, id, until)));
            }
            telling.push(sim.spawn_on(name, move |system| tell_until(system, name, until)));
        }
        while sim.elapsed() < until {
            sim.run_for(Duration::from_secs(30));
            authority.begin = now_in(&sim);
            for name in ["a", "b"] {
                drop(authority.member(name));
            }
        }
        sim.run_for(NAP * 2);
        for task in &napping {
            let naps = task.take().expect("it is done");
            assert!(matches!(naps, Ok(8..)), "seed {seed}: {naps:?}");
        }
        for (name, task) in ["a", "b"].into_iter().zip(&telling) {
            let told = task.take().expect("it is done");
            let heard = sim.on("a", move |system| async move {
                let mut heard = Vec::new();
                for n in 0..LISTENERS {
                    heard.push(
                        system
                            .entity::<Napper>(listener(name, n))
                            .heard()
                            .await
                            .unwrap(),
                    );
                }
                heard
            });
            assert!(told > 2000, "seed {seed}: {told}");
            assert_eq!(heard, [(told, None); LISTENERS as usize], "seed {seed}");
        }
    }
}

/// The clock of a simulation, from before it begins.
fn now_in(sim: &Sim) -> OffsetDateTime {
    let now = Duration::from_secs(1_700_000_000) + sim.elapsed();
    let now = OffsetDateTime::from_unix_timestamp(now.as_secs() as i64).unwrap();
    now - Duration::from_mins(5)
}

/// An authority is replaced by way of files with both of them, while messages are under way.
#[test]
fn an_authority_is_replaced_without_a_restart_and_without_a_lost_message() {
    casty_tests::log();
    let mut sim = Sim::new(3);
    let lasting = |mut authority: Authority| {
        authority.begin = now_in(&sim);
        authority.lasts = Duration::from_secs(5 * 60 + 400);
        authority
    };
    let old = lasting(Authority::new("sim"));
    let new = lasting(Authority::new("sim"));
    for name in ["a", "b"] {
        let tls = old.member(name);
        sim.start_with(name, move |builder| {
            builder.strict_wire(false).tls(tls.clone())
        });
    }
    sim.until_up(2);
    let until = sim.elapsed() + Duration::from_secs(80);
    let telling = sim.spawn_on("a", move |system| tell_until(system, "a", until));
    let both = old.issuer.pem() + &new.issuer.pem();
    let authorities = |text: &str| fs::write(old.path("ca.pem"), text).unwrap();
    authorities(&both);
    sim.run_for(Duration::from_secs(35));
    for name in ["a", "b"] {
        let uri = Identity::new("sim", PeerRole::Member, name).to_string();
        let (certificate, key) = new.make(&uri, BOTH, 3);
        fs::write(old.path(&format!("{name}.pem")), certificate).unwrap();
        fs::write(old.path(&format!("{name}.key")), key).unwrap();
    }
    sim.run_for(Duration::from_secs(35));
    authorities(&new.issuer.pem());
    sim.run_for(Duration::from_secs(40));
    let told = telling.take().expect("it is done");
    let heard = sim.on("b", move |system| async move {
        let mut heard = Vec::new();
        for n in 0..LISTENERS {
            let listener = system.entity::<Napper>(listener("a", n));
            heard.push(listener.heard().await.unwrap());
        }
        heard
    });
    assert_eq!(heard, [(told, None); LISTENERS as usize]);
    assert!(told > 1000, "{told}");
    // What the old one has signed is of no use any more.
    let late = Authority {
        files: tempfile::tempdir().unwrap(),
        ..old
    };
    fs::write(late.path("ca.pem"), both).unwrap();
    let tls = late.member("c");
    sim.start_with("c", move |builder| {
        builder.strict_wire(false).tls(tls.clone())
    });
    sim.run_for(Duration::from_secs(20));
    assert_eq!(up(&mut sim, "a"), 2);
}

/// How many members a node knows that are Up.
fn up(sim: &mut Sim, of: &str) -> usize {
    let members = sim.on(of, |system| async move { system.members() });
    let up = members
        .iter()
        .filter(|member| member.status == MemberStatus::Up);
    up.count()
}

#[test]
fn a_certificate_that_is_revoked_later_is_refused_at_the_next_connection() {
    let (logs, _guard) = Logs::of_this_thread();
    let mut sim = Sim::new(11);
    let mut authority = Authority::new("sim");
    authority.begin = now_in(&sim);
    let list = authority.revoke_at(now_in(&sim), 1_000_000);
    let stolen = authority.sign("lost", "casty://sim/member/lost", BOTH, 66);
    for (name, tls) in [("a", authority.member("a").revoked(list)), ("lost", stolen)] {
        sim.start_with(name, move |builder| {
            builder.strict_wire(false).tls(tls.clone())
        });
    }
    sim.until_up(2);
    drop(authority.revoke_at(now_in(&sim), 66));
    sim.run_for(Duration::from_secs(35));
    assert_eq!(logs.with("it is revoked").len(), 0, "no connection is new");
    sim.crash("lost");
    sim.restart("lost");
    sim.run_for(Duration::from_secs(30));
    assert!(
        !logs.with("it is revoked").is_empty(),
        "{:?}",
        logs.with("WARN")
    );
    assert_eq!(up(&mut sim, "a"), 1);
}

#[test]
fn a_certificate_is_left_alone_until_its_key_is_there() {
    let (logs, _guard) = Logs::of_this_thread();
    let mut authority = Authority::new("sim");
    let mut sim = Sim::new(7);
    authority.begin = now_in(&sim);
    let tls = authority.member("a");
    sim.start_with("a", move |builder| {
        builder.strict_wire(false).tls(tls.clone())
    });
    sim.until_up(1);
    let uri = Identity::new("sim", PeerRole::Member, "a").to_string();
    let (certificate, key) = authority.make(&uri, BOTH, 1);
    fs::write(authority.path("a.pem"), certificate).unwrap();
    let count = |text: &str| logs.with(text).len();
    let (refused, used) = (
        "the old ones stay in use",
        "new certificates, keys or authorities are in use",
    );
    // Said once, however often they are read.
    sim.run_for(Duration::from_secs(100));
    assert_eq!(
        (count(refused), count(used)),
        (1, 0),
        "{:?}",
        logs.with("WARN")
    );
    fs::write(authority.path("a.key"), key).unwrap();
    sim.run_for(Duration::from_secs(31));
    assert_eq!(
        (count(refused), count(used)),
        (1, 1),
        "{:?}",
        logs.with("WARN")
    );
    // A process does not become another one.
    drop(authority.sign("a", "casty://sim/member/b", BOTH, 1));
    sim.run_for(Duration::from_secs(31));
    assert_eq!(
        (count(refused), count(used)),
        (2, 1),
        "{:?}",
        logs.with("WARN")
    );
    assert_eq!(count("casty://sim/member/b"), 1);
}

const NAP: Duration = Duration::from_secs(12);
const LISTENERS: u64 = 4;

/// Takes its time, and notes what it is told.
#[derive(Default)]
struct Napper {
    heard: u64,
    /// The first number that did not follow the one before.
    wrong: Option<u64>,
}

#[entity(shards = 16)]
impl Napper {
    #[message]
    async fn nap(&mut self) {
        tokio::time::sleep(NAP).await;
    }

    #[message]
    fn tell_number(&mut self, number: u64) {
        if number == self.heard {
            self.heard += 1;
        } else {
            self.wrong.get_or_insert(number);
        }
    }

    #[message]
    fn heard(&self) -> (u64, Option<u64>) {
        (self.heard, self.wrong)
    }
}

/// Has an entity nap all the time, so that a connection that ends has an ask on it. Returns how
/// often it napped.
async fn nap_until(system: ActorSystem, id: String, until: Duration) -> Result<u32, AskError> {
    let mut naps = 0;
    while true_time().is_some_and(|now| now < until) {
        let nap = system.entity::<Napper>(&id).nap();
        nap.timeout(Duration::from_mins(1)).await?;
        naps += 1;
    }
    Ok(naps)
}

fn listener(teller: &str, n: u64) -> String {
    format!("{teller} tells {n}")
}

/// Tells all listeners one number after the other. Returns how many there were.
async fn tell_until(system: ActorSystem, teller: &str, until: Duration) -> u64 {
    for number in 0.. {
        if true_time().is_none_or(|now| now >= until) {
            return number;
        }
        for n in 0..LISTENERS {
            let listener = system.entity::<Napper>(listener(teller, n));
            listener.tell_number(number).tell().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("time passes")
}
