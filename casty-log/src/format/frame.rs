//! Frames: each is one commit.
//!
//! | bytes | |
//! |---|---|
//! | 0 | magic |
//! | 4 | length of the content |
//! | 8 | number of the commit. The numbers are dense over all segments |
//! | 16 | checksum of the content |
//! | 20 | checksum of the bytes before, and of the offset of the frame in its file |
//! | 24 | the content; then zeros up to a multiple of 8 |

use uuid::Uuid;

use super::take::Take;

/// The bytes before the content.
pub(crate) const HEADER: usize = 24;

const MAGIC: u32 = 0x5243_4c46;
const ALIGNMENT: usize = 8;

/// Where checksums begin. It differs in each segment of each store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(store: Uuid, segment: u32) -> Self {
        let sum = crc32c::crc32c(store.as_bytes());
        Self(crc32c::crc32c_append(sum, &segment.to_le_bytes()))
    }

    fn of_header(self, header: &[u8], offset: u64) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &offset.to_le_bytes()), header)
    }
}

/// A frame that is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) commit: u64,
    pub(crate) content: &'a [u8],
    /// Where the next one begins.
    pub(crate) end: usize,
}

/// Writes the header of a frame, into the room before its content.
pub(crate) fn finish(frame: &mut Vec<u8>, seed: Seed, offset: u64, commit: u64) {
    let content = frame.len().saturating_sub(HEADER);
    let sum = crc32c::crc32c_append(seed.0, &frame[HEADER..]);
    frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    let length = u32::try_from(content).unwrap_or(u32::MAX);
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&commit.to_le_bytes());
    frame[16..20].copy_from_slice(&sum.to_le_bytes());
    let sum = seed.of_header(&frame[..20], offset);
    frame[20..24].copy_from_slice(&sum.to_le_bytes());
    frame.resize(whole(content), 0);
}

/// The length of a frame with so much content.
pub(crate) fn whole(content: usize) -> usize {
    (HEADER + content).next_multiple_of(ALIGNMENT)
}

/// The number of the commit and the length of the content, if a header begins here.
pub(crate) fn header_at(bytes: &[u8], seed: Seed, offset: usize) -> Option<(u64, usize)> {
    let header = bytes.get(offset..offset + HEADER)?;
    let mut take = Take(header);
    if take.u32()? != MAGIC {
        return None;
    }
    let (length, commit, _) = (take.u32()?, take.u64()?, take.u32()?);
    let sum = take.u32()?;
    let is_valid = sum == seed.of_header(&header[..20], offset as u64);
    is_valid.then_some((commit, usize::try_from(length).ok()?))
}

/// The frame that begins here, if it is whole.
pub(crate) fn frame_at(bytes: &[u8], seed: Seed, offset: usize) -> Option<Frame<'_>> {
    let (commit, length) = header_at(bytes, seed, offset)?;
    let begin = offset + HEADER;
    let content = bytes.get(begin..begin.checked_add(length)?)?;
    let mut sum = Take(&bytes[offset + 16..offset + 20]);
    let is_valid = sum.u32()? == crc32c::crc32c_append(seed.0, content);
    is_valid.then_some(Frame {
        commit,
        content,
        end: offset + whole(length),
    })
}

/// The first header, at or after an offset, of a commit that is later than `commit`.
///
/// A commit is written only once the one before it is durable. So such a header proves that
/// something before it was acknowledged.
pub(crate) fn later_header(
    bytes: &[u8],
    seed: Seed,
    from: usize,
    than: u64,
) -> Option<(usize, u64)> {
    let magic = MAGIC.to_le_bytes();
    let offsets = (from.next_multiple_of(ALIGNMENT)..bytes.len()).step_by(ALIGNMENT);
    offsets
        .filter(|&at| bytes.get(at..at + 4) == Some(&magic))
        .filter_map(|at| header_at(bytes, seed, at).map(|(commit, _)| (at, commit)))
        .find(|&(_, commit)| commit > than)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(content: &[u8], seed: Seed, offset: u64, commit: u64) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(content);
        finish(&mut frame, seed, offset, commit);
        frame
    }

    #[test]
    fn a_frame_is_read_where_it_was_written_and_nowhere_else() {
        let seed = Seed::new(Uuid::from_u128(1), 5);
        let mut bytes = vec![0; 64];
        bytes.extend(made(b"content", seed, 64, 9));
        let frame = frame_at(&bytes, seed, 64).expect("a frame");
        assert_eq!((frame.commit, frame.content), (9, &b"content"[..]));
        assert_eq!(frame.end, bytes.len());
        assert_eq!(later_header(&bytes, seed, 0, 8), Some((64, 9)));
        assert_eq!(later_header(&bytes, seed, 0, 9), None);
        // Of another segment, or moved.
        let other = Seed::new(Uuid::from_u128(1), 6);
        assert!(frame_at(&bytes, other, 64).is_none());
        assert!(frame_at(&bytes[8..], seed, 56).is_none());
    }

    #[test]
    fn each_flipped_bit_of_a_frame_is_found() {
        let seed = Seed::new(Uuid::from_u128(1), 5);
        let frame = made(b"content!", seed, 0, 9);
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(frame_at(&changed, seed, 0).is_none(), "bit {bit}");
        }
    }
}
