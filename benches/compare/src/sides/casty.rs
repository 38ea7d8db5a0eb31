//! casty, with default settings.

use std::{fs, path::Path, time::Duration};

use casty::{
    ActorSystem, ClusterClient,
    access::{Access, Permit},
    tls,
};
use casty_benches::{Counter, CounterRef, Local as Actor, LocalRef};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::{
    AnyError,
    local::{Ask, Local, Tell},
    remote::Remote,
};

/// The last ask of a run waits for all that was told before.
const PATIENCE: Duration = Duration::from_secs(30);

impl Ask for CounterRef {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Tell for CounterRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }
}

impl Ask for LocalRef {
    async fn ask(&self, amount: i64) -> i64 {
        let answer = self.add(amount).timeout(PATIENCE).await;
        answer.expect("an answer")
    }
}

impl Tell for LocalRef {
    async fn tell(&self, amount: i64) {
        self.increment(amount).tell().await.expect("room");
    }
}

/// Sharded entities.
pub(crate) struct Entities(ActorSystem);

impl Local for Entities {
    type Counter = CounterRef;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self(ActorSystem::local("compare")))
    }

    async fn counter(&self, number: usize) -> CounterRef {
        self.0.entity::<Counter>(number.to_string())
    }
}

/// Plain actors.
pub(crate) struct Actors(ActorSystem);

impl Local for Actors {
    type Counter = LocalRef;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self(ActorSystem::local("compare")))
    }

    async fn counter(&self, _number: usize) -> LocalRef {
        self.0.spawn(Actor::default())
    }
}

/// An entity on a member, asked by a client of the cluster.
pub(crate) struct Network;

pub(crate) struct Connected {
    counter: CounterRef,
    _client: ClusterClient,
}

impl Ask for Connected {
    async fn ask(&self, amount: i64) -> i64 {
        self.counter.ask(amount).await
    }
}

impl Tell for Connected {
    async fn tell(&self, amount: i64) {
        Tell::tell(&self.counter, amount).await;
    }
}

impl Remote for Network {
    type Counter = Connected;
    type Server = ActorSystem;

    async fn serve() -> Result<(String, ActorSystem), AnyError> {
        let node = ActorSystem::builder("compare")
            .entity::<Counter>()
            .start()
            .await?;
        node.wait_for(1).await?;
        Ok((node.address().to_string(), node))
    }

    async fn connect(place: String) -> Result<Connected, AnyError> {
        let client = ClusterClient::connect("compare", [place]).await?;
        Ok(Connected {
            counter: client.entity::<Counter>("one"),
            _client: client,
        })
    }
}

/// The same over TLS.
pub(crate) struct Tls;

/// A node, and the folder with the certificates of both processes.
pub(crate) struct Encrypted {
    _node: ActorSystem,
    _files: TempDir,
}

/// The files of a process in a folder of certificates.
fn files(folder: &Path, role: tls::PeerRole) -> tls::Tls {
    let named = |end: &str| folder.join(format!("{role}.{end}"));
    tls::Tls::from_files(named("pem"), named("key"), folder.join("ca.pem"))
}

/// Makes an authority, and certificates for a node and for a client.
fn certificates(folder: &Path) -> Result<(), AnyError> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    for role in [tls::PeerRole::Member, tls::PeerRole::Client] {
        let uri = tls::Identity::new("compare", role, "one").to_string();
        let mut certificate = CertificateParams::default();
        certificate.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
        certificate.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = certificate.signed_by(&key, &authority)?;
        fs::write(folder.join(format!("{role}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{role}.key")), key.serialize_pem())?;
    }
    Ok(())
}

impl Remote for Tls {
    type Counter = Connected;
    type Server = Encrypted;

    async fn serve() -> Result<(String, Encrypted), AnyError> {
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
        let node = ActorSystem::builder("compare")
            .entity::<Counter>()
            .tls(files(folder.path(), tls::PeerRole::Member))
            .access(Access::new().every_client(Permit::to::<Counter>()))
            .start()
            .await?;
        node.wait_for(1).await?;
        let place = format!("{} {}", node.address(), folder.path().display());
        let server = Encrypted {
            _node: node,
            _files: folder,
        };
        Ok((place, server))
    }

    async fn connect(place: String) -> Result<Connected, AnyError> {
        let (address, folder) = place.split_once(' ').ok_or("no folder")?;
        let tls = files(Path::new(folder), tls::PeerRole::Client);
        let client = ClusterClient::connect_tls("compare", [address], tls).await?;
        Ok(Connected {
            counter: client.entity::<Counter>("one"),
            _client: client,
        })
    }
}
