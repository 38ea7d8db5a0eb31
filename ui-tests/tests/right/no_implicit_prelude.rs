#![no_implicit_prelude]
//! Nothing that the macros write may lean on names that happen to be in scope.

mod shop {
    // Names that would catch sloppy paths.
    #[allow(dead_code)]
    pub struct Option;
    #[allow(dead_code)]
    pub struct Vec;
    #[allow(dead_code)]
    pub struct Infallible;
    #[allow(dead_code)]
    pub mod core {}
    #[allow(dead_code)]
    pub mod std {}
    #[allow(dead_code)]
    pub mod serde {}
    #[allow(dead_code)]
    pub mod casty {}

    #[::casty::message]
    pub struct Item {
        pub name: ::std::string::String,
        pub note: ::std::option::Option<u8>,
    }

    #[::casty::message]
    pub enum Refusal {
        SoldOut,
        Unknown { name: ::std::string::String },
    }

    pub struct Shop {
        items: u64,
    }

    #[::casty::entity(shards = 7, name = "shop")]
    impl Shop {
        #[init]
        async fn open(
            _ctx: &mut ::casty::Context<Self>,
        ) -> ::std::result::Result<Self, ::std::string::String> {
            ::std::result::Result::Ok(Shop { items: 0 })
        }

        #[on_start]
        fn opened(&mut self) {}

        #[on_stop]
        async fn closed(&mut self, _ctx: &mut ::casty::Context<Self>) {}

        #[message(timeout = "250ms")]
        fn add(&mut self, item: Item) {
            let _ = (item.name, item.note);
            self.items += 1;
        }

        #[message]
        async fn buy(
            &mut self,
            ctx: &mut ::casty::Context<Self>,
            name: ::std::string::String,
        ) -> ::std::result::Result<u64, Refusal> {
            let _ = ctx.entity_id();
            if self.items == 0 {
                return ::std::result::Result::Err(Refusal::Unknown { name });
            }
            if self.items > 100 {
                return ::std::result::Result::Err(Refusal::SoldOut);
            }
            ::std::result::Result::Ok(self.items)
        }

        #[message(internal)]
        fn tick(&mut self, at: ::std::time::Instant) {
            let _ = at;
        }
    }

    pub struct Clerk;

    #[::casty::actor]
    impl Clerk {
        #[message]
        fn ask(&self, shop: ShopRef) -> ShopRef {
            shop
        }
    }
}

#[test]
fn works() {
    let _ = shop::ShopMsg::Tick {
        at: ::std::time::Instant::now(),
    };
    let _ = shop::ShopRef::buy;
    let _ = shop::ClerkRef::ask;
}
