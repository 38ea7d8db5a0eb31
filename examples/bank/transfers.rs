//! Transfers between two accounts: each happens once, and as a whole.
//!
//! A transfer is a saga: an entity with states, whose arrows are messages to the accounts, and what
//! these answer. A message is part of the record that says what the transfer has come to, so it is
//! sent if, and only if, that is stored; an account handles it once, whichever nodes die meanwhile.
//! So there is no code here for what comes twice, late, or not at all.
//!
//! ```text
//!            begin            set aside             credited
//!   Open ───────────▶ Reserving ─────────▶ Crediting ─────────▶ Paid    (settle)
//!                         │                    │
//!                         │ too little         │ the account is closed
//!                         ▼                    ▼
//!                      Refused              Returned   (give back)
//! ```

use casty::prelude::*;

use crate::account::{Account, Closed, InsufficientFunds};

/// Money that goes from one account to another.
#[message]
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The account that pays.
    pub from: String,
    /// The account that is paid.
    pub to: String,
    /// How much.
    pub amount: u64,
}

/// How far a transfer has come.
#[message]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// It has not begun.
    Open,
    /// It is under way.
    UnderWay,
    /// It was paid.
    Paid,
    /// The account that was to pay did not have enough.
    Refused,
    /// The account that was to be paid is closed, and the other one has its money back.
    Returned,
}

/// A transfer.
#[entity(shards = 16, event_sourced)]
pub mod transfer {
    use super::*;

    /// It has not begun.
    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Open;

    /// The paying account is asked to set the money aside.
    #[state]
    #[message]
    pub struct Reserving {
        pub order: Order,
    }

    /// The other account is asked to take it.
    #[state]
    #[message]
    pub struct Crediting {
        pub order: Order,
    }

    /// It was paid.
    #[state]
    #[message]
    pub struct Paid;

    /// There was too little.
    #[state]
    #[message]
    pub struct Refused;

    /// The other account was closed.
    #[state]
    #[message]
    pub struct Returned;

    #[behavior(otherwise = reject)]
    impl Open {
        /// Takes the transfer on: from then on it comes to an end.
        #[message]
        pub fn begin(&self, order: Order, ctx: &mut Context<Transfer>) -> Effect<Transfer> {
            let payer = ctx.entity::<Account>(order.from.as_str());
            let reserve = payer.reserve(order.amount);
            Effect::persist(TransferEvent::Begun { order })
                .send_for(reserve, |outcome| TransferMsg::HeardOfReserving { outcome })
        }

        #[message]
        pub fn progress(&self) -> Progress {
            Progress::Open
        }

        #[event]
        fn begun(self, order: Order) -> Reserving {
            Reserving { order }
        }
    }

    #[behavior(otherwise = reject)]
    impl Reserving {
        #[message]
        fn heard_of_reserving(
            &self,
            outcome: Outcome<Result<(), InsufficientFunds>>,
            ctx: &mut Context<Transfer>,
        ) -> Effect<Transfer> {
            let Ok(Ok(())) = outcome.result() else {
                return Effect::persist(TransferEvent::Declined {});
            };
            let payee = ctx.entity::<Account>(self.order.to.as_str());
            Effect::persist(TransferEvent::SetAside {})
                .send_for(payee.credit(self.order.amount), |outcome| {
                    TransferMsg::HeardOfCrediting { outcome }
                })
        }

        #[message]
        pub fn progress(&self) -> Progress {
            Progress::UnderWay
        }

        #[event]
        fn set_aside(self) -> Crediting {
            Crediting { order: self.order }
        }

        #[event]
        fn declined(self) -> Refused {
            Refused
        }
    }

    #[behavior(otherwise = reject)]
    impl Crediting {
        #[message]
        fn heard_of_crediting(
            &self,
            outcome: Outcome<Result<(), Closed>>,
            ctx: &mut Context<Transfer>,
        ) -> Effect<Transfer> {
            let payer = ctx.entity::<Account>(self.order.from.as_str());
            let amount = self.order.amount;
            match outcome.result() {
                Ok(Ok(())) => {
                    Effect::persist(TransferEvent::Completed {}).send(payer.settle(amount))
                }
                _ => Effect::persist(TransferEvent::TurnedBack {}).send(payer.give_back(amount)),
            }
        }

        #[message]
        pub fn progress(&self) -> Progress {
            Progress::UnderWay
        }

        #[event]
        fn completed(self) -> Paid {
            Paid
        }

        #[event]
        fn turned_back(self) -> Returned {
            Returned
        }
    }

    #[behavior(otherwise = reject)]
    impl Paid {
        #[message]
        pub fn progress(&self) -> Progress {
            Progress::Paid
        }
    }

    #[behavior(otherwise = reject)]
    impl Refused {
        #[message]
        pub fn progress(&self) -> Progress {
            Progress::Refused
        }
    }

    #[behavior(otherwise = reject)]
    impl Returned {
        #[message]
        pub fn progress(&self) -> Progress {
            Progress::Returned
        }
    }
}
