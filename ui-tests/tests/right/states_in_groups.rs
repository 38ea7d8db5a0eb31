//! Names for several states, above or below the attribute that reads them.

use casty::prelude::*;

#[states(Shut = Closed, Locked)]
#[states(Any = Shut, Open)]
#[actor]
mod door {
    use super::*;

    #[state(initial)]
    pub struct Closed;

    #[state]
    pub struct Locked;

    #[state]
    pub struct Open;

    #[behavior(of(Shut))]
    impl _ {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    /// Aliases of the module are read, also those with parameters.
    type Pushed<T> = OneOf<Closed, T>;

    #[behavior]
    impl Open {
        #[message]
        fn push(self) -> Pushed<Locked> {
            Locked.into()
        }
    }

    #[behavior(of(Any))]
    impl _ {
        #[message]
        fn is_whole(&self) -> bool {
            true
        }
    }
}

#[test]
fn groups_may_stand_above_the_attribute_that_reads_them() {
    let groups = Door::behavior().groups;
    let names: Vec<_> = groups.iter().map(|group| group.name).collect();
    assert_eq!(names, ["Shut", "Any"]);
    assert_eq!(groups[1].states.len(), 3);
}
