//! A test of one entity, with a stand-in for those that it asks: `cargo run --example stand_in`
//!
//! In a project this is a `#[test]`. The test plays all wallets: it sees what a taxi asks of them,
//! and says what they answer. Messages go through the codec, as between two nodes.

use casty::{
    prelude::*,
    testkit::{self, Probe},
};

/// A wallet. The test has no need of its code.
#[derive(Default)]
struct Wallet {
    cents: u64,
}

#[entity]
impl Wallet {
    #[message]
    fn pay(&mut self, cents: u64) -> Result<u64, String> {
        self.cents = self.cents.checked_sub(cents).ok_or("not enough")?;
        Ok(self.cents)
    }
}

/// A taxi, which asks the wallet of its guest for the fare.
#[derive(Default)]
struct Taxi {
    rides: u32,
}

#[entity]
impl Taxi {
    #[message]
    async fn ride(&mut self, guest: String, ctx: &mut Context<Self>) -> String {
        match ctx.entity::<Wallet>(&guest).pay(500).await {
            Ok(left) => {
                self.rides += 1;
                format!("{guest} rides, and has {left} cents left")
            }
            Err(why) => format!("{guest} walks: {why}"),
        }
    }

    #[message]
    fn rides(&self) -> u32 {
        self.rides
    }
}

fn main() {
    testkit::paused(|system| async move {
        // Before the first reference to a wallet.
        let mut wallets = Probe::<Wallet>::new(&system);
        let taxi = system.entity::<Taxi>("t-1");
        for (guest, answer) in [("ann", Ok(700)), ("bob", Err("the bank is closed"))] {
            let wallet = async {
                let asked = wallets.expect().await;
                assert_eq!(asked.entity_id().as_str(), guest);
                assert!(matches!(asked.message, WalletMsg::Pay { cents: 500 }));
                asked.reply(answer.map_err(str::to_owned));
            };
            let ride = taxi.ride(guest.to_owned()).into_future();
            let (said, ()) = tokio::join!(ride, wallet);
            println!("{}", said.expect("the taxi answers"));
        }
        assert_eq!(taxi.rides().await, Ok(1));
    });
}
