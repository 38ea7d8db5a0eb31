//! The journal of a stored entity, read by the code of today.

use std::sync::Arc;

use super::{
    replayed::{Difference, Replayed},
    stage::Stage,
};
use crate::{
    Entity,
    actor::FirstState,
    infra::panic::{caught, panic_text},
    message::codec::DecodeError,
    persistence::{
        record_body::{RecordBody, WrittenState},
        writer::written_state,
    },
    recorder::{
        answers::Answers,
        recording::{Noted, RecordedJournal},
    },
};

/// An entity that is made of its records.
struct Rebuilt<'a, E> {
    stage: &'a Stage,
    state: Option<E>,
    /// The last state that a record of a durable type has.
    latest: Option<WrittenState>,
}

impl Stage {
    /// Reads all records, and compares the state with that of the snapshot.
    pub(super) fn play_journal<E: Entity>(
        &self,
        journal: &RecordedJournal,
        replayed: &mut Replayed,
    ) -> Option<Difference> {
        let mut rebuilt = Rebuilt::<E> {
            stage: self,
            state: None,
            latest: None,
        };
        let at = |seq: u64, what: &str, reason: String| {
            Some(Difference {
                place: format!("record {seq}{what}"),
                reason,
            })
        };
        let snapshot = match journal
            .snapshot
            .as_ref()
            .map(|(seq, body)| (*seq, opened(body)))
        {
            None => None,
            Some((seq, Ok(state))) => Some((seq, state)),
            Some((seq, Err(error))) => {
                return at(seq, ", the snapshot as of it", error.0);
            }
        };
        // What is forgotten is in the snapshot, or was erased.
        let gone = journal
            .records
            .iter()
            .rev()
            .find(|(_, body)| body.is_empty());
        let mut begin = gone.map_or(0, |(seq, _)| *seq);
        if let Some((seq, state)) = &snapshot
            && begin > 0
            && *seq >= begin
        {
            begin = *seq;
            replayed
                .skipped
                .push(format!("records up to {seq}, of which some are forgotten"));
            if let Err(error) = rebuilt.thaw(state) {
                return at(*seq, ", the snapshot as of it", error.0);
            }
            rebuilt.latest = Some(state.clone());
        }
        if let Some((seq, _)) = &snapshot
            && *seq < begin
        {
            let skipped = format!(
                "the journal: records up to {begin} are forgotten, and the snapshot is older"
            );
            replayed.skipped.push(skipped);
            return None;
        }
        if let Some(seq) = journal.too_large {
            replayed
                .skipped
                .push(format!("records from {seq} on: that one is too large"));
        }
        for (seq, body) in journal.records.iter().filter(|(seq, _)| *seq > begin) {
            if let Err(reason) = rebuilt.apply(body) {
                return at(*seq, "", reason);
            }
            let of_snapshot = snapshot.as_ref().filter(|(of, _)| of == seq);
            if let Some((_, state)) = of_snapshot
                && let Some(what) = rebuilt.differs(state)
            {
                let reason = format!("the state as of it is {what}");
                return at(*seq, ", which the snapshot contains last", reason);
            }
            replayed.records += 1;
        }
        None
    }
}

/// The state that a snapshot has.
fn opened(snapshot: &[u8]) -> Result<WrittenState, DecodeError> {
    let body = RecordBody::decode(snapshot)?;
    body.state
        .ok_or_else(|| DecodeError("it has no state".to_owned()))
}

impl<E: Entity> Rebuilt<'_, E> {
    /// Applies a record. An error says why that cannot be.
    fn apply(&mut self, body: &[u8]) -> Result<(), String> {
        let body = RecordBody::decode(body).map_err(|error| error.0)?;
        if !body.last_taken.is_empty() {
            // It says nothing of the state: the record before it erases.
            return Ok(());
        }
        for event in &body.events {
            if self.state.is_none() {
                self.state = Some(self.first_state()?);
            }
            let Some(state) = &mut self.state else {
                continue;
            };
            let replay = || state.replay(&event.name, event.version, &event.bytes);
            let done = self.stage.read(|| caught(replay));
            let done = done.unwrap_or_else(|text| Err(DecodeError(format!("it panics: {text}"))));
            done.map_err(|error| {
                format!(
                    "event `{}` of version {}: {}",
                    event.name, event.version, error.0
                )
            })?;
        }
        let latest = match (body.state, &body.fields) {
            (Some(state), _) => state,
            (None, Some(fields)) => {
                let latest = self.latest.take();
                let latest = latest.ok_or("it changes fields of a state that is not there")?;
                let changed = fields.apply(&latest.bytes).map_err(|error| error.0)?;
                written_state(&latest.name, changed)
            }
            (None, None) => {
                self.ends(body.erases);
                return Ok(());
            }
        };
        self.thaw(&latest).map_err(|error| error.0)?;
        self.latest = Some(latest);
        self.ends(body.erases);
        Ok(())
    }

    /// Where a record erases the entity, the next one begins it anew.
    fn ends(&mut self, erased: bool) {
        if erased {
            (self.state, self.latest) = (None, None);
        }
    }

    fn thaw(&mut self, state: &WrittenState) -> Result<(), DecodeError> {
        let thaw = || E::thaw(&state.name, &state.bytes);
        let thawed = self.stage.read(|| caught(thaw));
        let thawed = thawed.unwrap_or_else(|text| Err(DecodeError(format!("it panics: {text}"))));
        self.state = Some(thawed?);
        Ok(())
    }

    /// The state that the first event is applied to.
    fn first_state(&self) -> Result<E, String> {
        let (cell, mut context) = self.stage.cell::<E>();
        let answers = Arc::new(Answers::replayed(Vec::new()));
        let made = async {
            match E::init(&mut context) {
                FirstState::Now(made) => made,
                FirstState::Later(made) => made.await,
            }
        };
        let made = self
            .stage
            .attend(&cell, &self.stage.outlet(), &answers, made);
        if let Some(wrong) = answers.wrong() {
            return Err(format!("the first state cannot be made: {wrong}"));
        }
        match made {
            Some(Ok(Ok(state))) => Ok(state),
            Some(Ok(Err(error))) => Err(format!("the first state cannot be made: {}", error.0)),
            Some(Err(panic)) => Err(format!("`init` panics: {}", panic_text(&*panic))),
            None => Err("`init` awaits something that is not in the recording".to_owned()),
        }
    }

    /// Where the state differs from that of the snapshot.
    fn differs(&self, snapshot: &WrittenState) -> Option<String> {
        let state = self.state.as_ref()?;
        let mut bytes = Vec::new();
        let name = match state.freeze(&mut bytes) {
            Ok(name) => name,
            Err(error) => return Some(format!("a state that cannot be written: {}", error.0)),
        };
        let now = (name.to_owned(), Noted::of(&bytes));
        let recorded = (snapshot.name.clone(), Noted::of(&snapshot.bytes));
        self.stage.compare::<E>(&now, &recorded)
    }
}
