//! An actor's cell: messages come while its run begins, handles others, waits for more, and is
//! ended because it has waited for long.

use std::sync::Arc;

use shuttle::{future::block_on, thread};

use crate::{
    ActorRef, Settings,
    actor::{Actor, runtime::Runtime},
    id::NodeId,
    models::environment,
    prelude::*,
};

/// Asks one after the other, after which the run lingers.
const WARM_UP: u32 = 10;

/// Messages of each sender after that.
const MESSAGES: u32 = 3;

/// Notes what it is told, in order.
#[derive(Default)]
struct Notes {
    told: Vec<u32>,
    asked: u32,
}

#[actor]
impl Notes {
    #[message]
    fn note(&mut self, number: u32) {
        self.told.push(number);
    }

    /// An answer that takes two polls.
    #[message]
    async fn think(&mut self) -> u32 {
        shuttle::future::yield_now().await;
        self.asked += 1;
        self.asked
    }

    /// An answer that takes one poll.
    #[message]
    fn told(&self) -> Vec<u32> {
        self.told.clone()
    }
}

pub(super) fn program() {
    let handle = environment::handle();
    let _entered = handle.enter();
    let runtime = Runtime::new(NodeId::new("model"), &Settings::default(), 1);
    let notes = start(&runtime);
    for _ in 0..WARM_UP {
        let answer = block_on(async { notes.think().await });
        answer.expect("the actor lives");
    }
    let asker = {
        let notes = notes.clone();
        thread::spawn(move || {
            for number in 1..=MESSAGES {
                let answer = block_on(async { notes.think().await });
                match answer {
                    Ok(answer) => assert_eq!(answer, WARM_UP + number),
                    Err(error) => panic!("{error:?}"),
                }
            }
        })
    };
    let teller = {
        let notes = notes.clone();
        thread::spawn(move || {
            for number in 1..=MESSAGES {
                notes.note(number).try_tell().expect("the mailbox has room");
            }
        })
    };
    for thread in [asker, teller] {
        thread.join().expect("it ends");
    }
    let told = block_on(async { notes.told().await });
    match told {
        Ok(told) => assert_eq!(told, (1..=MESSAGES).collect::<Vec<_>>()),
        Err(error) => panic!("{error:?}"),
    }
}

fn start(runtime: &Arc<Runtime>) -> NotesRef {
    Notes::proxy(ActorRef::local(runtime.spawn_actor(
        Some(Notes::default()),
        None,
        None,
    )))
}
