//! Keeps an election of voters and the return of a process to its node's seat apart.
//!
//! A process that has kept what its node's previous process stored asks for the seat of that
//! process. It gets the seat if the seat has a vote. If not, the process forgets what it kept, and
//! joins with a seat of its own. The leader must not give a vote to the old seat then: no process
//! is left in it, and with too few others the change of voters could never be decided.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::map::{ClusterMap, Command, Seat};
use crate::{id::MemberId, infra::mutants};

/// The seats that are about to get a vote, and those that processes have asked for.
#[derive(Debug, Default)]
pub(crate) struct NewVoters {
    /// Seats that are being given a vote, and when that is decided at the latest.
    electing: Option<(BTreeSet<Seat>, Instant)>,
    /// Seats that a process has asked for, and has not been seen to get.
    asked_for: BTreeMap<Seat, MemberId>,
}

impl NewVoters {
    /// A process asks for a seat. False if the seat is about to get a vote: the process has to ask
    /// again later.
    pub(crate) fn handle_asked(&mut self, seat: Seat, by: &MemberId, now: Instant) -> bool {
        let electing = self.electing.iter().filter(|(_, until)| now < *until);
        if electing.into_iter().any(|(seats, _)| seats.contains(&seat)) {
            return false;
        }
        self.asked_for.insert(seat, by.clone());
        true
    }

    /// These seats are to get a vote, unless a process leaves one of them. `left`: seats of which
    /// the engine's log says that. `sits`: whether the map says that a process has a seat.
    /// `until`: when the engine has decided at the latest.
    ///
    /// # Errors
    /// The seat that is left.
    pub(crate) fn begin_election(
        &mut self,
        seats: BTreeSet<Seat>,
        left: &BTreeSet<Seat>,
        sits: impl Fn(Seat, &MemberId) -> bool,
        until: Instant,
    ) -> Result<(), Seat> {
        // Its process may have got a seat without hearing of it from this leader.
        self.asked_for.retain(|seat, by| !sits(*seat, by));
        let is_left = |seat: &&Seat| self.asked_for.contains_key(*seat) || left.contains(*seat);
        if let Some(seat) = seats.iter().find(is_left)
            && !mutants::on("a_seat_that_is_left_gets_a_vote")
        {
            return Err(*seat);
        }
        self.electing = Some((seats, until));
        Ok(())
    }

    /// The engine has decided about the seats.
    pub(crate) fn end_election(&mut self) {
        self.electing = None;
    }
}

/// The seat that this command asks for, and the process that asks, if the seat is that of an
/// earlier process of its node.
pub(crate) fn seat_asked_for<'a>(
    command: &'a Command,
    map: &ClusterMap,
) -> Option<(Seat, &'a MemberId)> {
    let Command::Join {
        member,
        seat: Some(seat),
        ..
    } = command
    else {
        return None;
    };
    let (before, _) = map.by_seat(*seat)?;
    let is_later = before.node == member.node && before.incarnation < member.incarnation;
    is_later.then_some((*seat, member))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::map::tests::{founded, join_in, member};

    const SEAT: Seat = Seat(2);

    struct Bench {
        new: NewVoters,
        now: Instant,
        /// The process in the seat, by the map.
        sits: Option<MemberId>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                new: NewVoters::default(),
                now: Instant::now(),
                sits: None,
            }
        }

        fn ask(&mut self, seat: Seat) -> bool {
            self.new.handle_asked(seat, &member("b", 2), self.now)
        }

        fn elect(&mut self, seats: &[Seat], left: &[Seat]) -> Result<(), Seat> {
            let sits = |seat, by: &MemberId| seat == SEAT && self.sits.as_ref() == Some(by);
            let until = self.now + Duration::from_secs(1);
            let seats = seats.iter().copied().collect();
            let left = left.iter().copied().collect();
            self.new.begin_election(seats, &left, sits, until)
        }
    }

    #[test]
    fn a_seat_that_a_process_has_asked_for_gets_no_vote() {
        let mut bench = Bench::new();
        bench.sits = Some(member("b", 1));
        assert!(bench.ask(SEAT));
        assert_eq!(bench.elect(&[Seat(1), SEAT], &[]), Err(SEAT));
        // Neither does it block others.
        assert_eq!(bench.elect(&[Seat(3)], &[]), Ok(()));
    }

    #[test]
    fn a_seat_that_is_left_according_to_the_log_gets_no_vote() {
        let mut bench = Bench::new();
        let left = [SEAT, Seat(9)];
        assert_eq!(bench.elect(&[Seat(1), SEAT], &left), Err(SEAT));
    }

    #[test]
    fn a_process_that_got_its_seat_may_get_a_vote() {
        let mut bench = Bench::new();
        assert!(bench.ask(SEAT));
        // The answer need not have been this leader's.
        bench.sits = Some(member("b", 2));
        assert_eq!(bench.elect(&[Seat(1), SEAT], &[]), Ok(()));
    }

    #[test]
    fn a_stranger_asks_for_no_seat() {
        let map = founded(4);
        let seat = map.member(&member("a", 1)).unwrap().seat;
        let asks = |id| seat_asked_for(&join_in(&id, seat), &map).map(|(seat, _)| seat);
        assert_eq!(asks(member("a", 2)), Some(seat));
        assert_eq!(asks(member("b", 2)), None, "another node");
        assert_eq!(asks(member("a", 1)), None, "the process that has it");
    }

    #[test]
    fn a_process_waits_while_its_seat_is_getting_a_vote() {
        let mut bench = Bench::new();
        assert_eq!(bench.elect(&[Seat(1), SEAT], &[]), Ok(()));
        assert!(!bench.ask(SEAT));
        assert!(bench.ask(Seat(7)), "another seat");
        bench.new.end_election();
        assert!(bench.ask(SEAT));
    }

    #[test]
    fn an_election_of_which_nothing_is_heard_holds_up_a_process_for_a_while_only() {
        let mut bench = Bench::new();
        assert_eq!(bench.elect(&[Seat(1), SEAT], &[]), Ok(()));
        bench.now += Duration::from_secs(1);
        assert!(bench.ask(SEAT));
    }
}
