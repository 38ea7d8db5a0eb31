//! What a replay has found.

use std::fmt;

/// What became of a [replay](super::replay).
#[derive(Clone, Debug)]
#[must_use = "a replay may have found a difference"]
pub struct Replayed {
    entity: String,
    pub(super) messages: usize,
    pub(super) records: usize,
    pub(super) skipped: Vec<String>,
    pub(super) difference: Option<Difference>,
}

impl Replayed {
    pub(super) const fn new(entity: String) -> Self {
        Self {
            entity,
            messages: 0,
            records: 0,
            skipped: Vec::new(),
            difference: None,
        }
    }

    /// How many messages did the same as in the recording.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// How many records of the journal this code reads, and makes the same state of as the code
    /// that has written the snapshot.
    pub const fn records(&self) -> usize {
        self.records
    }

    /// What of the recording could not be replayed, and why: parts without a state, and messages
    /// without a wire form with all that follow them, up to the next state.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The first message that did something else than in the recording.
    pub const fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// Requires that all that could be replayed did the same as in the recording.
    ///
    /// # Panics
    /// If there is a difference: the text says which. And if nothing could be replayed.
    #[track_caller]
    pub fn expect_same(&self) {
        let played = self.messages + self.records;
        assert!(self.difference.is_none() && played > 0, "{self}");
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} messages did the same as in the recording",
            self.entity, self.messages
        )?;
        if self.records > 0 {
            write!(f, ", {} records are read as they were", self.records)?;
        }
        if let Some(difference) = &self.difference {
            write!(f, "; then {difference}")?;
        }
        for skipped in &self.skipped {
            write!(f, "\nnot replayed: {skipped}")?;
        }
        Ok(())
    }
}

/// A message, or a record, that does something else than in the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Which one, as text, with its number in the recording from 1 on.
    pub place: String,
    /// What is different, as text.
    pub reason: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}
