//! A recording: what the flight recorder has kept of one entity, as a value and as a file.

use std::{
    fmt, fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::value::Value;
use crate::{
    error::Failure,
    infra::{printable::Printable, wall_clock},
    message::{caller::Caller, codec},
};

/// What a file begins with, the number of its form included.
const HEAD: &[u8; 8] = b"casty r\x01";

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A state, or a reply, with more bytes is kept as a [digest](Noted::Digest).
const WHOLE_MAX: usize = 4 * 1024;

/// What the flight recorder has kept of one entity: see [the module](super).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recording {
    /// The version of casty that has written it.
    pub casty: String,
    /// The wire name of the entity's type.
    pub kind: String,
    /// The entity's id.
    pub id: String,
    /// The node on which it lived.
    pub node: String,
    /// Why it was written.
    pub why: String,
    /// When it was written, in microseconds since the Unix epoch.
    pub(crate) written: u64,
    /// Parts, each of which begins with a state. The oldest first.
    pub sections: Vec<Section>,
    /// What is stored of the entity, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) journal: Option<RecordedJournal>,
}

/// What is stored of an entity, as its store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedJournal {
    /// The number of the last record that the snapshot contains, and the snapshot.
    pub(crate) snapshot: Option<(u64, ByteBuf)>,
    /// The records, each with its number. Empty: it is forgotten.
    pub(crate) records: Vec<(u64, ByteBuf)>,
    /// The number of the first record that is too large to be sent: there are no later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) too_large: Option<u64>,
}

/// Messages of an entity, in order, and the state before the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Section {
    /// An error says why the state is not known: this part can be read, but not replayed.
    pub(crate) state: Result<RecordedState, String>,
    /// The messages.
    pub turns: Vec<RecordedTurn>,
}

/// A state as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedState {
    /// The name of a machine's state.
    pub(crate) name: String,
    pub(crate) bytes: ByteBuf,
}

/// A message, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedTurn {
    /// When its handler began, in microseconds since the Unix epoch.
    pub(crate) at: u64,
    /// How long the handler ran, in microseconds.
    pub(crate) took: u64,
    /// The process that has sent it.
    pub caller: Caller,
    /// What has sent it, as far as that is known: an actor that asks, a timer, a reminder.
    pub sender: Option<String>,
    /// The name of the message.
    pub message: String,
    /// `None`: it has no wire form, as internal messages with arguments, or is too large.
    pub(crate) bytes: Option<ByteBuf>,
    /// The time for which a reminder came.
    pub(crate) due: Option<u64>,
    pub(crate) outcome: TurnOutcome,
    /// The state afterwards.
    pub(crate) state: StateAfter,
    /// What the handler has asked of other actors.
    pub(crate) asks: Vec<RecordedAsk>,
}

/// How the handling of a message ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TurnOutcome {
    /// It has not ended when the recording was written.
    Running,
    Replied(Noted),
    /// A promise replies later.
    Deferred,
    /// The state has no handler for it.
    Unhandled {
        state: String,
    },
    /// The state keeps it for a later one.
    Stashed,
    Panicked(String),
    /// The handler was dropped where it awaited something.
    CutShort,
}

/// The state after a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum StateAfter {
    /// As before.
    Same,
    Changed {
        name: String,
        state: Noted,
    },
    /// It cannot be written, or a failure has left none.
    Unknown,
}

/// An encoded value, or what it is compared by if it is large.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Noted {
    Whole(ByteBuf),
    Digest {
        bytes: u64,
        /// See [`sum`].
        sum: u64,
    },
}

/// What a handler has asked of another actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedAsk {
    pub(crate) to: String,
    pub(crate) message: String,
    /// The message with its arguments. `None`: it cannot be written.
    pub(crate) arguments: Option<Noted>,
    pub(crate) answer: RecordedAnswer,
}

impl RecordedAsk {
    #[cfg(feature = "testkit")]
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let same = match (&self.arguments, &other.arguments) {
            (Some(one), Some(other)) => one == other,
            (one, other) => one.is_none() && other.is_none(),
        };
        self.to == other.to && self.message == other.message && same
    }

    pub(super) fn shown(&self) -> String {
        let arguments = self.arguments.as_ref().and_then(|noted| match noted {
            Noted::Whole(bytes) => Some(said(&self.message, bytes)),
            Noted::Digest { .. } => None,
        });
        let message = arguments.unwrap_or_else(|| Printable(&self.message).to_string());
        format!("{} `{message}`", Printable(&self.to))
    }
}

/// A message with its arguments, as text.
fn said(name: &str, bytes: &[u8]) -> String {
    let name = Printable(name);
    match Value::of(bytes) {
        Some(Value::Map(mut entries)) if entries.len() == 1 => match entries.pop() {
            Some((_, Value::Map(arguments))) if arguments.is_empty() => name.to_string(),
            Some((_, arguments)) => format!("{name} {arguments}"),
            None => name.to_string(),
        },
        _ => name.to_string(),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum RecordedAnswer {
    /// There was none when the handler ended, or the recording was written.
    None,
    Reply(ByteBuf),
    Failed(Failure),
    /// Its time was up.
    Late,
    /// It is too large, or cannot be written, or too much was asked.
    LeftOut,
}

impl Noted {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if bytes.len() <= WHOLE_MAX {
            return Self::Whole(ByteBuf::from(bytes));
        }
        Self::Digest {
            bytes: bytes.len() as u64,
            sum: sum(bytes),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Digest { .. } => size_of::<Self>(),
        }
    }

    fn shown(&self, read: fn(&[u8]) -> Option<Value>) -> String {
        match self {
            Self::Whole(bytes) => read(bytes).map_or_else(
                || format!("{} bytes that cannot be read", bytes.len()),
                |value| value.to_string(),
            ),
            Self::Digest { bytes, sum } => format!("{bytes} bytes (sum {sum:016x})"),
        }
    }

    pub(crate) fn shown_reply(&self) -> String {
        self.shown(Value::of)
    }

    /// As a state, with the name of a machine's.
    pub(crate) fn shown_state(&self, name: &str) -> String {
        let gap = if name.is_empty() { "" } else { " " };
        format!("{}{gap}{}", Printable(name), self.shown(Value::of_state))
    }
}

/// What no change of the order of the bytes changes. Each byte is mixed, so that more than their
/// plain sum has to be the same.
fn sum(bytes: &[u8]) -> u64 {
    let mixed = bytes.iter().map(|&byte| {
        let byte = u64::from(byte) + 1;
        byte.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ byte.wrapping_pow(5).rotate_left(29)
    });
    mixed.fold(0, u64::wrapping_add)
}

/// The same entries of maps in another order are the same: a `HashMap` is written in another order
/// in each process. Digests do not tell other orders apart either.
impl PartialEq for Noted {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => {
                one == other || one.len() == other.len() && Value::are_same(one, other)
            }
            (one, other) => one.digest() == other.digest(),
        }
    }
}

impl Noted {
    fn digest(&self) -> (u64, u64) {
        match self {
            Self::Whole(bytes) => (bytes.len() as u64, sum(bytes)),
            Self::Digest { bytes, sum } => (*bytes, *sum),
        }
    }
}

/// Why a file with a recording cannot be read, or not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read, or not be written.
    #[error("`{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// It is no recording.
    #[error("it does not begin as a recording of casty does")]
    NotARecording,
    /// It is damaged, or was not written to its end.
    #[error("it is damaged: its checksum does not fit")]
    Damaged,
    /// Another version of casty has written it.
    #[error("another version of casty has written it: {reason}")]
    Unreadable {
        /// What cannot be read.
        reason: String,
    },
}

impl Recording {
    /// One without messages.
    pub(crate) fn empty(kind: &str, id: &str, node: String) -> Self {
        Self {
            casty: env!("CARGO_PKG_VERSION").to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            node,
            why: "its journal was asked for".to_owned(),
            written: now(),
            sections: Vec::new(),
            journal: None,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, RecordingError> {
        let path = path.as_ref();
        let io = |source| RecordingError::Io {
            path: path.display().to_string(),
            source,
        };
        let bytes = fs::metadata(path).map_err(io)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(io(io::Error::other(format!(
                "it has {bytes} bytes, more than a recording has"
            ))));
        }
        Self::from_bytes(&fs::read(path).map_err(io)?)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordingError> {
        let rest = bytes
            .strip_prefix(HEAD)
            .ok_or(RecordingError::NotARecording)?;
        let (body, check) = rest.split_last_chunk().ok_or(RecordingError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*check) {
            return Err(RecordingError::Damaged);
        }
        codec::decode(body).map_err(|error| RecordingError::Unreadable { reason: error.0 })
    }

    /// The recording as a file has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        if let Err(error) = codec::encode(self, &mut out) {
            unreachable!("all of it can be written: {}", error.0);
        }
        let check = crc32c::crc32c(&out[HEAD.len()..]);
        out.extend(check.to_le_bytes());
        out
    }

    /// Writes it to a new file, which only the owner may read: messages are in it.
    ///
    /// # Errors
    /// [`RecordingError::Io`], also if there is such a file.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), RecordingError> {
        let path = path.as_ref();
        write_new(path, &self.to_bytes()).map_err(|source| RecordingError::Io {
            path: path.display().to_string(),
            source,
        })
    }

    /// When it was written.
    pub fn written_at(&self) -> SystemTime {
        time(self.written)
    }

    /// How many records of the entity's journal it has.
    pub fn records(&self) -> usize {
        self.journal.as_ref().map_or(0, |it| it.records.len())
    }

    /// How many messages it has.
    pub fn turns(&self) -> usize {
        self.sections
            .iter()
            .map(|section| section.turns.len())
            .sum()
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;

    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

impl Section {
    /// Why the section cannot be replayed. `None`: it can.
    pub fn why_not_replayed(&self) -> Option<&str> {
        self.state.as_ref().err().map(String::as_str)
    }
}

impl RecordedTurn {
    /// When the handler began.
    pub fn at(&self) -> SystemTime {
        time(self.at)
    }

    /// How long the handler ran, waits included.
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.took)
    }

    /// Whether an answer to its handler is not recorded.
    #[cfg(feature = "testkit")]
    pub(crate) fn lacks_answers(&self) -> bool {
        let mut asks = self.asks.iter();
        asks.any(|ask| ask.answer == RecordedAnswer::LeftOut)
    }

    /// What became of it, as text.
    pub fn outcome(&self) -> String {
        self.outcome.to_string()
    }

    /// The state afterwards, as text. `None`: as before, or not known.
    pub fn state(&self) -> Option<String> {
        matches!(self.state, StateAfter::Changed { .. }).then(|| self.state.to_string())
    }

    /// The message with its arguments, as text.
    pub fn shown(&self) -> String {
        let Some(bytes) = &self.bytes else {
            let message = Printable(&self.message);
            return format!("{message} (with arguments that are not recorded)");
        };
        said(&self.message, bytes)
    }
}

/// Microseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    u64::try_from(wall_clock::since_epoch().as_micros()).unwrap_or(u64::MAX)
}

fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_micros(micros))
        .unwrap_or(UNIX_EPOCH)
}

impl fmt::Display for TurnOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("still runs"),
            Self::Replied(reply) => write!(f, "replies {}", reply.shown_reply()),
            Self::Deferred => f.write_str("replies later"),
            Self::Unhandled { state } => write!(f, "is not handled in state `{state}`"),
            Self::Stashed => f.write_str("is kept for a later state"),
            Self::Panicked(reason) => write!(f, "panics: {}", Printable(reason)),
            Self::CutShort => f.write_str("is dropped where it awaits something"),
        }
    }
}

impl fmt::Display for StateAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the state as before"),
            Self::Changed { name, state } => f.write_str(&state.shown_state(name)),
            Self::Unknown => f.write_str("a state that is not known"),
        }
    }
}

impl fmt::Display for RecordedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no answer yet"),
            Self::Reply(bytes) => f.write_str(&Noted::of(bytes).shown_reply()),
            Self::Failed(failure) => write!(f, "{failure}"),
            Self::Late => f.write_str("no answer in time"),
            Self::LeftOut => f.write_str("an answer that is not recorded"),
        }
    }
}

/// Line by line, for people: what the CLI shows.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}/{} on {}, {} messages, by casty {}; written because {}",
            Printable(&self.kind),
            Printable(&self.id),
            Printable(&self.node),
            self.turns(),
            self.casty,
            Printable(&self.why)
        )?;
        let first = self.sections.iter().find_map(|it| it.turns.first());
        let first = first.map_or(0, |turn| turn.at);
        let mut number = 0;
        for section in &self.sections {
            match &section.state {
                Ok(state) => {
                    let shown = Noted::of(&state.bytes).shown_state(&state.name);
                    writeln!(f, "\n      begins with {shown}")?;
                }
                Err(reason) => {
                    let reason = Printable(reason);
                    writeln!(f, "\n      begins with an unknown state: {reason}")?;
                }
            }
            for turn in &section.turns {
                number += 1;
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                let at = turn.at.saturating_sub(first) as f64 / 1e6;
                let from = match &turn.sender {
                    Some(sender) => format!(" from {}", Printable(sender)),
                    None if turn.caller == Caller::Local => String::new(),
                    None => format!(" from {}", turn.caller),
                };
                write!(f, "{number:>5} {at:>+12.6} s {}{from}: ", turn.shown())?;
                write!(f, "{} after {:?}", turn.outcome, turn.took())?;
                if let StateAfter::Changed { .. } = turn.state {
                    write!(f, "; then {}", turn.state)?;
                }
                writeln!(f)?;
                for ask in &turn.asks {
                    writeln!(f, "      asks {}: {}", ask.shown(), ask.answer)?;
                }
            }
        }
        if let Some(journal) = &self.journal {
            write!(f, "\n{} records of its journal", journal.records.len())?;
            match &journal.snapshot {
                Some((seq, _)) => writeln!(f, ", and a snapshot as of record {seq}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recording() -> Recording {
        let turn = |message: &str, outcome| RecordedTurn {
            at: 5,
            took: 1500,
            caller: Caller::Client("web".to_owned()),
            sender: None,
            message: message.to_owned(),
            bytes: Some(ByteBuf::from(codec::to_vec(message).unwrap())),
            due: None,
            outcome,
            state: StateAfter::Same,
            asks: vec![RecordedAsk {
                to: "Account/bob".to_owned(),
                message: "credit".to_owned(),
                arguments: None,
                answer: RecordedAnswer::Failed(Failure::Stopped),
            }],
        };
        Recording {
            casty: "0.1.0".to_owned(),
            kind: "Account".to_owned(),
            id: "alice".to_owned(),
            node: "n1".to_owned(),
            why: "it was asked for".to_owned(),
            written: 77,
            sections: vec![Section {
                state: Ok(RecordedState {
                    name: "Open".to_owned(),
                    bytes: ByteBuf::from(codec::to_vec(&3).unwrap()),
                }),
                turns: vec![
                    turn(
                        "close",
                        TurnOutcome::Replied(Noted::of(&codec::to_vec(&7).unwrap())),
                    ),
                    turn("open", TurnOutcome::Panicked("on purpose".to_owned())),
                ],
            }],
            journal: Some(RecordedJournal {
                snapshot: Some((1, ByteBuf::from([1, 2]))),
                records: vec![(1, ByteBuf::new()), (2, ByteBuf::from([3]))],
                too_large: None,
            }),
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alice.casty");
        recording().write(&file).unwrap();
        assert_eq!(Recording::read(&file).unwrap(), recording());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = recording().write(&file).unwrap_err();
        assert!(matches!(again, RecordingError::Io { .. }), "{again}");
        let missing = Recording::read(folder.path().join("bob.casty")).unwrap_err();
        assert!(missing.to_string().contains("bob.casty"), "{missing}");
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let bytes = recording().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Recording::from_bytes(&damaged).is_err(), "at {at}");
            assert!(Recording::from_bytes(&bytes[..at]).is_err(), "up to {at}");
        }
    }

    #[test]
    fn a_recording_is_shown_line_by_line() {
        let shown = recording().to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "Account/alice on n1, 2 messages, by casty 0.1.0; written because it was asked for",
                "",
                "      begins with Open 3",
                "    1    +0.000000 s close from client/web: replies 7 after 1.5ms",
                "      asks Account/bob `credit`: the target stopped before it handled the message",
                "    2    +0.000000 s open from client/web: panics: on purpose after 1.5ms",
                "      asks Account/bob `credit`: the target stopped before it handled the message",
                "",
                "2 records of its journal, and a snapshot as of record 1",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut file = HEAD.to_vec();
            file.extend(&bytes);
            file.extend(crc32c::crc32c(&bytes).to_le_bytes());
            if let Ok(recording) = Recording::from_bytes(&file) {
                let _ = recording.to_string();
            }
        }

        #[test]
        fn a_digest_tells_bytes_apart_and_not_their_order(
            (bytes, shuffled) in prop::collection::vec(any::<u8>(), WHOLE_MAX + 1..6000)
                .prop_flat_map(|bytes| (Just(bytes.clone()), Just(bytes).prop_shuffle())),
            at: prop::sample::Index,
            byte: u8,
        ) {
            prop_assert_eq!(Noted::of(&bytes), Noted::of(&shuffled));
            let mut other = bytes.clone();
            let at = at.index(other.len());
            prop_assume!(other[at] != byte);
            other[at] = byte;
            prop_assert_ne!(Noted::of(&bytes), Noted::of(&other));
        }
    }

    #[test]
    fn values_that_have_changed_places_are_not_the_same() {
        let of = |value: &serde_json::Value| Noted::of(&codec::to_vec(value).unwrap());
        let json = |text: &str| of(&serde_json::from_str(text).unwrap());
        assert_ne!(
            json(r#"{"from": 70, "to": 30}"#),
            json(r#"{"from": 30, "to": 70}"#)
        );
        assert_ne!(json("258"), json("513"));
        assert_ne!(json(r#""12""#), json(r#""21""#));
        assert_ne!(json("[1, 2]"), json("[2, 1]"));
        let map = |entries: [(u8, u8); 2]| {
            let entries =
                entries.map(|(k, v)| (Value::Natural(k.into()), Value::Natural(v.into())));
            Value::Map(entries.into())
        };
        assert!(map([(1, 2), (3, 4)]).is_same(&map([(3, 4), (1, 2)])));
        assert!(!map([(1, 2), (3, 4)]).is_same(&map([(1, 4), (3, 2)])));
    }
}
