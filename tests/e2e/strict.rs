//! Strict wire: one node sees what a cluster does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use casty::{prelude::*, testkit};

use crate::support::{cluster, entity_on, event, shutdown, soon};

#[message]
#[derive(Clone, Debug, PartialEq)]
struct Nest(Vec<Nest>);

impl Nest {
    fn of(levels: usize) -> Self {
        (0..levels).fold(Self(Vec::new()), |inner, _| Self(vec![inner]))
    }
}

/// Serde looks ahead to find the variant, and its look ahead knows no `u128`.
#[message]
#[derive(Clone, Debug, PartialEq)]
#[serde(untagged)]
enum Big {
    Number { of: u128 },
}

/// The same for an address: what was written as bytes is expected as text.
#[message]
#[derive(Clone, Debug, PartialEq)]
#[serde(tag = "kind")]
enum Seen {
    At { address: Option<IpAddr> },
}

#[message]
#[derive(Default)]
struct Glass {
    nest: Option<Nest>,
}

#[entity(migrate)]
impl Glass {
    #[message]
    fn home(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn nest(&self, nest: Nest) -> bool {
        nest == Nest::of(0)
    }

    #[message]
    fn nested(&self, levels: usize) -> Nest {
        Nest::of(levels)
    }

    #[message]
    fn big(&self, big: Big) -> Big {
        big
    }

    #[message]
    fn seen(&self, seen: Seen) -> Seen {
        seen
    }

    #[message]
    fn unseen(&self) -> Seen {
        Seen::At {
            address: Some(Ipv4Addr::LOCALHOST.into()),
        }
    }

    #[message]
    fn scope(&self, of: SocketAddrV6) -> u32 {
        of.scope_id()
    }

    #[message]
    fn keep(&mut self, levels: usize) {
        self.nest = Some(Nest::of(levels));
    }
}

/// What becomes of values that do not survive, as text without the name of an entity.
async fn outcomes(glass: &GlassRef) -> Vec<String> {
    let big = Big::Number { of: 7 };
    let seen = Seen::At {
        address: Some(Ipv4Addr::LOCALHOST.into()),
    };
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 3);
    vec![
        format!("{:?}", glass.nest(Nest::of(100)).await),
        format!("{:?}", glass.nest(Nest::of(100)).tell().await),
        format!("{:?}", glass.nest(Nest::of(100)).try_tell()),
        format!("{:?}", glass.nested(100).await),
        format!("{:?}", glass.big(big.clone()).await),
        format!("{:?}", glass.big(big).tell().await),
        format!("{:?}", glass.seen(seen).await),
        format!("{:?}", glass.seen(Seen::At { address: None }).await),
        format!("{:?}", glass.unseen().await),
        format!("{:?}", glass.scope(scoped).await),
    ]
}

#[tokio::test]
async fn a_strict_system_of_one_node_does_with_values_what_a_cluster_does() {
    let nodes = cluster(2).await;
    let remote = entity_on::<Glass>(&nodes[0], "node-1", GlassRef::home).await;
    let expected = outcomes(&remote).await;
    assert!(expected[0].contains("Unencodable"), "{}", expected[0]);
    assert!(expected[4].contains("Undecodable"), "{}", expected[4]);
    assert_eq!(expected[9], "Ok(0)");

    let strict = ActorSystem::builder("strict").strict_wire(true);
    let strict = strict.start_local().unwrap();
    let mut events = strict.events();
    assert_eq!(outcomes(&strict.entity::<Glass>("m")).await, expected);
    // The tell that was `Ok`.
    let lost = event(&mut events, "a dead letter", |event| match event {
        Event::DeadLetter(letter) => Some(letter.clone()),
        _ => None,
    });
    let lost = lost.await;
    assert_eq!(lost.message, "big", "{lost:?}");
    assert_eq!(strict.dead_letters(), 1);

    let local = ActorSystem::local("local");
    let outcomes = outcomes(&local.entity::<Glass>("m")).await;
    assert!(
        outcomes.iter().all(|outcome| outcome.starts_with("Ok(")),
        "{outcomes:?}"
    );
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_value_over_the_size_of_a_frame_is_refused_on_one_strict_node() {
    #[derive(Default)]
    struct Store;

    #[actor]
    impl Store {
        #[message]
        fn put(&self, text: String) -> usize {
            text.len()
        }

        #[message]
        fn get(&self, bytes: usize) -> String {
            "x".repeat(bytes)
        }
    }

    let strict = ActorSystem::builder("strict").strict_wire(true);
    let strict = strict.start_local().unwrap();
    let store = strict.spawn(Store);
    let huge = 9 * 1024 * 1024;
    let asked = store.put("x".repeat(huge)).await;
    assert!(matches!(asked, Err(AskError::TooLarge { .. })), "{asked:?}");
    let told = store.put("x".repeat(huge)).tell().await;
    assert!(matches!(told, Err(TellError::TooLarge { .. })), "{told:?}");
    let got = store.get(huge).await;
    assert!(matches!(&got, Err(AskError::Reply { reason }) if reason.contains("bytes")));
    assert_eq!(store.put("text".into()).await, Ok(4));
}

#[tokio::test]
async fn a_handler_that_leaves_a_state_which_could_not_move_has_failed_where_it_is_strict() {
    for (strict, levels, moves) in [(true, 10, true), (true, 100, false), (false, 100, true)] {
        let system = ActorSystem::builder("app").strict_wire(strict);
        let system = system.start_local().unwrap();
        let kept = system.entity::<Glass>("m").keep(levels).await;
        match kept {
            Ok(()) => assert!(moves, "{strict} {levels}"),
            Err(AskError::Panicked { message }) => {
                assert!(
                    !moves && message.contains("its state cannot move"),
                    "{message}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Remembers another actor.
struct Caller {
    other: Option<CallerRef>,
}

#[actor]
impl Caller {
    #[message]
    fn set_other(&mut self, other: CallerRef) -> bool {
        self.other = Some(other.clone());
        Some(other) == self.other
    }

    #[message]
    async fn call(&self, depth: u32) -> Result<u32, String> {
        match (&self.other, depth) {
            (Some(other), 1..) => match other.call(depth - 1).await {
                Ok(depth) => Ok(depth + 1),
                Err(AskError::Entity(reason)) => Err(reason),
                Err(AskError::Deadlock { .. }) => Err("deadlock".to_owned()),
                Err(other) => Err(format!("{other:?}")),
            },
            _ => Ok(0),
        }
    }

    #[message]
    fn end(&self) {}
}

#[test]
fn references_travel_within_a_strict_system_and_circles_are_seen() {
    testkit::paused(|system| async move {
        let [first, second] = [(); 2].map(|()| system.spawn(Caller { other: None }));
        assert_eq!(first.set_other(second.clone()).await, Ok(true));
        assert_eq!(first.call(1).await, Ok(1));
        assert_eq!(second.set_other(first.clone()).await, Ok(true));
        assert_eq!(
            first.call(2).await,
            Err(AskError::Entity("deadlock".to_owned()))
        );

        let mut probe = testkit::Probe::<Caller>::new(&system);
        assert_eq!(first.set_other(probe.actor()).await, Ok(true));
        let asking = {
            let first = first.clone();
            tokio::spawn(async move { first.call(1).await })
        };
        let asked = probe.expect().await;
        asked.reply(Ok::<u32, String>(4));
        assert_eq!(asking.await.unwrap(), Ok(5));

        second.as_ref().stop().await;
        assert_eq!(second.end().await, Err(AskError::Stopped));
        assert_eq!(first.set_other(second).await, Ok(true));
        assert!(matches!(first.call(1).await, Err(AskError::Entity(_))));
    });
}

#[test]
fn the_systems_of_testkit_are_strict_unless_they_are_told_otherwise() {
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 3);
    let scope = move |system: ActorSystem| async move {
        system.entity::<Glass>("m").scope(scoped).await.unwrap()
    };
    assert_eq!(testkit::paused(scope), 0);
    assert_eq!(
        testkit::paused_with(|builder| builder.strict_wire(false), scope),
        3
    );
    let mut sim = testkit::Sim::new(1);
    sim.start("a");
    sim.until_up(1);
    assert_eq!(sim.on("a", scope), 0);
}

#[tokio::test]
async fn a_timer_with_an_internal_message_works_in_a_strict_system() {
    struct Clock {
        ticks: u32,
        handed: Option<std::sync::Arc<()>>,
    }

    #[actor]
    impl Clock {
        #[on_start]
        fn started(&mut self, ctx: &mut Context<Self>) {
            let handed = std::sync::Arc::new(());
            ctx.schedule_once(Duration::from_millis(1), ClockMsg::Tick { handed })
                .detach();
        }

        #[message(internal)]
        fn tick(&mut self, handed: std::sync::Arc<()>) {
            self.ticks += 1;
            self.handed = Some(handed);
        }

        #[message]
        fn ticks(&self) -> u32 {
            self.ticks
        }
    }

    let strict = ActorSystem::builder("strict").strict_wire(true);
    let strict = strict.start_local().unwrap();
    let clock = strict.spawn(Clock {
        ticks: 0,
        handed: None,
    });
    testkit::eventually("it ticks", || clock.ticks(), |ticks| *ticks == Ok(1)).await;
    soon("it stops", clock.as_ref().stop()).await;
}
