//! The bytes of the protocol, written down a second time: what a peer has to send.

/// A preamble: `CSTY`, a version and a check of both.
pub fn preamble(version: u16) -> Vec<u8> {
    let begin = [b"CSTY".as_slice(), &version.to_le_bytes()].concat();
    let [low, high, ..] = crc32c::crc32c(&begin).to_le_bytes();
    [begin, vec![low, high]].concat()
}

/// The preamble of the version that nodes speak.
pub fn greeting() -> Vec<u8> {
    preamble(2)
}

/// A body with its prefix: three bytes of length and their CRC-8, and the CRC-32C of all.
///
/// # Panics
/// If the body has 4 GiB or more.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a body is shorter");
    [announced(length, body).as_slice(), body].concat()
}

/// The prefix of a body whose length it claims to be another. Its checks are right.
pub fn announced(length: u32, body: &[u8]) -> [u8; 8] {
    let mut head = length.to_le_bytes();
    head[3] = head[..3].iter().fold(0xff, |sum: u8, byte| {
        (0..8).fold(sum ^ byte, |sum, _| {
            let shifted = sum << 1;
            if sum & 0x80 == 0 {
                shifted
            } else {
                shifted ^ 7
            }
        })
    });
    // The body goes on where a checksum of these four bytes as a number begins.
    let sum = crc32c::crc32c_append(u32::from_le_bytes(head), body);
    let mut prefix = [0; 8];
    prefix[..4].copy_from_slice(&head);
    prefix[4..].copy_from_slice(&sum.to_le_bytes());
    prefix
}

/// The length in the prefix that follows a preamble.
pub fn length_after_preamble(head: &[u8; 16]) -> usize {
    usize::from(head[8]) | usize::from(head[9]) << 8 | usize::from(head[10]) << 16
}
