//! What a process uses of its files: certificate, key, authorities, revocations. Loaded as a whole,
//! or not at all.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem, pem::PemObject,
    },
    server::NoServerSessionStorage,
    sign::CertifiedKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use webpki::{OwnedCertRevocationList, anchor_from_trusted_cert};
use xxhash_rust::xxh3::Xxh3;

use super::{
    certificate::CertificateInfo,
    error::TlsError,
    files::Files,
    judge::{Judge, Usage},
    uri::Identity,
    words,
};
use crate::{infra::wall_clock, transport::identity::PeerRole};

/// The clock by which certificates are judged: the wall clock, which a simulation has its own of.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(wall_clock::since_epoch()))
    }
}

/// The bytes of all files, as they are now.
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
    revoked: Option<Vec<u8>>,
}

impl Contents {
    /// Reads the files. Blocks.
    pub(super) fn read(files: &Files) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.to_owned(),
                source,
            })
        };
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            authorities: read(&files.authorities)?,
            revoked: files.revoked.as_deref().map(read).transpose()?,
        })
    }

    /// A hash of all of them. Files that are replaced by links to others have no time of change.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let revoked = self.revoked.as_deref().unwrap_or_default();
        for part in [&self.certificate, &self.key, &self.authorities, revoked] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
        hash.digest()
    }
}

/// Certificate, key and authorities, checked and ready for use.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) info: CertificateInfo,
    pub(super) identity: Identity,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) hash: u64,
}

impl Loaded {
    /// Reads and checks the files. Blocks.
    pub(super) fn read(files: &Files) -> Result<Self, TlsError> {
        Self::new(files, &Contents::read(files)?)
    }

    /// Checks what a peer would: a certificate that every peer refuses is of no use.
    pub(super) fn new(files: &Files, contents: &Contents) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain: Vec<CertificateDer<'static>> =
            sections(&files.certificate, &contents.certificate, "certificates")?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| malformed(&files.key, "a private key", error.to_string()))?;
        let judge = Arc::new(judge(files, contents, provider.clone())?);
        let other_key = || TlsError::OtherKey {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        };
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider);
        certified
            .and_then(|certified| certified.keys_match())
            .map_err(|_| other_key())?;
        let (info, identity) = check(&judge, files, &chain)?;
        let server = ServerConfig::builder_with_details(provider.clone(), Arc::new(Clock))
            .with_protocol_versions(&[&TLS13])
            .map(|builder| builder.with_client_cert_verifier(judge.clone()))
            .and_then(|builder| builder.with_single_cert(chain.clone(), key.clone_key()));
        let client = ClientConfig::builder_with_details(provider, Arc::new(Clock))
            .with_protocol_versions(&[&TLS13])
            .map(|builder| builder.dangerous().with_custom_certificate_verifier(judge))
            .and_then(|builder| builder.with_client_auth_cert(chain, key));
        let (mut server, mut client) = match (server, client) {
            (Ok(server), Ok(client)) => (server, client),
            (Err(error), _) | (_, Err(error)) => {
                return Err(TlsError::Refused {
                    reason: error.to_string(),
                });
            }
        };
        // A ticket would outlive the certificate that it was given for, and early data can be sent
        // again by anybody.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        Ok(Self {
            info,
            identity,
            server: Arc::new(server),
            client: Arc::new(client),
            hash: contents.hash(),
        })
    }

    /// When the certificate ends, since the Unix epoch.
    pub(super) fn until(&self) -> Duration {
        self.info.not_after
    }
}

fn judge(
    files: &Files,
    contents: &Contents,
    provider: Arc<CryptoProvider>,
) -> Result<Judge, TlsError> {
    let path = &files.authorities;
    let found: Vec<CertificateDer<'static>> =
        sections(path, &contents.authorities, "certificates of authorities")?;
    let anchor = |certificate: &CertificateDer<'static>| {
        let anchor = anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned());
        anchor.map_err(|error| malformed(path, "certificates of authorities", error.to_string()))
    };
    let authorities = found.iter().map(anchor).collect::<Result<_, _>>()?;
    let revoked = match (&files.revoked, &contents.revoked) {
        (Some(path), Some(bytes)) => {
            const EXPECTED: &str = "certificate revocation lists";
            let lists: Vec<CertificateRevocationListDer<'static>> =
                sections(path, bytes, EXPECTED)?;
            let read = |list: &CertificateRevocationListDer<'static>| {
                OwnedCertRevocationList::from_der(list)
                    .map(Into::into)
                    .map_err(|error| malformed(path, EXPECTED, error.to_string()))
            };
            lists.iter().map(read).collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    Ok(Judge {
        provider,
        authorities,
        revoked,
    })
}

/// Whether a peer would believe the certificate, now and for all that its owner does.
fn check(
    judge: &Judge,
    files: &Files,
    chain: &[CertificateDer<'static>],
) -> Result<(CertificateInfo, Identity), TlsError> {
    let (leaf, intermediates) = chain
        .split_first()
        .ok_or_else(|| malformed(&files.certificate, "certificates", "it has none".to_owned()))?;
    let info = CertificateInfo::read(leaf)
        .map_err(|reason| malformed(&files.certificate, "certificates", reason))?;
    let identity = match info.named() {
        Ok(identity) => identity.clone(),
        Err(source) => return Err(TlsError::NoIdentity { source }),
    };
    let usages: &[Usage] = match identity.role() {
        PeerRole::Member => &[Usage::Dialing, Usage::Accepting],
        PeerRole::Client | PeerRole::Operator => &[Usage::Dialing],
    };
    let now = UnixTime::since_unix_epoch(wall_clock::since_epoch());
    for usage in usages {
        let judged = judge.judge(*usage, leaf, intermediates, now);
        judged.map_err(|error| TlsError::Refused {
            reason: match &error {
                rustls::Error::InvalidCertificate(error) => words::refusal(error),
                other => other.to_string(),
            },
        })?;
    }
    Ok((info, identity))
}

fn malformed(path: &Path, expected: &'static str, reason: String) -> TlsError {
    TlsError::Malformed {
        path: path.to_owned(),
        expected,
        reason,
    }
}

/// All entries of a kind in a PEM file: at least one.
fn sections<T: PemObject>(
    path: &Path,
    bytes: &[u8],
    expected: &'static str,
) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, pem::Error> = T::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| malformed(path, expected, error.to_string()))?;
    if found.is_empty() {
        return Err(malformed(path, expected, "it has none".to_owned()));
    }
    Ok(found)
}

/// What the first certificate in a file says.
pub(super) fn read_certificate(path: &Path) -> Result<CertificateInfo, TlsError> {
    let bytes = fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let found: Vec<CertificateDer<'static>> = sections(path, &bytes, "certificates")?;
    let first = found.first().map_or(&[][..], |first| first);
    CertificateInfo::read(first).map_err(|reason| malformed(path, "certificates", reason))
}
