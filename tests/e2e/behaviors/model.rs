//! Random messages, compared with plain models of the machines.

use std::collections::VecDeque;

use casty::{prelude::*, testkit};
use futures_util::{FutureExt, future::BoxFuture};
use proptest::{collection::vec, prelude::*};

use super::machines::{Cart, NotInCart, Valve};

/// How many messages a valve stashes, as its definition says.
const STASH: usize = 3;

fn unhandled<E>(state: &str, message: &str) -> AskError<E> {
    AskError::Unhandled {
        state: state.to_owned(),
        message: message.to_owned(),
    }
}

#[derive(Clone, Debug)]
enum ToCart {
    Add(u32),
    Remove(u32),
    Checkout,
    Total,
    DropIt,
    Close,
}

fn to_cart() -> impl Strategy<Value = ToCart> {
    // Few prices, so that an item is found again.
    prop_oneof![
        3 => (1..4_u32).prop_map(ToCart::Add),
        3 => (1..4_u32).prop_map(ToCart::Remove),
        1 => Just(ToCart::Checkout),
        2 => Just(ToCart::Total),
        1 => Just(ToCart::DropIt),
        1 => Just(ToCart::Close),
    ]
}

#[derive(Debug, Default)]
enum CartModel {
    #[default]
    Empty,
    Active(Vec<u32>),
    CheckedOut(u32),
}

/// The answers of all messages in one type.
type CartAnswer = Result<u32, AskError<NotInCart>>;

impl CartModel {
    fn handle(&mut self, message: &ToCart) -> CartAnswer {
        match (&mut *self, message) {
            (Self::Empty, ToCart::Add(price)) => *self = Self::Active(vec![*price]),
            (Self::Empty, ToCart::Total) => {}
            (Self::Active(prices), ToCart::Add(price)) => prices.push(*price),
            (Self::Active(prices), ToCart::Remove(price)) => {
                let found = prices.iter().position(|other| other == price);
                let index = found.ok_or(AskError::Entity(NotInCart(*price)))?;
                prices.remove(index);
                let left = prices.len() as u32;
                if left == 0 {
                    *self = Self::Empty;
                }
                return Ok(left);
            }
            (Self::Active(prices), ToCart::Checkout) => {
                let paid = prices.iter().sum();
                *self = Self::CheckedOut(paid);
                return Ok(paid);
            }
            (Self::Active(prices), ToCart::Total) => return Ok(prices.iter().sum()),
            (Self::Active(_), ToCart::DropIt) => {
                *self = Self::Empty;
                return Err(AskError::Panicked {
                    message: "dropped".to_owned(),
                });
            }
            (Self::CheckedOut(paid), ToCart::Total) => return Ok(*paid),
            (Self::CheckedOut(_), ToCart::Close) => *self = Self::Empty,
            (state, message) => {
                let state = match state {
                    Self::Empty => "Empty",
                    Self::Active(_) => "Active",
                    Self::CheckedOut(_) => "CheckedOut",
                };
                let message = match message {
                    ToCart::Add(_) => "add",
                    ToCart::Remove(_) => "remove",
                    ToCart::Checkout => "checkout",
                    ToCart::Total => "total",
                    ToCart::DropIt => "drop_it",
                    ToCart::Close => "close",
                };
                return Err(unhandled(state, message));
            }
        }
        Ok(0)
    }
}

#[derive(Clone, Copy, Debug)]
enum ToValve {
    Pass(u32),
    Open,
    Shut,
    Flush,
}

fn to_valve() -> impl Strategy<Value = ToValve> {
    prop_oneof![
        4 => any::<u32>().prop_map(ToValve::Pass),
        2 => Just(ToValve::Open),
        2 => Just(ToValve::Shut),
        1 => Just(ToValve::Flush),
    ]
}

type ValveAnswer = Result<u32, AskError>;

#[derive(Debug, Default)]
struct ValveModel {
    is_open: bool,
    passed: Vec<u32>,
    stash: VecDeque<(usize, ToValve)>,
    /// The answer to each message, in the order of sending.
    answers: Vec<Option<ValveAnswer>>,
}

impl ValveModel {
    fn send(&mut self, message: ToValve) {
        let mut queue = VecDeque::from([(self.answers.len(), message)]);
        self.answers.push(None);
        while let Some((sender, message)) = queue.pop_front() {
            let before = self.is_open;
            let answer = match (self.is_open, message) {
                (true, ToValve::Pass(number)) => {
                    self.passed.push(number);
                    Ok(self.passed.len() as u32)
                }
                (true, ToValve::Open) => Err(unhandled("Open", "open")),
                (true, ToValve::Shut) => {
                    self.is_open = false;
                    Ok(0)
                }
                (true, ToValve::Flush) => Ok(0),
                (false, ToValve::Open) => {
                    self.is_open = true;
                    Ok(0)
                }
                (false, message) => {
                    if self.stash.len() < STASH {
                        self.stash.push_back((sender, message));
                        continue;
                    }
                    Err(AskError::Full)
                }
            };
            self.answers[sender] = Some(answer);
            if before != self.is_open {
                self.stash.append(&mut queue);
                std::mem::swap(&mut self.stash, &mut queue);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cart_does_as_its_model_does(messages in vec(to_cart(), 0..60)) {
        testkit::paused(|system| async move {
            let cart = system.entity::<Cart>("c-1");
            let mut model = CartModel::default();
            for message in messages {
                let none = |()| 0;
                let answer: CartAnswer = match &message {
                    ToCart::Add(price) => cart.add(*price).await.map(none).map_err(widen),
                    ToCart::Remove(price) => cart.remove(*price).await,
                    ToCart::Checkout => cart.checkout().await.map_err(widen),
                    ToCart::Total => cart.total().await.map_err(widen),
                    ToCart::DropIt => {
                        let dropped = cart.drop_it("dropped".to_owned()).await;
                        dropped.map(none).map_err(widen)
                    }
                    ToCart::Close => cart.close().await.map(none).map_err(widen),
                };
                assert_eq!(answer, model.handle(&message), "{message:?} to {model:?}");
            }
        });
    }

    #[test]
    fn a_valve_does_as_its_model_does(messages in vec(to_valve(), 0..60)) {
        testkit::paused(|system| async move {
            let valve = system.entity::<Valve>("v-1");
            let mut model = ValveModel::default();
            let mut asks: Vec<BoxFuture<'static, ValveAnswer>> = Vec::new();
            for message in messages {
                let none = |answer: Result<(), AskError>| answer.map(|()| 0);
                let mut ask = match message {
                    ToValve::Pass(number) => valve.pass(number).into_future().boxed(),
                    ToValve::Open => valve.open().into_future().map(none).boxed(),
                    ToValve::Shut => valve.shut().into_future().map(none).boxed(),
                    ToValve::Flush => valve.flush().into_future().map(none).boxed(),
                };
                // The ask is sent when it is first polled.
                assert_eq!((&mut ask).now_or_never(), None);
                asks.push(ask);
                model.send(message);
                assert_eq!(valve.passed().await, Ok(model.passed.clone()), "{message:?}");
            }
            for (ask, expected) in asks.into_iter().zip(model.answers) {
                assert_eq!(ask.now_or_never(), expected);
            }
        });
    }
}

fn widen(error: AskError) -> AskError<NotInCart> {
    match error {
        AskError::Unhandled { state, message } => AskError::Unhandled { state, message },
        AskError::Panicked { message } => AskError::Panicked { message },
        other => panic!("unexpected: {other}"),
    }
}
