//! How long a shutdown takes if nobody is left to take part in it.

use casty::{
    Settings,
    error::ShutdownError,
    prelude::*,
    testkit::{Sim, SimTask, true_time},
};
use casty_tests::Counter;

const ALL: [&str; 3] = ["a", "b", "c"];

/// Long waits: a decision may take ten seconds.
fn start(seed: u64, shutdown_timeout: Duration) -> Sim {
    casty_tests::log();
    let mut sim = Sim::new(seed);
    for name in ALL {
        sim.start_with(name, move |builder| {
            builder.settings(Settings {
                shutdown_timeout,
                ..Settings::patient()
            })
        });
    }
    sim.until_up(ALL.len());
    sim
}

/// A shutdown, and how long it takes.
type Ending = SimTask<(Result<(), ShutdownError>, Duration)>;

fn shut_down(sim: &mut Sim, name: &str) -> Ending {
    sim.spawn_on(name, |system| async move {
        let began = true_time().unwrap();
        let ended = system.shutdown().await;
        (ended, true_time().unwrap().saturating_sub(began))
    })
}

#[test]
fn nodes_that_all_shut_down_at_once_do_not_wait_for_each_other() {
    let mut longest = Duration::ZERO;
    for seed in 0..8 {
        let mut sim = start(seed, Duration::from_mins(1));
        if seed % 2 == 1 {
            // All of them vote. Before, only the founder does.
            sim.run_for(Duration::from_secs(5));
        }
        let endings = ALL.map(|name| shut_down(&mut sim, name));
        sim.until("they have ended", |_| endings.iter().all(SimTask::is_done));
        for ending in endings {
            let (ended, took) = ending.take().unwrap();
            assert_eq!(ended, Ok(()), "seed {seed}");
            longest = longest.max(took);
        }
    }
    // The last ones may have to elect a leader for their last decision.
    let limit = Settings::patient().decide_timeout / 2;
    assert!(longest < limit, "{longest:?}");
}

#[test]
fn a_shutdown_ends_the_search_for_a_home_of_what_nobody_can_decide() {
    let mut sim = start(3, Duration::from_secs(1));
    sim.crash("a");
    sim.crash("b");
    let asking = sim.spawn_on("c", |system| async move {
        let asks = (0..20).map(|id| system.entity::<Counter>(id.to_string()).add(1));
        let asks = asks.map(IntoFuture::into_future);
        futures_util::future::join_all(asks).await
    });
    sim.run_for(Duration::from_millis(500));
    let ending = shut_down(&mut sim, "c");
    sim.until("it has ended", |_| ending.is_done() && asking.is_done());
    let (ended, took) = ending.take().unwrap();
    assert_eq!(ended, Ok(()));
    assert!(took < Duration::from_secs(3), "{took:?}");
    let answers = asking.take().unwrap();
    assert!(answers.iter().any(Result::is_err), "{answers:?}");
}
