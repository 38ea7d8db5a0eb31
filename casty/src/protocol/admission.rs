//! Whether a process is admitted whose name another process has. Asks no process itself.
//!
//! A name belongs to one process at a time. A process that has ended leaves its name to the next,
//! which the cluster lets in at once if it listens at the same address: two processes cannot both
//! listen there. At another address it may be that two processes were started under one name, and
//! each would take the place of the other for ever. So the leader first looks for the holder.

use std::net::SocketAddr;

use super::map::{ClusterMap, Member, Status};
use crate::{id::MemberId, infra::mutants};

/// The leader's sight of the process that has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The process answers at its address.
    Answers,
    /// Another process listens at its address, or none.
    Gone,
    /// The address does not answer.
    Silent {
        /// The process has renewed its lease since it was asked.
        renewed: bool,
        /// The process can no longer serve.
        over: bool,
    },
}

/// What becomes of the process that wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admit,
    /// The holder lives.
    Taken,
    /// The holder leaves, or nothing is known of it yet: ask again later.
    Later,
}

/// The member whose name `joins` has, if that member listens at another address.
pub(crate) fn holder<'a>(
    map: &'a ClusterMap,
    joins: &MemberId,
    address: SocketAddr,
) -> Option<(&'a MemberId, &'a Member)> {
    let mut namesakes = map.present().filter(|(id, _)| id.node == joins.node);
    namesakes.find(|(id, member)| *id != joins && member.address != address)
}

/// Decides by the holder's status in the map, and by how the leader sees it.
pub(crate) fn admission(status: Status, holder: Holder) -> Admission {
    match holder {
        Holder::Answers if mutants::on("a_live_name_is_taken") => Admission::Admit,
        Holder::Answers if status == Status::Leaving => Admission::Later,
        Holder::Answers | Holder::Silent { renewed: true, .. } => Admission::Taken,
        Holder::Gone | Holder::Silent { over: true, .. } => Admission::Admit,
        Holder::Silent { .. } => Admission::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::map::{
        Command,
        tests::{address, founded, join, member},
    };

    fn silent(renewed: bool, over: bool) -> Holder {
        Holder::Silent { renewed, over }
    }

    #[test]
    fn a_name_has_a_holder_as_long_as_its_process_is_a_member_elsewhere() {
        let (mut map, b) = (founded(4), member("b", 5));
        assert_eq!(holder(&map, &b, address(9)), None);
        join(&mut map, &b);
        let at = map.member(&b).unwrap().address;
        // Whichever incarnation is the greater one.
        for joins in [member("b", 4), member("b", 6)] {
            assert_eq!(holder(&map, &joins, address(9)).map(|(id, _)| id), Some(&b));
            assert_eq!(holder(&map, &joins, at), None, "at its own address");
        }
        assert_eq!(holder(&map, &b, address(9)), None, "the same process");
        assert_eq!(holder(&map, &member("c", 6), address(9)), None);
        map.apply(&Command::Down { member: b }).unwrap();
        assert_eq!(holder(&map, &member("b", 6), address(9)), None);
    }

    #[test]
    fn a_holder_that_lives_keeps_its_name_and_a_dead_one_does_not() {
        use Admission::{Admit, Later, Taken};
        for (status, sight, expected) in [
            (Status::Up, Holder::Answers, Taken),
            (Status::Joining, Holder::Answers, Taken),
            (Status::Leaving, Holder::Answers, Later),
            (Status::Up, Holder::Gone, Admit),
            (Status::Leaving, Holder::Gone, Admit),
            // Only the leader does not reach it.
            (Status::Up, silent(true, false), Taken),
            (Status::Up, silent(false, false), Later),
            (Status::Up, silent(false, true), Admit),
        ] {
            assert_eq!(admission(status, sight), expected, "{status:?} {sight:?}");
        }
    }
}
