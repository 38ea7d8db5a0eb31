//! Gives entities a connection to the world outside: `cargo run --example resources`
//!
//! The program opens what its entities share once, and hands it to the builder of the system. Each
//! entity finds it by its type.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use casty::prelude::*;

/// Prices by article. A real program would have a connection pool or a client here.
struct Catalog {
    prices: HashMap<&'static str, u64>,
}

/// Receipts in the order in which they were printed. A test can have a printer of its own.
#[derive(Default)]
struct Printer {
    printed: Mutex<Vec<String>>,
}

impl Printer {
    fn print(&self, receipt: String) {
        println!("{receipt}");
        self.printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(receipt);
    }
}

/// The catalog has no price for an article.
#[message]
#[derive(Clone, Debug, PartialEq)]
struct UnknownArticle;

impl fmt::Display for UnknownArticle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the catalog does not know this article")
    }
}

impl std::error::Error for UnknownArticle {}

#[derive(Default)]
struct Till {
    total: u64,
}

#[entity]
impl Till {
    /// Sells an article, if the catalog knows it.
    #[message]
    fn sell(&mut self, article: String, ctx: &mut Context<Self>) -> Result<u64, UnknownArticle> {
        let catalog = ctx.resource::<Catalog>();
        let price = catalog.prices.get(article.as_str());
        let price = price.ok_or(UnknownArticle)?;
        self.total += price;
        ctx.resource::<Printer>()
            .print(format!("{}: {article} for {price}", ctx.entity_id()));
        Ok(self.total)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog {
        prices: HashMap::from([("tea", 3), ("bread", 4)]),
    };
    let system = ActorSystem::builder("shop")
        .resource(catalog)
        .resource(Printer::default())
        // What is sent goes through the codec here, too, and not only between nodes.
        .strict_wire(true)
        .start_local()?;

    let till = system.entity::<Till>("till-1");
    till.sell("tea".to_owned()).await?;
    let total = till.sell("bread".to_owned()).await?;
    println!("total: {total}");
    if let Err(error) = till.sell("gold".to_owned()).await {
        println!("gold: {error}");
    }

    system.shutdown().await?;
    Ok(())
}
