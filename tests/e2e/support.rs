//! Helpers that the tests share.

pub(crate) use casty::testkit::{STEP_LIMIT, eventually, shutdown, soon};
use casty::{ActorSystem, Entity, Event, SystemBuilder, call::Call, event::Events, testkit};

pub(crate) fn node(name: &str) -> SystemBuilder {
    casty_tests::log();
    ActorSystem::builder("test").node_id(name)
}

/// See [`testkit::cluster`].
pub(crate) async fn cluster(n: usize) -> Vec<ActorSystem> {
    casty_tests::log();
    testkit::cluster(n).await
}

/// An entity that lives on the node `home`. `node` asks for the home of an entity.
pub(crate) async fn entity_on<E: Entity>(
    system: &ActorSystem,
    home: &str,
    node: impl Fn(&E::Ref) -> Call<E, String>,
) -> E::Ref {
    for n in 0.. {
        let entity = system.entity::<E>(format!("{home}-{n}"));
        if soon("where it lives", node(&entity)).await.unwrap() == home {
            return entity;
        }
    }
    unreachable!("one of them lives there")
}

/// The first event from now on for which `look` returns a value.
pub(crate) async fn event<T>(
    events: &mut Events,
    what: &str,
    mut look: impl FnMut(&Event) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the system still runs");
            if let Some(found) = look(&event) {
                return found;
            }
        }
    })
    .await
}
