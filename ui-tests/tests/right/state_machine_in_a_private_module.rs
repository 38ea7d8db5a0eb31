//! The generated types are as visible as the module; where nobody needs them beside it, nothing is said.
#![deny(warnings)]

mod shop {
    use casty::prelude::*;

    #[entity]
    mod till {
        #[state(initial)]
        #[derive(Default)]
        struct Shut;

        #[state]
        struct Ready(u64);

        #[behavior(otherwise = reject)]
        impl Shut {
            #[message]
            fn open(self, float: u64) -> Ready {
                Ready(float)
            }
        }

        #[behavior]
        impl Ready {
            #[message]
            fn open(&mut self, float: u64) {
                self.0 += float;
            }

            #[message]
            fn count(self) -> (Shut, u64) {
                (Shut, self.0)
            }
        }
    }

    #[actor]
    pub(super) mod lamp {
        #[state(initial)]
        pub struct Off;

        #[behavior]
        impl Off {
            #[message]
            fn burn_out(self) -> casty::behavior::Stop {
                casty::behavior::Stop
            }
        }
    }

    #[entity]
    pub(in crate::state_machine_in_a_private_module::shop) mod bell {
        #[state(initial)]
        #[derive(Default)]
        pub struct Quiet;

        #[behavior]
        impl Quiet {
            #[message]
            fn ring(&self) {}
        }
    }

    pub fn ring(ctx: &casty::Context<Till>) {
        drop(ctx.entity::<Bell>("door").ring());
    }
}

#[test]
fn works() {
    let _ = shop::Lamp::from(shop::lamp::Off);
    let _ = shop::ring;
}
