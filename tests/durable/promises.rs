//! Replies of stored entities that come after the end of their activation.

use casty::{
    persistence::Memory,
    prelude::*,
    reply::{Later, StoredPromise},
    testkit::{STEP_LIMIT, eventually, soon},
};

/// Decides later.
#[message]
#[derive(Default)]
pub(crate) struct Desk {
    waiting: Vec<StoredPromise<bool>>,
}

#[entity(name = "promises/desk", durable, shards = 4)]
impl Desk {
    #[message]
    fn review(&mut self, ctx: &mut Context<Self>) -> Later<bool> {
        let (promise, later) = ctx.promise();
        self.waiting.push(promise);
        later
    }

    #[message]
    fn decide(&mut self, yes: bool, ctx: &mut Context<Self>) {
        for promise in self.waiting.drain(..) {
            ctx.keep_promise(promise, yes);
        }
    }

    #[message]
    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    #[message]
    fn go_home(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// The same, by events.
#[message]
#[derive(Default)]
pub(crate) struct Board {
    waiting: Vec<StoredPromise<Result<u32, String>>>,
}

#[entity(name = "promises/board", event_sourced, shards = 4)]
impl Board {
    #[message]
    fn vote(&self, ctx: &mut Context<Self>) -> Effect<Self, Later<Result<u32, String>>> {
        let (promise, later) = ctx.promise();
        Effect::persist(BoardEvent::Asked { promise }).reply(|_| later)
    }

    #[message]
    fn close(&self, votes: u32) -> Effect<Self> {
        let mut closed = Effect::persist(BoardEvent::Closed {});
        for promise in self.waiting.iter().cloned() {
            let reply = votes.checked_sub(1).ok_or_else(|| "none came".to_owned());
            closed = closed.keep_promise(promise, reply);
        }
        closed
    }

    #[message]
    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    #[event]
    fn asked(&mut self, promise: StoredPromise<Result<u32, String>>) {
        self.waiting.push(promise);
    }

    #[event]
    fn closed(&mut self) {
        self.waiting.clear();
    }
}

/// Waits for decisions.
#[message]
#[derive(Default)]
pub(crate) struct Paper {
    told: Vec<String>,
}

#[entity(name = "promises/paper", durable, shards = 4)]
impl Paper {
    #[message]
    fn hand_in(&mut self, desk: DeskRef, board: BoardRef, ctx: &mut Context<Self>) {
        ctx.send_for(desk.review(), |outcome| PaperMsg::Reviewed { outcome });
        ctx.send_for(board.vote(), |outcome| PaperMsg::Voted { outcome });
        // The outcome of this one is not wanted.
        ctx.send(desk.review());
    }

    #[message]
    fn reviewed(&mut self, outcome: Outcome<bool>) {
        self.told.push(format!("reviewed: {:?}", outcome.result()));
    }

    #[message]
    fn voted(&mut self, outcome: Outcome<Result<u32, String>>) {
        self.told.push(format!("voted: {:?}", outcome.result()));
    }

    #[message]
    fn told(&self) -> Vec<String> {
        self.told.clone()
    }
}

fn start(store: &Memory) -> ActorSystem {
    casty_tests::log();
    let builder = ActorSystem::builder("promises").journal(store.clone());
    builder.start_local().unwrap()
}

#[tokio::test]
async fn a_sender_is_told_of_what_was_promised_after_restarts_of_all() {
    let store = Memory::new();
    let system = start(&store);
    let (desk, board) = (system.entity::<Desk>("d"), system.entity::<Board>("b"));
    let paper = system.entity::<Paper>("p");
    paper.hand_in(desk.clone(), board.clone()).await.unwrap();
    let waiting = || async {
        (
            desk.waiting().await.unwrap(),
            board.waiting().await.unwrap(),
        )
    };
    eventually("they wait", waiting, |waiting| *waiting == (2, 1)).await;
    system.shutdown().await.unwrap();

    let system = start(&store);
    let paper = system.entity::<Paper>("p");
    assert_eq!(paper.told().await.unwrap(), Vec::<String>::new());
    system.entity::<Desk>("d").decide(true).await.unwrap();
    system.entity::<Board>("b").close(4).await.unwrap();
    let told = || async { paper.told().await.unwrap() };
    let mut all = eventually("it is told", told, |told| told.len() == 2).await;
    all.sort();
    assert_eq!(all, ["reviewed: Ok(true)", "voted: Ok(Ok(3))"]);
    system.shutdown().await.unwrap();

    // Each is kept once.
    let system = start(&store);
    system.entity::<Desk>("d").decide(false).await.unwrap();
    system.entity::<Board>("b").close(9).await.unwrap();
    let desk = system.entity::<Desk>("d");
    assert_eq!(desk.waiting().await, Ok(0));
    assert_eq!(system.entity::<Paper>("p").told().await.unwrap().len(), 2);
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_asker_is_answered_by_the_activation_that_promised() {
    let system = start(&Memory::new());
    let desk = system.entity::<Desk>("d");
    let asking = tokio::spawn(desk.review().timeout(STEP_LIMIT).into_future());
    let waiting = || async { desk.waiting().await.unwrap() };
    eventually("it waits", waiting, |waiting| *waiting == 1).await;
    desk.decide(true).await.unwrap();
    assert_eq!(soon("it is answered", asking).await.unwrap(), Ok(true));

    let asking = tokio::spawn(desk.review().timeout(STEP_LIMIT).into_future());
    eventually("it waits", waiting, |waiting| *waiting == 1).await;
    desk.go_home().await.unwrap();
    // Its state still has the promise, and keeps it in vain.
    assert_eq!(desk.waiting().await, Ok(1));
    let failed = soon("it is answered", asking).await.unwrap();
    assert_eq!(failed, Err(AskError::Stopped));
    desk.decide(true).await.unwrap();
    assert_eq!(desk.waiting().await, Ok(0));

    let board = system.entity::<Board>("b");
    let asking = tokio::spawn(board.vote().timeout(STEP_LIMIT).into_future());
    let waiting = || async { board.waiting().await.unwrap() };
    eventually("it waits", waiting, |waiting| *waiting == 1).await;
    board.close(0).await.unwrap();
    let answer = soon("it is answered", asking).await.unwrap();
    assert_eq!(answer, Err(AskError::Entity("none came".to_owned())));
    system.shutdown().await.unwrap();
}
