//! Messages between nodes, timers, work, sends and projections, as a collector of OpenTelemetry
//! sees them.
//!
//! One test: tracer and subscriber are those of the process.

#![expect(clippy::unwrap_used, reason = "tests")]

mod actors;
mod collector;

use std::time::Duration;

use casty::{ActorSystem, AskError, testkit};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tracing::{Instrument as _, Span};
use tracing_subscriber::prelude::*;

use self::{
    actors::{Counter, Deposits, Till},
    collector::{Collector, Seen},
};

/// A span as a program has it. With it a trace begins.
fn root(name: &str) -> Span {
    tracing::info_span!(target: "test", "root", otel.name = name)
}

impl Seen {
    fn is(&self, name: &str, kind: SpanKind) -> bool {
        self.name == name && self.kind == kind
    }

    fn is_child_of(&self, parent: &Self) -> bool {
        (&self.trace, &self.parent) == (&parent.trace, &parent.id)
    }

    /// Whether it begins a trace, and has a link to the other one and to nothing else.
    fn is_caused_by(&self, cause: &Self) -> bool {
        let is_linked = self.links == [(cause.trace.clone(), cause.id.clone())];
        is_linked && self.parent.is_empty() && self.trace != cause.trace
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// An id of an entity that lives on another node than `from`.
async fn elsewhere(from: &ActorSystem) -> String {
    for n in 0.. {
        let id = format!("c-{n}");
        let home = from.entity::<Counter>(&*id).home().await.unwrap();
        if home != from.node_id().to_string() {
            return id;
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_sees_how_messages_belong_together() {
    let (collector, address) = Collector::start().await;
    let traces = casty_otel::Otlp::new("shop")
        .node("node-0")
        .endpoint(format!("http://{address}/"))
        .every(Duration::from_millis(50))
        .start()
        .unwrap();
    let ours = |meta: &tracing::Metadata<'_>| ["casty::trace", "test"].contains(&meta.target());
    let layer = traces.layer();
    let filter = tracing_subscriber::filter::filter_fn(ours);
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
    let again = casty_otel::Otlp::new("shop").start();
    assert!(matches!(
        again,
        Err(casty_otel::StartError::AlreadyInstalled(_))
    ));

    let nodes = testkit::cluster(2).await;
    let mut running = Vec::new();
    for node in &nodes {
        running.push(node.project(Deposits::default()).await.unwrap());
    }
    asks_and_tells(&collector, &nodes[0]).await;
    timers_and_work(&collector, &nodes[0]).await;
    generations(&collector, &nodes[0]).await;
    answers(&collector, &nodes[0]).await;
    records(&collector, &nodes[0]).await;
    failures(&collector, &nodes[0]).await;
    what_is_not_sampled(&collector, &nodes[0]).await;
    drop(running);
    testkit::shutdown(nodes).await;
    traces.shutdown().await.unwrap();
}

/// An ask is a span of its trace on both sides, and what is told has a trace of its own.
async fn asks_and_tells(collector: &Collector, node: &ActorSystem) {
    let far = elsewhere(node).await;
    let counter = node.entity::<Counter>(&*far);
    let passing = counter.pass("next".to_owned(), "told".to_owned());
    let asking = async { passing.await.unwrap() };
    asking.instrument(root("asks")).await;

    let root = collector.find("root", |it| it.name == "asks").await;
    assert_eq!((root.service.as_str(), root.parent.as_str()), ("shop", ""));
    let client = collector
        .find("ask", |it| {
            it.is("Counter/pass", SpanKind::Client) && it.is_child_of(&root)
        })
        .await;
    let server = collector
        .find("handler", |it| {
            it.is("Counter/pass", SpanKind::Server) && it.is_child_of(&client)
        })
        .await;
    assert_eq!(server.field("casty.entity.id"), far);
    assert_ne!(server.field("casty.node"), node.node_id().to_string());
    assert_eq!(server.field("rpc.method"), "pass");
    // And on, from the handler.
    let next = collector
        .find("ask of a handler", |it| {
            it.is("Counter/add", SpanKind::Client) && it.is_child_of(&server)
        })
        .await;
    let its = collector
        .find("its handler", |it| {
            it.is("Counter/add", SpanKind::Server) && it.is_child_of(&next)
        })
        .await;
    assert_eq!(its.field("casty.entity.id"), "next");
    let told = collector
        .find("told", |it| {
            it.is("Counter/add", SpanKind::Consumer) && it.is_caused_by(&server)
        })
        .await;
    assert_eq!(told.field("casty.entity.id"), "told");

    // Spans of a handler's own are in its span, also after it has waited.
    let asking = async { node.entity::<Counter>("here").inner().await };
    assert_eq!(asking.instrument(self::root("own")).await, Ok(true));
    let inner = collector.find("inner", |it| it.name == "inner").await;
    let handler = collector.find("handler", |it| it.id == inner.parent).await;
    assert!(handler.is("Counter/inner", SpanKind::Server));
}

/// What comes later has a link to what has begun it.
async fn timers_and_work(collector: &Collector, node: &ActorSystem) {
    let counter = node.entity::<Counter>("timed");
    let asking = async { counter.later().await.unwrap() };
    asking.instrument(root("timers")).await;
    let begun = collector
        .find("handler", |it| it.is("Counter/later", SpanKind::Server))
        .await;
    collector
        .find("timer", |it| {
            it.is("Counter/once", SpanKind::Consumer) && it.is_caused_by(&begun)
        })
        .await;
    let work = collector
        .find("pipe", |it| {
            it.name == "Counter pipe" && it.is_child_of(&begun)
        })
        .await;
    collector
        .find("result", |it| {
            it.is("Counter/piped", SpanKind::Consumer) && it.is_caused_by(&work)
        })
        .await;
    // A timer that is repeated does not make spans for ever.
    while counter.add(0).await.unwrap() < 20 {
        tokio::task::yield_now().await;
    }
    // What has ended before this has come before this.
    drop(root("after the timers"));
    collector
        .find("root", |it| it.name == "after the timers")
        .await;
    let all = collector.all();
    assert!(!all.iter().any(|it| it.name == "Counter/again"), "{all:#?}");
}

/// A trace that causes another, which causes another, and so on, is followed for a while.
async fn generations(collector: &Collector, node: &ActorSystem) {
    let counter = node.entity::<Counter>("chain");
    let asking = async { counter.chain().await.unwrap() };
    asking.instrument(root("generations")).await;
    while counter.add(0).await.unwrap() < 40 {
        tokio::task::yield_now().await;
    }
    drop(root("after the generations"));
    collector
        .find("root", |it| it.name == "after the generations")
        .await;
    let all = collector.all();
    let later = |it: &&Seen| it.is("Counter/chain", SpanKind::Consumer);
    assert_eq!(all.iter().filter(later).count(), 16);
}

/// What an asker gets is the same with a trace and without.
async fn answers(collector: &Collector, node: &ActorSystem) {
    let nobody = node.entity::<Counter>("nobody");
    let counter = node.entity::<Counter>("answers");
    let ask = || async {
        let bytes = 9 * 1024 * 1024;
        (
            nobody.add(1).if_active().await,
            nobody.add(1).if_active().tell().await.is_ok(),
            counter.add(1).await,
            counter.add(0).if_active().await,
            counter.add(1).tell().await.is_ok(),
            counter.long(3).await,
            // It could not come from another node, so it does not come from this one.
            matches!(counter.long(bytes).await, Err(AskError::Reply { .. })),
        )
    };
    let plain = ask().await;
    assert_eq!((&plain.0, plain.6), (&Ok(None), true));
    let traced = ask().instrument(root("answers")).await;
    assert_eq!((traced.2, traced.3), (Ok(3), Ok(Some(3))));
    assert_eq!((plain.2, plain.3), (Ok(1), Ok(Some(1))));
    assert_eq!((traced.0, traced.1), (plain.0, plain.1));
    assert_eq!((traced.4, traced.5, traced.6), (plain.4, plain.5, plain.6));
    let root = collector.find("root", |it| it.name == "answers").await;
    collector
        .find("the last ask", |it| {
            it.is_child_of(&root) && it.name == "Counter/long" && it.failed
        })
        .await;
    let all = collector.all();
    let asks = all.iter().filter(|it| it.is_child_of(&root));
    let failed: Vec<_> = asks.filter(|it| it.failed).collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
}

/// What is stored keeps its cause.
async fn records(collector: &Collector, node: &ActorSystem) {
    let till = node.entity::<Till>("front");
    let asking = async { till.sell("ann".to_owned(), 5).await.unwrap() };
    asking.instrument(root("records")).await;
    let sold = collector
        .find("handler", |it| it.is("Till/sell", SpanKind::Server))
        .await;
    let deposited = collector
        .find("send", |it| {
            it.is("Account/deposit", SpanKind::Consumer) && it.is_caused_by(&sold)
        })
        .await;
    collector
        .find("projection", |it| {
            it.is("deposits/Account", SpanKind::Consumer) && it.is_caused_by(&deposited)
        })
        .await;
    collector
        .find("reminder", |it| {
            it.is("Till/close", SpanKind::Consumer) && it.is_caused_by(&sold)
        })
        .await;
}

/// A handler that panics has failed, and so has its ask.
async fn failures(collector: &Collector, node: &ActorSystem) {
    let counter = node.entity::<Counter>("weak");
    let asking = async { counter.fail().await.unwrap_err() };
    asking.instrument(root("failures")).await;
    let failed = |kind| move |it: &Seen| it.is("Counter/fail", kind) && it.failed;
    let client = collector.find("ask", failed(SpanKind::Client)).await;
    let server = collector.find("handler", failed(SpanKind::Server)).await;
    assert!(server.is_child_of(&client));
}

/// What has no span has none afterwards either: nothing begins a trace but the program.
async fn what_is_not_sampled(collector: &Collector, node: &ActorSystem) {
    let counter = node.entity::<Counter>("plain");
    counter.add(1).await.unwrap();
    counter.add(1).tell().await.unwrap();
    let asking = async { counter.add(1).await.unwrap() };
    asking.instrument(root("last")).await;
    let last = collector.find("root", |it| it.name == "last").await;
    let of_plain = |it: &Seen| it.field("casty.entity.id") == "plain";
    collector
        .find("handler", |it| of_plain(it) && it.kind == SpanKind::Server)
        .await;
    let all = collector.all();
    let mut plain = all.iter().filter(|it| of_plain(it));
    assert!(plain.all(|it| it.trace == last.trace), "{all:#?}");
}
