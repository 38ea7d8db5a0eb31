//! What is found in a cluster that is stuck on purpose, each with the entity or the node that it is
//! about, and what else explains it.

use std::sync::{Arc, Mutex, mpsc};

use casty::{
    admin::{Admin, Finding, Overview, Severity},
    prelude::*,
    testkit::soon,
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Lets the handlers of a node's entities go on.
struct Passes {
    waits: Semaphore,
    blocks: Mutex<mpsc::Receiver<()>>,
}

/// Does all that an entity should not do.
#[derive(Default)]
struct Stuck;

#[entity(name = "findings/stuck", mailbox = 2000)]
impl Stuck {
    /// Awaits something that takes long.
    #[message]
    async fn wait(&mut self, ctx: &mut Context<Self>) -> bool {
        let passes = ctx.resource::<Arc<Passes>>().clone();
        passes.waits.acquire().await.is_ok()
    }

    /// Keeps its thread.
    #[message]
    fn block(&mut self, ctx: &mut Context<Self>) -> bool {
        let passes = ctx.resource::<Arc<Passes>>().clone();
        let blocked = passes.blocks.lock().unwrap();
        blocked.recv().is_err()
    }

    /// Fails.
    #[message]
    fn fail(&mut self) {
        panic!("on purpose");
    }

    /// Is at work for a while.
    #[message]
    async fn nap(&mut self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Has no room.
#[derive(Default)]
struct Narrow;

#[entity(name = "findings/narrow", mailbox = 1, overflow = reject)]
impl Narrow {
    /// Awaits something that takes long.
    #[message]
    async fn wait(&mut self, ctx: &mut Context<Self>) -> bool {
        let passes = ctx.resource::<Arc<Passes>>().clone();
        passes.waits.acquire().await.is_ok()
    }
}

/// Looks again and again, until `seen` says that all is found.
async fn found(
    what: &str,
    look: impl AsyncFn() -> Overview,
    seen: impl Fn(&[Finding]) -> bool,
) -> Vec<Finding> {
    let looking = async {
        let mut before: Option<Overview> = None;
        loop {
            let overview = look().await;
            let findings = overview.findings(before.as_ref());
            if seen(&findings) {
                return findings;
            }
            before = Some(overview);
            // Some findings compare two looks, which have to be some time apart.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(what, looking).await
}

fn has(findings: &[Finding], name: &str, about: &str) -> bool {
    let mut found = findings.iter();
    found.any(|it| it.name == name && it.about == about && !it.cure.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_way_to_be_stuck_is_found_with_its_place() {
    let (unblock, blocks) = mpsc::channel();
    let passes = Arc::new(Passes {
        waits: Semaphore::new(0),
        blocks: Mutex::new(blocks),
    });
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for _ in 0..2 {
        let node = ActorSystem::builder("findings").resource(passes.clone());
        let node = node.seeds(nodes.first().map(ActorSystem::address));
        nodes.push(node.start().await.unwrap());
    }
    let [first, second] = &nodes[..] else {
        panic!("there are two");
    };
    for node in &nodes {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    let admin = Admin::connect("findings", [first.address()]).await.unwrap();
    // From outside and from a node, the same is seen.
    let outside = async || admin.overview().await.unwrap();
    let inside = async || second.overview().await.unwrap();
    let quiet = inside().await;
    assert_eq!(quiet.nodes.len(), 2);
    assert_eq!(quiet.findings(None), []);

    let slow = first.entity::<Stuck>("slow");
    for _ in 0..1100 {
        soon("it is told", slow.wait().tell()).await.unwrap();
    }
    let handles = |findings: &[Finding]| {
        has(findings, "slow-handler", "findings/stuck/slow")
            && has(findings, "long-queue", "findings/stuck/slow")
    };
    found("a slow handler, and a long queue", inside, handles).await;
    let why = first.why("findings/stuck", "slow").await.unwrap();
    let handling = why.steps[0].handling.as_ref();
    assert_eq!(handling.map(|it| &*it.message), Some("wait"));
    assert!(why.steps[0].queued >= 1000);

    first
        .entity::<Stuck>("blocks")
        .block()
        .tell()
        .await
        .unwrap();
    let blocked = |findings: &[Finding]| has(findings, "blocked-worker", "findings/stuck/blocks");
    found("a blocked worker", outside, blocked).await;
    drop(unblock);

    let before = inside().await;
    let narrow = first.entity::<Narrow>("narrow");
    // The shard has no owner at first, and messages for it wait.
    soon("a shard", narrow.wait().tell()).await.unwrap();
    let full = async { while narrow.wait().tell().await.is_ok() {} };
    soon("there is no room", full).await;
    let findings = inside().await.findings(Some(&before));
    assert!(
        has(&findings, "full-mailbox", "findings/narrow"),
        "{findings:?}"
    );

    let failed = second.entity::<Stuck>("fails").fail().await;
    assert!(
        matches!(failed, Err(AskError::Panicked { .. })),
        "{failed:?}"
    );
    let findings = outside().await.findings(Some(&before));
    assert!(has(&findings, "failures", "findings/stuck"), "{findings:?}");
    let why = second.why("findings/stuck", "fails").await.unwrap();
    let failure = why.steps[0].last_failure.as_ref();
    assert!(failure.is_some_and(|it| it.reason.contains("on purpose")));

    let mut napping = JoinSet::new();
    let hot = first.entity::<Stuck>("hot");
    napping.spawn(async move {
        loop {
            hot.nap().await.unwrap();
        }
    });
    let is_hot = |findings: &[Finding]| has(findings, "hot-entity", "findings/stuck/hot");
    found("a hot entity", inside, is_hot).await;
    napping.shutdown().await;

    passes.waits.close();
    for node in &nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_without_the_others_says_that_it_serves_nothing() {
    let (_unblock, blocks) = mpsc::channel();
    let passes = Arc::new(Passes {
        waits: Semaphore::new(0),
        blocks: Mutex::new(blocks),
    });
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for _ in 0..3 {
        let node = ActorSystem::builder("findings-alone").resource(passes.clone());
        let node = node.seeds(nodes.first().map(ActorSystem::address));
        nodes.push(node.start().await.unwrap());
    }
    for node in &nodes {
        soon("all are up", node.wait_for(3)).await.unwrap();
    }
    let admin = Admin::connect("findings-alone", [nodes[0].address()]);
    let admin = admin.await.unwrap();
    let vote = async {
        loop {
            let members = admin.members().await.unwrap().members;
            if members.iter().filter(|member| member.votes).count() == 3 {
                return;
            }
        }
    };
    soon("all vote", vote).await;
    let others: Vec<_> = nodes
        .drain(1..)
        .map(|node| node.node_id().clone())
        .collect();
    let [first] = &nodes[..] else {
        panic!("one is left");
    };
    // Dropped, they were gone at once.
    let look = async || first.overview().await.unwrap();
    let all = |findings: &[Finding]| {
        has(findings, "no-lease", first.node_id().as_str())
            && others
                .iter()
                .all(|other| has(findings, "silent-node", other.as_str()))
    };
    let findings = found(
        "it has lost its lease, and the others are silent",
        look,
        all,
    )
    .await;
    assert!(
        findings
            .iter()
            .take(3)
            .all(|it| it.severity == Severity::Alarm)
    );
}
