//! Tellers, who carry out transfers: each happens once, and as a whole.
//!
//! A teller stores what it is about to do before it does it. When its activation has ended between
//! two steps, the next activation takes the step again, and the account knows the order.

use std::fmt;

use casty::prelude::*;
use serde::{Deserialize, Serialize};

use crate::account::{Account, Order};

/// How long a teller waits before it asks an account again.
const PAUSE: Duration = Duration::from_millis(100);

/// Money that goes from one account to another.
#[message]
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// The account that pays.
    pub from: String,
    /// The account that is paid.
    pub to: String,
    /// How much.
    pub amount: u64,
}

/// A teller carries out one transfer after the other.
#[message]
#[derive(Debug)]
pub struct Busy {
    /// The transfer that is being carried out.
    pub number: u64,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer {} is being carried out", self.number)
    }
}

impl std::error::Error for Busy {}

/// What a teller has done.
#[message]
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// How many transfers have begun.
    pub begun: u64,
    /// How many of them were paid. The others were refused, for want of money.
    pub paid: u64,
    /// Whether the last one is still being carried out.
    pub is_busy: bool,
}

/// What is to be done next for the present transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Step {
    #[default]
    Nothing,
    PayOut,
    PayIn,
}

/// The state of a teller, as its events have made it.
#[derive(Default, Serialize, Deserialize)]
pub struct Teller {
    /// How many transfers have begun.
    number: u64,
    /// How many of them were paid.
    paid: u64,
    step: Step,
    transfer: Option<Transfer>,
}

impl Teller {
    /// Takes the next step, if there is one.
    fn go_on(&self, ctx: &mut Context<Self>) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let (number, amount) = (self.number, transfer.amount);
        let teller = ctx.entity_id();
        let order = Order {
            teller,
            number,
            amount,
        };
        match self.step {
            Step::Nothing => {}
            Step::PayOut => {
                let account = ctx.entity::<Account>(transfer.from.as_str());
                ctx.pipe(account.pay_out(order), move |answer| {
                    TellerMsg::HeardOfPayingOut { number, answer }
                });
            }
            Step::PayIn => {
                let account = ctx.entity::<Account>(transfer.to.as_str());
                ctx.pipe(account.pay_in(order), move |answer| {
                    TellerMsg::HeardOfPayingIn { number, answer }
                });
            }
        }
    }
}

/// An account did not answer. It may have done what it was asked for, and is asked again.
fn ask_later(number: u64, ctx: &mut Context<Teller>) -> Effect<Teller> {
    ctx.schedule_once(PAUSE, TellerMsg::AskAgain { number })
        .detach();
    Effect::none()
}

#[entity(shards = 16, event_sourced, snapshot_every = 100, id = u64)]
impl Teller {
    /// Takes a transfer on, and replies with its number: from then on it will be carried out.
    #[message]
    pub fn transfer(&self, transfer: Transfer) -> Result<Effect<Self, u64>, Busy> {
        if self.step != Step::Nothing {
            let number = self.number;
            return Err(Busy { number });
        }
        Ok(Effect::persist(TellerEvent::Begun { transfer })
            .then(Self::go_on)
            .reply(|teller| teller.number))
    }

    /// What the teller has done.
    #[message]
    pub fn progress(&self) -> Progress {
        Progress {
            begun: self.number,
            paid: self.paid,
            is_busy: self.step != Step::Nothing,
        }
    }

    /// The previous activation may have ended between two steps.
    #[on_start]
    fn started(&self, ctx: &mut Context<Self>) {
        self.go_on(ctx);
    }

    #[message(internal)]
    fn heard_of_paying_out(
        &self,
        number: u64,
        answer: Result<bool, AskError>,
        ctx: &mut Context<Self>,
    ) -> Effect<Self> {
        if number != self.number || self.step != Step::PayOut {
            return Effect::none();
        }
        match answer {
            Ok(true) => Effect::persist(TellerEvent::PaidOut {}).then(Self::go_on),
            Ok(false) => Effect::persist(TellerEvent::Refused {}),
            Err(_) => ask_later(number, ctx),
        }
    }

    #[message(internal)]
    fn heard_of_paying_in(
        &self,
        number: u64,
        answer: Result<(), AskError>,
        ctx: &mut Context<Self>,
    ) -> Effect<Self> {
        if number != self.number || self.step != Step::PayIn {
            return Effect::none();
        }
        match answer {
            Ok(()) => Effect::persist(TellerEvent::PaidIn {}),
            Err(_) => ask_later(number, ctx),
        }
    }

    #[message(internal)]
    fn ask_again(&self, number: u64, ctx: &mut Context<Self>) {
        if number == self.number {
            self.go_on(ctx);
        }
    }

    #[event]
    fn begun(&mut self, transfer: Transfer) {
        self.number += 1;
        self.step = Step::PayOut;
        self.transfer = Some(transfer);
    }

    #[event]
    fn paid_out(&mut self) {
        self.step = Step::PayIn;
    }

    /// The account that was to pay did not have enough.
    #[event]
    fn refused(&mut self) {
        self.step = Step::Nothing;
    }

    #[event]
    fn paid_in(&mut self) {
        self.paid += 1;
        self.step = Step::Nothing;
    }
}
