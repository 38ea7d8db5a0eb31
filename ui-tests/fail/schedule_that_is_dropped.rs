#![deny(unused_must_use)]

use casty::prelude::*;

#[actor]
mod lamp {
    use casty::prelude::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Off;

    #[state]
    pub struct On {
        pulse: Option<casty::schedule::Cancellable>,
    }

    #[behavior]
    impl Off {
        #[message]
        fn switch(self, ctx: &mut Context<Lamp>) -> On {
            ctx.schedule_every(Duration::from_secs(1), || LampMsg::Tick {});
            let kept = ctx.schedule_every(Duration::from_secs(1), || LampMsg::Tick {});
            ctx.schedule_once(Duration::from_secs(1), LampMsg::Tick {})
                .detach();
            On { pulse: Some(kept) }
        }

        #[message(internal)]
        fn tick(&self) {}
    }

    #[behavior]
    impl On {
        #[on_enter]
        fn entered(&mut self, ctx: &mut Context<Lamp>) {
            ctx.schedule_once(Duration::from_secs(1), LampMsg::Tick {});
        }

        #[message]
        fn switch(self) -> Off {
            drop(self.pulse);
            Off
        }

        #[message(internal)]
        fn tick(&self) {}
    }
}

fn main() {}
