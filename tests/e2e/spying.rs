//! Spies.

use casty::{
    prelude::*,
    spy::{Observed, Scope},
    testkit,
};

/// Has a child.
#[derive(Default)]
struct Boss {
    worker: Option<WorkerRef>,
}

#[actor]
impl Boss {
    #[message]
    fn hire(&mut self, ctx: &mut Context<Self>) -> WorkerRef {
        self.worker
            .get_or_insert_with(|| ctx.spawn_with(Worker::default))
            .clone()
    }
}

#[derive(Default)]
struct Worker;

#[actor]
impl Worker {
    #[message]
    async fn work(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    #[message]
    fn fail(&mut self) {
        panic!("tired");
    }
}

fn short(observation: &casty::spy::Observation) -> String {
    let what = match &observation.what {
        Observed::Received => "received".to_owned(),
        Observed::Handled { took } => format!("handled {}", took.as_millis()),
        Observed::Failed { reason, .. } => format!("failed {reason}"),
        other => format!("{other:?}"),
    };
    format!("{} {} {what}", observation.who.kind, observation.message)
}

#[test]
fn a_spy_sees_its_actor_and_a_subtree_all_below() {
    testkit::paused(|system| async move {
        let boss = system.spawn(Boss::default());
        let path = boss.as_ref().path();
        let mut alone = system.spy(path.clone(), Scope::Actor);
        let mut tree = system.spy(path, Scope::Subtree);
        let worker = boss.hire().await.unwrap();
        worker.work(5).await.unwrap();
        worker.fail().await.unwrap_err();
        let stranger = system.spawn(Worker);
        stranger.work(1).await.unwrap();
        let seen = |spy: &mut casty::spy::Spy| -> Vec<String> {
            std::iter::from_fn(|| spy.try_next())
                .map(|o| short(&o))
                .collect()
        };
        assert_eq!(
            seen(&mut alone),
            ["Boss hire received", "Boss hire handled 0"]
        );
        assert_eq!(
            seen(&mut tree),
            [
                "Boss hire received",
                "Boss hire handled 0",
                "Worker work received",
                "Worker work handled 5",
                "Worker fail received",
                "Worker fail failed tired",
            ]
        );
        assert_eq!(tree.missed(), 0);
    });
}

#[test]
fn a_spy_that_does_not_read_loses_and_counts_and_slows_no_actor() {
    testkit::paused(|system| async move {
        let worker = system.spawn(Worker);
        let mut spy = system.spy(worker.as_ref().path(), Scope::Actor);
        for _ in 0..1000 {
            worker.work(0).tell().await.unwrap();
        }
        worker.work(0).await.unwrap();
        let seen = std::iter::from_fn(|| spy.try_next()).count() as u64;
        assert_eq!(seen + spy.missed(), 2002);
        assert_eq!(seen, 1024);
        drop(spy);
        worker.work(0).await.unwrap();
    });
}
