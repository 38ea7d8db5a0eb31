//! A device's twin: it answers while the device is away, and keeps what the device has to do.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Offline
//!     Offline --> Online: report
//!     Online --> Offline: silent (after 30s)
//!     Online --> Online: report
//!     note right of Offline
//!         stays: desire, delta
//!         otherwise: stash
//!     end note
//!     note right of Online
//!         stays: command, desire, delta
//!     end note
//! ```

use casty::prelude::*;

/// What can be set at the device.
#[message]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub celsius: i32,
    pub is_on: bool,
}

/// One device, as the others see it.
#[entity(shards = 20)]
pub mod twin {
    use super::*;

    /// What should be, what is, and what the device has to do.
    #[state(common)]
    #[derive(Default)]
    pub struct Shadow {
        desired: Setting,
        reported: Setting,
        commands: Vec<String>,
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Offline;

    #[state]
    pub struct Online;

    #[behavior(of(all))]
    impl _ {
        /// What should be.
        #[message]
        fn desire(&mut self, setting: Setting, shadow: &mut Shadow) {
            shadow.desired = setting;
        }

        /// What should be, if it is not what is.
        #[message]
        fn delta(&self, shadow: &Shadow) -> Option<Setting> {
            (shadow.desired != shadow.reported).then_some(shadow.desired)
        }

        /// The device says what is, and gets the commands since the last time. It has to do so
        /// every half a minute.
        #[message]
        fn report(self, setting: Setting, shadow: &mut Shadow) -> (Online, Vec<String>) {
            shadow.reported = setting;
            (Online, std::mem::take(&mut shadow.commands))
        }
    }

    #[behavior(otherwise = stash)]
    impl Offline {}

    #[behavior]
    impl Online {
        /// Has the device do something, as soon as it is there. Nothing is done for an asker who
        /// does not wait so long.
        #[message(timeout = "10m")]
        fn command(&mut self, command: String, shadow: &mut Shadow) {
            shadow.commands.push(command);
        }

        #[message(internal, after = "30s")]
        fn silent(self) -> Offline {
            Offline
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const WARM: Setting = Setting {
        celsius: 21,
        is_on: true,
    };

    #[test]
    fn a_command_waits_for_the_device() {
        let mut twin = Machine::<Twin>::new();
        let command = "open".to_owned();
        twin.tell(TwinMsg::Command { command });
        assert_eq!(twin.state(), "Offline");
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec!["open".to_owned()]));
    }

    #[test]
    fn a_command_whose_asker_has_given_up_is_not_carried_out() {
        let mut twin = Machine::<Twin>::new();
        let given_up = twin.send(|it| it.command("open".into()).timeout(Duration::from_secs(5)));
        assert!(matches!(given_up, Err(AskError::Timeout { .. })));
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
    }

    #[test]
    fn a_device_that_is_silent_is_offline() {
        let second = Duration::from_secs(1);
        let mut twin = Machine::<Twin>::new();
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
        twin.advance(second * 29);
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
        assert_eq!(twin.timers(), [("silent", second * 30)]);
        twin.advance(second * 30);
        assert_eq!((twin.state(), twin.timers()), ("Offline", vec![]));
    }

    #[test]
    fn the_delta_is_what_the_device_has_to_change() {
        let mut twin = Machine::<Twin>::new();
        assert_eq!(twin.send(|it| it.desire(WARM)), Ok(()));
        assert_eq!(twin.send(|it| it.delta()), Ok(Some(WARM)));
        assert_eq!(twin.send(|it| it.report(WARM)), Ok(vec![]));
        assert_eq!(twin.send(|it| it.delta()), Ok(None));
    }
}
