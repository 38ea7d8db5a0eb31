//! Messages of stored entities to themselves, at a later time.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use casty::{
    admin::{Admin, RemindersReport},
    persistence::Memory,
    prelude::*,
    remind::{Missed, Remind},
    testkit::{Machine, STEP_LIMIT, cluster_of, eventually, shutdown, soon},
};
use tokio::time::{Instant, sleep};

/// When the test began, and whether alarms may ring.
#[derive(Clone)]
struct Began {
    at: Instant,
    open: Arc<AtomicBool>,
}

impl Began {
    fn new() -> Self {
        Self {
            at: Instant::now(),
            open: Arc::new(AtomicBool::new(true)),
        }
    }
}

/// What has rung, and after how many milliseconds.
#[message]
#[derive(Default)]
pub(crate) struct Alarm {
    rung: Vec<(String, u64)>,
    pokes: u32,
}

#[entity(
    durable,
    shards = 4,
    snapshot_every = 5,
    retain = "snapshot",
    passivate_after = "1m"
)]
impl Alarm {
    #[message]
    fn set(&mut self, name: String, seconds: u64, ctx: &mut Context<Self>) {
        let message = AlarmMsg::Ring { name: name.clone() };
        ctx.remind(&name, Remind::after(Duration::from_secs(seconds)), message);
    }

    #[message]
    fn repeat(&mut self, name: String, seconds: u64, ctx: &mut Context<Self>) {
        let message = AlarmMsg::Ring { name: name.clone() };
        ctx.remind(&name, Remind::every(Duration::from_secs(seconds)), message);
    }

    /// It was due some minutes ago.
    #[message]
    fn set_late(&mut self, minutes: u64, skip: bool, ctx: &mut Context<Self>) {
        #[expect(
            clippy::disallowed_methods,
            reason = "what the user of a real clock writes"
        )]
        let now = SystemTime::now();
        let missed = if skip { Missed::Skip } else { Missed::Once };
        let remind = Remind::at(now - Duration::from_mins(minutes)).missed(missed);
        let name = format!("{minutes} minutes late");
        ctx.remind(&name, remind, AlarmMsg::Ring { name: name.clone() });
    }

    #[message]
    fn cancel(&mut self, name: String, ctx: &mut Context<Self>) {
        ctx.forget(&name);
    }

    #[message]
    fn set_many(&mut self, count: u32, ctx: &mut Context<Self>) {
        for n in 0..count {
            let message = AlarmMsg::Poke {};
            ctx.remind(
                &n.to_string(),
                Remind::after(Duration::from_hours(1)),
                message,
            );
        }
    }

    #[message]
    fn ring(&mut self, name: String, ctx: &mut Context<Self>) {
        let began = ctx.resource::<Began>();
        assert!(began.open.load(Ordering::SeqCst), "on purpose");
        let passed = u64::try_from(began.at.elapsed().as_millis()).unwrap();
        self.rung.push((name, passed));
    }

    /// Notes for which second it came.
    #[message]
    fn ring_for(&mut self, ctx: &mut Context<Self>) {
        let at = ctx.reminded_at().expect("a reminder brings it");
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self.rung.push((at.as_secs().to_string(), 0));
    }

    /// It was due some minutes ago.
    #[message]
    fn remind_late(&mut self, minutes: u64, ctx: &mut Context<Self>) -> u64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "what the user of a real clock writes"
        )]
        let first = SystemTime::now() - Duration::from_mins(minutes);
        let remind = Remind::at(first).missed(Missed::All(2));
        ctx.remind("late", remind, AlarmMsg::RingFor {});
        first
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[message]
    fn poke(&mut self) {
        self.pokes += 1;
    }

    /// Its message is internal.
    #[message]
    fn set_chime(&mut self, ctx: &mut Context<Self>) {
        ctx.remind(
            "chime",
            Remind::every(Duration::from_secs(5)),
            AlarmMsg::Chime {},
        );
    }

    #[message(internal)]
    fn chime(&mut self) {
        self.rung.push(("chime".to_owned(), 0));
    }

    #[message]
    fn rung(&self) -> Vec<(String, u64)> {
        self.rung.clone()
    }
}

/// An offer that expires, and refuses to do so twice.
#[message]
#[derive(Default)]
pub(crate) struct Offer {
    open: bool,
    asked: u32,
}

#[entity(event_sourced, shards = 4)]
impl Offer {
    #[message]
    fn open(&self, seconds: u64) -> Effect<Self> {
        let expiry = Remind::after(Duration::from_secs(seconds));
        Effect::persist(OfferEvent::Opened {}).remind("expiry", expiry, OfferMsg::Expire {})
    }

    /// Without an event: the reminder alone is recorded.
    #[message]
    fn prolong(&self, seconds: u64) -> Effect<Self> {
        let expiry = Remind::after(Duration::from_secs(seconds));
        Effect::none().remind("expiry", expiry, OfferMsg::Expire {})
    }

    #[message]
    fn expire(&self) -> Result<Effect<Self>, String> {
        if self.asked == 0 {
            return Ok(Effect::persist(OfferEvent::Expired {}));
        }
        Err("it has expired".to_owned())
    }

    #[message]
    fn withdraw(&self) -> Effect<Self> {
        Effect::persist(OfferEvent::Expired {}).erase()
    }

    #[message]
    fn report(&self) -> (bool, u32) {
        (self.open, self.asked)
    }

    #[event]
    fn opened(&mut self) {
        self.open = true;
    }

    #[event]
    fn expired(&mut self) {
        self.open = false;
        self.asked += 1;
    }
}

fn in_test_time<F: Future<Output = ()>>(test: impl FnOnce(ActorSystem, Began) -> F) {
    casty_tests::log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let began = Began::new();
        let builder = ActorSystem::builder("alarms")
            .journal(Memory::new())
            .resource(began.clone());
        let system = builder.start_local().unwrap();
        test(system.clone(), began).await;
        system.shutdown().await.unwrap();
    });
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// What an alarm has rung, and in which second. An alarm that fails again and again pauses.
async fn rung(system: &ActorSystem, id: &str) -> Vec<(String, u64)> {
    let alarm = system.entity::<Alarm>(id);
    let asking = alarm.rung().timeout(STEP_LIMIT).retry_for(STEP_LIMIT);
    let rung = asking.await.unwrap();
    let in_seconds = rung.into_iter().map(|(name, at)| (name, at / 1000));
    in_seconds.collect()
}

fn pairs(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    let pairs = pairs.iter().map(|(name, at)| ((*name).to_owned(), *at));
    pairs.collect()
}

#[test]
fn a_reminder_comes_at_its_time_to_an_entity_that_sleeps() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        let day = 1800;
        alarm.set("later".to_owned(), day).await.unwrap();
        alarm.set("soon".to_owned(), 2).await.unwrap();
        seconds(day - 1).await;
        assert_eq!(rung(&system, "a").await, pairs(&[("soon", 2)]));
        seconds(2).await;
        let rung = alarm.rung().await.unwrap();
        let (_, at) = rung[1];
        assert!((day * 1000..=day * 1000 + 5).contains(&at), "{rung:?}");
        seconds(day).await;
        assert_eq!(alarm.rung().await.unwrap().len(), 2);
    });
}

#[test]
fn a_reminder_that_is_forgotten_or_set_again_does_not_come() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        alarm.set("x".to_owned(), 10).await.unwrap();
        alarm.set("y".to_owned(), 10).await.unwrap();
        seconds(9).await;
        alarm.cancel("x".to_owned()).await.unwrap();
        alarm.set("y".to_owned(), 10).await.unwrap();
        alarm.cancel("there is none".to_owned()).await.unwrap();
        seconds(9).await;
        assert_eq!(rung(&system, "a").await, []);
        seconds(20).await;
        assert_eq!(rung(&system, "a").await, pairs(&[("y", 19)]));
    });
}

#[test]
fn a_period_goes_on_where_it_is_set_again_as_it_is() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        alarm.repeat("tick".to_owned(), 10).await.unwrap();
        seconds(25).await;
        // It is the same.
        alarm.repeat("tick".to_owned(), 10).await.unwrap();
        seconds(10).await;
        let ticks = pairs(&[("tick", 10), ("tick", 20), ("tick", 30)]);
        assert_eq!(rung(&system, "a").await, ticks);
        // It is not.
        alarm.repeat("tick".to_owned(), 20).await.unwrap();
        seconds(25).await;
        assert_eq!(rung(&system, "a").await.last(), ticks_at(55).last());
        alarm.cancel("tick".to_owned()).await.unwrap();
        seconds(100).await;
        assert_eq!(rung(&system, "a").await.len(), 4);
    });
}

fn ticks_at(second: u64) -> Vec<(String, u64)> {
    pairs(&[("tick", second)])
}

#[test]
fn a_reminder_of_a_handler_that_fails_comes_again_until_it_is_handled() {
    in_test_time(|system, began| async move {
        began.open.store(false, Ordering::SeqCst);
        let alarm = system.entity::<Alarm>("a");
        alarm.set("x".to_owned(), 10).await.unwrap();
        seconds(60).await;
        assert_eq!(rung(&system, "a").await, []);
        began.open.store(true, Ordering::SeqCst);
        seconds(90).await;
        assert_eq!(rung(&system, "a").await.len(), 1);
        seconds(1000).await;
        assert_eq!(rung(&system, "a").await.len(), 1);
    });
}

#[test]
fn what_is_too_late_is_skipped_where_that_is_wanted() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        alarm.set_late(5, true).await.unwrap();
        alarm.set_late(4, false).await.unwrap();
        seconds(300).await;
        assert_eq!(rung(&system, "a").await, pairs(&[("4 minutes late", 0)]));
    });
}

#[test]
fn a_handler_learns_for_which_time_it_is_reminded() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        let first = alarm.remind_late(3).await.unwrap();
        seconds(10).await;
        assert_eq!(rung(&system, "a").await, pairs(&[(&first.to_string(), 0)]));
        // Another sender brings none.
        let failed = alarm.ring_for().await;
        assert!(
            matches!(failed, Err(AskError::Panicked { .. })),
            "{failed:?}"
        );
    });
}

/// In a `Machine`, which stores nothing.
#[test]
fn a_machine_keeps_reminders_as_a_store_does() {
    let began = Began::new();
    let alarm = || Machine::of_with(Alarm::default(), |builder| builder.resource(began.clone()));
    let second = Duration::from_secs(1);
    let mut skips = alarm();
    skips.send(|alarm| alarm.set_late(5, true)).unwrap();
    skips.send(|alarm| alarm.set_late(4, false)).unwrap();
    skips.advance(second);
    let rung = skips.send(AlarmRef::rung).unwrap();
    assert_eq!(rung.len(), 1, "{rung:?}");
    assert_eq!(rung[0].0, "4 minutes late");
    assert_eq!(skips.reminders(), [], "the other one is gone as well");

    let mut many = alarm();
    many.send(|alarm| alarm.set_many(64)).unwrap();
    assert_eq!(many.reminders().len(), 64);
    let mut too_many = alarm();
    let refused = too_many.send(|alarm| alarm.set_many(65));
    assert!(
        matches!(refused, Err(AskError::Panicked { .. })),
        "{refused:?}"
    );

    let mut offer = Machine::of(Offer::default());
    offer.send(|offer| offer.open(10)).unwrap();
    assert_eq!(offer.reminders(), [("expiry".to_owned(), second * 10)]);
    offer.send(OfferRef::withdraw).unwrap();
    assert_eq!(offer.reminders(), [], "it is erased");
}

#[test]
fn a_reminder_may_be_an_internal_message_without_arguments() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        alarm.set_chime().await.unwrap();
        seconds(11).await;
        assert_eq!(
            rung(&system, "a").await,
            pairs(&[("chime", 0), ("chime", 0)])
        );
    });
}

#[test]
fn an_event_sourced_entity_sets_reminders_by_its_effects() {
    in_test_time(|system, _| async move {
        let offer = system.entity::<Offer>("o");
        offer.open(10).await.unwrap();
        seconds(8).await;
        offer.prolong(10).await.unwrap();
        seconds(8).await;
        assert_eq!(offer.report().await, Ok((true, 0)));
        seconds(4).await;
        assert_eq!(offer.report().await, Ok((false, 1)));
        // A handler that refuses has handled it.
        offer.prolong(10).await.unwrap();
        seconds(1000).await;
        assert_eq!(offer.report().await, Ok((false, 1)));
    });
}

#[test]
fn an_entity_that_is_erased_has_no_reminders() {
    in_test_time(|system, _| async move {
        let offer = system.entity::<Offer>("o");
        offer.open(10).await.unwrap();
        offer.withdraw().await.unwrap();
        seconds(5).await;
        // It begins anew, and sets another of the same name.
        offer.open(10).await.unwrap();
        seconds(7).await;
        assert_eq!(offer.report().await, Ok((true, 0)));
        seconds(4).await;
        assert_eq!(offer.report().await, Ok((false, 1)));
        assert!(system.erase::<Offer>("o").await.unwrap());
        seconds(1000).await;
        assert_eq!(offer.report().await, Ok((false, 0)));
    });
}

#[test]
fn an_entity_has_a_bounded_number_of_reminders() {
    in_test_time(|system, _| async move {
        let alarm = system.entity::<Alarm>("a");
        alarm.set_many(64).await.unwrap();
        let refused = alarm.set_many(65).await.unwrap_err().to_string();
        assert!(refused.contains("64 reminders"), "{refused}");
        alarm.cancel("7".to_owned()).await.unwrap();
        alarm.set("x".to_owned(), 1).await.unwrap();
        seconds(2).await;
        assert_eq!(rung(&system, "a").await, pairs(&[("x", 1)]));
    });
}

fn node(store: &Memory, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let builder = ActorSystem::builder("alarms").node_id(format!("node-{number}"));
    builder.journal(store.clone()).resource(Began::new())
}

#[tokio::test]
async fn a_reminder_survives_a_restart_and_needs_no_message() {
    let store = Memory::new();
    let system = node(&store, 0).start_local().unwrap();
    let alarm = system.entity::<Alarm>("a");
    alarm.set("x".to_owned(), 1).await.unwrap();
    system.shutdown().await.unwrap();
    let system = node(&store, 0).start_local().unwrap();
    // Nothing is asked of it before.
    let mut events = system.events();
    soon("it is reminded", async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::ActorStarted(_)) {
                return;
            }
        }
    })
    .await;
    let look = || rung(&system, "a");
    eventually("it has rung", look, |rung| rung.len() == 1).await;
    system.shutdown().await.unwrap();
}

async fn reminders(node: &ActorSystem, cluster: &str, kind: &str) -> RemindersReport {
    let admin = Admin::connect(cluster, [node.address()]).await.unwrap();
    let report = admin.reminders(Some(kind), 1000).await.unwrap();
    assert_eq!(report.silent, []);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_is_written_in_parts_and_survives_owners() {
    const ALARMS: u32 = 300;
    let store = Memory::new();
    let mut nodes = cluster_of(2, |number| node(&store, number)).await;
    let alarm = |system: &ActorSystem, n: u32| system.entity::<Alarm>(format!("alarm-{n}"));
    for n in 0..ALARMS {
        let set = alarm(&nodes[0], n).set(format!("far-{n}"), 3600 + u64::from(n));
        set.retry_for(STEP_LIMIT).await.unwrap();
        if n % 3 == 0 {
            let cancel = alarm(&nodes[0], n).cancel(format!("far-{n}"));
            cancel.retry_for(STEP_LIMIT).await.unwrap();
        }
    }
    // Snapshots contain the records with the reminders, and these are forgotten.
    for round in 0..6 {
        for n in 0..ALARMS {
            let poke = alarm(&nodes[round % 2], n).poke();
            poke.retry_for(STEP_LIMIT).await.unwrap();
        }
    }
    let left = u64::from(ALARMS - ALARMS / 3);
    let report = reminders(&nodes[0], "alarms", "Alarm").await;
    assert_eq!(report.pending, left);
    assert_eq!(
        (report.reminders[0].name.as_str(), report.reminders.len()),
        ("far-1", 200)
    );
    // One owner dies, and the other one reads what there is.
    drop(nodes.remove(1));
    let poked = alarm(&nodes[0], 1).poke();
    poked.retry_for(STEP_LIMIT).await.unwrap();
    let look = || async { reminders(&nodes[0], "alarms", "Alarm").await.pending };
    eventually("all are known after a death", look, |pending| {
        *pending == left
    })
    .await;
    shutdown(nodes).await;
    for start in 2..5 {
        let nodes = cluster_of(1, |_| node(&store, start)).await;
        let look = || async { reminders(&nodes[0], "alarms", "Alarm").await.pending };
        let what = format!("all are known at start {start}");
        eventually(&what, look, |pending| *pending == left).await;
        for n in 0..100 {
            let poke = alarm(&nodes[0], n).poke();
            poke.retry_for(STEP_LIMIT).await.unwrap();
        }
        shutdown(nodes).await;
    }
}

fn in_folder(folder: &Path, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let name = format!("node-{number}");
    ActorSystem::builder("alarms-in-folders")
        .data_dir(folder.join(&name))
        .resource(Began::new())
        .node_id(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reminders_with_copies_survive_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = cluster_of(3, |number| in_folder(folder.path(), number)).await;
    for n in 0..12 {
        let alarm = nodes[0].entity::<Alarm>(format!("alarm-{n}"));
        let set = alarm.set("x".to_owned(), 2).retry_for(STEP_LIMIT).await;
        set.unwrap();
    }
    drop(nodes.remove(2));
    for n in 0..12 {
        let id = format!("alarm-{n}");
        let look = || rung(&nodes[0], &id);
        eventually("it has rung", look, |rung| rung.len() == 1).await;
    }
    // None comes again.
    eventually(
        "nothing is pending",
        || async {
            reminders(&nodes[0], "alarms-in-folders", "Alarm")
                .await
                .pending
        },
        |pending| *pending == 0,
    )
    .await;
    for n in 0..12 {
        assert_eq!(rung(&nodes[1], &format!("alarm-{n}")).await.len(), 1);
    }
    soon("they end", shutdown(nodes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reminders_with_copies_survive_a_restart_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = cluster_of(3, |number| in_folder(folder.path(), number)).await;
    for n in 0..12 {
        let alarm = nodes[0].entity::<Alarm>(format!("alarm-{n}"));
        let set = alarm.set("x".to_owned(), 6).retry_for(STEP_LIMIT).await;
        set.unwrap();
    }
    soon("they end", shutdown(nodes)).await;
    let nodes = cluster_of(3, |number| in_folder(folder.path(), number)).await;
    // No entity is asked anything: each is reminded all the same.
    let look = || async { reminders(&nodes[0], "alarms-in-folders", "Alarm").await };
    let all_are_known = |report: &RemindersReport| report.pending == 12;
    eventually("all are known", look, all_are_known).await;
    let has_none = |report: &RemindersReport| report.pending == 0 && report.silent.is_empty();
    eventually("all are handled", look, has_none).await;
    for n in 0..12 {
        let id = format!("alarm-{n}");
        let look = || rung(&nodes[0], &id);
        eventually("it has rung", look, |rung| rung.len() == 1).await;
    }
    soon("they end", shutdown(nodes)).await;
}
