//! What a certificate says.

use std::time::Duration;

use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

use super::uri::{Identity, NoIdentity};

/// What a certificate says. Times are since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// The process that it is for, from the first URI that names one.
    pub identity: Option<Identity>,
    /// All URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// The name of its subject.
    pub subject: String,
    /// The name of the authority that has signed it.
    pub issuer: String,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// It is not valid before this time.
    pub not_before: Duration,
    /// It is not valid after this time.
    pub not_after: Duration,
    /// It may sign other certificates.
    pub is_authority: bool,
    /// Its owner may dial with it.
    pub client_usage: bool,
    /// Its owner may be dialed with it.
    pub server_usage: bool,
}

impl CertificateInfo {
    /// Reads a certificate from its DER form.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|error| error.to_string())?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let uris: Vec<String> = names
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect();
        let usage = certificate.extended_key_usage();
        let usage = usage.map_err(|error| error.to_string())?;
        let usage = usage.map(|usage| usage.value);
        Ok(Self {
            identity: uris.iter().find_map(|uri| uri.parse().ok()),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            not_before: since_epoch(&certificate.validity().not_before),
            not_after: since_epoch(&certificate.validity().not_after),
            is_authority: certificate.is_ca(),
            // Without the extension everything is allowed.
            client_usage: usage.is_none_or(|usage| usage.any || usage.client_auth),
            server_usage: usage.is_none_or(|usage| usage.any || usage.server_auth),
            uris,
        })
    }

    /// The process that the certificate is for.
    pub(crate) fn named(&self) -> Result<&Identity, NoIdentity> {
        let first = self.uris.first().map_or("", String::as_str);
        let identity = self.identity.as_ref();
        identity.ok_or_else(|| NoIdentity::instead(first))
    }
}

fn since_epoch(time: &ASN1Time) -> Duration {
    Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
