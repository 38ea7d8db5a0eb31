//! What a failed TLS handshake means, in words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::transport::net::Untrusted;

/// Why this process does not believe a certificate.
pub(super) fn refusal(error: &CertificateError) -> String {
    let words = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, by this process's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, by this process's clock"
        }
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnknownIssuer => "none of the known authorities has signed it",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it lacks an extended key usage: the certificate of a node needs both `serverAuth` and `clientAuth`, others \
             `clientAuth`. Public authorities no longer issue certificates for clients: use an authority of your own, for \
             example by `casty cert create-ca`"
        }
        CertificateError::ApplicationVerificationFailure => {
            "it names no process of a cluster: among its subject alternative names has to be a URI such as \
             `casty://CLUSTER/member/NODE`"
        }
        other => return other.to_string(),
    };
    words.to_owned()
}

/// Why a peer does not believe the certificate of this process, as far as an alert says.
fn alert(description: AlertDescription) -> String {
    let words = match description {
        AlertDescription::CertificateExpired => {
            "it has expired, or is not valid yet, by the peer's clock"
        }
        AlertDescription::CertificateRevoked => "it is revoked",
        AlertDescription::UnknownCA => "none of the authorities that the peer knows has signed it",
        AlertDescription::UnsupportedCertificate => "it lacks an extended key usage",
        AlertDescription::AccessDenied => "it names no process of a cluster",
        AlertDescription::CertificateRequired => "the peer got none",
        other => return format!("the peer's alert is {other:?}"),
    };
    words.to_owned()
}

const NO_TLS: &str = "it does not speak TLS, and this process does: give it `.tls(..)`";

/// The meaning of an error of a TLS stream.
pub(super) fn explain(error: io::Error) -> io::Error {
    // Without a farewell of TLS, as when a process dies. Frames have lengths, so nothing that is
    // cut short is taken for whole.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(error.kind(), "the other side closed it");
    }
    let inner = error.get_ref();
    let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<Error>()) else {
        return error;
    };
    match tls {
        Error::InvalidCertificate(error) => Untrusted::Peer(refusal(error)).into(),
        Error::NoCertificatesPresented => Untrusted::Peer("it has none".to_owned()).into(),
        Error::AlertReceived(description) => Untrusted::Us(alert(*description)).into(),
        Error::InvalidMessage(_) => Untrusted::Plain(NO_TLS).into(),
        other => Untrusted::Peer(other.to_string()).into(),
    }
}
