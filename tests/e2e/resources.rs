//! Values that a program gives the actors of a system.

use casty::{SystemBuilder, prelude::*, testkit};

/// Where a greeter is at work.
struct Place(&'static str);

/// What nobody sets.
#[derive(Debug)]
struct Missing;

#[derive(Default)]
struct Greeter;

#[entity(shards = 4)]
impl Greeter {
    #[init]
    fn open(ctx: &mut Context<Self>) -> Self {
        assert!(ctx.try_resource::<Missing>().is_none());
        Self
    }

    #[message]
    fn place(&self, ctx: &mut Context<Self>) -> String {
        ctx.resource::<Place>().0.to_owned()
    }

    #[message]
    async fn place_of_a_child(&mut self, ctx: &mut Context<Self>) -> String {
        let place = ctx.spawn(Child).place().await;
        place.unwrap_or_else(|error| error.to_string())
    }

    #[message]
    fn miss(&self, ctx: &mut Context<Self>) {
        ctx.resource::<Missing>();
    }
}

struct Child;

#[actor]
impl Child {
    #[message]
    fn place(&self, ctx: &mut Context<Self>) -> String {
        ctx.resource::<Place>().0.to_owned()
    }
}

fn system(place: &'static str) -> ActorSystem {
    let builder = ActorSystem::builder(place).resource(Place(place));
    builder.start_local().expect("a local system")
}

#[tokio::test]
async fn two_systems_of_one_process_have_resources_of_their_own() {
    for (system, place) in [(system("paris"), "paris"), (system("rome"), "rome")] {
        let greeter = system.entity::<Greeter>("a");
        assert_eq!(greeter.place().await.as_deref(), Ok(place));
        let child = system.spawn(Child);
        assert_eq!(child.place().await.as_deref(), Ok(place));
        let place_of_a_child = greeter.place_of_a_child().await.unwrap();
        assert_eq!(place_of_a_child, place);
    }
}

#[test]
fn a_missing_resource_is_a_failure_of_the_actor_that_says_what_to_write() {
    let configure = |builder: SystemBuilder| builder.resource(Place("paris"));
    testkit::paused_with(configure, |system| async move {
        let greeter = system.entity::<Greeter>("a");
        let Err(AskError::Panicked { message: reason }) = greeter.miss().await else {
            panic!("the handler went on without the resource");
        };
        assert!(
            reason.contains("no resource of type `e2e::resources::Missing`"),
            "{reason}"
        );
        assert!(reason.contains("SystemBuilder::resource"), "{reason}");
        assert!(reason.contains("Place"), "{reason}");
        // The entity goes on with a fresh state.
        assert_eq!(greeter.place().await.as_deref(), Ok("paris"));
    });
}
