//! Actors that watch others.

use casty::{
    event::TerminatedReason,
    prelude::*,
    testkit::{self, Probe},
};

use crate::support::{cluster, entity_on, eventually, node, shutdown, soon};

/// Stops on request.
#[derive(Default)]
struct Mortal;

#[actor(on_failure = stop)]
impl Mortal {
    #[message]
    fn die(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }

    #[message]
    fn fail(&mut self) {
        panic!("of a broken heart");
    }

    #[message]
    fn alive(&self) {}
}

/// Records which actors end.
#[derive(Default)]
struct Mourner {
    ended: Vec<(String, TerminatedReason)>,
}

#[entity(shards = 4)]
impl Mourner {
    #[message]
    fn watch(&mut self, who: MortalRef, ctx: &mut Context<Self>) {
        ctx.watch(&who);
    }

    #[message]
    async fn greet(&self, who: MortalRef) -> bool {
        who.alive().await.is_ok()
    }

    #[message]
    fn unwatch(&mut self, who: MortalRef, ctx: &mut Context<Self>) {
        ctx.unwatch(&who);
    }

    #[on_terminated]
    fn ended(&mut self, who: Terminated) {
        self.ended.push((who.who.kind, who.reason));
    }

    /// The actors that ended, as text.
    #[message]
    fn list(&self) -> Vec<String> {
        self.ended
            .iter()
            .map(|(kind, reason)| format!("{kind}: {reason}"))
            .collect()
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn break_down(&mut self) {
        panic!("too much");
    }
}

#[test]
fn each_way_to_end_is_told_once_with_its_reason() {
    testkit::paused(|system| async move {
        let mourner = system.entity::<Mourner>("m");
        let mortals: Vec<_> = (0..3).map(|_| system.spawn(Mortal)).collect();
        for mortal in &mortals {
            mourner.watch(mortal.clone()).await.unwrap();
            // Watching twice counts once.
            mourner.watch(mortal.clone()).await.unwrap();
        }
        mourner.unwatch(mortals[2].clone()).await.unwrap();
        mortals[0].die().await.unwrap();
        assert!(mortals[1].fail().await.is_err());
        mortals[2].die().await.unwrap();
        // An actor that ended before is reported as well.
        mourner.watch(mortals[2].clone()).await.unwrap();
        let list = eventually(
            "three ends",
            || mourner.list().into_future(),
            |list| list.as_ref().is_ok_and(|list| list.len() == 3),
        )
        .await;
        let mut list = list.unwrap();
        list.sort();
        assert_eq!(
            list,
            [
                "Mortal: it failed: of a broken heart",
                "Mortal: it stopped",
                "Mortal: it stopped",
            ]
        );
    });
}

#[test]
fn a_watch_ends_with_the_activation_that_made_it() {
    testkit::paused(|system| async move {
        let mourner = system.entity::<Mourner>("m");
        let mortal = system.spawn(Mortal);
        mourner.watch(mortal.clone()).await.unwrap();
        assert!(mourner.break_down().await.is_err());
        mortal.die().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(mourner.list().await, Ok(vec![]));
    });
}

#[test]
fn a_probe_watches_and_is_watched() {
    testkit::paused(|system| async move {
        let mourner = system.entity::<Mourner>("m");
        let mut probe = Probe::<Mortal>::new(&system);
        let mortal = system.spawn(Mortal);
        probe.watch(&mortal);
        mourner.watch(probe.actor()).await.unwrap();
        mortal.die().await.unwrap();
        assert!(probe.expect_terminated().await.is(&mortal));
        drop(probe);
        eventually(
            "the probe's end",
            || mourner.list().into_future(),
            |list| *list == Ok(vec!["Mortal: it stopped".to_owned()]),
        )
        .await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_on_another_node_is_told() {
    let nodes = cluster(2).await;
    let mourner = entity_on::<Mourner>(&nodes[0], "node-0", MournerRef::node).await;
    let (stops, fails) = (nodes[1].spawn(Mortal), nodes[1].spawn(Mortal));
    for mortal in [&stops, &fails] {
        // By way of the other node, so that the reference travels.
        let remote = nodes[1].entity::<Mourner>(mourner.entity_id().as_str());
        soon("the watch", remote.watch(mortal.clone()))
            .await
            .unwrap();
    }
    // By the same way as the watch, and so behind it.
    let remote = nodes[1].entity::<Mourner>(mourner.entity_id().as_str());
    let greeted = soon("a greeting", remote.greet(fails.clone())).await;
    assert_eq!(greeted, Ok(true));
    stops.die().await.unwrap();
    assert!(fails.fail().await.is_err());
    let list = eventually(
        "both ends",
        || mourner.list().into_future(),
        |list| list.as_ref().is_ok_and(|list| list.len() == 2),
    )
    .await;
    let mut list = list.unwrap();
    list.sort();
    assert_eq!(
        list,
        ["Mortal: it failed: of a broken heart", "Mortal: it stopped"]
    );
    // An actor that ended before it was watched.
    let remote = nodes[1].entity::<Mourner>(mourner.entity_id().as_str());
    soon("the watch", remote.watch(stops)).await.unwrap();
    eventually(
        "the end of who was gone",
        || mourner.list().into_future(),
        |list| list.as_ref().is_ok_and(|list| list.len() == 3),
    )
    .await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_takes_its_actors_along() {
    let mut nodes = cluster(2).await;
    let mourner = entity_on::<Mourner>(&nodes[0], "node-0", MournerRef::node).await;
    let mortal = nodes[1].spawn(Mortal);
    let remote = nodes[1].entity::<Mourner>(mourner.entity_id().as_str());
    soon("the watch", remote.watch(mortal)).await.unwrap();
    soon("leave", nodes.remove(1).shutdown()).await.unwrap();
    eventually(
        "its end",
        || mourner.list().into_future(),
        |list| list.as_ref().is_ok_and(|list| list.len() == 1),
    )
    .await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_may_leave_while_the_watched_actor_lives() {
    let mut nodes = cluster(2).await;
    let mourner = entity_on::<Mourner>(&nodes[0], "node-1", MournerRef::node).await;
    let mortal = nodes[0].spawn(Mortal);
    soon("the watch", mourner.watch(mortal.clone()))
        .await
        .unwrap();
    soon("leave", nodes.remove(1).shutdown()).await.unwrap();
    assert_eq!(mortal.alive().await, Ok(()));
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_reached_from_another_node() {
    let first = node("a").start().await.unwrap();
    let second = node("b").seeds([first.address()]).start().await.unwrap();
    soon("two", first.wait_for(2)).await.unwrap();
    let mut probe = Probe::<Mortal>::new(&first);
    let relay = second.entity::<Relay>("r");
    let asked = tokio::spawn(relay.relay(probe.actor()).into_future());
    let received = probe.expect().await;
    assert!(matches!(received.message, MortalMsg::Alive {}) && received.is_asked());
    received.reply(());
    assert_eq!(soon("the relay", asked).await.unwrap(), Ok(true));
    soon("shutdown", second.shutdown()).await.unwrap();
    soon("shutdown", first.shutdown()).await.unwrap();
}

/// Asks another actor.
#[derive(Default)]
struct Relay;

#[entity(shards = 4)]
impl Relay {
    #[message]
    async fn relay(&self, to: MortalRef) -> bool {
        to.alive().await.is_ok()
    }
}

/// Has many children, and watches each of them.
#[derive(Default)]
struct Crowd {
    children: Vec<MortalRef>,
    ended: usize,
}

#[actor]
impl Crowd {
    #[message(timeout = "2m")]
    fn raise(&mut self, count: usize, ctx: &mut Context<Self>) {
        for _ in 0..count {
            let child = ctx.spawn(Mortal);
            ctx.watch(&child);
            self.children.push(child);
        }
    }

    #[message(timeout = "2m")]
    fn let_go(&mut self) {
        for child in self.children.drain(..) {
            child.die().try_tell().unwrap();
        }
    }

    #[message(timeout = "2m")]
    fn ended(&self) -> usize {
        self.ended
    }

    #[on_terminated]
    fn one_has_ended(&mut self, _who: Terminated) {
        self.ended += 1;
    }
}

/// If each of them cost a look at all the others, this would take many minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_children_start_are_watched_and_end() {
    const COUNT: usize = 100_000;
    let system = ActorSystem::local("app");
    let crowd = system.spawn(Crowd::default());
    soon("they start", crowd.raise(COUNT)).await.unwrap();
    crowd.let_go().await.unwrap();
    let ended = async || crowd.ended().await;
    eventually("all have ended", ended, |ended| *ended == Ok(COUNT)).await;
    soon("they start again", crowd.raise(COUNT)).await.unwrap();
    soon("they end with their parent", crowd.stop()).await;
    soon("shutdown", system.shutdown()).await.unwrap();
}
