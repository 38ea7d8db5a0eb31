//! Slow work beside the mailbox: `cargo run --example pipe`

use std::collections::BTreeMap;

use casty::{
    prelude::*,
    reply::{Later, Promise},
};

/// Fetches pages and keeps them. The entity answers other questions while a page is on its way.
#[derive(Default)]
struct Pages {
    known: BTreeMap<String, String>,
    /// The askers of each page that is being fetched.
    waiting: BTreeMap<String, Vec<Promise<Option<String>>>>,
}

#[entity(shards = 4)]
impl Pages {
    /// The page: at once if it is known, else as soon as it has been fetched. Two askers of the
    /// same page share one fetch.
    #[message]
    fn page(&mut self, url: String, ctx: &mut Context<Self>) -> Later<Option<String>> {
        let (promise, later) = Promise::new();
        if let Some(page) = self.known.get(&url) {
            promise.reply(Some(page.clone()));
        } else {
            let waiting = self.waiting.entry(url.clone()).or_default();
            waiting.push(promise);
            if waiting.len() == 1 {
                println!("  (fetching {url})");
                ctx.pipe(fetch(url.clone()), |page| PagesMsg::Fetched { url, page });
            }
        }
        later
    }

    /// How many pages are known.
    #[message]
    fn known(&self) -> usize {
        self.known.len()
    }

    /// The result of a fetch, which may be an error. The message is internal: no proxy can send it.
    #[message(internal)]
    fn fetched(&mut self, url: String, page: Result<String, FetchError>) {
        if let Err(FetchError(reason)) = &page {
            println!("  ({url}: {reason})");
        }
        let page = page.ok();
        for promise in self.waiting.remove(&url).unwrap_or_default() {
            promise.reply(page.clone());
        }
        if let Some(page) = page {
            self.known.insert(url, page);
        }
    }
}

/// Why there is no page.
struct FetchError(&'static str);

/// Stands for a slow request.
async fn fetch(url: String) -> Result<String, FetchError> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    match url.as_str() {
        "nowhere" => Err(FetchError("no such page")),
        _ => Ok(format!("the text of {url}")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = ActorSystem::local("app");
    let pages = system.entity::<Pages>("pages");

    let begun = tokio::time::Instant::now();
    let asks = async {
        tokio::join!(
            pages.page("home".to_owned()).into_future(),
            pages.page("home".to_owned()).into_future(),
            pages.page("nowhere".to_owned()).into_future(),
        )
    };
    let questions = async {
        // The mailbox is free while three asks wait.
        let known = pages.known().await;
        (known, begun.elapsed())
    };
    let ((first, second, nowhere), (known, after)) = tokio::join!(asks, questions);

    println!("known meanwhile: {} page(s)", known?);
    println!("home: {:?}", first?);
    println!("home: {:?}", second?);
    println!("nowhere: {:?}", nowhere?);
    println!("known now: {} page(s)", pages.known().await?);
    let fetched = begun.elapsed();
    println!(
        "the question waited less than the pages: {}",
        after < fetched / 2
    );

    system.shutdown().await?;
    Ok(())
}
