//! What has to hold of all bytes from a disk. See `casty::fuzzing`.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    LogId, OpenError, Options,
    disk::{Disk, Memory, Place},
    files::Files,
    format::{
        frame::{self, HEADER, Seed},
        identity::{self, Identity},
        op::{Op, Ops, Raw, checked_header},
        segment,
    },
    recover::recover,
};

const STORE: Uuid = Uuid::from_u128(0xca57);

/// A file of a store: its operations, its frames, and a whole store with this as the end of its
/// only segment.
pub fn segment(bytes: &[u8]) {
    operations(bytes);
    framed(bytes);
    small_files(bytes);
    opened(bytes);
}

/// Operations are read, written and read again. What is none ends them.
fn operations(content: &[u8]) {
    let read: Vec<(usize, Op<'_>)> = Ops::new(content).map_while(Result::ok).collect();
    let mut written = Vec::new();
    for (_, op) in &read {
        op.put(&mut written);
    }
    let again: Result<Vec<_>, usize> = Ops::new(&written).collect();
    let again = again.expect("what was written can be read");
    let ops = |ops: &[(usize, Op<'_>)]| ops.iter().map(|(_, op)| format!("{op:?}")).collect();
    let (read, again): (Vec<String>, Vec<String>) = (ops(&read), ops(&again));
    assert_eq!(read, again);
    if let Some(header) = checked_header(content) {
        assert!(header.raw.body.is_empty(), "the body is behind its header");
    }
}

/// A frame is what was written, and no other bytes are one.
fn framed(content: &[u8]) {
    let seed = Seed::new(STORE, 1);
    if let Some(frame) = frame::frame_at(content, seed, 0) {
        assert!(frame.end >= HEADER + frame.content.len());
    }
    let found = frame::later_header(content, seed, 0, 0);
    assert!(found.is_none_or(|(at, _)| at + HEADER <= content.len()));
    let mut whole = vec![0; HEADER];
    whole.extend_from_slice(content);
    frame::finish(&mut whole, seed, 0, 7);
    let read = frame::frame_at(&whole, seed, 0).expect("it is whole");
    assert_eq!((read.commit, read.content), (7, content));
    assert_eq!(read.end, whole.len());
}

fn small_files(bytes: &[u8]) {
    if let Identity::Known(store) = identity::read_store(bytes) {
        assert_eq!(
            identity::read_store(&identity::store_file(store)),
            Identity::Known(store)
        );
    }
    if let Some(commit) = identity::read_clean(bytes, STORE) {
        assert_eq!(identity::clean_file(STORE, commit), bytes);
    }
    if let Some(place) = identity::read_home(bytes, STORE) {
        let written = identity::home_file(STORE, &place);
        assert_eq!(identity::read_home(&written, STORE), Some(place));
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(number) = segment::number(name)
    {
        assert_eq!(segment::name(number), name);
    }
}

/// A store opens with a segment that goes on like this, or says what is damaged. What has a
/// checksum that fits was written by a store, and is believed.
fn opened(frames: &[u8]) {
    let disk = Memory::default();
    let mut file = segment::header(STORE, 1);
    file.resize(usize::try_from(segment::FIRST_FRAME).unwrap_or(0), 0);
    file.extend_from_slice(frames);
    put(&disk, identity::STORE, &identity::store_file(STORE));
    put(&disk, &segment::name(1), &file);
    let files = Files::new(Arc::new(disk.clone()));
    match recover(&disk, &files, &Options::default()) {
        Ok(recovered) => assert!(!recovered.is_new && recovered.is_unclean),
        Err(error @ OpenError::Damaged { .. }) => {
            let bytes = error.to_string().len();
            assert!(bytes < 1024, "an error of {bytes} bytes");
        }
        Err(error) => panic!("{error}"),
    }
}

fn put(disk: &Memory, name: &str, bytes: &[u8]) {
    let file = disk.create(name).expect("memory takes a file");
    file.write_at(bytes, 0).expect("memory takes bytes");
}

/// Real encodings, with which the corpus begins: operations, frames, and small files.
pub fn seeds() -> Vec<Vec<u8>> {
    let log = LogId { kind: 3, shard: 9 };
    let raw = Raw {
        log,
        position: 1,
        epoch: 5,
        seq: 1,
        at: 1_700_000_000_000,
        entity: "ada",
        body: b"body",
    };
    let next = Raw {
        position: 2,
        seq: 2,
        ..raw
    };
    let ops = [
        Op::Kind {
            number: 3,
            shards: 64,
            name: "Account",
        },
        Op::Claim {
            log,
            epoch: 5,
            owner: "node",
        },
        Op::Record(raw),
        Op::Record(next),
        Op::Snapshot(raw),
        Op::Forget {
            log,
            entity: "ada",
            through: 1,
            snapshot: false,
        },
        Op::Trim {
            log,
            through: 1,
            epoch: 5,
        },
        Op::Cut { log, after: 1 },
        Op::Moved(raw.emptied()),
        Op::Head {
            log,
            epoch: 5,
            owner: "node",
            position: 9,
            trimmed: 4,
            trimmed_epoch: 3,
        },
        Op::Oldest { segment: 1 },
    ];
    let mut all: Vec<Vec<u8>> = ops.iter().map(written).collect();
    for count in [3, 4, 6, 8] {
        let content: Vec<u8> = ops[..count].iter().flat_map(written).collect();
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(&content);
        frame::finish(&mut frame, Seed::new(STORE, 1), segment::FIRST_FRAME, 1);
        all.extend([content, frame]);
    }
    let place = Place {
        path: "/data".to_owned(),
        mark: "12/34".to_owned(),
    };
    all.extend([
        identity::store_file(STORE),
        identity::clean_file(STORE, 1),
        identity::home_file(STORE, &place),
        segment::name(7).into_bytes(),
    ]);
    all
}

fn written(op: &Op<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    op.put(&mut out);
    out
}
