//! What is stored, and what stores say to each other.

use bytes::Bytes;

use super::check::{decoded, is_short, sparing};
use crate::{
    message::{changed::ChangedFields, codec::DecodeError, readable},
    persistence::{
        backup::BackupPart,
        record_body::RecordBody,
        replicated::{
            CopyEnvelope,
            body::{self, CopiedBody},
            message::StoreMessage,
            wire,
        },
    },
    protocol::copies::{CopiedRecord, CopyMessage},
};

/// What a shown value may take for each byte of it. A field that is no text is shown as one, with
/// all that is in it escaped.
const SHOWN_EACH: usize = 64;

/// The body of a record or a snapshot, what is shown of it, and a part of a backup.
pub fn journal_record(bytes: &[u8]) {
    decoded::<BackupPart>(bytes);
    shown(bytes);
    states(bytes);
    let Some(body) = decoded::<RecordBody>(bytes) else {
        return;
    };
    match sparing(bytes.len(), || body.encode()) {
        Ok(written) => assert_eq!(RecordBody::decode(&written).ok(), Some(body.clone())),
        Err(error) => is_short(&error),
    }
    for event in &body.events {
        shown(&event.bytes);
    }
    if let Some(fields) = &body.fields {
        shown(&fields.to_map());
        let state = body.state.as_ref().map_or(bytes, |state| &state.bytes);
        if let Err(error) = sparing(bytes.len(), || fields.apply(state)) {
            is_short(&error);
        }
    }
    if let Some(state) = &body.state {
        shown(&state.bytes);
    }
}

/// What people see is one line, and not much longer than what is stored.
fn shown(bytes: &[u8]) {
    for show in [readable::json, readable::state_json] {
        match sparing(bytes.len(), || show(bytes)) {
            Ok(text) => {
                assert!(!text.contains(char::is_control), "it is one line");
                let most = 64 + SHOWN_EACH * bytes.len();
                assert!(text.len() <= most, "{} of {}", text.len(), bytes.len());
            }
            Err(DecodeError(error)) => is_short(&error),
        }
    }
}

/// What has changed between two states gives the later one. Anything may be one: its bytes are cut
/// in two, at each of some places.
fn states(bytes: &[u8]) {
    let places = bytes.iter().take(4).map(|byte| usize::from(*byte));
    for at in places.chain([bytes.len() / 2]) {
        let Some((old, new)) = bytes.split_at_checked(at) else {
            continue;
        };
        let changed = sparing(bytes.len(), || ChangedFields::since(old, new));
        if let Some(changed) = changed {
            let later = changed.apply(old).expect("it is the earlier state");
            assert_eq!(later, new);
            super::check::is_kept(&changed);
        }
    }
}

/// The messages of one store to another, and the records in them.
pub fn replicated(bytes: &[u8]) {
    decoded::<CopyEnvelope>(bytes);
    record(&CopiedRecord {
        epoch: crate::id::Epoch(1),
        body: Bytes::copy_from_slice(bytes),
    });
    let whole = Bytes::copy_from_slice(bytes);
    let envelopes = match sparing(bytes.len(), || wire::decode(whole)) {
        Ok(envelopes) => envelopes,
        Err(error) => return is_short(&error),
    };
    let mut left = &envelopes[..];
    let mut again = Vec::new();
    while !left.is_empty() {
        let mut out = Vec::new();
        let count = wire::encode(left, bytes.len(), &mut out).expect("it can be written");
        assert!(count > 0, "at least one is in a frame");
        again.extend(wire::decode(out.into()).expect("what was written can be read"));
        left = &left[count..];
    }
    assert_eq!(again, envelopes);
    for envelope in &envelopes {
        if let StoreMessage::Copy(CopyMessage::Append(append)) = &envelope.message {
            append.records.iter().for_each(record);
        }
    }
}

/// A record that is taken can be read, and one that can be read is taken.
fn record(record: &CopiedRecord) {
    let taken = sparing(record.body.len(), || body::check(record));
    let read = sparing(record.body.len(), || {
        CopiedBody::decode(record.body.clone())
    });
    match (taken, read) {
        (Ok(()), Ok(read)) => {
            let written = read.encode();
            assert_eq!(CopiedBody::decode(written.clone()), Ok(read));
            let epoch = record.epoch;
            let body = written;
            assert_eq!(body::check(&CopiedRecord { epoch, body }), Ok(()));
        }
        (Err(error), Err(other)) => {
            is_short(&error);
            is_short(&other);
        }
        (taken, read) => panic!("taken: {taken:?}, read: {read:?}"),
    }
}

/// The segments of a node's log, and the small files beside them.
pub fn segment(bytes: &[u8]) {
    casty_log::fuzzing::segment(bytes);
}
