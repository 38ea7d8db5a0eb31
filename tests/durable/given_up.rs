//! Messages that an operator gives up, because their handlers fail each time.

use std::time::Duration;

use casty::{
    DeadLetter,
    admin::{Admin, AdminError, GivenUpReport},
    event::DeadLetterReason,
    persistence::Memory,
    prelude::*,
    remind::Remind,
    testkit::{DeadLetters, STEP_LIMIT, eventually, soon},
};

/// A safe that cannot be opened.
#[message]
#[derive(Default)]
pub(crate) struct Safe {
    tried: u32,
    outcomes: Vec<String>,
}

#[entity(name = "given_up/safe", durable, shards = 4)]
impl Safe {
    #[message]
    fn force(&mut self) {
        panic!("it is too strong");
    }

    #[message]
    fn knock(&mut self) {
        self.tried += 1;
    }

    #[message]
    fn force_soon(&mut self, ctx: &mut Context<Self>) {
        let later = Remind::every(Duration::from_mins(10));
        ctx.remind("later", later, SafeMsg::Force {});
        ctx.remind("now", Remind::after(Duration::ZERO), SafeMsg::Force {});
    }

    #[message]
    fn pass(&mut self, to: SafeRef, ctx: &mut Context<Self>) {
        ctx.send_for(to.force(), |outcome| SafeMsg::Forced { outcome });
        ctx.send(to.knock());
    }

    #[message]
    fn forced(&mut self, outcome: Outcome<()>) {
        self.outcomes.push(format!("{:?}", outcome.result()));
    }

    #[message]
    fn report(&self) -> (u32, Vec<String>) {
        (self.tried, self.outcomes.clone())
    }
}

fn is_given_up(letter: &DeadLetter) -> bool {
    letter.message == "force" && letter.reason == DeadLetterReason::GivenUp
}

async fn node(store: &Memory) -> ActorSystem {
    casty_tests::log();
    let builder = ActorSystem::builder("safes").node_id("one");
    let node = builder.journal(store.clone()).start().await.unwrap();
    node.wait_for(1).await.unwrap();
    node
}

/// What was given up, once a try has failed.
async fn given_up<F>(give_up: impl Fn() -> F) -> GivenUpReport
where
    F: Future<Output = Result<GivenUpReport, AdminError>>,
{
    let look = || async { give_up().await.unwrap() };
    eventually("a try has failed", look, |it| !it.messages.is_empty()).await
}

#[tokio::test]
async fn a_send_that_is_given_up_is_taken_without_being_handled() {
    let store = Memory::new();
    let node = node(&store).await;
    let admin = Admin::connect("safes", [node.address()]).await.unwrap();
    let mut letters = DeadLetters::of(&node);
    let (ada, bob) = (node.entity::<Safe>("ada"), node.entity::<Safe>("bob"));
    let nothing = admin.give_up_sends("given_up/safe", "bob").await.unwrap();
    assert_eq!(nothing.messages, []);
    soon("it passes on", ada.pass(bob.clone())).await.unwrap();
    let report = given_up(|| admin.give_up_sends("given_up/safe", "bob")).await;
    assert_eq!(report.silent, []);
    let given_up = &report.messages[0];
    assert_eq!(
        (&*given_up.kind, &*given_up.message),
        ("given_up/safe", "force")
    );
    assert_eq!(given_up.from.to_string(), "ada");
    let letter = letters.expect(is_given_up).await;
    assert_eq!(letter.to.to_string(), "given_up/safe/bob");
    // What was sent after it is handled, and the sender knows.
    let look = || async { bob.report().retry_for(STEP_LIMIT).await.unwrap() };
    eventually("the next one is handled", look, |(tried, _)| *tried == 1).await;
    let look = || async { ada.report().retry_for(STEP_LIMIT).await.unwrap() };
    let (_, outcomes) = eventually("the sender knows", look, |(_, it)| !it.is_empty()).await;
    assert!(
        outcomes[0].contains("an operator has given the message up"),
        "{outcomes:?}"
    );
    let look = || async { admin.outbox().await.unwrap().sends };
    eventually("nothing waits", look, |sends| *sends == 0).await;
    node.shutdown().await.unwrap();
    drop(node);
    // It does not come again.
    let node = self::node(&store).await;
    let bob = node.entity::<Safe>("bob");
    assert_eq!(bob.report().retry_for(STEP_LIMIT).await.unwrap().0, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_reminder_that_is_given_up_is_moved_on_without_being_handled() {
    let node = node(&Memory::new()).await;
    let admin = Admin::connect("safes", [node.address()]).await.unwrap();
    let mut letters = DeadLetters::of(&node);
    let safe = node.entity::<Safe>("ada");
    soon("they are set", safe.force_soon()).await.unwrap();
    let give_up = |name: &'static str| admin.give_up_reminder("given_up/safe", "ada", name);
    assert_eq!(give_up("other").await.unwrap().messages, []);
    assert_eq!(
        give_up("later").await.unwrap().messages,
        [],
        "it is not due"
    );
    let report = given_up(|| give_up("now")).await;
    assert_eq!(&*report.messages[0].message, "force");
    letters.expect(is_given_up).await;
    let look = || async { admin.reminders(None, 10).await.unwrap() };
    let left = eventually("it is gone", look, |it| it.pending == 1).await;
    assert_eq!(left.reminders[0].name, "later");
    node.shutdown().await.unwrap();
}
