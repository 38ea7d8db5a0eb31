//! A state machine, sharded: `cargo run --example cart`

mod shop;

use casty::prelude::*;

use crate::shop::{Cart, Item};

fn item(name: &str, cents: u64) -> Item {
    Item {
        name: name.to_owned(),
        cents,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = ActorSystem::builder("shop")
        .node_id("node-1")
        .listen("127.0.0.1:0")
        .start()
        .await?;
    node.ready().await?;
    let cart = node.entity::<Cart>("c-1");

    println!("── An empty cart ──");
    println!("  total: {}", cart.total().await?);
    if let Err(refused) = cart.checkout().await {
        println!("  checkout: {refused}");
    }

    println!("── Filling it ──");
    cart.add_item(item("tea", 450)).await?;
    cart.add_item(item("milk", 120)).await?;
    if let Err(refused) = cart.remove_item("sugar".to_owned()).await {
        println!("  remove sugar: {refused}");
    }
    let removed = cart.remove_item("milk".to_owned()).await?;
    println!("  removed: {}", removed.name);
    println!("  total: {}", cart.total().await?);

    println!("── Checking out ──");
    let receipt = cart.checkout().await?;
    println!("  paid {} for {}", receipt.cents, receipt.names.join(", "));
    if let Err(refused) = cart.add_item(item("cake", 300)).await {
        println!("  add cake: {refused}");
    }

    println!("── Starting afresh ──");
    cart.forget().await?;
    println!("  total: {}", cart.total().await?);

    node.shutdown().await?;
    Ok(())
}
