//! `schedule_every` as a statement in a state: the compiler warns of what is the context's alone.
#![deny(unused_must_use)]

use casty::prelude::*;

#[actor]
mod lamp {
    use casty::prelude::*;

    /// Has a method of the same name.
    #[derive(Default)]
    pub struct Plan {
        pub lines: u32,
    }

    impl Plan {
        fn schedule_every(&mut self, _: Duration) {
            self.lines += 1;
        }
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Off {
        plan: Plan,
    }

    #[state]
    pub struct On {
        pub plan: Plan,
    }

    #[behavior(otherwise = ignore)]
    impl Off {
        #[message]
        fn switch(mut self, ctx: &mut Context<Lamp>) -> On {
            self.plan.schedule_every(Duration::from_secs(1));
            #[cfg(not(test))]
            ctx.schedule_every(Duration::from_secs(1), || LampMsg::Tick {});
            #[allow(unused_must_use)]
            ctx.schedule_every(Duration::from_hours(1), || LampMsg::Tick {});
            On { plan: self.plan }
        }

        #[message(internal)]
        fn tick(&self) {}
    }

    #[behavior]
    impl On {
        #[message]
        fn plan_lines(&mut self, ctx: &mut Context<Lamp>) -> u32 {
            let _ = ctx.path();
            {
                let ctx = &mut self.plan;
                ctx.schedule_every(Duration::from_secs(1));
            }
            self.plan.lines
        }

        #[message]
        fn switch(self) -> Off {
            Off { plan: self.plan }
        }

        #[message(internal)]
        fn tick(&self) {}
    }
}

#[tokio::test]
async fn a_method_of_the_same_name_is_called() {
    let system = ActorSystem::local("lamps");
    let lamp: LampRef = system.spawn(Lamp::from(lamp::Off::default()));
    lamp.switch().await.unwrap();
    assert_eq!(lamp.plan_lines().await, Ok(2));
}
