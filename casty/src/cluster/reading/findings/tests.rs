use super::*;
use crate::{
    cluster::{peers::overview::TypeOverview, reading::overview::SilentNode},
    id::NodeId,
    protocol::map::tests::member,
};

const NOW: Duration = Duration::from_hours(500_000);

fn node(name: &str, uptime: u64) -> NodeOverview {
    NodeOverview {
        node: NodeId::new(name),
        uptime: Duration::from_secs(uptime),
        serves: true,
        leads: true,
        map_version: Some(1),
        lacking_copies: 0,
        unreachable: Vec::new(),
        connections: 0,
        dead_letters: 0,
        certificate_until: None,
        types: Vec::new(),
        entities: Vec::new(),
    }
}

fn entity(id: &str) -> BusyEntity {
    BusyEntity {
        kind: "Account".to_owned(),
        id: EntityId::new(id),
        activity: Some(Activity::AtWork),
        state: None,
        queued: 0,
        handling: None,
        awaits: true,
        waits_for: Vec::new(),
        handled_per_second: None,
        busy: None,
    }
}

fn handles(id: &str, millis: u64) -> BusyEntity {
    BusyEntity {
        handling: Some(("settle".to_owned(), Duration::from_millis(millis))),
        ..entity(id)
    }
}

fn asks(id: &str, other: &str) -> BusyEntity {
    BusyEntity {
        waits_for: vec![("Account".to_owned(), other.to_owned())],
        ..handles(id, 5000)
    }
}

fn counted(counts: TypeCounts) -> TypeOverview {
    TypeOverview {
        kind: "Account".to_owned(),
        active: 1,
        shards: 1,
        counts: Some(counts),
    }
}

fn handled(count: u64) -> TypeCounts {
    TypeCounts {
        handled: vec![("add".to_owned(), count)],
        ..TypeCounts::default()
    }
}

fn overview(nodes: impl IntoIterator<Item = NodeOverview>) -> Overview {
    Overview {
        at: u64::try_from(NOW.as_millis()).unwrap(),
        nodes: nodes.into_iter().collect(),
        silent: Vec::new(),
    }
}

fn of(entities: impl IntoIterator<Item = BusyEntity>) -> Overview {
    overview([NodeOverview {
        entities: entities.into_iter().collect(),
        ..node("n1", 60)
    }])
}

fn found(now: &Overview, before: Option<&Overview>) -> Vec<(&'static str, String)> {
    let found = now.findings(before).into_iter();
    found.map(|it| (it.name, it.about)).collect()
}

fn named<const N: usize>(findings: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    findings
        .map(|(name, about)| (name, about.to_owned()))
        .into()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let busy = BusyEntity {
        queued: QUEUED - 1,
        busy: Some(0.5),
        handled_per_second: Some(90_000.0),
        ..handles("a", 39)
    };
    let works = |uptime, count| NodeOverview {
        types: vec![counted(handled(count))],
        entities: vec![busy.clone()],
        certificate_until: Some(NOW.as_secs() + CERTIFICATE.as_secs()),
        ..node("n1", uptime)
    };
    let (before, now) = (overview([works(60, 0)]), overview([works(62, 1_000_000)]));
    assert_eq!(found(&now, Some(&before)), []);
    // It has only started.
    let starts = NodeOverview {
        serves: false,
        ..node("n3", 5)
    };
    assert_eq!(found(&overview([starts]), Some(&before)), []);
}

#[test]
fn entities_that_wait_for_each_other_are_found_across_nodes() {
    let there = |name, entities: [BusyEntity; 2]| NodeOverview {
        entities: entities.into(),
        ..node(name, 60)
    };
    let at = |millis| {
        let asks = |id, other| BusyEntity {
            handling: Some(("settle".to_owned(), Duration::from_millis(millis))),
            ..asks(id, other)
        };
        overview([
            there("n1", [asks("a", "b"), asks("waits", "a")]),
            there("n2", [asks("b", "c"), asks("other", "idle")]),
            there("n3", [asks("c", "a"), asks("self", "self")]),
        ])
    };
    let (before, now) = (at(3000), at(5000));
    let circles = named([("circle", "Account/a"), ("circle", "Account/self")]);
    assert_eq!(found(&now, Some(&before)), circles);
    // They may have been seen at different moments.
    for before in [None, Some(&at(5001)), Some(&of([asks("b", "x")]))] {
        let seen = found(&now, before);
        assert!(!seen.iter().any(|it| it.0 == "circle"), "{seen:?}");
    }
    let findings = now.findings(Some(&before));
    let cause = &findings[0].cause;
    let all = [
        "`Account/a`",
        "`Account/b`",
        "`Account/c`",
        "wait for each other",
    ];
    assert!(all.iter().all(|part| cause.contains(part)), "{cause}");
    assert!(!cause.contains("waits`"), "{cause}");
    let first = ("Account".to_owned(), EntityId::new("a"));
    assert_eq!(findings[0].entity, Some(first));
}

#[test]
fn handlers_that_block_and_handlers_that_take_long() {
    let blocks = BusyEntity {
        awaits: false,
        queued: 312,
        ..handles("blocks", 4876)
    };
    let at = |millis| BusyEntity {
        handling: Some(("settle".to_owned(), Duration::from_millis(millis))),
        ..blocks.clone()
    };
    let before = of([at(2876), handles("slow", 10)]);
    let now = of([at(4876), handles("slow", 1000), handles("quick", 999)]);
    let both = [
        ("blocked-worker", "Account/blocks"),
        ("slow-handler", "Account/slow"),
    ];
    assert_eq!(found(&now, Some(&before)), named(both));
    let findings = now.findings(Some(&before));
    assert_eq!(
        findings[0].cause,
        "Handler `settle` of `Account/blocks` has kept a thread of `n1` for itself for 4.8 s. 312 messages wait behind it."
    );
    // It may have been caught in one of the moments in which it runs.
    let seen_to_await = of([BusyEntity {
        awaits: true,
        ..at(2876)
    }]);
    for before in [None, Some(&seen_to_await), Some(&of([at(5000)]))] {
        let findings = found(&now, before);
        assert!(
            !findings.iter().any(|it| it.0 == "blocked-worker"),
            "{findings:?}"
        );
    }
}

#[test]
fn queues_and_hot_entities() {
    let queue = BusyEntity {
        queued: QUEUED,
        ..entity("queue")
    };
    let busy = BusyEntity {
        busy: Some(1.3),
        ..entity("busy")
    };
    let hot = |rate| BusyEntity {
        handled_per_second: Some(rate),
        ..entity("hot")
    };
    let at = |uptime, rate, count| {
        overview([NodeOverview {
            entities: vec![queue.clone(), busy.clone(), hot(rate)],
            types: vec![counted(handled(count))],
            ..node("n1", uptime)
        }])
    };
    let (before, now) = (at(60, 1000.0, 0), at(62, 1000.0, 6000));
    let all = [
        ("long-queue", "Account/queue"),
        ("hot-entity", "Account/busy"),
        ("hot-entity", "Account/hot"),
    ];
    assert_eq!(found(&now, Some(&before)), named(all));
    let findings = now.findings(Some(&before));
    assert!(findings[1].cause.contains("100 %"), "{findings:?}");
    assert!(findings[2].cause.contains("33 %"), "{findings:?}");
    // Three of ten is the least.
    assert_eq!(
        found(&at(62, 1000.0, 7000), Some(&before)),
        named([all[0], all[1]])
    );
}

#[test]
fn what_types_have_counted_in_the_time() {
    let counts = |n| TypeCounts {
        failed: n,
        refusing: n,
        unhandled: n,
        full: n,
        ..handled(n)
    };
    let at = |uptime, n| {
        overview([NodeOverview {
            types: vec![counted(counts(n))],
            dead_letters: n,
            ..node("n1", uptime)
        }])
    };
    let all = named([
        ("quarantine", "Account"),
        ("dead-letters", "n1"),
        ("failures", "Account"),
        ("full-mailbox", "Account"),
        ("unhandled", "Account"),
    ]);
    assert_eq!(found(&at(62, 7), Some(&at(60, 5))), all);
    assert_eq!(found(&at(62, 7), Some(&at(60, 7))), []);
    // The process has started since, so that its counts are no difference.
    assert_eq!(found(&at(1, 7), Some(&at(60, 5))), []);
    assert_eq!(found(&at(62, 7), None), []);
}

#[test]
fn nodes_that_are_away_or_apart() {
    let nodes = [
        NodeOverview {
            leads: false,
            serves: false,
            ..node("n1", 60)
        },
        NodeOverview {
            leads: false,
            unreachable: vec![NodeId::new("n3"), NodeId::new("n4")],
            certificate_until: Some(NOW.as_secs() + 6 * 24 * 3600 + 1),
            ..node("n2", 60)
        },
    ];
    let mut now = overview(nodes);
    let without_leader = named([
        ("no-leader", "the cluster"),
        ("no-lease", "n1"),
        ("certificate", "n2"),
        ("unreachable", "n2"),
    ]);
    assert_eq!(found(&now, None), without_leader);
    let findings = now.findings(None);
    assert!(findings[2].cause.contains("in 6 days"), "{findings:?}");
    assert!(findings[3].cause.contains("`n3`, `n4`"), "{findings:?}");
    // The node with the latest map knows what lacks.
    now.nodes[0].lacking_copies = 9;
    now.nodes[1].lacking_copies = 3;
    now.nodes[1].map_version = Some(2);
    let lacks = now.findings(None);
    let lacks = lacks.iter().find(|it| it.name == "copies");
    assert!(lacks.is_some_and(|it| it.cause.starts_with("3 stored shards")));
    now.nodes[1].lacking_copies = 0;
    // The leader may be the one that does not answer.
    now.silent.push(SilentNode {
        member: member("n3", 1),
        reason: "no answer".to_owned(),
    });
    let silent = named([("no-lease", "n1"), ("silent-node", "n3")]);
    assert_eq!(found(&now, None)[..2], silent);
}

#[test]
fn a_store_is_slow_if_an_entity_waits_for_it_in_two_looks() {
    let waits = |uptime, queued| {
        overview([NodeOverview {
            entities: vec![BusyEntity {
                activity: Some(Activity::AwaitsStore),
                queued,
                ..entity("a")
            }],
            ..node("n1", uptime)
        }])
    };
    assert_eq!(found(&waits(62, 1), None), []);
    assert_eq!(found(&waits(62, 0), Some(&waits(60, 1))), []);
    let slow = named([("slow-store", "Account/a")]);
    assert_eq!(found(&waits(62, 1), Some(&waits(60, 1))), slow);
}
