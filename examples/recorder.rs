//! The flight recorder: an entity fails on a node, and its last messages run again in a test.
//!
//! ```sh
//! cargo run --example recorder
//! ```

use std::{error::Error, fs, path::Path};

use casty::{prelude::*, recorder::Recording, testkit};

/// Splits a bill between guests. It fails if nobody is left.
#[message]
#[derive(Default)]
struct Table {
    guests: u64,
    cents: u64,
}

#[entity(record = 256)]
impl Table {
    #[message]
    fn arrive(&mut self, guests: u64) {
        self.guests += guests;
    }

    #[message]
    fn leave(&mut self, guests: u64) {
        self.guests -= guests;
    }

    #[message]
    fn order(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[message]
    fn share(&self) -> u64 {
        self.cents / self.guests
    }
}

/// The same, mended. In a project of yours it is the same type, in a later version.
#[message]
#[derive(Default)]
struct MendedTable {
    guests: u64,
    cents: u64,
}

#[entity(record = 256)]
impl MendedTable {
    #[message]
    fn arrive(&mut self, guests: u64) {
        self.guests += guests;
    }

    #[message]
    fn leave(&mut self, guests: u64) {
        self.guests = self.guests.saturating_sub(guests);
    }

    #[message]
    fn order(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[message]
    fn share(&self) -> Option<u64> {
        self.cents.checked_div(self.guests)
    }
}

/// A node on which a table fails. Its folder of recordings has a file afterwards.
async fn serve(folder: &Path) -> Result<(), Box<dyn Error>> {
    let node = ActorSystem::builder("restaurant")
        .recordings(folder)
        .start_local()?;
    let table = node.entity::<Table>("window");
    table.arrive(4).await?;
    table.order(8000).await?;
    println!("each pays {} cents", table.share().await?);
    table.leave(4).await?;
    if let Err(error) = table.share().await {
        println!("the table fails: {error}");
    }
    node.shutdown().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // The file is written beside the node's work, and before its runtime ends.
    tokio::runtime::Runtime::new()?.block_on(serve(folder.path()))?;
    let file = fs::read_dir(folder.path())?.next();
    let file = file.ok_or("there is a recording")??.path();

    println!("\n── What `casty recording FILE` shows ──");
    print!("{}", Recording::read(&file)?);

    println!("\n── The same code, in a test ──");
    let replayed = testkit::replay::<Table>(&file)?;
    println!("{replayed}");
    replayed.expect_same();

    println!("\n── The mended code ──");
    println!("{}", testkit::replay::<MendedTable>(&file)?);
    Ok(())
}
