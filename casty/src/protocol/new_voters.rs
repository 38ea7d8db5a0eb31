//! Keeps an election of voters and the return of a process to its node's seat apart.
//!
//! A process that has kept what its node's previous process stored asks for the seat of that
//! process. It gets the seat if the seat has a vote. If not, the process forgets what it kept, and
//! joins with a seat of its own. The leader must not give a vote to the old seat then: no process is
//! left in it, and with too few others the change of voters could never be decided.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::map::{Command, Seat};
use crate::infra::mutants;

/// The seats that are about to get a vote, and those that processes have asked for.
#[derive(Debug, Default)]
pub(crate) struct NewVoters {
    /// Seats that are being given a vote, and when that is decided at the latest.
    electing: Option<(BTreeSet<Seat>, Instant)>,
    /// Seats that a process has asked for, and has not been seen to get.
    asked_for: BTreeSet<Seat>,
}

impl NewVoters {
    /// A process asks for a seat. False if the seat is about to get a vote: the process has to ask
    /// again later.
    pub(crate) fn handle_asked(&mut self, seat: Seat, now: Instant) -> bool {
        let electing = self.electing.iter().filter(|(_, until)| now < *until);
        if electing.into_iter().any(|(seats, _)| seats.contains(&seat)) {
            return false;
        }
        self.asked_for.insert(seat);
        true
    }

    /// A process has got the seat that it asked for.
    pub(crate) fn handle_seated(&mut self, seat: Seat) {
        self.asked_for.remove(&seat);
    }

    /// These seats are to get a vote, unless a process leaves one of them. `left`: seats of which
    /// the engine's log says that. `until`: when the engine has decided at the latest.
    ///
    /// # Errors
    /// The seat that is left.
    pub(crate) fn begin_election(
        &mut self,
        seats: BTreeSet<Seat>,
        left: &BTreeSet<Seat>,
        until: Instant,
    ) -> Result<(), Seat> {
        let is_left = |seat: &&Seat| self.asked_for.contains(*seat) || left.contains(*seat);
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

/// The seat that this command asks for.
pub(crate) fn seat_asked_for(command: &Command) -> Option<Seat> {
    match command {
        Command::Join { seat, .. } => *seat,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SEAT: Seat = Seat(2);

    fn seats() -> BTreeSet<Seat> {
        BTreeSet::from([Seat(1), SEAT])
    }

    fn none() -> BTreeSet<Seat> {
        BTreeSet::new()
    }

    #[test]
    fn a_seat_that_is_left_according_to_the_log_gets_no_vote() {
        let now = Instant::now();
        let mut new = NewVoters::default();
        let left = BTreeSet::from([SEAT, Seat(9)]);
        assert_eq!(new.begin_election(seats(), &left, now), Err(SEAT));
    }

    #[test]
    fn a_seat_that_a_process_has_asked_for_gets_no_vote() {
        let now = Instant::now();
        let mut new = NewVoters::default();
        assert!(new.handle_asked(SEAT, now));
        assert_eq!(new.begin_election(seats(), &none(), now), Err(SEAT));
        // Neither does it block others.
        assert_eq!(
            new.begin_election(BTreeSet::from([Seat(3)]), &none(), now),
            Ok(())
        );
    }

    #[test]
    fn a_process_that_got_its_seat_may_get_a_vote() {
        let now = Instant::now();
        let mut new = NewVoters::default();
        assert!(new.handle_asked(SEAT, now));
        new.handle_seated(SEAT);
        assert_eq!(new.begin_election(seats(), &none(), now), Ok(()));
    }

    #[test]
    fn a_process_waits_while_its_seat_is_getting_a_vote() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let mut new = NewVoters::default();
        assert_eq!(new.begin_election(seats(), &none(), until), Ok(()));
        assert!(!new.handle_asked(SEAT, now));
        assert!(new.handle_asked(Seat(7), now), "another seat");
        new.end_election();
        assert!(new.handle_asked(SEAT, now));
    }

    #[test]
    fn an_election_of_which_nothing_is_heard_holds_up_a_process_for_a_while_only() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let mut new = NewVoters::default();
        assert_eq!(new.begin_election(seats(), &none(), until), Ok(()));
        assert!(new.handle_asked(SEAT, until));
    }
}
