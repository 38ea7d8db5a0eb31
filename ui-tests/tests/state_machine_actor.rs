//! An actor with states is spawned with its first one.

use casty::prelude::*;

#[actor(overflow = reject, on_failure = escalate)]
pub mod traffic_light {
    use super::*;

    #[state]
    pub struct Green;

    #[state(initial)]
    pub struct Red {
        pub waiting: u32,
    }

    #[behavior(otherwise = ignore)]
    impl Green {
        #[message]
        fn switch(self) -> Red {
            Red { waiting: 0 }
        }
    }

    #[behavior]
    impl Red {
        #[on_restart]
        fn restarted(&mut self, ctx: &mut Context<TrafficLight>) -> Result<(), String> {
            let _ = ctx.myself();
            Ok(())
        }

        #[message]
        fn switch(self, ctx: &mut Context<TrafficLight>) -> Green {
            let _ = ctx.node_id();
            Green
        }

        #[message]
        fn wait(&mut self) -> u32 {
            self.waiting += 1;
            self.waiting
        }
    }
}

#[tokio::test]
async fn works() {
    let system = ActorSystem::local("lights");
    let light: TrafficLightRef =
        system.spawn(TrafficLight::from(traffic_light::Red { waiting: 2 }));
    assert_eq!(light.wait().await.unwrap(), 3);
    light.switch().await.unwrap();
    assert!(matches!(
        light.wait().await,
        Err(AskError::Unhandled { .. })
    ));
}
