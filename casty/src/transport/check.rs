//! The checks that precede each frame and each message of a handshake: whether its bytes are those
//! that the peer wrote.
//!
//! The length has a check of its own. Otherwise a reader would wait for as many bytes as a damaged
//! length says, and keepalives would fill them in slowly: such a connection would neither end nor
//! deliver anything.

use crate::infra::mutants;

/// A length, its check, and the check of the whole.
pub(crate) const PREFIX_BYTES: usize = 8;

/// The bytes in which a length and its check are.
const HEAD_BYTES: usize = 4;

/// What a peer sent did not arrive as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("a length was damaged on the way")]
    Length,
    #[error("its content was damaged on the way: its checksum is another")]
    Content,
}

/// The prefix of `body`, whose length is below 2^24.
#[inline]
pub(crate) fn prefix(length: u32, body: &[u8]) -> [u8; PREFIX_BYTES] {
    let [a, b, c, _] = length.to_le_bytes();
    let head = [a, b, c, crc8([a, b, c])];
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..HEAD_BYTES].copy_from_slice(&head);
    prefix[HEAD_BYTES..].copy_from_slice(&checksum(head, body).to_le_bytes());
    prefix
}

/// The length that a prefix announces.
#[inline]
pub(crate) fn length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, Damaged> {
    let [a, b, c, check, ..] = prefix;
    if crc8([a, b, c]) != check && !mutants::on("damage_is_not_noticed") {
        return Err(Damaged::Length);
    }
    Ok(u32::from_le_bytes([a, b, c, 0]) as usize)
}

/// Whether a body is the one that its prefix was made for.
#[inline]
pub(crate) fn body(prefix: [u8; PREFIX_BYTES], body: &[u8]) -> Result<(), Damaged> {
    let [a, b, c, d, sum @ ..] = prefix;
    if checksum([a, b, c, d], body) != u32::from_le_bytes(sum)
        && !mutants::on("damage_is_not_noticed")
    {
        return Err(Damaged::Content);
    }
    Ok(())
}

#[inline]
fn checksum(head: [u8; HEAD_BYTES], body: &[u8]) -> u32 {
    crc32c::crc32c_append(u32::from_le_bytes(head), body)
}

/// The polynomial of CRC-8-CCITT: any one, two or three flipped bits of a length are found.
const POLYNOMIAL: u8 = 0x07;

#[expect(
    clippy::cast_possible_truncation,
    reason = "the index of a table of 256 entries"
)]
const TABLE: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let mut value = at as u8;
        let mut bit = 0;
        while bit < 8 {
            let carry = value & 0x80 != 0;
            value <<= 1;
            if carry {
                value ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// Begins with ones, so that a prefix of zeros is damaged.
#[inline]
fn crc8([a, b, c]: [u8; 3]) -> u8 {
    let step = |sum: u8, byte: u8| TABLE[usize::from(sum ^ byte)];
    step(step(step(0xff, a), b), c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::mutants::breaking;

    #[test]
    fn a_prefix_fits_its_body_and_no_other() {
        let made = prefix(3, b"abc");
        assert_eq!(length(made), Ok(3));
        assert_eq!(body(made, b"abc"), Ok(()));
        assert_eq!(body(made, b"abd"), Err(Damaged::Content));
        assert_eq!(body(prefix(4, b"abc"), b"abc"), Ok(()));
        assert_ne!(prefix(4, b"abc"), made);
    }

    #[test]
    fn zeros_are_no_prefix() {
        assert_eq!(length([0; PREFIX_BYTES]), Err(Damaged::Length));
    }

    #[test]
    fn up_to_three_flipped_bits_of_a_length_are_found() {
        for sent in [0_u32, 1, 77, 4096, 0x7f_ffff, 0xff_ffff] {
            let made = prefix(sent, b"");
            let head = u32::from_le_bytes([made[0], made[1], made[2], made[3]]);
            for first in 0..32 {
                for second in 0..32 {
                    for third in 0..32 {
                        // Equal ones leave one or two of them.
                        let flips = 1_u32 << first | 1 << second | 1 << third;
                        let mut got = made;
                        got[..HEAD_BYTES].copy_from_slice(&(head ^ flips).to_le_bytes());
                        assert_eq!(length(got), Err(Damaged::Length), "{sent} {flips:b}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_the_check_damage_goes_through() {
        breaking("damage_is_not_noticed", || {
            assert_eq!(body(prefix(3, b"abc"), b"abd"), Ok(()));
        });
    }
}
