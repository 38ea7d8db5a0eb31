//! A node in a process of its own, for tests: `casty-test-node CLUSTER NODE LISTEN [SEED ...]`.
//!
//! Prints `address HOST:PORT` once it listens, `members N` when members come Up, and `failed WHY`
//! when it is no longer a member. It leaves gracefully at the end of its standard input, so it
//! never outlives the test that started it. `CASTY_STATE_DIR` names its state directory.

use casty::{Settings, prelude::*};
use tokio::io::{AsyncReadExt, stdin};

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
        .entity::<casty_tests::store::Purse>();
    let builder = match std::env::var_os("CASTY_STATE_DIR") {
        Some(path) => builder.state_dir(path),
        None => builder,
    };
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
