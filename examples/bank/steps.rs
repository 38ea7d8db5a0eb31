//! One transfer, of which nodes die at each moment of it, in simulated time.
//!
//! `CASTY_STEP` is the time between two such moments, in milliseconds.

#![expect(unreachable_pub, reason = "written as a library would write it")]

#[path = "account.rs"]
mod account;
#[path = "transfers.rs"]
mod transfers;

use std::sync::Arc;

use account::Account;
use casty::{
    persistence::{
        Memory,
        faults::{Faults, FaultyStore},
    },
    prelude::*,
    testkit::{Sim, View},
};
use transfers::{Order, Progress, Transfer};

const NODES: [&str; 3] = ["a", "b", "c"];
const AMOUNT: u64 = 30;

/// What a transfer comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Paid,
    Returned,
}

/// Three nodes with a store whose answers take some milliseconds, so that nodes also die between an
/// append and its answer.
fn cluster(ending: Ending) -> Sim {
    let store = FaultyStore::new(Arc::new(Memory::new()));
    let mut sim = Sim::new(7);
    for (seed, name) in (1..).zip(NODES) {
        let connection = store.connection(seed);
        connection.set(Faults {
            delay_max: Duration::from_millis(3),
            ..Faults::default()
        });
        sim.start_with(name, move |builder| builder.journal(connection.clone()));
    }
    settle(&mut sim);
    sim.on("a", move |system| async move {
        let (payer, other) = accounts(&system);
        payer.deposit(100).await.expect("paid in");
        other.deposit(5).await.expect("paid in");
        if ending == Ending::Returned {
            other.close().await.expect("closed");
        }
    });
    sim
}

/// Waits until all nodes are members that serve.
fn settle(sim: &mut Sim) {
    sim.until("all of them vote", |sim| {
        let views = sim.views();
        let is_settled = |view: &View| view.voters == NODES.len() && view.serving;
        views.len() == NODES.len() && views.iter().all(is_settled)
    });
}

fn accounts(system: &ActorSystem) -> (account::AccountRef, account::AccountRef) {
    (
        system.entity::<Account>("ada"),
        system.entity::<Account>("bob"),
    )
}

/// Orders the transfer until it has begun.
async fn begin(system: ActorSystem) {
    let order = Order {
        from: "ada".to_owned(),
        to: "bob".to_owned(),
        amount: AMOUNT,
    };
    let transfer = system.entity::<Transfer>("t");
    loop {
        match transfer.begin(order.clone()).await {
            // It has begun by an earlier order, whose answer was lost.
            Ok(()) | Err(AskError::Unhandled { .. }) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What became of it, once nothing is set aside any more.
async fn outcome(system: ActorSystem) -> (Progress, [account::Statement; 2]) {
    let patience = Duration::from_secs(30);
    let transfer = system.entity::<Transfer>("t");
    let (payer, other) = accounts(&system);
    loop {
        let progress = transfer.progress().retry_for(patience).await;
        let progress = progress.expect("the transfer answers");
        let paying = payer.statement().retry_for(patience).await;
        let paying = paying.expect("the account answers");
        let is_over = !matches!(progress, Progress::Open | Progress::UnderWay);
        if is_over && paying.reserved == 0 {
            let paid = other.statement().retry_for(patience).await;
            return (progress, [paying, paid.expect("the account answers")]);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A transfer during which these nodes die, so long after it was ordered. Returns how long it took.
fn transfer(ending: Ending, victims: &[&str], after: Duration) -> Duration {
    let mut sim = cluster(ending);
    let since = sim.elapsed();
    drop(sim.spawn_on("a", begin));
    if !victims.is_empty() {
        sim.run_for(after);
        for victim in victims {
            sim.crash(victim);
        }
        // The others, if there are any, take over.
        sim.run_for(Duration::from_secs(2));
        for victim in victims {
            sim.restart(victim);
        }
        settle(&mut sim);
        // The node that orders it may have died before the others heard of it.
        sim.on("a", begin);
    }
    let (progress, [payer, other]) = sim.on("a", outcome);
    let took = sim.elapsed().saturating_sub(since);
    let (expected, left, paid, entries) = match ending {
        Ending::Paid => (Progress::Paid, 70, 35, [2, 2]),
        Ending::Returned => (Progress::Returned, 100, 5, [1, 1]),
    };
    let case = format!("{ending:?}, {victims:?} die after {after:?}");
    assert_eq!(progress, expected, "{case}");
    assert_eq!((payer.balance, other.balance), (left, paid), "{case}");
    assert_eq!([payer.entries, other.entries], entries, "{case}");
    took
}

fn at_each_moment(ending: Ending) {
    let step = std::env::var("CASTY_STEP").ok();
    let step = step.map_or(50, |step| step.parse().expect("milliseconds"));
    let undisturbed = transfer(ending, &[], Duration::ZERO);
    let moments = u64::try_from(undisturbed.as_millis()).expect("short");
    assert!(moments > 20, "it has steps: {undisturbed:?}");
    let mut runs = 0;
    for after in (0..=moments).step_by(step) {
        let after = Duration::from_millis(after);
        for victims in [&["a"][..], &["b"], &["c"], &NODES] {
            transfer(ending, victims, after);
            runs += 1;
        }
    }
    println!("{ending:?}: {undisturbed:?} undisturbed, and {runs} times disturbed");
}

#[test]
fn a_transfer_is_paid_once_whichever_nodes_die_at_which_step() {
    at_each_moment(Ending::Paid);
}

#[test]
fn a_transfer_is_returned_once_whichever_nodes_die_at_which_step() {
    at_each_moment(Ending::Returned);
}
