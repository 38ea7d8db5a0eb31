//! `casty cert`: makes certificates, and tells what they say.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use casty::tls::{CertificateInfo, Identity, PeerRole, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::{arguments::Certificates, text};

/// How far the beginning of a certificate is in the past: clocks differ.
const BACKDATED: Duration = Duration::minutes(5);

/// Why a certificate was not made, or is of no use.
#[derive(Debug)]
pub(crate) struct CertFailure {
    pub(crate) why: String,
    pub(crate) remedy: &'static str,
    pub(crate) code: u8,
}

impl CertFailure {
    fn file(path: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "give --force to replace it, or another directory",
            io::ErrorKind::NotFound => "check the path; `casty cert create-ca` makes an authority",
            _ => "check the path, and that this process may use it",
        };
        let why = match error.kind() {
            io::ErrorKind::AlreadyExists => format!("`{}` is there already", path.display()),
            _ => format!("`{}`: {error}", path.display()),
        };
        Self {
            why,
            remedy,
            code: 1,
        }
    }

    fn making(error: &Error) -> Self {
        Self {
            why: error.to_string(),
            remedy: "check that the files of the authority are those of `casty cert create-ca`",
            code: 1,
        }
    }

    fn refused(error: &casty::tls::TlsError) -> Self {
        Self {
            why: error.to_string(),
            remedy: "`casty cert info` shows what a certificate says; `casty cert create-node` makes one",
            code: 1,
        }
    }
}

/// Does one of the commands. Returns the text to print.
pub(crate) fn run(
    command: &Certificates,
    cluster: &str,
    json: bool,
) -> Result<String, CertFailure> {
    match command {
        Certificates::CreateCa { files } => {
            let needed = named(cluster)?;
            let made = authority(needed, files.lasts())?;
            let [certificate, key] = write(&files.to, "ca", &made, files.force)?;
            Ok(created(json, None, &certificate, &key))
        }
        Certificates::CreateNode { name, from, files } => {
            let identity = Identity::new(named(cluster)?, PeerRole::Member, name);
            create(&identity, from.as_deref(), files, json)
        }
        Certificates::CreateClient { name, from, files } => {
            let identity = Identity::new(named(cluster)?, PeerRole::Client, name);
            create(&identity, from.as_deref(), files, json)
        }
        Certificates::CreateOperator { name, from, files } => {
            let identity = Identity::new(named(cluster)?, PeerRole::Operator, name);
            create(&identity, from.as_deref(), files, json)
        }
        Certificates::Info { certificate } => {
            let info = Tls::read_certificate(certificate);
            Ok(describe(
                json,
                &info.map_err(|error| CertFailure::refused(&error))?,
            ))
        }
        Certificates::Check {
            certificate,
            key,
            ca,
            revoked,
            process,
        } => check(
            (certificate, key, ca, revoked.as_deref()),
            process,
            cluster,
            json,
        ),
    }
}

/// Files of an authority or a process that are about to be made.
#[derive(Debug, clap::Args)]
pub(crate) struct NewFiles {
    /// The directory in which the files are made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,

    /// For how many days the certificate is valid. Default: 3650 for an authority, 90 for others.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=36500))]
    days: Option<u16>,

    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
}

impl NewFiles {
    fn lasts(&self) -> Lasts {
        Lasts(self.days)
    }
}

#[derive(Clone, Copy)]
struct Lasts(Option<u16>);

impl Lasts {
    /// From when, and until when.
    fn times(self, default: i64) -> (OffsetDateTime, OffsetDateTime) {
        let now = OffsetDateTime::now_utc();
        let days = self.0.map_or(default, i64::from);
        (now - BACKDATED, now + Duration::days(days))
    }
}

/// A certificate and its key, in PEM.
struct Made {
    certificate: String,
    key: String,
}

fn named(cluster: &str) -> Result<&str, CertFailure> {
    if cluster.is_empty() {
        return Err(CertFailure {
            why: "no cluster is named, and a certificate is for one".to_owned(),
            remedy: "give --cluster NAME or set CASTY_CLUSTER",
            code: 2,
        });
    }
    Ok(cluster)
}

fn authority(cluster: &str, lasts: Lasts) -> Result<Made, CertFailure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{cluster} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = lasts.times(3650);
    let key = KeyPair::generate().map_err(|error| CertFailure::making(&error))?;
    let made = params.self_signed(&key);
    Ok(Made {
        certificate: made.map_err(|error| CertFailure::making(&error))?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes the certificate of a process, and writes it beside its key.
fn create(
    identity: &Identity,
    from: Option<&Path>,
    files: &NewFiles,
    json: bool,
) -> Result<String, CertFailure> {
    let from = from.unwrap_or(&files.to);
    let read = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).map_err(|error| CertFailure::file(&path, &error))
    };
    let (authority, key) = (read("ca.pem")?, read("ca.key")?);
    let made = sign(identity, &authority, &key, files.lasts());
    let made = made.map_err(|error| CertFailure::making(&error))?;
    let [certificate, key] = write(&files.to, &file_name(identity.name()), &made, files.force)?;
    Ok(created(json, Some(identity), &certificate, &key))
}

fn sign(identity: &Identity, authority: &str, key: &str, lasts: Lasts) -> Result<Made, Error> {
    let issuer = Issuer::from_ca_cert_pem(authority, KeyPair::from_pem(key)?)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(identity.name());
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role() {
        // A node dials others and is dialed by them.
        PeerRole::Member => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = lasts.times(90);
    let key = KeyPair::generate()?;
    Ok(Made {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    // More than 64 characters are not allowed there. The whole name is in the URI.
    let short: String = name.chars().take(64).collect();
    names.push(DnType::CommonName, short);
    names
}

/// A name of a process as that of a file.
fn file_name(name: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let name: String = name
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .collect();
    name.trim_start_matches('.').to_owned()
}

/// Writes both files, or none if one of them is there already. The key is for its owner alone.
fn write(to: &Path, name: &str, made: &Made, force: bool) -> Result<[PathBuf; 2], CertFailure> {
    let paths = ["pem", "key"].map(|end| to.join(format!("{name}.{end}")));
    let [certificate, key] = &paths;
    if !force && let Some(there) = paths.iter().find(|path| path.exists()) {
        let exists = io::ErrorKind::AlreadyExists.into();
        return Err(CertFailure::file(there, &exists));
    }
    fs::create_dir_all(to).map_err(|error| CertFailure::file(to, &error))?;
    // The key first: a certificate without a key is of no use, and a node that reads both meanwhile
    // keeps its old pair.
    put(key, &made.key, 0o600, force).map_err(|error| CertFailure::file(key, &error))?;
    put(certificate, &made.certificate, 0o644, force)
        .map_err(|error| CertFailure::file(certificate, &error))?;
    Ok(paths)
}

/// Writes a file whole: into another one first, which then takes its place. It has its mode before
/// anything is in it.
fn put(path: &Path, content: &str, mode: u32, force: bool) -> io::Result<()> {
    let part = path.with_extension("part");
    // What an interrupted command has left.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&part)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    if !force && path.exists() {
        fs::remove_file(&part)?;
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(&part, path)
}

fn created(json: bool, identity: Option<&Identity>, certificate: &Path, key: &Path) -> String {
    if json {
        let report = json!({
            "identity": identity.map(ToString::to_string),
            "certificate": certificate,
            "key": key,
        });
        return format!("{report:#}\n");
    }
    let of = match identity {
        Some(identity) => identity.to_string(),
        None => "a new authority".to_owned(),
    };
    format!(
        "{of}\n  certificate  {}\n  key          {}\n",
        certificate.display(),
        key.display()
    )
}

fn describe(json: bool, info: &CertificateInfo) -> String {
    let left = left(info);
    if json {
        let report = json!({
            "identity": info.identity.as_ref().map(ToString::to_string),
            "uris": info.uris,
            "subject": info.subject,
            "issuer": info.issuer,
            "serial": info.serial,
            "not_before": info.not_before.as_secs(),
            "not_after": info.not_after.as_secs(),
            "is_authority": info.is_authority,
            "client_usage": info.client_usage,
            "server_usage": info.server_usage,
        });
        return format!("{report:#}\n");
    }
    let identity = match &info.identity {
        Some(identity) => identity.to_string(),
        None if info.is_authority => "an authority".to_owned(),
        None => "names no process of a cluster".to_owned(),
    };
    let usages = match (info.client_usage, info.server_usage) {
        (true, true) => "dials and is dialed",
        (true, false) => "dials",
        (false, true) => "is dialed",
        (false, false) => "none",
    };
    let (from, until) = (
        text::time(info.not_before.as_secs()),
        text::time(info.not_after.as_secs()),
    );
    format!(
        "{identity}\n  subject  {}\n  issuer   {}\n  serial   {}\n  usage    {usages}\n  valid    {from} to {until}, {left}\n",
        info.subject, info.issuer, info.serial
    )
}

/// What is left of a certificate's time, in words.
fn left(info: &CertificateInfo) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let end = i64::try_from(info.not_after.as_secs()).unwrap_or(i64::MAX);
    let seconds = end.saturating_sub(now);
    if seconds < 0 {
        return "it has expired".to_owned();
    }
    match seconds / 86_400 {
        0 => format!("{} hours left", seconds / 3600),
        days => format!("{days} days left"),
    }
}

/// Judges a certificate as a peer would, for a process of this part and name.
fn check(
    (certificate, key, ca, revoked): (&Path, &Path, &Path, Option<&Path>),
    process: &[String],
    cluster: &str,
    json: bool,
) -> Result<String, CertFailure> {
    let wrong = |why: String| CertFailure {
        why,
        remedy: "give --as member NODE, --as client NAME or --as operator NAME",
        code: 2,
    };
    let [role, name] = process else {
        return Err(wrong(
            "a process is named by its part and its name".to_owned(),
        ));
    };
    let role: PeerRole = role.parse().map_err(|error| wrong(format!("{error}")))?;
    let needed = Identity::new(named(cluster)?, role, name);
    let mut tls = Tls::from_files(certificate, key, ca);
    if let Some(revoked) = revoked {
        tls = tls.revoked(revoked);
    }
    let info = tls.check().map_err(|error| CertFailure::refused(&error))?;
    if info.identity.as_ref() != Some(&needed) {
        let found = info
            .identity
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        return Err(CertFailure {
            why: format!("a peer would take it for `{found}`, and not for `{needed}`"),
            remedy: "give the certificate of that process, or make one",
            code: 1,
        });
    }
    if json {
        return Ok(describe(json, &info));
    }
    Ok(format!(
        "a peer would accept it as `{needed}`, {}\n",
        left(&info)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_file_in_the_directory() {
        assert_eq!(file_name("node-1"), "node-1");
        assert_eq!(file_name("10.0.0.1:25520"), "10.0.0.1_25520");
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
    }
}
