//! The answers that a handler gets to its asks: recorded, or given again in a replay.

#[cfg(feature = "testkit")]
use std::collections::VecDeque;
use std::sync::Mutex;

use super::recording::{RecordedAnswer, RecordedAsk};
use crate::infra::sync::lock;

/// How many asks of one handler are recorded.
const ASKS_MAX: usize = 1024;

/// An answer with more bytes is left out.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

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

    /// Something is asked. Returns the number under which the answer is to come.
    pub(crate) fn ask(&self, to: String, message: &str) -> Option<usize> {
        let mut asks = lock(self.recorded_asks()?);
        let number = asks.len();
        if number == ASKS_MAX {
            return None;
        }
        asks.push(RecordedAsk {
            to,
            message: message.to_owned(),
            answer: RecordedAnswer::None,
        });
        Some(number)
    }

    pub(crate) fn answer(&self, number: usize, answer: RecordedAnswer) {
        if let Some(asks) = self.recorded_asks()
            && answer_bytes(&answer) <= ANSWER_BYTES_MAX
            && let Some(ask) = lock(asks).get_mut(number)
        {
            ask.answer = answer;
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
    pub(crate) fn next(&self, to: &str, message: &str) -> Option<RecordedAnswer> {
        let Self::Replayed(replayed) = self else {
            return None;
        };
        let mut replayed = lock(replayed);
        let (answer, recorded) = match replayed.left.pop_front() {
            Some(ask) if ask.to == to && ask.message == message => return Some(ask.answer),
            Some(ask) => (
                ask.answer,
                format!("in the recording it asks {} `{}`", ask.to, ask.message),
            ),
            None => (
                RecordedAnswer::None,
                "in the recording it asks nothing more".to_owned(),
            ),
        };
        let wrong = format!("it asks {to} `{message}`; {recorded}");
        replayed.wrong.get_or_insert(wrong);
        drop(answer);
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
            Some(format!(
                "it asks nothing more; in the recording it asks {} `{}`",
                ask.to, ask.message
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
    size_of::<RecordedAsk>() + ask.to.len() + ask.message.len() + answer_bytes(&ask.answer)
}
