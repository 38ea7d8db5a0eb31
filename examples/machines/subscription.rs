//! A subscription: a trial, months that are paid, reminders, and a pause.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state Running {
//!         Trial
//!         note right of Trial
//!             stays: may_read, months, pay [whole_months]
//!             otherwise: reject
//!         end note
//!         Active
//!         note right of Active
//!             stays: may_read, months, pay [whole_months]
//!             otherwise: reject
//!         end note
//!         PastDue
//!         note right of PastDue
//!             stays: may_read, months
//!             otherwise: reject
//!         end note
//!     }
//!     state Halted {
//!         Paused
//!         note right of Paused
//!             stays: may_read, months, pay [whole_months]
//!             otherwise: reject
//!         end note
//!         Ended
//!         note right of Ended
//!             stays: may_read, months
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Trial
//!     Trial --> Active: due (after 336h)
//!     Trial --> PastDue: due (after 336h)
//!     Trial --> Ended: cancel
//!     Active --> Active: due (after 720h)
//!     Active --> PastDue: due (after 720h)
//!     Active --> Paused: pause
//!     Active --> Ended: cancel
//!     PastDue --> Active: pay [whole_months]
//!     PastDue --> PastDue: pay [whole_months]
//!     PastDue --> PastDue: remind (after 72h)
//!     PastDue --> Ended: remind (after 72h)
//!     PastDue --> Ended: cancel
//!     Paused --> Active: resume
//!     Paused --> PastDue: resume
//!     Paused --> Active: due (after 2160h)
//!     Paused --> PastDue: due (after 2160h)
//!     Paused --> Ended: cancel
//!     Ended --> Active: pay [whole_months]
//!     Ended --> PastDue: pay [whole_months]
//!     Ended --> Ended: cancel
//! ```

use casty::prelude::*;

/// What one month costs, in cents.
const MONTH: u64 = 900;

/// A sum that is not the price of whole months.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWholeMonths(pub u64);

/// What one reader pays for.
#[entity(shards = 20)]
#[states(Running = Trial, Active, PastDue)]
#[states(Halted = Paused, Ended)]
pub mod subscription {
    use super::*;

    /// The months that are paid and have not begun.
    #[state(common)]
    #[derive(Default)]
    pub struct Account {
        months: u64,
    }

    /// The first two weeks cost nothing.
    #[state(initial)]
    #[derive(Default)]
    pub struct Trial;

    #[state]
    pub struct Active;

    /// A month has begun that is not paid.
    #[state]
    pub struct PastDue {
        reminders: u32,
    }

    /// Nothing is paid or read for a while.
    #[state]
    pub struct Paused;

    #[state]
    pub struct Ended;

    type Month = OneOf<Active, PastDue>;

    impl Account {
        fn pay(&mut self, cents: u64) {
            self.months += cents / MONTH;
        }

        fn begin_month(&mut self) -> Month {
            match self.months.checked_sub(1) {
                Some(left) => {
                    self.months = left;
                    Active.into()
                }
                None => PastDue { reminders: 0 }.into(),
            }
        }
    }

    #[behavior(of(Running))]
    impl _ {
        /// Whether the reader may read.
        #[message]
        fn may_read(&self) -> bool {
            true
        }
    }

    #[behavior(of(Halted))]
    impl _ {
        #[message]
        fn may_read(&self) -> bool {
            false
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// How many months are paid and have not begun.
        #[message]
        fn months(&self, account: &Account) -> u64 {
            account.months
        }

        fn whole_months(&self, cents: &u64) -> Result<(), NoWholeMonths> {
            let whole = (*cents > 0 && cents.is_multiple_of(MONTH)).then_some(());
            whole.ok_or(NoWholeMonths(*cents))
        }

        /// Pays for months to come.
        #[message(guard = whole_months)]
        fn pay(&mut self, cents: u64, account: &mut Account) {
            account.pay(cents);
        }

        /// Ends it. The answer is what is paid back.
        #[message]
        fn cancel(self, account: &mut Account) -> (Ended, u64) {
            (Ended, std::mem::take(&mut account.months) * MONTH)
        }
    }

    #[behavior]
    impl Trial {
        #[message(internal, after = "336h")]
        fn due(self, account: &mut Account) -> Month {
            account.begin_month()
        }
    }

    #[behavior]
    impl Active {
        #[message(internal, after = "720h")]
        fn due(self, account: &mut Account) -> Month {
            account.begin_month()
        }

        /// Stops the clock. The month that has begun is not paid back.
        #[message]
        fn pause(self) -> Paused {
            Paused
        }
    }

    #[behavior]
    impl PastDue {
        #[message(guard = whole_months)]
        fn pay(self, cents: u64, account: &mut Account) -> Month {
            account.pay(cents);
            account.begin_month()
        }

        /// Reminds the reader; the third time, it is over.
        #[message(internal, after = "72h")]
        fn remind(self) -> OneOf<PastDue, Ended> {
            match self.reminders + 1 {
                3 => Ended.into(),
                reminders => PastDue { reminders }.into(),
            }
        }
    }

    #[behavior]
    impl Paused {
        /// Begins a month. After ninety days that happens by itself.
        #[message]
        fn resume(self, account: &mut Account) -> Month {
            account.begin_month()
        }

        #[message(internal, after = "2160h")]
        fn due(self, account: &mut Account) -> Month {
            account.begin_month()
        }
    }

    #[behavior]
    impl Ended {
        #[message(guard = whole_months)]
        fn pay(self, cents: u64, account: &mut Account) -> Month {
            account.pay(cents);
            account.begin_month()
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn months_that_are_paid_follow_the_trial() {
        let mut subscription = Machine::<Subscription>::new();
        assert_eq!(subscription.timers(), [("due", DAY * 14)]);
        assert_eq!(subscription.send(|it| it.pay(2 * MONTH)), Ok(()));
        let odd = subscription.send(|it| it.pay(MONTH + 1));
        assert_eq!(odd, Err(AskError::Entity(NoWholeMonths(MONTH + 1))));
        subscription.advance(DAY * (14 + 59));
        assert_eq!(subscription.state(), "Active");
        assert_eq!(subscription.send(|it| it.may_read()), Ok(true));
        assert_eq!(subscription.send(|it| it.months()), Ok(0));
        subscription.advance(DAY);
        assert_eq!(subscription.state(), "PastDue");
    }

    #[test]
    fn after_three_reminders_it_is_over_and_may_begin_again() {
        let mut subscription = Machine::<Subscription>::new();
        subscription.advance(DAY * (14 + 3));
        assert_eq!(subscription.state(), "PastDue");
        subscription.advance(DAY * 6);
        assert_eq!(subscription.state(), "Ended");
        assert_eq!(subscription.send(|it| it.may_read()), Ok(false));
        assert_eq!(subscription.timers(), []);
        assert_eq!(subscription.send(|it| it.pay(MONTH)), Ok(()));
        assert_eq!(subscription.state(), "Active");
    }

    #[test]
    fn a_pause_stops_the_clock_for_ninety_days() {
        let mut subscription = Machine::<Subscription>::new();
        assert_eq!(subscription.send(|it| it.pay(3 * MONTH)), Ok(()));
        subscription.advance(DAY * 14);
        assert_eq!(subscription.send(|it| it.pause()), Ok(()));
        subscription.advance(DAY * 89);
        assert_eq!(subscription.send(|it| it.months()), Ok(2));
        subscription.advance(DAY);
        assert_eq!(subscription.state(), "Active");
        assert_eq!(subscription.timers(), [("due", DAY * 30)]);
    }

    #[test]
    fn who_cancels_gets_back_what_is_not_used() {
        let mut subscription = Machine::<Subscription>::new();
        assert_eq!(subscription.send(|it| it.pay(3 * MONTH)), Ok(()));
        subscription.advance(DAY * 14);
        assert_eq!(subscription.send(|it| it.cancel()), Ok(2 * MONTH));
        assert_eq!(subscription.state(), "Ended");
    }
}
