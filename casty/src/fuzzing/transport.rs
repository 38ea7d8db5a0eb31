//! What a peer sends before it is known, and the frames after it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::check::{is_kept, is_same, is_short, sparing};
use crate::{
    id::MemberId,
    transport::{
        frame::{self, Frame, FrameError},
        handshake::{self, Doorkeeper, HandshakeError, Hello},
    },
};

/// A frame: as it comes, with its prefix, and without it.
pub fn frame(bytes: &[u8]) {
    match sparing(bytes.len(), || whole_frame(bytes)) {
        Ok(Some(whole)) => frame_is_kept(&whole),
        Ok(None) => {}
        Err(error) => is_short(&error),
    }
    match sparing(bytes.len(), || frame::parse(bytes)) {
        Ok(read) => frame_is_kept(&read),
        Err(error) => is_short(&error),
    }
    // As many as there are, in a buffer of this node.
    for read in frame::frames(bytes) {
        frame_is_kept(&read);
    }
}

fn whole_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(length) = frame::complete(bytes)? else {
        return Ok(None);
    };
    frame::parse_checked(&bytes[..frame::PREFIX_BYTES + length]).map(Some)
}

fn frame_is_kept(read: &Frame<'_>) {
    let mut out = BytesMut::new();
    read.put(&mut out).expect("what was read is not too large");
    assert_eq!(out.len(), read.wire_bytes(), "the length is told right");
    let length = frame::complete(&out).expect("it is not damaged");
    assert_eq!(length, Some(out.len() - frame::PREFIX_BYTES));
    assert_eq!(frame::parse_checked(&out).as_ref(), Ok(read));
    assert_eq!(frame::frames(&out).collect::<Vec<_>>(), [*read]);
    let bare = frame::split(out.clone().freeze());
    let bare: Vec<_> = bare.map(|body| body.len() + frame::PREFIX_BYTES).collect();
    assert_eq!(bare, [out.len()]);
    // A flipped bit is noticed, wherever it is. The bytes themselves say where.
    let at = out.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    let (at, bit) = (at / 8 % out.len(), at % 8);
    out[at] ^= 1 << bit;
    let damaged = whole_frame(&out);
    assert!(
        matches!(damaged, Err(FrameError::Damaged(_))),
        "byte {at}, bit {bit}"
    );
}

/// A connection that says these bytes and no more, and hears nothing.
fn saying(bytes: &[u8]) -> impl AsyncRead + AsyncWrite + Unpin {
    tokio::io::join(bytes, tokio::io::sink())
}

fn heard(bytes: &[u8]) -> Result<Hello, HandshakeError> {
    let mut stream = saying(bytes);
    let heard = sparing(bytes.len(), || {
        handshake::hear(&mut stream, false).now_or_never()
    });
    heard.expect("all of it is there")
}

/// A handshake: as it comes, and with a preamble and a prefix that fit, so that what is behind them
/// is reached. To a node, which hears a hello, and to a dialer, which hears the answer.
pub fn handshake(bytes: &[u8]) {
    // What was not meant for this version, or is damaged.
    match heard(bytes) {
        Ok(hello) => judged(&hello),
        Err(error) => is_short(&error),
    }
    let sealed = super::seeds::sealed(bytes);
    match heard(&sealed) {
        Ok(hello) => judged(&hello),
        Err(error) => {
            is_short(&error);
            assert!(!matches!(error, HandshakeError::Damaged(_)), "{error}");
        }
    }
    let hello = super::seeds::hello();
    let mut stream = saying(&sealed);
    let answer = sparing(bytes.len(), || {
        handshake::dial(&mut stream, &hello).now_or_never()
    });
    match answer.expect("all of it is there") {
        Ok(welcome) => is_kept(&welcome),
        Err(error) => {
            if let HandshakeError::Refused(refusal) = &error {
                is_kept(refusal);
                let _ = refusal.is_final();
            }
            is_short(&error);
        }
    }
}

/// What a node answers to a hello says no more than it should.
fn judged(hello: &Hello) {
    is_kept(hello);
    let ours = super::seeds::hello();
    let nobody = |_: &MemberId| false;
    let doorkeeper = Doorkeeper {
        cluster: &ours.cluster,
        identity: ours.identity,
        member: &ours.member,
        keeps_seat: false,
        catalog: &ours.catalog,
        settings: ours.settings.as_ref(),
        is_down: &nobody,
        since_epoch: Duration::from_secs(1_700_000_000),
    };
    if let Err(refusal) = doorkeeper.judge(hello, None) {
        is_short(&refusal);
        is_kept(&refusal);
    }
}

/// The identity in a certificate: its URI, and the certificate around it.
#[cfg(feature = "tls")]
pub fn identity(bytes: &[u8]) {
    use crate::transport::{
        identity::PeerRole,
        tls::{CertificateInfo, Identity},
    };

    // DER has lengths of its own, and a reader that is not casty's.
    if let Ok(info) = CertificateInfo::read(bytes) {
        let named = info.named();
        if let Err(error) = named {
            is_short(&error);
        }
    }
    let Ok(uri) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = uri.parse::<PeerRole>() {
        is_short(&error);
    }
    match sparing(bytes.len(), || uri.parse::<Identity>()) {
        Ok(identity) => {
            let written = identity.to_string();
            assert!(written.is_ascii(), "a URI is ASCII");
            let again: Identity = written.parse().expect("what was written can be read");
            is_same(&identity, &again);
            assert_eq!(again.to_string(), written);
            assert!(!identity.cluster().is_empty() && !identity.name().is_empty());
        }
        Err(error) => is_short(&error),
    }
}
