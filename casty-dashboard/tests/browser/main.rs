//! The page in a real browser: Chromium without a window, where it is installed.

#![expect(clippy::unwrap_used, reason = "tests")]

mod chromium;

use std::{io::Write as _, sync::Arc};

use casty::{persistence::Memory, prelude::*, testkit::soon};
use casty_dashboard::{Dashboard, serve};
use serde_json::json;
use tokio::sync::Semaphore;

use self::chromium::{Browser, Tab};

/// Lets handlers go on.
struct Pass(Semaphore);

/// Waits for as long as it has to.
#[derive(Default)]
struct Clerk;

#[entity(name = "browser/clerk", shards = 8)]
impl Clerk {
    #[message]
    async fn work(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 7)
    }
}

/// Is stored.
#[message]
#[derive(Default)]
struct Purse {
    cents: u64,
}

#[entity(name = "browser/purse", event_sourced, record = 16, shards = 8)]
impl Purse {
    #[message]
    fn put(&self, cents: u64) -> Effect<Self, u64> {
        Effect::persist(PurseEvent::Filled { cents }).reply(|purse: &Self| purse.cents)
    }

    #[event]
    fn filled(&mut self, cents: u64) {
        self.cents += cents;
    }
}

/// An id that would be markup.
const ODD: &str = "<img src=x onerror=alert(1)>";

/// Two nodes of which one has a clerk that does not get on, and the page of the other.
struct Stage {
    nodes: [ActorSystem; 2],
    pass: Arc<Pass>,
    dashboard: Dashboard,
    browser: Browser,
}

impl Stage {
    /// `None`, with one loud line, where there is no browser.
    async fn new(cluster: &str) -> Option<Self> {
        let Some(browser) = Browser::start().await else {
            let required = std::env::var_os("CASTY_REQUIRE_BROWSER").is_some();
            assert!(!required, "there is no Chromium");
            let line = "LEFT OUT: the page is not tested in a browser: install `chromium`\n";
            // What a test prints otherwise is not shown if it succeeds.
            let mut stderr = std::io::stderr();
            stderr.write_all(line.as_bytes()).unwrap();
            return None;
        };
        let pass = Arc::new(Pass(Semaphore::new(0)));
        let store = Memory::new();
        let start = |name: &str| {
            let node = ActorSystem::builder(cluster).node_id(name);
            node.journal(store.clone()).resource(pass.clone())
        };
        let first = start("n1").start().await.unwrap();
        let second = start("n2").seeds([first.address()]).start().await.unwrap();
        for node in [&first, &second] {
            soon("it is up", node.wait_for(2)).await.unwrap();
        }
        for id in ["c", ODD] {
            for _ in 0..3 {
                let told = first.entity::<Clerk>(id).work().tell();
                soon("it is told", told).await.unwrap();
            }
        }
        for cents in 1..=3 {
            let put = first.entity::<Purse>("ann").put(cents);
            soon("it is put in", put).await.unwrap();
        }
        let dashboard = serve(&second, "127.0.0.1:0").await.unwrap();
        Some(Self {
            nodes: [first, second],
            pass,
            dashboard,
            browser,
        })
    }

    async fn open(&mut self, view: &str) -> Tab<'_> {
        let address = self.dashboard.address();
        self.browser
            .open(&format!("http://{address}/#{view}"))
            .await
    }

    async fn end(self) {
        self.browser.end().await;
        self.dashboard.shutdown().await.unwrap();
        self.pass.0.close();
        for node in self.nodes {
            node.shutdown().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_nodes_findings_and_what_an_entity_waits_for() {
    let Some(mut stage) = Stage::new("browser-views").await else {
        return;
    };
    let mut tab = stage.open("overview").await;
    tab.until("document.querySelectorAll('#nodes tbody tr').length === 2")
        .await;
    tab.until("document.querySelectorAll('#findings [data-name=slow-handler]').length === 2")
        .await;
    tab.until("document.querySelector('#tiles').innerText.includes('2 of 2')")
        .await;
    let rows = "[...document.querySelectorAll('#busiest tbody tr')].map(it => it.innerText)";
    let rows = tab.value(rows).await;
    assert!(rows.to_string().contains("browser/clerk/c"), "{rows}");
    // What users call their entities stays text.
    let images = tab
        .value("document.querySelectorAll('main img').length")
        .await;
    assert_eq!(images, json!(0));
    assert!(rows.to_string().contains(ODD), "{rows}");
    // The entities in another order.
    tab.value("[...document.querySelectorAll('#sorts button')].at(1).click()")
        .await;
    tab.until(
        "document.querySelector('#sorts [aria-pressed=true]').innerText.startsWith('handler')",
    )
    .await;
    // From the finding to the entity.
    tab.value("document.querySelector('#findings a[href*=clerk]').click()")
        .await;
    tab.until("document.querySelector('#entity').innerText.includes('work, for')")
        .await;
    tab.until("document.querySelector('#entities').hidden === false")
        .await;

    tab.value("document.querySelector('nav a[href=\"#types\"]').click()")
        .await;
    tab.until("document.querySelector('#kinds').innerText.includes('browser/purse')")
        .await;
    tab.value("document.querySelector('nav a[href=\"#shards\"]').click()")
        .await;
    tab.until("document.querySelectorAll('#map .grid').length === 2")
        .await;
    tab.until("document.querySelectorAll('#map .grid:first-of-type i').length === 8")
        .await;
    let trouble = tab.trouble();
    assert_eq!(trouble, Vec::<String>::new());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_searched_listed_and_opened() {
    let Some(mut stage) = Stage::new("browser-entities").await else {
        return;
    };
    let mut tab = stage.open("entities").await;
    tab.until("document.querySelectorAll('#kind option').length === 2")
        .await;
    tab.value(
        "{ const form = document.querySelector('#search'); form.kind.value = 'browser/purse'; \
         form.prefix.value = 'an'; form.requestSubmit(); }",
    )
    .await;
    tab.until("document.querySelector('#listed').innerText === '1 in all'")
        .await;
    tab.value("document.querySelector('#list a').click()").await;
    tab.until("document.querySelectorAll('#entity ol li').length === 3")
        .await;
    let first = tab.value("document.querySelector('#entity ol li').innerText");
    assert_eq!(first.await, json!("3. filled {\"cents\":3}"));
    let recorded = tab.value("document.querySelector('#entity pre').innerText");
    let recorded = recorded.await.as_str().unwrap().to_owned();
    assert!(
        recorded.contains("put {cents: 3}: replies 6 after"),
        "{recorded}"
    );
    let file = tab.value(
        "(async () => { const link = document.querySelector('#entity a[download]'); \
         const file = await (await fetch(link.href)).arrayBuffer(); \
         return new TextDecoder().decode(file.slice(0, 7)); })()",
    );
    assert_eq!(file.await, json!("casty r"));
    // An address leads to the same.
    let id = "document.querySelector('#entity h3').innerText";
    assert_eq!(tab.value(id).await, json!("browser/purse/ann"));
    let address = tab.value("location.hash").await;
    let address = address.as_str().unwrap().trim_start_matches('#').to_owned();
    let mut tab = stage.open(&address).await;
    tab.until("document.querySelectorAll('#entity ol li').length === 3")
        .await;
    tab.until("document.querySelector('#kind').value === 'browser/purse'")
        .await;
    let mut tab = stage.open("entities?kind=nothing&list=1").await;
    tab.until("document.querySelector('#listed').innerText.includes('nothing')")
        .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_and_follows_the_dark() {
    let Some(mut stage) = Stage::new("browser-phone").await else {
        return;
    };
    for view in [
        "overview",
        "types",
        "entities?kind=browser/clerk&id=c",
        "shards",
    ] {
        let mut tab = stage.open(view).await;
        tab.resize(390, 844).await;
        tab.until("document.querySelectorAll('#kind option').length === 2")
            .await;
        tab.until("document.querySelector('#status').innerText.startsWith('n2')")
            .await;
        // Tables scroll in their own boxes; the page does not.
        let fits = tab.value("document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(fits.await, json!(true), "{view}");
        let readable = "getComputedStyle(document.body).fontSize";
        assert_eq!(tab.value(readable).await, json!("15px"));
        let back = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)";
        for (scheme, range) in [("light", 200..=255), ("dark", 0..=60)] {
            tab.prefer(scheme).await;
            let color = tab.value(back).await;
            let all = color.as_array().unwrap().iter();
            let is_so = |it: &serde_json::Value| range.contains(&it.as_u64().unwrap());
            assert!(all.take(3).all(is_so), "{view} {scheme}: {color}");
        }
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_when_the_node_is_gone() {
    let Some(mut stage) = Stage::new("browser-gone").await else {
        return;
    };
    let address = stage.dashboard.address();
    let mut tab = stage.browser.open(&format!("http://{address}/")).await;
    tab.until("document.querySelector('#status').innerText.startsWith('n2')")
        .await;
    soon("it ends", stage.dashboard.shutdown()).await.unwrap();
    tab.until("document.querySelector('#status.stale') !== null")
        .await;
    stage.browser.end().await;
    stage.pass.0.close();
    for node in stage.nodes {
        node.shutdown().await.unwrap();
    }
}
