//! From certificates to two nodes that talk, and a client of theirs: `cargo run --example tls`
//!
//! An authority signs a certificate for each process. `casty cert` does the same in a shell:
//!
//! ```text
//! casty --cluster shop cert create-ca     --to certs
//! casty --cluster shop cert create-node   --to certs node-1
//! casty --cluster shop cert create-node   --to certs node-2
//! casty --cluster shop cert create-client --to certs web
//! ```

use std::{error::Error, fs, path::Path, time::Duration};

use casty::{
    access::{Access, Permit},
    prelude::*,
    tls::{Identity, PeerRole, Tls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

const CLUSTER: &str = "shop";

/// Counts what is in a cart.
#[derive(Default)]
struct Cart {
    items: u64,
}

#[entity]
impl Cart {
    /// Adds an item. Returns how many there are.
    #[message]
    fn add(&mut self) -> u64 {
        self.items += 1;
        self.items
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority of the cluster's own. Its certificate goes to all processes, its key to none.
fn make_authority(folder: &Path) -> Result<Authority, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    Ok(authority)
}

/// The certificate of one process, which says who it is.
fn sign(
    authority: &Authority,
    folder: &Path,
    (role, name): (PeerRole, &str),
) -> Result<Tls, Box<dyn Error>> {
    let identity = Identity::new(CLUSTER, role, name);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    // A node dials others and is dialed by them.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    fs::write(file("pem"), certificate.pem())?;
    fs::write(file("key"), key.serialize_pem())?;
    Ok(Tls::from_files(
        file("pem"),
        file("key"),
        folder.join("ca.pem"),
    ))
}

/// Returns what happened, line by line.
async fn run(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let authority = make_authority(folder)?;
    let sign = |role, name| sign(&authority, folder, (role, name));

    // The nodes have the names in their certificates. The client `web` may send one message.
    let access = Access::new().client("web", Permit::to::<Cart>().messages(["add"]));
    let first = ActorSystem::builder(CLUSTER)
        .tls(sign(PeerRole::Member, "node-1")?)
        .access(access.clone())
        .start()
        .await?;
    let second = ActorSystem::builder(CLUSTER)
        .tls(sign(PeerRole::Member, "node-2")?)
        .access(access)
        .seeds([first.address()])
        .start()
        .await?;
    first.wait_for(2).await?;
    second.wait_for(2).await?;

    let web = sign(PeerRole::Client, "web")?;
    let client = ClusterClient::connect_tls(CLUSTER, [second.address()], web).await?;
    let alice = "alice";
    let mut lines = vec![
        format!(
            "{}: {} item",
            first.node_id(),
            first.entity::<Cart>(alice).add().await?
        ),
        format!(
            "{}: {} items",
            second.node_id(),
            second.entity::<Cart>(alice).add().await?
        ),
        format!("web: {} items", client.entity::<Cart>(alice).add().await?),
    ];

    // Without a certificate, nothing is said.
    let stranger = ClusterClient::connect(CLUSTER, [first.address()]);
    let refused = tokio::time::timeout(Duration::from_secs(10), stranger).await?;
    lines.push(match refused {
        Ok(_) => "a stranger was let in".to_owned(),
        Err(error) => format!("a stranger: {error}"),
    });

    client.shutdown().await?;
    second.shutdown().await?;
    first.shutdown().await?;
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for line in run(folder.path()).await? {
        println!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn two_nodes_and_a_client_talk_and_a_stranger_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let lines = super::run(folder.path()).await.unwrap();
        assert_eq!(
            lines[..3],
            ["node-1: 1 item", "node-2: 2 items", "web: 3 items"]
        );
        assert!(
            lines[3].contains("it speaks TLS, and this process does not"),
            "{lines:?}"
        );
    }
}
