//! What is said to entities, and what they have stored of it.

use std::borrow::Cow;

use bytes::BytesMut;

use super::check::{decoded, is_kept, is_short, sparing};
use crate::{
    actor::{
        Message,
        ask::{
            chain::{self, Chains},
            terms,
        },
        effect::{EventSourced, Events},
    },
    message::codec,
    persistence::record_body::WrittenEvent,
    transport::frame::{self, EntityFrame, Frame},
};

/// A message of a type that casty derives. `show` has to tell all that is in it.
pub fn message<M: Message>(bytes: &[u8], show: fn(&M) -> String) {
    let read = sparing(bytes.len(), || M::decode(bytes));
    // What logs call it.
    let name = codec::variant_name(bytes);
    // The same form, as a part of another value.
    let as_part = sparing(bytes.len(), || codec::decode::<M>(bytes));
    match (&read, &as_part) {
        (Ok(read), Ok(as_part)) => assert_eq!(show(read), show(as_part)),
        (Err(error), Err(other)) => {
            is_short(error);
            is_short(other);
        }
        (read, as_part) => {
            let (read, as_part) = (read.as_ref().map(show), as_part.as_ref().map(show));
            panic!("alone it is {read:?}, and as a part {as_part:?}");
        }
    }
    let Ok(read) = read else {
        return;
    };
    assert_eq!(name, Some(read.name()));
    let mut written = Vec::new();
    read.encode(&mut written)
        .expect("what was read can be written");
    let again = M::decode(&written).expect("what was written can be read");
    assert_eq!(show(&read), show(&again));
    assert_eq!(codec::variant_name(&written), Some(read.name()));
    let as_part = codec::to_vec(&read).expect("what was read can be written");
    assert_eq!(written, as_part);
}

/// All of a message on its way: the frame without its kind, the terms, the chain, the message.
pub fn envelope<M: Message>(bytes: &[u8], show: fn(&M) -> String) {
    const ENTITY: u8 = 1;
    let body = [&[ENTITY], bytes].concat();
    let Ok(Frame::Entity(frame)) = frame::parse(&body) else {
        return;
    };
    carried(&frame);
    message(frame.payload, show);
}

/// What comes between the frame and the message.
fn carried(frame: &EntityFrame<'_>) {
    let (read, chain) = sparing(frame.chain.len(), || terms::split(frame.chain));
    let claims = terms::claims_a_record(frame.chain);
    chained(&chain);
    let Some(read) = read else {
        assert!(!claims, "without terms there is no record");
        assert_eq!(chain, Cow::Borrowed(frame.chain));
        return;
    };
    if let Some(refusal) = read.refusal("message") {
        is_short(&refusal);
        return;
    }
    assert_eq!(claims, read.once.is_some());
    let written = read.encoded(chain.to_vec());
    let (again, chain_again) = terms::split(&written);
    let again = again.expect("what was written are terms");
    assert!(again.refusal("message").is_none());
    assert_eq!(
        (&again.key, again.wants_position, &again.once),
        (&read.key, read.wants_position, &read.once)
    );
    assert!(chain_again == chain || chain_again.is_empty());
    // With its terms the frame is one, unless it is cut off.
    if u16::try_from(written.len()).is_ok() {
        let whole = Frame::Entity(EntityFrame {
            chain: &written,
            ..*frame
        });
        let mut out = BytesMut::new();
        if whole.put(&mut out).is_ok() {
            assert_eq!(frame::parse_checked(&out), Ok(whole));
        }
    }
}

/// A chain of actors that wait goes on to the next node.
fn chained(bytes: &[u8]) {
    let (chains, me) = (Chains::default(), super::seeds::member("a"));
    let Some(chain) = chain::decoded(bytes, &chains, Some(&me)) else {
        return;
    };
    let (chains, other) = (Chains::default().into(), super::seeds::member("b"));
    let written = chain::encoded(&chain, &chains, &other);
    let again = chain::decoded(&written, &chains, Some(&me));
    let again = again.expect("what was written can be read");
    assert_eq!(chain::encoded(&again, &chains, &other), written);
}

/// A stored event of a type. `known`: its events, each with a version that the code knows. The
/// first byte says which of them it is, and else it is as a record has it.
pub fn event<E: EventSourced>(bytes: &[u8], known: &[(&str, u32)], show: fn(&E::Event) -> String) {
    if let Some(WrittenEvent {
        name,
        version,
        bytes,
    }) = decoded(bytes)
    {
        stored::<E>(&name, version, &bytes, show);
    }
    if let Some((&first, arguments)) = bytes.split_first() {
        let (name, version) = known[usize::from(first) % known.len()];
        stored::<E>(name, version, arguments, show);
    }
}

fn stored<E: EventSourced>(
    name: &str,
    version: u32,
    arguments: &[u8],
    show: fn(&E::Event) -> String,
) {
    let read = sparing(arguments.len(), || {
        <E::Event as Events>::read(name, version, arguments)
    });
    let events = match read {
        Ok(events) => events,
        Err(error) => return is_short(&error),
    };
    for event in events {
        let mut written = Vec::new();
        let (name, version) = event
            .write(&mut written)
            .expect("what was read can be written");
        let again = E::Event::read(name, version, &written).expect("what was written can be read");
        let again: Vec<String> = again.iter().map(show).collect();
        assert_eq!(again, [show(&event)], "of its present version it is one");
        is_kept(&WrittenEvent {
            name: name.to_owned(),
            version,
            bytes: written.into(),
        });
    }
}
