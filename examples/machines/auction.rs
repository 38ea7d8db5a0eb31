//! An auction: a bid in the last moment gives the others another moment.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state Live {
//!         Open
//!         note right of Open
//!             stays: bid [may_bid], view
//!             otherwise: reject
//!         end note
//!         LastCall
//!         note right of LastCall
//!             stays: view
//!             otherwise: reject
//!         end note
//!     }
//!     state Over {
//!         Sold
//!         note right of Sold
//!             stays: view
//!             otherwise: reject
//!         end note
//!         Unsold
//!         note right of Unsold
//!             stays: view
//!             otherwise: reject
//!         end note
//!         Paid
//!         note right of Paid
//!             stays: view
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Draft
//!     Draft --> Open: open
//!     Open --> LastCall: going (after lasts)
//!     Open --> Unsold: cancel
//!     LastCall --> LastCall: bid [may_bid]
//!     LastCall --> Sold: gone (after 10s)
//!     LastCall --> Unsold: gone (after 10s)
//!     LastCall --> Unsold: cancel
//!     Sold --> Paid: pay
//!     Sold --> Unsold: unpaid (after 72h)
//!     note right of Draft
//!         stays: view
//!         otherwise: reject
//!     end note
//! ```

use casty::prelude::*;

/// What somebody offers.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bid {
    pub bidder: String,
    pub cents: u64,
}

/// Why a bid does not count.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BidError {
    TooLow { least: u64 },
    BySeller,
}

/// What everybody can see.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub item: String,
    pub best: Option<Bid>,
    pub bids: usize,
}

/// The sale of one item to the highest bidder.
#[entity(shards = 20)]
#[states(Live = Open, LastCall)]
#[states(Over = Sold, Unsold, Paid)]
pub mod auction {
    use super::*;

    /// What is sold, and what is offered for it.
    #[state(common)]
    #[derive(Default)]
    pub struct Lot {
        seller: String,
        item: String,
        reserve: u64,
        lasts: Duration,
        bids: Vec<Bid>,
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Draft;

    #[state]
    pub struct Open;

    /// The last ten seconds. They begin anew with every bid.
    #[state]
    pub struct LastCall;

    #[state]
    pub struct Sold;

    #[state]
    pub struct Unsold;

    #[state]
    pub struct Paid;

    impl Lot {
        fn least(&self) -> u64 {
            self.bids.last().map_or(1, |best| best.cents + 1)
        }

        fn place(&mut self, bidder: String, cents: u64) -> usize {
            self.bids.push(Bid { bidder, cents });
            self.bids.len()
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// The item and the best bid.
        #[message]
        fn view(&self, lot: &Lot) -> View {
            View {
                item: lot.item.clone(),
                best: lot.bids.last().cloned(),
                bids: lot.bids.len(),
            }
        }
    }

    #[behavior]
    impl Draft {
        /// Opens the auction.
        #[message]
        fn open(
            self,
            seller: String,
            item: String,
            reserve: u64,
            lasts: Duration,
            lot: &mut Lot,
        ) -> Open {
            *lot = Lot {
                seller,
                item,
                reserve,
                lasts,
                bids: Vec::new(),
            };
            Open
        }
    }

    #[behavior(of(Live))]
    impl _ {
        fn may_bid(&self, bidder: &str, cents: &u64, lot: &Lot) -> Result<(), BidError> {
            if *bidder == lot.seller {
                return Err(BidError::BySeller);
            }
            let least = lot.least();
            (*cents >= least)
                .then_some(())
                .ok_or(BidError::TooLow { least })
        }

        /// Takes the item back.
        #[message]
        fn cancel(self) -> Unsold {
            Unsold
        }
    }

    #[behavior]
    impl Open {
        fn lasts(&self, lot: &Lot) -> Duration {
            lot.lasts
        }

        /// Offers more than the others. The answer is the number of bids.
        #[message(guard = may_bid)]
        fn bid(&mut self, bidder: String, cents: u64, lot: &mut Lot) -> usize {
            lot.place(bidder, cents)
        }

        #[message(internal, after = Self::lasts)]
        fn going(self) -> LastCall {
            LastCall
        }
    }

    #[behavior]
    impl LastCall {
        #[message(guard = may_bid)]
        fn bid(self, bidder: String, cents: u64, lot: &mut Lot) -> (LastCall, usize) {
            (LastCall, lot.place(bidder, cents))
        }

        #[message(internal, after = "10s")]
        fn gone(self, lot: &Lot) -> OneOf<Sold, Unsold> {
            if lot
                .bids
                .last()
                .is_some_and(|best| best.cents >= lot.reserve)
            {
                Sold.into()
            } else {
                Unsold.into()
            }
        }
    }

    #[behavior(of(Over))]
    impl _ {}

    #[behavior]
    impl Sold {
        /// Pays. The answer is what it costs.
        #[message]
        fn pay(self, lot: &Lot) -> (Paid, u64) {
            (Paid, lot.least() - 1)
        }

        /// The winner does not pay: the item is unsold after all.
        #[message(internal, after = "72h")]
        fn unpaid(self) -> Unsold {
            Unsold
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> Machine<Auction> {
        let mut auction = Machine::<Auction>::new();
        let opened = auction.send(|it| it.open("eve".into(), "lamp".into(), 500, SECOND * 50));
        assert_eq!(opened, Ok(()));
        auction
    }

    #[test]
    fn a_bid_in_the_last_moment_gives_the_others_another_moment() {
        let mut auction = opened();
        assert_eq!(auction.timers(), [("going", SECOND * 50)]);
        assert_eq!(auction.send(|it| it.bid("ann".into(), 400)), Ok(1));
        auction.advance(SECOND * 59);
        assert_eq!(auction.timers(), [("gone", SECOND)]);
        assert_eq!(auction.send(|it| it.bid("bob".into(), 600)), Ok(2));
        assert_eq!(auction.timers(), [("gone", SECOND * 10)]);
        auction.advance(SECOND * 10);
        assert_eq!(auction.state(), "Sold");
        assert_eq!(auction.send(|it| it.pay()), Ok(600));
        assert_eq!((auction.state(), auction.timers()), ("Paid", vec![]));
    }

    #[test]
    fn a_bid_has_to_be_higher_and_from_somebody_else() {
        let mut auction = opened();
        let by_seller = auction.send(|it| it.bid("eve".into(), 600));
        assert_eq!(by_seller, Err(AskError::Entity(BidError::BySeller)));
        assert_eq!(auction.send(|it| it.bid("ann".into(), 5)), Ok(1));
        let too_low = auction.send(|it| it.bid("bob".into(), 5));
        let least = BidError::TooLow { least: 6 };
        assert_eq!(too_low, Err(AskError::Entity(least)));
    }

    #[test]
    fn what_is_below_the_reserve_or_not_paid_is_unsold() {
        let mut auction = opened();
        assert_eq!(auction.send(|it| it.bid("ann".into(), 499)), Ok(1));
        auction.advance(SECOND * 60);
        assert_eq!(auction.state(), "Unsold");
        let mut auction = opened();
        assert_eq!(auction.send(|it| it.bid("ann".into(), 500)), Ok(1));
        auction.advance(SECOND * 60);
        assert_eq!(auction.state(), "Sold");
        auction.advance(Duration::from_hours(72));
        assert_eq!(auction.state(), "Unsold");
    }

    #[test]
    fn nobody_bids_for_what_is_taken_back() {
        let mut auction = opened();
        assert_eq!(auction.send(|it| it.cancel()), Ok(()));
        let late = auction.send(|it| it.bid("ann".into(), 5));
        assert!(matches!(late, Err(AskError::Unhandled { .. })));
        assert_eq!(auction.send(|it| it.view()).unwrap().item, "lamp");
    }
}
