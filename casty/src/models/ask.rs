//! The slot of an ask: an answer, a deadline and an asker that leaves race for it, and the next ask
//! of the thread reuses it.

use std::{future::poll_fn, sync::Arc, time::Duration};

use shuttle::{future::block_on, thread};

use crate::{
    actor::ask::{
        deadlines::Deadlines,
        one_shot::{Answerer, Arrival, Asked, one_shot},
    },
    models::environment,
};

/// Exact deadlines, and deadlines that a reused slot shares with an earlier ask.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(10)];

/// Later than all of them.
const LONG: Duration = Duration::from_hours(1);

pub(super) fn program() {
    let deadlines = Deadlines::new(environment::handle());
    let clock = {
        let deadlines = deadlines.clone();
        thread::spawn(move || {
            for hour in 1..=2 {
                deadlines.pass(LONG * hour);
            }
        })
    };
    let asker = {
        let deadlines = deadlines.clone();
        thread::spawn(move || {
            for timeout in TIMEOUTS {
                ask_in_turn(&deadlines, timeout);
            }
        })
    };
    for thread in [clock, asker] {
        thread.join().expect("it ends");
    }
}

/// An ask whose asker leaves, one that is waited for, and one whose duty is dropped. The asker
/// hears its own answer, no earlier one.
fn ask_in_turn(deadlines: &Arc<Deadlines>, timeout: Duration) {
    let (answerer, asked) = one_shot(deadlines);
    let left = answer(answerer, 1);
    drop(asked);
    let (answerer, asked) = one_shot(deadlines);
    let second = answer(answerer, 2);
    let heard = hear(asked, timeout);
    assert!(
        matches!(heard, Arrival::Answer(2) | Arrival::Late),
        "{heard:?}"
    );
    let (answerer, asked) = one_shot(deadlines);
    let dropped = thread::spawn(move || drop(answerer));
    let heard = hear(asked, timeout);
    assert!(
        matches!(heard, Arrival::Unanswered | Arrival::Late),
        "{heard:?}"
    );
    for thread in [left, second, dropped] {
        thread.join().expect("it ends");
    }
}

fn answer(answerer: Answerer<u32>, with: u32) -> thread::JoinHandle<()> {
    thread::spawn(move || answerer.answer(with))
}

fn hear(mut asked: Asked<u32>, timeout: Duration) -> Arrival<u32> {
    block_on(poll_fn(|cx| asked.poll(cx, timeout)))
}
