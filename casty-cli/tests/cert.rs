//! Runs `casty cert`, and a cluster with what it makes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{fs, path::Path};

use casty::{
    access::{Access, Permit},
    prelude::*,
    testkit::soon,
    tls::{PeerRole, Tls},
};

use crate::common::{Ran, ask, casty};

/// Runs a command, given as one line, for the files in `folder`.
async fn cert(folder: &Path, line: &str) -> Ran {
    let folder = folder.to_str().unwrap();
    let line = line.replace("DIR", folder);
    let mut arguments = vec!["--cluster", "shop", "cert"];
    arguments.extend(line.split_whitespace());
    casty(&arguments).await
}

async fn authority() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    cert(folder.path(), "create-ca --to DIR").await.succeeded();
    folder
}

fn tls(folder: &Path, name: &str) -> Tls {
    let file = |name: &str| folder.join(name);
    Tls::from_files(
        file(&format!("{name}.pem")),
        file(&format!("{name}.key")),
        file("ca.pem"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_runs_with_the_certificates_that_are_made() {
    let folder = authority().await;
    let at = folder.path();
    for line in [
        "create-node node-1 --to DIR",
        "create-node node-2 --to DIR",
        "create-client web --to DIR",
        "create-operator ada --to DIR",
    ] {
        cert(at, line).await.succeeded();
    }
    let node = |name: &str| {
        let access = Access::new().client("web", Permit::everything());
        ActorSystem::builder("shop")
            .tls(tls(at, name))
            .access(access)
    };
    let first = node("node-1").start().await.unwrap();
    let second = node("node-2");
    let second = second.seeds([first.address()]).start().await.unwrap();
    soon("both are up", first.wait_for(2)).await.unwrap();
    let connecting = ClusterClient::connect_tls("shop", [second.address()], tls(at, "web"));
    let client = soon("a client", connecting).await.unwrap();

    let (file, address) = (
        |name: &str| at.join(name).display().to_string(),
        first.address(),
    );
    let members = |of: &str| {
        let (cert, key) = (file(&format!("{of}.pem")), file(&format!("{of}.key")));
        let (ca, address) = (file("ca.pem"), address.to_string());
        async move {
            let line = [
                "--cluster",
                "shop",
                "--node",
                &address,
                "--tls-cert",
                &cert,
                "--tls-key",
                &key,
                "--tls-ca",
                &ca,
                "members",
            ];
            casty(&line).await
        }
    };
    let text = members("ada").await.succeeded();
    let shows_end = text.lines().filter(|line| line.contains(" to 20"));
    assert_eq!(shows_end.count(), 2, "{text}");
    let error = members("web").await.failed(1);
    assert!(error.contains("casty://shop/client/web"), "{error}");
    // Without a certificate, the node and the program both say what is missing.
    let error = ask("shop", &first, "members").await.failed(3);
    assert!(error.contains("it speaks TLS"), "{error}");
    client.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_certificate_says_what_it_is_for() {
    let folder = authority().await;
    let at = folder.path();
    cert(at, "create-node 10.0.0.1:25520 --to DIR --days 30")
        .await
        .succeeded();
    let file = at.join("10.0.0.1_25520.pem");
    let info = Tls::read_certificate(&file).unwrap();
    let identity = info.identity.unwrap();
    assert_eq!(
        (identity.cluster(), identity.role(), identity.name()),
        ("shop", PeerRole::Member, "10.0.0.1:25520")
    );
    assert!(info.client_usage && info.server_usage && !info.is_authority);
    let lasts = info.not_after.as_secs() - info.not_before.as_secs();
    assert_eq!(lasts, 30 * 86_400 + 5 * 60);

    let text = cert(at, "info DIR/10.0.0.1_25520.pem").await.succeeded();
    assert!(
        text.starts_with("casty://shop/member/10.0.0.1:25520\n"),
        "{text}"
    );
    // By how much less than thirty days is a matter of when it is looked at.
    let is_left = text.contains("29 days left") || text.contains("30 days left");
    assert!(text.contains("dials and is dialed") && is_left, "{text}");
    let authority = cert(at, "info DIR/ca.pem").await.succeeded();
    assert!(authority.starts_with("an authority\n"), "{authority}");
    let arguments = ["cert", "info", file.to_str().unwrap(), "--json"];
    let json = casty(&arguments).await.json();
    assert_eq!(json["identity"], "casty://shop/member/10.0.0.1:25520");
    let none = cert(at, "info DIR/none.pem").await.failed(1);
    assert!(none.contains("none.pem"), "{none}");
}

#[tokio::test]
async fn a_check_says_what_a_peer_would_say() {
    let (folder, other) = (authority().await, authority().await);
    let at = folder.path();
    cert(at, "create-node node-1 --to DIR").await.succeeded();
    cert(at, "create-client web --to DIR").await.succeeded();
    let files = "DIR/node-1.pem --key DIR/node-1.key --ca DIR/ca.pem";
    let right = cert(at, &format!("check {files} --as member node-1"))
        .await
        .succeeded();
    assert!(
        right.starts_with("a peer would accept it as `casty://shop/member/node-1`"),
        "{right}"
    );
    for (process, reason) in [
        (
            "member node-2",
            "a peer would take it for `casty://shop/member/node-1`",
        ),
        (
            "client node-1",
            "a peer would take it for `casty://shop/member/node-1`",
        ),
    ] {
        let wrong = cert(at, &format!("check {files} --as {process}"))
            .await
            .failed(1);
        assert!(wrong.contains(reason), "{wrong}");
    }
    let no_role = cert(at, &format!("check {files} --as leader node-1"))
        .await
        .failed(2);
    assert!(no_role.contains("`leader` is none of"), "{no_role}");
    let line = "check DIR/node-1.pem --key DIR/web.key --ca DIR/ca.pem --as member node-1";
    let other_key = cert(at, line).await.failed(1);
    assert!(
        other_key.contains("is not that of the certificate"),
        "{other_key}"
    );
    let elsewhere = other.path().join("ca.pem");
    let line = format!(
        "check DIR/node-1.pem --key DIR/node-1.key --ca {} --as member node-1",
        elsewhere.display()
    );
    let untrusted = cert(at, &line).await.failed(1);
    assert!(
        untrusted.contains("none of the known authorities"),
        "{untrusted}"
    );
}

#[tokio::test]
async fn files_are_replaced_on_demand_alone_and_keys_are_their_owners() {
    let folder = authority().await;
    let at = folder.path();
    cert(at, "create-node node-1 --to DIR").await.succeeded();
    let key = || fs::read_to_string(at.join("node-1.key")).unwrap();
    let before = key();
    let again = cert(at, "create-node node-1 --to DIR").await.failed(1);
    assert!(again.contains("is there already; give --force"), "{again}");
    assert_eq!(key(), before);
    cert(at, "create-node node-1 --to DIR --force")
        .await
        .succeeded();
    assert_ne!(key(), before);
    #[cfg(unix)]
    for (file, mode) in [
        ("ca.key", 0o600),
        ("node-1.key", 0o600),
        ("node-1.pem", 0o644),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let is = fs::metadata(at.join(file)).unwrap().permissions().mode();
        assert_eq!(is & 0o777, mode, "{file}");
    }
    // From another directory, where the key of the authority is not.
    fs::create_dir(at.join("node")).unwrap();
    cert(at, "create-node node-3 --from DIR --to DIR/node")
        .await
        .succeeded();
    assert!(at.join("node/node-3.pem").exists() && !at.join("node/ca.key").exists());
    let nowhere = cert(at, "create-node node-4 --to DIR/node").await.failed(1);
    assert!(nowhere.contains("ca.pem"), "{nowhere}");
    let no_cluster = casty(&["cert", "create-ca", "--to", "x"]).await.failed(2);
    assert!(no_cluster.contains("give --cluster NAME"), "{no_cluster}");
}
