//! An authority for one run, and the certificates that it signs.

use std::{fs, path::Path};

use casty::tls::{Identity, PeerRole, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose as Usage, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::{Failure, cluster::CLUSTER};

/// Makes the folder of an authority: `ca.pem`, and for each process a certificate and a key.
pub(crate) fn make(folder: &Path, processes: &[(PeerRole, &str)]) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), issuer.pem())?;
    for (role, name) in processes {
        let mut params = CertificateParams::default();
        let uri = Identity::new(CLUSTER, *role, *name).to_string();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
        params.extended_key_usages = vec![Usage::ServerAuth, Usage::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// The files of one process.
pub(crate) fn of(folder: &Path, name: &str) -> Tls {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    Tls::from_files(file("pem"), file("key"), folder.join("ca.pem"))
}
