//! What casty is built from: the rules of `deny.toml`, as far as they need no network.
//!
//! `cargo deny check` reads the same file, and also knows of advisories.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{path::PathBuf, process::Command};

use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None`: it is one of casty's own.
    source: Option<String>,
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// All that this platform needs.
fn packages() -> Vec<Package> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(["metadata", "--locked", "--offline"]);
    command.args(["--format-version", "1", "--filter-platform", host.unwrap()]);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() > 100, "all of them are seen");
    metadata.packages
}

fn is_allowed(required: &LicenseReq, allowed: &[String]) -> bool {
    let required = required.to_string();
    // An exception only adds to what is allowed.
    let id = required.split(" WITH ").next().unwrap_or_default();
    allowed.iter().any(|license| license == id)
}

/// What is wrong with a package.
fn wrong(package: &Package, rules: &Rules) -> Option<String> {
    if let Some(banned) = rules.bans.deny.iter().find(|it| it.name == package.name) {
        return Some(format!("is banned: {}", banned.reason));
    }
    if let Some(source) = &package.source
        && source != CRATES_IO
    {
        return Some(format!("comes from {source}"));
    }
    let Some(license) = &package.license else {
        return Some("says nothing of its license".to_owned());
    };
    let expression = match Expression::parse_mode(license, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("has a license that cannot be read: {error}")),
    };
    let is_allowed = expression.evaluate(|required| is_allowed(required, &rules.licenses.allow));
    (!is_allowed).then(|| format!("has the license {license}"))
}

#[test]
fn each_crate_has_an_allowed_license_and_source_and_none_is_banned() {
    let rules = rules();
    assert_eq!(rules.sources.unknown_registry, "deny");
    assert_eq!(rules.sources.unknown_git, "deny");
    let packages = packages();
    let wrong = packages.iter().filter_map(|package| {
        let why = wrong(package, &rules)?;
        Some(format!("{} {} {why}", package.name, package.version))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_rules_forbid_is_found() {
    let rules = rules();
    let package = |name: &str, license: Option<&str>, source: Option<&str>| Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        license: license.map(str::to_owned),
        source: source.map(str::to_owned),
    };
    let wrong = |package: Package| wrong(&package, &rules);
    assert_eq!(
        wrong(package("good", Some("MIT/Apache-2.0"), Some(CRATES_IO))),
        None
    );
    assert_eq!(wrong(package("own", Some("MIT AND Zlib"), None)), None);
    assert_eq!(wrong(package("free", Some("GPL-3.0 OR ISC"), None)), None);
    let found = [
        wrong(package("copyleft", Some("GPL-3.0"), Some(CRATES_IO))),
        wrong(package("both", Some("MIT AND GPL-3.0"), Some(CRATES_IO))),
        wrong(package("none", None, Some(CRATES_IO))),
        wrong(package("odd", Some("mine"), Some(CRATES_IO))),
        wrong(package(
            "forked",
            Some("MIT"),
            Some("git+https://example.org/forked"),
        )),
        wrong(package("openssl", Some("Apache-2.0"), Some(CRATES_IO))),
    ];
    assert!(found.iter().all(Option::is_some), "{found:?}");
}
