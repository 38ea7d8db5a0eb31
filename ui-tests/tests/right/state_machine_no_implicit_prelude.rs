#![no_implicit_prelude]
//! A state machine may not lean on names that happen to be in scope either.

#[::casty::entity(shards = 7, crate = ::casty, on_failure = resume)]
mod door {
    // Names that would catch sloppy paths.
    #[allow(dead_code)]
    pub struct Option;
    #[allow(dead_code)]
    pub struct Result;
    #[allow(dead_code)]
    pub struct Taken;
    #[allow(dead_code)]
    pub struct OneOf;
    #[allow(dead_code)]
    pub struct Behavior;
    #[allow(dead_code)]
    pub struct State;
    #[allow(dead_code)]
    pub mod core {}
    #[allow(dead_code)]
    pub mod std {}
    #[allow(dead_code)]
    pub mod casty {}

    #[::casty::state(initial)]
    pub struct Closed {
        knocks: u32,
    }

    #[::casty::state]
    struct Open;

    #[::casty::behavior(otherwise = stash)]
    impl Closed {
        #[init]
        async fn built(
            _ctx: &mut ::casty::Context<Door>,
        ) -> ::std::result::Result<Self, ::std::string::String> {
            ::std::result::Result::Ok(Closed { knocks: 0 })
        }

        #[on_start]
        fn started(&mut self) {}

        #[on_stop]
        async fn stopped(
            &mut self,
            _ctx: &mut ::casty::Context<Door>,
        ) -> ::std::result::Result<(), ::std::string::String> {
            ::std::result::Result::Ok(())
        }

        #[on_terminated]
        fn ended(&mut self, who: ::casty::Terminated) {
            let _ = who;
        }

        #[message]
        fn knock(&mut self) -> u32 {
            self.knocks += 1;
            self.knocks
        }

        #[::casty::message]
        async fn open(
            self,
            force: bool,
        ) -> ::std::result::Result<
            ::casty::behavior::OneOf<Open, ::casty::behavior::Stop>,
            ::casty::behavior::Stay<Self, ::std::string::String>,
        > {
            match self.knocks {
                0 => ::std::result::Result::Err(::casty::behavior::Stay(
                    self,
                    ::std::string::String::new(),
                )),
                _ if force => {
                    ::std::result::Result::Ok(::std::convert::From::from(::casty::behavior::Stop))
                }
                _ => ::std::result::Result::Ok(::std::convert::From::from(Open)),
            }
        }
    }

    #[::casty::behavior(otherwise = ignore)]
    impl Open {
        #[message]
        fn close(self) -> (Closed, bool) {
            (Closed { knocks: 0 }, true)
        }

        #[message(internal)]
        fn slam(self) -> ::casty::behavior::Stop {
            ::casty::behavior::Stop
        }
    }
}

#[test]
fn works() {
    let _ = DoorMsg::Slam {};
    let _ = DoorRef::open;
    let _ = Door::behavior();
    let _ = <Door as ::std::convert::From<door::Closed>>::from;
}
