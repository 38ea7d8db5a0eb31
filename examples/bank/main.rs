//! Accounts that survive: their events are stored before anything of them is seen.
//!
//! `cargo run --example bank` keeps them in a SQLite file in the folder for temporary files; run it
//! again, and they are still there. `--database FILE` names another file, `--database-url URL` a
//! PostgreSQL database: `postgres://user:password@host/database`. `--data-dir FOLDER` needs no
//! database: the node keeps them in a log of its own.
//!
//! `--data-dir FOLDER --kills 100` runs three nodes, each a process that keeps copies of what the
//! others have. It transfers money between accounts, and kills a node meanwhile, a hundred times,
//! and every third time all of them. No money is missing then, and each transfer was made once.

#![expect(unreachable_pub, reason = "written as a library would write it")]

mod account;
mod branches;
mod transfers;

use std::path::PathBuf;

use casty::{SystemBuilder, prelude::*};
use casty_sql::{Postgres, Sqlite};

use crate::{
    account::{Account, InsufficientFunds, Statement},
    transfers::{Order, Progress, Transfer},
};

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => on_sqlite(std::env::temp_dir().join("casty-bank.db")).await,
        ["--database", file] => on_sqlite(file.into()).await,
        ["--database-url", url] => {
            run(async || Ok(bank().journal(Postgres::connect(url).await?))).await
        }
        ["--data-dir", folder] => run(async || Ok(bank().node_id("bank").data_dir(folder))).await,
        ["--data-dir", folder, "--kills", rounds] => branches::run(folder.as_ref(), rounds.parse()?).await,
        ["--data-dir", folder, "--branch", number, addresses] => {
            branches::serve(folder.as_ref(), number.parse()?, addresses).await
        }
        _ => Err("usage: bank [--database FILE | --database-url URL | --data-dir FOLDER [--kills NUMBER]]".into()),
    }
}

async fn on_sqlite(file: PathBuf) -> Result<(), AnyError> {
    println!("The accounts are in {}", file.display());
    run(async || Ok(bank().journal(Sqlite::open(&file).await?))).await
}

/// Uses the accounts, stops, starts again, and shows them.
async fn run(configure: impl AsyncFn() -> Result<SystemBuilder, AnyError>) -> Result<(), AnyError> {
    pay(configure().await?.start().await?).await?;

    println!("\n── After a restart ──");
    let system = configure().await?.start().await?;
    show(&system).await?;
    system.shutdown().await?;
    Ok(())
}

/// Uses the accounts of this system, and ends it.
async fn pay(system: ActorSystem) -> Result<(), AnyError> {
    println!("\n── Before ──");
    show(&system).await?;

    println!("\n── Payments ──");
    let alice = system.entity::<Account>("alice");
    println!("  alice pays in 100, and has {}", alice.deposit(100).await?);
    println!("  alice pays out 30, and has {}", alice.withdraw(30).await?);
    let Statement {
        balance, entries, ..
    } = alice.statement().await?;
    match alice.withdraw(balance + 1).await {
        Err(AskError::Entity(InsufficientFunds { balance })) => {
            println!("  alice cannot pay out {}: she has {balance}", balance + 1);
        }
        other => return Err(format!("more than there was: {other:?}").into()),
    }
    // A call with a key may be repeated: the account remembers its answer.
    let bob = system.entity::<Account>("bob");
    let first = bob.deposit(50).key("bonus-2026").await?;
    let again = bob.deposit(50).key("bonus-2026").await?;
    println!("  bob gets his bonus once: {first}, and {again} when asked again");
    // A saga: each step is stored with what it sends, so it comes to an end whatever happens.
    let transfer = system.entity::<Transfer>(format!("alice-{entries}"));
    let order = Order {
        from: "alice".to_owned(),
        to: "bob".to_owned(),
        amount: 20,
    };
    transfer.begin(order).await?;
    while transfer.progress().await? == Progress::UnderWay {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "  alice transfers 20 to bob: {:?}",
        transfer.progress().await?
    );
    system.shutdown().await?;
    Ok(())
}

fn bank() -> SystemBuilder {
    ActorSystem::builder("bank")
}

async fn show(system: &ActorSystem) -> Result<(), AnyError> {
    for id in ["alice", "bob"] {
        let statement = system.entity::<Account>(id).statement().await?;
        println!(
            "  {id}: {} ({} entries)",
            statement.balance, statement.entries
        );
    }
    Ok(())
}
