//! What becomes of a handler that awaits something while its node loses its lease.

use std::{collections::BTreeMap, sync::Mutex};

use casty::{
    Settings,
    member::MemberInfo,
    prelude::*,
    testkit::{Sim, SimTask, View, true_time},
};

const NODES: [&str; 3] = ["a", "b", "c"];

/// An effect on the outside world: node, true time, token.
type Effect = (String, Duration, u64);

/// The effects of each test, by its number.
static EFFECTS: Mutex<BTreeMap<u64, Vec<Effect>>> = Mutex::new(BTreeMap::new());

fn effects(test: u64) -> Vec<Effect> {
    let all = EFFECTS.lock().unwrap();
    all.get(&test).cloned().unwrap_or_default()
}

fn nodes(effects: &[Effect]) -> Vec<&str> {
    let mut nodes: Vec<_> = effects.iter().map(|(node, ..)| node.as_str()).collect();
    nodes.dedup();
    nodes
}

fn effect(test: u64, ctx: &Context<Toiler>) {
    note(test, ctx.node_id().as_str(), ctx.fencing_token().0);
}

fn note(test: u64, node: &str, token: u64) {
    let now = true_time().expect("this runs in a simulation");
    let effect = (node.to_owned(), now, token);
    EFFECTS
        .lock()
        .unwrap()
        .entry(test)
        .or_default()
        .push(effect);
}

/// A child of a toiler.
struct Helper;

#[actor]
impl Helper {
    #[message]
    async fn toil(&mut self, test: u64, ctx: &mut Context<Self>) {
        loop {
            note(test, ctx.node_id().as_str(), 0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Acts on the outside world while it handles a message.
#[derive(Default)]
struct Toiler {
    begun: u32,
}

#[entity(shards = 20)]
impl Toiler {
    #[message]
    async fn toil(&mut self, test: u64, ctx: &mut Context<Self>) {
        self.begun += 1;
        loop {
            effect(test, ctx);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its value panics when it is dropped.
    #[message]
    async fn hold_a_bomb(&mut self) {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a value of the handler panics when it is dropped");
            }
        }
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    }

    /// Has a child and a future toil instead.
    #[message]
    fn delegate(&mut self, test: u64, ctx: &mut Context<Self>) {
        let helper = ctx.spawn(Helper);
        helper.toil(test).try_tell().unwrap();
        let node = ctx.node_id().to_string();
        let toil = async move {
            loop {
                note(test + 1, &node, 0);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        ctx.pipe(toil, |()| ToilerMsg::Toiled {});
    }

    #[message(internal)]
    fn toiled(&mut self) {}

    /// How many handlers have begun in this activation.
    #[message]
    fn begun(&self) -> u32 {
        self.begun
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

fn cluster(seed: u64, settings: &Settings) -> Sim {
    casty_tests::log();
    let mut sim = Sim::new(seed);
    for name in NODES {
        let settings = settings.clone();
        sim.start_with(name, move |builder| builder.settings(settings.clone()));
    }
    sim.until("all of them vote", |sim| {
        let views = sim.views();
        let is_settled = |view: &View| view.voters == NODES.len() && view.serving;
        views.len() == NODES.len() && views.iter().all(is_settled)
    });
    sim
}

/// A toiler that lives on a node.
fn toiler(sim: &mut Sim, node: &'static str) -> String {
    sim.on("a", move |system| async move {
        for n in 0.. {
            let id = format!("t{n}");
            if system.entity::<Toiler>(&id).node().await.as_deref() == Ok(node) {
                return id;
            }
        }
        unreachable!("one of them lives there")
    })
}

/// Has a node ask a toiler to toil for ever.
fn toil(sim: &mut Sim, node: &str, id: &str, test: u64) -> SimTask<Result<(), AskError>> {
    let id = id.to_owned();
    let toiling = sim.spawn_on(node, move |system| async move {
        let call = system.entity::<Toiler>(id).toil(test);
        call.timeout(Duration::from_mins(2)).await
    });
    sim.until("it toils", |_| !effects(test).is_empty());
    toiling
}

fn begun(sim: &mut Sim, node: &str, id: &str) -> Result<u32, AskError> {
    let id = id.to_owned();
    sim.on(node, move |system| async move {
        system.entity::<Toiler>(id).begun().await
    })
}

fn cut_off(sim: &mut Sim, one: &str) {
    for other in NODES.iter().filter(|other| **other != one) {
        sim.partition(one, other);
    }
}

fn lost_its_lease(outcome: Option<Result<(), AskError>>) -> bool {
    matches!(outcome, Some(Err(error @ AskError::Unreachable { .. })) if error.maybe_handled())
}

/// The toiler of a founder that is cut off has no effect once it acts elsewhere, its asker is told
/// that the message may have been handled, and each of its effects had a token.
#[test]
fn a_handler_ends_with_its_lease() {
    for (test, founder) in [(31, "a"), (32, "b")] {
        let mut sim = cluster(test, &Settings::default());
        let id = toiler(&mut sim, founder);
        let other = if founder == "a" { "b" } else { "a" };
        let first = toil(&mut sim, founder, &id, test);
        cut_off(&mut sim, founder);
        let cut = sim.elapsed();
        let second = {
            let id = id.clone();
            sim.spawn_on(other, move |system| async move {
                loop {
                    let call = system.entity::<Toiler>(&id).toil(test);
                    let _: Result<(), AskError> = call.await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        };
        sim.until("its asker is told", |_| first.is_done());
        assert!(sim.elapsed().saturating_sub(cut) < Duration::from_secs(5));
        assert!(lost_its_lease(first.take()));
        sim.until("it toils elsewhere", |_| nodes(&effects(test)).len() > 1);
        sim.run_for(Duration::from_secs(6));
        drop(second);
        let all = effects(test);
        assert_eq!(nodes(&all).len(), 2, "{:?}", nodes(&all));
        assert!(all.iter().all(|(_, _, token)| *token > 0));
    }
}

#[test]
fn a_handler_of_a_process_that_was_paused_has_no_effect_when_it_wakes() {
    let (test, mut sim) = (33, cluster(33, &Settings::default()));
    let id = toiler(&mut sim, "c");
    let toiling = toil(&mut sim, "c", &id, test);
    sim.pause("c");
    let paused = effects(test).len();
    sim.run_for(Duration::from_secs(8));
    assert_eq!(
        begun(&mut sim, "a", &id),
        Ok(0),
        "it began afresh elsewhere"
    );
    sim.resume("c");
    sim.until("its asker is told", |_| toiling.is_done());
    assert!(lost_its_lease(toiling.take()));
    assert_eq!(effects(test).len(), paused);
}

/// The lease is over before the members declare the node Down: its entities stay where they are.
#[test]
fn after_a_lapse_an_entity_begins_afresh_where_its_handler_awaited() {
    let settings = Settings {
        suspect_after: Duration::from_secs(30),
        ..Settings::default()
    };
    for test in 34..38 {
        let mut sim = cluster(test, &settings);
        let (toils, idle) = (toiler(&mut sim, "c"), toiler(&mut sim, "b"));
        assert_eq!(begun(&mut sim, "a", &idle), Ok(0));
        let toiling = toil(&mut sim, "c", &toils, test);
        let bomb = {
            let id = (0..1000)
                .map(|n| format!("bomb{n}"))
                .find(|id| {
                    let id = id.clone();
                    sim.on("a", move |system| async move {
                        system.entity::<Toiler>(id).node().await.unwrap() == "c"
                    })
                })
                .expect("an entity of that node");
            let asked = id.clone();
            let asking = sim.spawn_on("c", move |system| async move {
                let call = system.entity::<Toiler>(asked).hold_a_bomb();
                call.timeout(Duration::from_mins(2)).await
            });
            (id, asking)
        };
        sim.run_for(Duration::from_millis(100));
        cut_off(&mut sim, "c");
        sim.until("the askers are told", |_| {
            toiling.is_done() && bomb.1.is_done()
        });
        sim.heal();
        assert!(lost_its_lease(toiling.take()));
        assert!(lost_its_lease(bomb.1.take()));
        let had = effects(test).len();
        for id in [&toils, &bomb.0] {
            let mut answer = None;
            sim.until("it answers", |sim| {
                answer = begun(sim, "c", id).ok();
                answer.is_some()
            });
            assert_eq!(answer, Some(0), "of {id}");
        }
        assert_eq!(effects(test).len(), had);
        let up = sim.on("a", |system| async move { system.members() });
        let stayed = |member: &MemberInfo| member.id.to_string() == "c#1000";
        assert!(up.iter().any(stayed), "{up:?}");
    }
}

/// The members' map of a node that is cut off does not say that it is Down.
#[test]
fn children_and_work_of_an_entity_act_no_longer_than_its_lease() {
    let (test, mut sim) = (41, cluster(41, &Settings::default()));
    let id = toiler(&mut sim, "c");
    sim.on("c", move |system| async move {
        system.entity::<Toiler>(id).delegate(test).await.unwrap();
    });
    let had = || [effects(test).len(), effects(test + 1).len()];
    sim.until("they toil", |_| had().iter().all(|effects| *effects > 10));
    cut_off(&mut sim, "c");
    // As long as a lease lasts that has just been granted.
    sim.run_for(Settings::default().lease + Duration::from_millis(50));
    let before = had();
    sim.run_for(Duration::from_secs(10));
    assert_eq!(had(), before);
    sim.heal();
    sim.until("it is a member again", |sim| {
        sim.views().iter().filter(|view| view.serving).count() == NODES.len()
    });
    sim.run_for(Duration::from_secs(5));
    assert_eq!(had(), before);
}
