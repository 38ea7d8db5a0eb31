//! No message is lost silently: each is handled, refused with a typed error, or a dead letter.

use std::sync::atomic::Ordering;

use casty::testkit;
use casty_tests::population::{Books, Citizen, Hasty, Odds, Patient, Sender, Steady};

const SENDERS: u32 = 6;
const MESSAGES: u64 = 150;

/// A population of one type under one seed.
fn lives<E: Citizen>(run: u64, seed: u64, odds: Odds) {
    let books = Books::of(run, true);
    testkit::paused(|system| async move {
        let senders = (0..SENDERS).map(|sender| {
            let sender = Sender {
                run,
                sender,
                seed,
                entities: 24,
                odds,
            };
            tokio::spawn(sender.send::<E>(system.clone(), |number| number < MESSAGES))
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
        // The system handles everything it accepted before it ends.
        system.shutdown().await.unwrap();
        assert_eq!(
            books.balance(system.dead_letters()),
            0,
            "seed {seed}: {books:?}, {} dead letters",
            system.dead_letters()
        );
        assert_eq!(books.out_of_order.load(Ordering::SeqCst), 0, "seed {seed}");
        let sent = books.sent.load(Ordering::SeqCst);
        assert_eq!(sent, u64::from(SENDERS) * MESSAGES);
    });
}

fn all<E: Citizen>(runs: u64, odds: Odds) {
    // The panics are intended.
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text != "as told" {
            eprintln!("{info}");
        }
    }));
    for seed in 0..casty_tests::seeds(40) {
        lives::<E>(runs + seed, seed, odds);
    }
}

const ROUGH: Odds = Odds {
    panic: 60,
    stop: 60,
    sleep: 60,
    dawdle: 200,
};

#[test]
fn with_restarts_and_passivation() {
    all::<Patient>(1000, ROUGH);
}

#[test]
fn with_a_mailbox_that_drops_and_a_crowd() {
    all::<Hasty>(2000, ROUGH);
}

#[test]
fn with_a_mailbox_that_rejects_and_states_that_survive() {
    all::<Steady>(3000, ROUGH);
}

#[test]
fn with_nothing_but_crashes() {
    let odds = Odds {
        panic: 700,
        stop: 100,
        sleep: 100,
        dawdle: 100,
    };
    all::<Patient>(4000, odds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_soak_balances() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_casty-soak"))
        .args(["--entities", "3000", "--seconds", "4"])
        .output()
        .await
        .unwrap();
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{failed}");
    assert!(said.contains("difference 0"), "{said}");
}
