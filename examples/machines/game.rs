//! A match of several players: a lobby, a countdown, the game, and the result.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state Gathering {
//!         Lobby
//!         note right of Lobby
//!             stays: scores
//!             otherwise: reject
//!         end note
//!         Countdown
//!         note right of Countdown
//!             stays: seconds, scores
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Lobby
//!     Lobby --> Lobby: join [may_join]
//!     Lobby --> Countdown: join [may_join]
//!     Lobby --> Lobby: leave
//!     Lobby --> Countdown: leave
//!     Countdown --> Countdown: tick (after 1s)
//!     Countdown --> Playing: tick (after 1s)
//!     Countdown --> Lobby: join [may_join]
//!     Countdown --> Countdown: join [may_join]
//!     Countdown --> Lobby: leave
//!     Countdown --> Countdown: leave
//!     Playing --> Playing: leave
//!     Playing --> Finished: leave
//!     Playing --> Finished: time_is_up (after 5m)
//!     Finished --> Lobby: rematch
//!     Finished --> Countdown: rematch
//!     note right of Playing
//!         stays: score, scores
//!         otherwise: reject
//!     end note
//!     note right of Finished
//!         stays: winner, scores
//!         ignore: leave
//!         otherwise: reject
//!     end note
//! ```

use std::collections::BTreeMap;

use casty::prelude::*;

const PLAYERS_MIN: usize = 2;
const PLAYERS_MAX: usize = 4;

/// Why somebody does not play.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    Full,
    PlaysAlready,
}

/// Points by player.
pub type Scores = BTreeMap<String, u32>;

/// One match. Its module is not called `match`, which is a keyword.
#[entity(shards = 20)]
#[states(Gathering = Lobby, Countdown)]
pub mod game {
    use super::*;

    /// The players, and their points.
    #[state(common)]
    #[derive(Default)]
    pub struct Table {
        scores: Scores,
    }

    /// Waits for players.
    #[state(initial)]
    #[derive(Default)]
    pub struct Lobby;

    /// There are players enough. Others may still join.
    #[state]
    pub struct Countdown {
        seconds: u32,
    }

    #[state]
    pub struct Playing;

    #[state]
    pub struct Finished;

    type Gather = OneOf<Lobby, Countdown>;

    impl Table {
        fn gather(&self) -> Gather {
            if self.scores.len() < PLAYERS_MIN {
                return Lobby.into();
            }
            Countdown { seconds: 5 }.into()
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// The players, and their points.
        #[message]
        fn scores(&self, table: &Table) -> Scores {
            table.scores.clone()
        }
    }

    #[behavior(of(Gathering))]
    impl _ {
        fn may_join(&self, player: &str, table: &Table) -> Result<(), JoinError> {
            if table.scores.contains_key(player) {
                return Err(JoinError::PlaysAlready);
            }
            let room = (table.scores.len() < PLAYERS_MAX).then_some(());
            room.ok_or(JoinError::Full)
        }

        /// Plays along. The countdown begins anew, so that nobody is surprised.
        #[message(guard = may_join)]
        fn join(self, player: String, table: &mut Table) -> Gather {
            table.scores.insert(player, 0);
            table.gather()
        }

        /// Leaves before it begins.
        #[message]
        fn leave(self, player: String, table: &mut Table) -> Gather {
            table.scores.remove(&player);
            table.gather()
        }
    }

    #[behavior]
    impl Countdown {
        /// How many seconds are left.
        #[message]
        fn seconds(&self) -> u32 {
            self.seconds
        }

        #[message(internal, after = "1s")]
        fn tick(self) -> OneOf<Countdown, Playing> {
            match self.seconds - 1 {
                0 => Playing.into(),
                seconds => Countdown { seconds }.into(),
            }
        }
    }

    #[behavior]
    impl Playing {
        /// Gives a player points.
        #[message]
        fn score(&mut self, player: String, points: u32, table: &mut Table) {
            if let Some(score) = table.scores.get_mut(&player) {
                *score += points;
            }
        }

        /// Gives up. The last player that is left has won.
        #[message]
        fn leave(self, player: String, table: &mut Table) -> OneOf<Playing, Finished> {
            table.scores.remove(&player);
            if table.scores.len() < PLAYERS_MIN {
                return Finished.into();
            }
            self.into()
        }

        #[message(internal, after = "5m")]
        fn time_is_up(self) -> Finished {
            Finished
        }
    }

    #[behavior(ignore(leave))]
    impl Finished {
        /// Who has won, if anybody has.
        #[message]
        fn winner(&self, table: &Table) -> Option<String> {
            let best = table.scores.values().max()?;
            let mut best = table.scores.iter().filter(|(_, points)| *points == best);
            let (winner, None) = (best.next()?, best.next()) else {
                return None;
            };
            Some(winner.0.clone())
        }

        /// The same players, again.
        #[message]
        fn rematch(self, table: &mut Table) -> Gather {
            table.scores.values_mut().for_each(|points| *points = 0);
            table.gather()
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with(players: &[&str]) -> Machine<Game> {
        let mut game = Machine::<Game>::new();
        for player in players {
            assert_eq!(game.send(|it| it.join((*player).to_owned())), Ok(()));
        }
        game
    }

    #[test]
    fn the_countdown_begins_with_the_second_player_and_anew_with_a_third() {
        let mut game = with(&["ann"]);
        assert_eq!((game.state(), game.timers()), ("Lobby", vec![]));
        assert_eq!(game.send(|it| it.join("bob".into())), Ok(()));
        game.advance(SECOND * 3);
        assert_eq!(game.send(|it| it.seconds()), Ok(2));
        assert_eq!(game.send(|it| it.join("eve".into())), Ok(()));
        assert_eq!(game.send(|it| it.seconds()), Ok(5));
        game.advance(SECOND * 5);
        assert_eq!(game.state(), "Playing");
    }

    #[test]
    fn without_players_enough_there_is_no_countdown() {
        let mut game = with(&["ann", "bob"]);
        game.advance(SECOND * 4);
        assert_eq!(game.send(|it| it.leave("ann".into())), Ok(()));
        game.advance(SECOND * 4);
        assert_eq!(game.state(), "Lobby");
    }

    #[test]
    fn there_is_room_for_four_and_for_each_once() {
        let mut game = with(&["ann", "bob", "eve"]);
        let again = game.send(|it| it.join("ann".into()));
        assert_eq!(again, Err(AskError::Entity(JoinError::PlaysAlready)));
        assert_eq!(game.send(|it| it.join("dan".into())), Ok(()));
        let fifth = game.send(|it| it.join("fay".into()));
        assert_eq!(fifth, Err(AskError::Entity(JoinError::Full)));
    }

    #[test]
    fn the_most_points_win_when_time_is_up() {
        let mut game = with(&["ann", "bob"]);
        game.advance(SECOND * 5);
        assert_eq!(game.send(|it| it.score("bob".into(), 3)), Ok(()));
        game.advance(SECOND * 300);
        assert_eq!(game.send(|it| it.winner()), Ok(Some("bob".into())));
        assert_eq!(game.send(|it| it.rematch()), Ok(()));
        assert_eq!(game.state(), "Countdown");
        assert_eq!(game.send(|it| it.scores()).unwrap()["bob"], 0);
    }

    #[test]
    fn the_last_player_has_won() {
        let mut game = with(&["ann", "bob"]);
        game.advance(SECOND * 5);
        assert_eq!(game.send(|it| it.leave("ann".into())), Ok(()));
        assert_eq!(game.send(|it| it.winner()), Ok(Some("bob".into())));
    }
}
