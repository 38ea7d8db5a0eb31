//! An elevator: six states, timers in five of them, and one emergency brake for all.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state InService {
//!         Idle
//!         note right of Idle
//!             stays: status
//!             otherwise: reject
//!         end note
//!         Moving
//!         note right of Moving
//!             stays: call [exists], status
//!             otherwise: reject
//!         end note
//!         Opening
//!         note right of Opening
//!             stays: call [exists], status
//!             otherwise: reject
//!         end note
//!         Open
//!         note right of Open
//!             stays: call [exists], status
//!             otherwise: reject
//!         end note
//!         Closing
//!         note right of Closing
//!             stays: call [exists], status
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Idle
//!     Idle --> Idle: call [exists]
//!     Idle --> Moving: call [exists]
//!     Idle --> Opening: call [exists]
//!     Idle --> Emergency: emergency
//!     Moving --> Idle: at_floor (after 2s)
//!     Moving --> Moving: at_floor (after 2s)
//!     Moving --> Opening: at_floor (after 2s)
//!     Moving --> Emergency: emergency
//!     Opening --> Open: opened (after 1s)
//!     Opening --> Emergency: emergency
//!     Open --> Open: hold
//!     Open --> Closing: close (after 5s)
//!     Open --> Emergency: emergency
//!     Closing --> Opening: obstructed
//!     Closing --> Idle: closed (after 1s)
//!     Closing --> Moving: closed (after 1s)
//!     Closing --> Opening: closed (after 1s)
//!     Closing --> Emergency: emergency
//!     Emergency --> Idle: reset
//!     note right of Emergency
//!         stays: status
//!         otherwise: reject
//!     end note
//! ```

use std::collections::BTreeSet;

use casty::prelude::*;

/// Nobody can be taken to this floor.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchFloor(pub i32);

/// One cab, and the floors that it is called to.
#[entity(shards = 20)]
#[states(InService = Idle, Moving, Opening, Open, Closing)]
pub mod elevator {
    use super::*;

    /// What the cab knows in every state, and a display shows.
    #[state(common)]
    #[message]
    #[derive(Clone, Default)]
    pub struct Cab {
        pub floor: i32,
        pub motor: i32,
        pub is_going_down: bool,
        pub calls: BTreeSet<i32>,
    }

    /// The doors are shut, and nobody waits.
    #[state(initial)]
    #[derive(Default)]
    pub struct Idle;

    /// On the way to the next floor: one up or one down.
    #[state]
    pub struct Moving;

    #[state]
    pub struct Opening;

    #[state]
    pub struct Open;

    #[state]
    pub struct Closing;

    /// The brake is on, and stays on until a technician resets it.
    #[state]
    pub struct Emergency;

    type Next = OneOf<Idle, Moving, Opening>;

    impl Cab {
        /// Where to, with closed doors: on in the same direction while there are calls, then back.
        fn next(&mut self) -> Next {
            if self.calls.remove(&self.floor) {
                return Opening.into();
            }
            let Some((lowest, highest)) = self.calls.first().zip(self.calls.last()) else {
                return Idle.into();
            };
            let farthest = if self.is_going_down { lowest } else { highest };
            self.is_going_down = *farthest < self.floor;
            Moving.into()
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// Where the cab is, and where it is called to.
        #[message]
        fn status(&self, cab: &Cab) -> Cab {
            cab.clone()
        }
    }

    #[behavior(of(InService))]
    impl _ {
        fn exists(&self, floor: &i32) -> Result<(), NoSuchFloor> {
            let known = (0..=9).contains(floor).then_some(());
            known.ok_or(NoSuchFloor(*floor))
        }

        /// Calls the cab to a floor.
        #[message(guard = exists)]
        fn call(&mut self, floor: i32, cab: &mut Cab) {
            cab.calls.insert(floor);
        }

        /// Pulls the brake.
        #[message]
        fn emergency(self) -> Emergency {
            Emergency
        }
    }

    #[behavior]
    impl Idle {
        #[message(guard = exists)]
        fn call(self, floor: i32, cab: &mut Cab) -> Next {
            cab.calls.insert(floor);
            cab.next()
        }
    }

    #[behavior]
    impl Moving {
        #[on_enter]
        fn start(&self, cab: &mut Cab) {
            cab.motor = if cab.is_going_down { -1 } else { 1 };
        }

        #[on_exit]
        fn stop(cab: &mut Cab) {
            cab.motor = 0;
        }

        #[message(internal, after = "2s")]
        fn at_floor(self, cab: &mut Cab) -> Next {
            cab.floor += cab.motor;
            cab.next()
        }
    }

    #[behavior]
    impl Opening {
        #[message(internal, after = "1s")]
        fn opened(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        /// Keeps the doors open for another five seconds.
        #[message]
        fn hold(self) -> Open {
            Open
        }

        #[message(internal, after = "5s")]
        fn close(self) -> Closing {
            Closing
        }
    }

    #[behavior]
    impl Closing {
        /// Somebody stands in the door.
        #[message]
        fn obstructed(self) -> Opening {
            Opening
        }

        #[message(internal, after = "1s")]
        fn closed(self, cab: &mut Cab) -> Next {
            cab.next()
        }
    }

    #[behavior]
    impl Emergency {
        /// Releases the brake. The calls from before are forgotten.
        #[message]
        fn reset(self, cab: &mut Cab) -> Idle {
            cab.calls.clear();
            Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_goes_to_the_floor_that_it_is_called_to() {
        let mut cab = Machine::<Elevator>::new();
        assert_eq!(cab.state(), "Idle");
        assert_eq!(cab.send(|cab| cab.call(2)), Ok(()));
        assert_eq!(cab.state(), "Moving");
        assert_eq!(cab.timers(), [("at_floor", SECOND * 2)]);
        cab.advance(SECOND * 2);
        let status = cab.send(|cab| cab.status()).unwrap();
        assert_eq!((status.floor, status.motor), (1, 1));
        cab.advance(SECOND * 2);
        assert_eq!(cab.state(), "Opening");
        assert_eq!(cab.send(|cab| cab.status()).unwrap().motor, 0);
        cab.advance(SECOND);
        assert_eq!(cab.state(), "Open");
        cab.advance(SECOND * 5);
        assert_eq!(cab.state(), "Closing");
        cab.advance(SECOND);
        assert_eq!(cab.state(), "Idle");
    }

    #[test]
    fn it_serves_calls_in_its_direction_first() {
        let mut cab = Machine::<Elevator>::new();
        assert_eq!(cab.send(|cab| cab.call(3)), Ok(()));
        cab.advance(SECOND * 3);
        assert_eq!(cab.send(|cab| cab.call(0)), Ok(()));
        assert_eq!(cab.send(|cab| cab.call(2)), Ok(()));
        let mut floors = Vec::new();
        while cab.state() != "Idle" {
            if cab.state() == "Opening" {
                floors.push(cab.send(|cab| cab.status()).unwrap().floor);
                cab.advance(SECOND);
            }
            cab.advance(SECOND);
        }
        assert_eq!(floors, [2, 3, 0]);
    }

    #[test]
    fn no_timer_of_before_comes_after_an_emergency() {
        let mut cab = Machine::<Elevator>::new();
        assert_eq!(cab.send(|cab| cab.call(5)), Ok(()));
        cab.advance(SECOND);
        assert_eq!(cab.send(|cab| cab.emergency()), Ok(()));
        assert_eq!((cab.state(), cab.timers()), ("Emergency", vec![]));
        let refused = cab.send(|cab| cab.call(1));
        assert!(matches!(refused, Err(AskError::Unhandled { .. })));
        assert_eq!(cab.send(|cab| cab.reset()), Ok(()));
        assert_eq!(cab.send(|cab| cab.call(5)), Ok(()));
        cab.advance(SECOND + SECOND / 2);
        assert_eq!(cab.send(|cab| cab.status()).unwrap().floor, 0);
    }

    #[test]
    fn doors_stay_open_while_somebody_holds_them() {
        let mut cab = Machine::<Elevator>::new();
        assert_eq!(cab.send(|cab| cab.call(0)), Ok(()));
        cab.advance(SECOND * 5);
        assert_eq!(cab.send(|cab| cab.hold()), Ok(()));
        assert_eq!(cab.timers(), [("close", SECOND * 5)]);
        cab.advance(SECOND * 5);
        assert_eq!(cab.send(|cab| cab.obstructed()), Ok(()));
        assert_eq!(cab.state(), "Opening");
    }

    #[test]
    fn a_call_to_a_floor_that_is_not_there_changes_nothing() {
        let mut cab = Machine::<Elevator>::new();
        let refused = cab.send(|cab| cab.call(10));
        assert_eq!(refused, Err(AskError::Entity(NoSuchFloor(10))));
        assert_eq!(cab.state(), "Idle");
    }
}
