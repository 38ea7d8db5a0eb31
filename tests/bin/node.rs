//! A node in a process of its own, for tests: `casty-test-node CLUSTER NODE LISTEN [SEED ...]`.
//!
//! Prints `address HOST:PORT` once it listens, `members N` when members come Up, and `failed WHY`
//! when it is no longer a member. It leaves gracefully at the end of its standard input, so it
//! never outlives the test that started it. `CASTY_STATE_DIR` names its state directory,
//! `CASTY_ADVERTISE` the address for its peers, `CASTY_TLS_DIR` a folder with its certificate.

use std::time::Duration;

use casty::{Settings, SystemBuilder, prelude::*};
use tokio::io::{AsyncReadExt, stdin};

/// An entity that strangers may address. Few of its kind are active at a time. It is defined here,
/// so that no other program of the tests hosts it.
#[derive(Debug, Default)]
struct Visitor;

#[entity(shards = 16, mailbox = 16, max_active = 1000)]
impl Visitor {
    /// Does nothing.
    #[message]
    fn call(&mut self) {}

    /// Answers after `millis` milliseconds.
    #[message]
    async fn nap(&mut self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// A long answer.
    #[message]
    fn page(&mut self, kib: u32) -> String {
        "x".repeat(1024 * usize::try_from(kib).unwrap_or(0))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    casty_tests::log();
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("{what} is missing"));
    let (cluster, name, listen) = (next("cluster")?, next("node")?, next("listen")?);
    let seeds: Vec<String> = arguments.collect();
    // Refer to the entity types, so that the linker keeps them.
    let builder = ActorSystem::builder(cluster)
        .entity::<casty_tests::Counter>()
        .entity::<Visitor>()
        .entity::<casty_tests::store::Purse>();
    let builder = match std::env::var_os("CASTY_STATE_DIR") {
        Some(path) => builder.state_dir(path),
        None => builder,
    };
    let builder = match std::env::var("CASTY_ADVERTISE") {
        Ok(address) => builder.advertise(address),
        Err(_) => builder,
    };
    let builder = secured(builder, &name);
    let settings = match std::env::var("CASTY_PRESET").as_deref() {
        Ok("fast") => Settings::fast_failover(),
        _ => Settings::default(),
    };
    let node = builder
        .settings(settings)
        .node_id(name)
        .listen(listen)
        // In a namespace of its own, it is reached by the others of the test alone.
        .insecure()
        .seeds(seeds)
        .start()
        .await?;
    println!("address {}", node.address());
    let watching = node.clone();
    let mut members = 1;
    let watch = async move {
        let why = loop {
            match watching.wait_for(members).await {
                Ok(()) => println!("members {members}"),
                Err(why) => break why,
            }
            members += 1;
        };
        println!("failed {why}");
    };
    let mut ignored = Vec::new();
    tokio::select! {
        // What ends the node is told first.
        biased;
        () = watch => {}
        ended = node.run_until_terminated() => return Ok(ended?),
        result = async { stdin().read_to_end(&mut ignored).await } => drop(result?),
    }
    node.shutdown().await?;
    Ok(())
}

/// With the certificate of this node, if there is one.
#[cfg(feature = "tls")]
fn secured(builder: SystemBuilder, name: &str) -> SystemBuilder {
    use casty::{
        access::{Access, Permit},
        tls::Tls,
    };
    let Some(folder) = std::env::var_os("CASTY_TLS_DIR").map(std::path::PathBuf::from) else {
        return builder;
    };
    let file = |name: String| folder.join(name);
    let tls = Tls::from_files(
        file(format!("{name}.pem")),
        file(format!("{name}.key")),
        file("ca.pem".to_owned()),
    );
    let access = Access::new()
        .client("web", Permit::to::<casty_tests::Counter>())
        .client("mallory", Permit::to::<Visitor>());
    builder.tls(tls).access(access)
}

#[cfg(not(feature = "tls"))]
fn secured(builder: SystemBuilder, _: &str) -> SystemBuilder {
    builder
}
