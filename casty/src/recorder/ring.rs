//! The last messages of one entity, bounded: a pure part of the [recorder](super).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use super::{
    answers::{Answers, ask_bytes},
    recording::{Noted, RecordedState, RecordedTurn, Section, StateAfter, TurnOutcome},
};

/// How many bytes the ring of one entity has, about.
pub(super) const RING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A message, or the first state of a section, with more bytes is left out.
pub(crate) const PART_BYTES_MAX: usize = 1024 * 1024;

/// What a turn costs besides its bytes, about.
const TURN_BYTES: usize = 256;

/// The ring of one entity.
pub(crate) type SharedRing = Arc<Mutex<Ring>>;

/// At least the last `turns_max` messages, in sections that begin with a state.
pub(crate) struct Ring {
    turns_max: usize,
    sections: VecDeque<Kept>,
    /// The next turn begins a section, since what came before does not lead to its state.
    breaks: bool,
    /// The handler that runs.
    begun: Option<(RecordedTurn, Arc<Answers>)>,
    /// The last state, by what it is told apart.
    last: Option<LastState>,
    bytes: usize,
}

/// The name of a state, how many bytes it has, and their checksum.
type LastState = (String, usize, u32);

fn last_state(state: &RecordedState) -> LastState {
    (
        state.name.clone(),
        state.bytes.len(),
        crc32c::crc32c(&state.bytes),
    )
}

struct Kept {
    section: Section,
    bytes: usize,
}

/// A state, or why it is not known.
pub(crate) type Frozen = Result<RecordedState, String>;

impl Ring {
    pub(crate) fn new(turns_max: usize) -> Self {
        Self {
            turns_max,
            sections: VecDeque::new(),
            breaks: false,
            begun: None,
            last: None,
            bytes: 0,
        }
    }

    /// Keeps so many messages from now on.
    pub(crate) fn set_turns_max(&mut self, turns_max: usize) {
        self.turns_max = turns_max;
    }

    pub(crate) fn turns_max(&self) -> usize {
        self.turns_max
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn turns(&self) -> usize {
        let turns = self.sections.iter().map(|kept| kept.section.turns.len());
        turns.sum::<usize>() + usize::from(self.begun.is_some())
    }

    /// Whether a handler runs.
    pub(crate) fn is_at_work(&self) -> bool {
        self.begun.is_some()
    }

    /// The state changes otherwise than by a message, or another one begins.
    pub(crate) fn breaks(&mut self) {
        self.breaks = true;
    }

    /// Whether the next turn has to come with the state that it begins with.
    pub(crate) fn wants_state(&self) -> bool {
        let full = |last: &Kept| {
            last.section.turns.len() >= self.turns_max || last.bytes >= RING_BYTES_MAX / 2
        };
        self.breaks || self.sections.back().is_none_or(full)
    }

    /// A handler begins. `state`: the state, where it was [wanted](Self::wants_state).
    pub(crate) fn begin(
        &mut self,
        state: Option<Frozen>,
        turn: RecordedTurn,
        answers: Arc<Answers>,
    ) {
        if let Some((turn, answers)) = self.begun.take() {
            // The handler before was dropped.
            self.add(turn, TurnOutcome::CutShort, &answers);
            self.breaks = true;
        }
        if let Some(state) = state {
            self.begin_section(state);
            self.breaks = false;
        }
        // What follows cannot be replayed from here.
        self.breaks |= turn.bytes.is_none();
        self.begun = Some((turn, answers));
    }

    fn begin_section(&mut self, state: Frozen) {
        self.last = state.as_ref().ok().map(last_state);
        let state = state.and_then(|state| match state.bytes.len() {
            bytes if bytes > PART_BYTES_MAX => Err(format!(
                "its state has {bytes} bytes, and up to {PART_BYTES_MAX} are recorded"
            )),
            _ => Ok(state),
        });
        let bytes = state.as_ref().map_or(0, |state| state.bytes.len());
        self.bytes += bytes;
        let turns = Vec::new();
        self.sections.push_back(Kept {
            section: Section { state, turns },
            bytes,
        });
        let enough = |ring: &Self| {
            let first = ring.sections.front().map_or(0, |it| it.section.turns.len());
            ring.turns() - first >= ring.turns_max || ring.bytes > RING_BYTES_MAX
        };
        while self.sections.len() > 1 && enough(self) {
            if let Some(oldest) = self.sections.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// When the handler that runs has begun.
    pub(crate) fn begun_at(&self) -> Option<u64> {
        self.begun.as_ref().map(|(turn, _)| turn.at)
    }

    /// The handler that runs has ended, and took so many microseconds. `after`: the state, unless
    /// the handler has left none.
    pub(crate) fn end(&mut self, took: u64, outcome: TurnOutcome, after: Option<Frozen>) {
        let Some((mut turn, answers)) = self.begun.take() else {
            return;
        };
        turn.took = took;
        turn.state = match after {
            Some(Ok(state)) => {
                let now = last_state(&state);
                if self.last.as_ref() == Some(&now) {
                    StateAfter::Same
                } else {
                    self.last = Some(now);
                    StateAfter::Changed {
                        name: state.name,
                        state: Noted::of(&state.bytes),
                    }
                }
            }
            Some(Err(_)) | None => StateAfter::Unknown,
        };
        self.add(turn, outcome, &answers);
    }

    fn add(&mut self, mut turn: RecordedTurn, outcome: TurnOutcome, answers: &Answers) {
        turn.outcome = outcome;
        turn.asks = answers.so_far();
        let Some(last) = self.sections.back_mut() else {
            return;
        };
        let bytes = turn_bytes(&turn);
        last.bytes += bytes;
        self.bytes += bytes;
        last.section.turns.push(turn);
    }

    /// What there is, the handler that runs included.
    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<_> = self.sections.iter().map(|it| it.section.clone()).collect();
        if let (Some((turn, answers)), Some(last)) = (&self.begun, sections.last_mut()) {
            let mut turn = turn.clone();
            turn.asks = answers.so_far();
            last.turns.push(turn);
        }
        sections.retain(|section| !section.turns.is_empty());
        sections
    }
}

fn turn_bytes(turn: &RecordedTurn) -> usize {
    let outcome = match &turn.outcome {
        TurnOutcome::Replied(reply) => reply.bytes(),
        TurnOutcome::Panicked(reason) => reason.len(),
        _ => 0,
    };
    let state = match &turn.state {
        StateAfter::Changed { state, .. } => state.bytes(),
        _ => 0,
    };
    let asks: usize = turn.asks.iter().map(ask_bytes).sum();
    TURN_BYTES + turn.bytes.as_ref().map_or(0, |bytes| bytes.len()) + outcome + state + asks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::caller::Caller;
    use serde_bytes::ByteBuf;

    fn turn(message: usize) -> RecordedTurn {
        RecordedTurn {
            at: 0,
            took: 0,
            caller: Caller::Local,
            sender: None,
            message: message.to_string(),
            bytes: Some(ByteBuf::from(vec![0; 10])),
            due: None,
            outcome: TurnOutcome::Running,
            state: StateAfter::Unknown,
            asks: Vec::new(),
        }
    }

    fn state(number: usize) -> RecordedState {
        RecordedState {
            name: String::new(),
            bytes: ByteBuf::from(number.to_string()),
        }
    }

    fn begin(ring: &mut Ring, before: usize, turn: RecordedTurn) {
        let wanted = ring.wants_state().then(|| Ok(state(before)));
        ring.begin(wanted, turn, Arc::new(Answers::recorded()));
    }

    fn play(ring: &mut Ring, message: usize) {
        begin(ring, message, turn(message));
        ring.end(1, TurnOutcome::Deferred, Some(Ok(state(message + 1))));
    }

    /// The number of the first and of the last message of each section, and its first state.
    fn shown(ring: &Ring) -> Vec<String> {
        let sections = ring.sections();
        let shown = sections.iter().map(|section| {
            let state = match &section.state {
                Ok(state) => String::from_utf8(state.bytes.to_vec()).unwrap(),
                Err(_) => "?".to_owned(),
            };
            let (first, last) = (&section.turns[0], &section.turns[section.turns.len() - 1]);
            format!("{state}: {}..={}", first.message, last.message)
        });
        shown.collect()
    }

    #[test]
    fn at_least_the_last_messages_are_kept_and_each_section_begins_with_the_state_before_it() {
        let mut ring = Ring::new(4);
        for message in 0..4 {
            play(&mut ring, message);
        }
        assert_eq!(shown(&ring), ["0: 0..=3"]);
        for message in 4..8 {
            play(&mut ring, message);
            assert_eq!(
                shown(&ring),
                ["0: 0..=3".to_owned(), format!("4: 4..={message}")]
            );
        }
        play(&mut ring, 8);
        assert_eq!(shown(&ring), ["4: 4..=7", "8: 8..=8"]);
    }

    #[test]
    fn what_does_not_follow_from_the_message_before_begins_a_section() {
        let mut ring = Ring::new(100);
        play(&mut ring, 0);
        // Another activation, a state that a hook has changed, a message without a wire form, and a
        // handler that was dropped.
        ring.breaks();
        play(&mut ring, 1);
        ring.breaks();
        play(&mut ring, 2);
        let bare = RecordedTurn {
            bytes: None,
            ..turn(3)
        };
        begin(&mut ring, 3, bare);
        ring.end(1, TurnOutcome::Deferred, Some(Ok(state(4))));
        play(&mut ring, 4);
        begin(&mut ring, 5, turn(5));
        begin(&mut ring, 6, turn(6));
        ring.end(1, TurnOutcome::Deferred, Some(Ok(state(7))));
        play(&mut ring, 7);
        let sections = ["0: 0..=0", "1: 1..=1", "2: 2..=3", "4: 4..=6", "7: 7..=7"];
        assert_eq!(shown(&ring), sections);
        let dropped = &ring.sections()[3].turns[1];
        assert_eq!(dropped.outcome, TurnOutcome::CutShort);
    }

    #[test]
    fn the_handler_that_runs_is_shown() {
        let mut ring = Ring::new(4);
        begin(&mut ring, 0, turn(0));
        assert_eq!(ring.sections()[0].turns[0].outcome, TurnOutcome::Running);
        assert_eq!(ring.turns(), 1);
        ring.end(7, TurnOutcome::Stashed, Some(Ok(state(0))));
        let ended = &ring.sections()[0].turns[0];
        assert_eq!((ended.took, &ended.state), (7, &StateAfter::Same));
        assert_eq!(ring.turns(), 1);
    }

    #[test]
    fn bytes_are_bounded_whatever_messages_and_states_have() {
        let mut ring = Ring::new(1000);
        for message in 0..200 {
            let large = RecordedTurn {
                bytes: Some(ByteBuf::from(vec![0; PART_BYTES_MAX / 8])),
                ..turn(message)
            };
            begin(&mut ring, message, large);
            ring.end(1, TurnOutcome::Deferred, Some(Ok(state(message + 1))));
            assert!(
                ring.bytes() <= RING_BYTES_MAX + RING_BYTES_MAX / 2,
                "{}",
                ring.bytes()
            );
        }
        let has: usize = ring.sections().iter().map(|it| it.turns.len()).sum();
        assert!(has >= 8, "{has}");
        let large = RecordedState {
            name: String::new(),
            bytes: ByteBuf::from(vec![0; PART_BYTES_MAX + 1]),
        };
        let mut ring = Ring::new(4);
        ring.begin(Some(Ok(large)), turn(0), Arc::new(Answers::recorded()));
        assert_eq!(shown(&ring), ["?: 0..=0"]);
    }
}
