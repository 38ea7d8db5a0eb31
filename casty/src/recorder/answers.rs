//! The answers that a handler gets to its asks: recorded, or given again in a replay.

#[cfg(feature = "testkit")]
use std::collections::VecDeque;
use std::sync::Mutex;

use super::recording::{Noted, RecordedAnswer, RecordedAsk};
use crate::infra::sync::lock;

/// How many asks of one handler are recorded.
const ASKS_MAX: usize = 1024;

/// Answers to one handler that have more bytes together are left out.
const ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// The asks of one handler.
pub(crate) enum Answers {
    Recorded(Mutex<Vec<RecordedAsk>>),
    #[cfg(feature = "testkit")]
    Replayed(Mutex<Replayed>),
}

/// What is left to give, and what was asked that is not in the recording.
#[cfg(feature = "testkit")]
pub(crate) struct Replayed {
    left: VecDeque<RecordedAsk>,
    wrong: Option<String>,
}

impl Answers {
    pub(crate) fn recorded() -> Self {
        Self::Recorded(Mutex::default())
    }

    /// Something is asked. Returns the number under which the answer is to come. `None`: too much
    /// was asked before.
    pub(crate) fn ask(&self, ask: RecordedAsk) -> Option<usize> {
        let mut asks = lock(self.recorded_asks()?);
        let number = asks.len();
        if number > ASKS_MAX {
            return None;
        }
        let answer = if number == ASKS_MAX {
            RecordedAnswer::LeftOut
        } else {
            ask.answer
        };
        asks.push(RecordedAsk { answer, ..ask });
        (number < ASKS_MAX).then_some(number)
    }

    pub(crate) fn answer(&self, number: usize, answer: RecordedAnswer) {
        let Some(asks) = self.recorded_asks() else {
            return;
        };
        let mut asks = lock(asks);
        let before: usize = asks.iter().map(|ask| answer_bytes(&ask.answer)).sum();
        let fits = before + answer_bytes(&answer) <= ANSWERS_BYTES_MAX;
        if let Some(ask) = asks.get_mut(number) {
            ask.answer = if fits {
                answer
            } else {
                RecordedAnswer::LeftOut
            };
        }
    }

    /// `None` in a replay.
    #[cfg_attr(
        not(feature = "testkit"),
        expect(clippy::unnecessary_wraps, reason = "there are replays in tests")
    )]
    const fn recorded_asks(&self) -> Option<&Mutex<Vec<RecordedAsk>>> {
        match self {
            Self::Recorded(asks) => Some(asks),
            #[cfg(feature = "testkit")]
            Self::Replayed(_) => None,
        }
    }

    /// What was asked up to now.
    pub(crate) fn so_far(&self) -> Vec<RecordedAsk> {
        self.recorded_asks()
            .map_or_else(Vec::new, |asks| lock(asks).clone())
    }
}

#[cfg(feature = "testkit")]
impl Answers {
    pub(crate) fn replayed(asks: Vec<RecordedAsk>) -> Self {
        Self::Replayed(Mutex::new(Replayed {
            left: asks.into(),
            wrong: None,
        }))
    }

    /// The recorded answer to the next ask, in a replay.
    pub(crate) fn next(&self, asked: RecordedAsk) -> Option<RecordedAnswer> {
        let Self::Replayed(replayed) = self else {
            return None;
        };
        let mut replayed = lock(replayed);
        let recorded = match replayed.left.pop_front() {
            Some(ask) if ask.asks_the_same(&asked) => return Some(ask.answer),
            Some(ask) => format!("in the recording it asks {}", ask.shown()),
            None => "in the recording it asks nothing more".to_owned(),
        };
        let wrong = format!("it asks {}; {recorded}", asked.shown());
        replayed.wrong.get_or_insert(wrong);
        Some(RecordedAnswer::None)
    }

    /// What was asked otherwise than in the recording.
    pub(crate) fn wrong(&self) -> Option<String> {
        let Self::Replayed(replayed) = self else {
            return None;
        };
        let replayed = lock(replayed);
        replayed.wrong.clone().or_else(|| {
            let ask = replayed.left.front()?;
            let shown = ask.shown();
            Some(format!(
                "it asks nothing more; in the recording it asks {shown}"
            ))
        })
    }
}

fn answer_bytes(answer: &RecordedAnswer) -> usize {
    match answer {
        RecordedAnswer::Reply(bytes) => bytes.len(),
        _ => 0,
    }
}

pub(super) fn ask_bytes(ask: &RecordedAsk) -> usize {
    let arguments = ask.arguments.as_ref().map_or(0, Noted::bytes);
    size_of::<RecordedAsk>()
        + ask.to.len()
        + ask.message.len()
        + arguments
        + answer_bytes(&ask.answer)
}
