//! The files of segments: their names and their headers.
//!
//! A file is filled with zeros, or with what a former segment left in it, before it becomes a
//! segment. Its header says which one it is, and so does the seed of each checksum in it: what the
//! former segment left is never taken for its own.

use uuid::Uuid;

use super::{frame::Seed, take::Take};

/// Of the format of all files.
pub(crate) const FORMAT: u32 = 1;

/// Where the first frame begins. The page of the header is not written again.
pub(crate) const FIRST_FRAME: u64 = 4096;

const MAGIC: [u8; 8] = *b"castyseg";
const BYTES: usize = 36;
const SUFFIX: &str = ".segment";

/// The name of the file of a segment.
pub(crate) fn name(segment: u32) -> String {
    format!("{segment:010}{SUFFIX}")
}

/// The segment whose file has this name.
pub(crate) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// The header of a segment.
pub(crate) fn header(store: Uuid, segment: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(store.as_bytes());
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Checks the header of a segment. The seed of its checksums.
pub(crate) fn check(bytes: &[u8], store: Uuid, segment: u32) -> Result<Seed, String> {
    let mut take = Take(bytes);
    let parts = (|| {
        let checked = take.0.get(..BYTES - 4)?;
        let magic = take.bytes(MAGIC.len())?;
        let (format, number) = (take.u32()?, take.u32()?);
        let id = Uuid::from_slice(take.bytes(16)?).ok()?;
        let sum = take.u32()?;
        (magic == MAGIC && sum == crc32c::crc32c(checked)).then_some((format, number, id))
    })();
    match parts {
        None => Err("this is no header of a segment".to_owned()),
        Some((_, number, id)) if number != segment || id != store => Err(format!(
            "it is segment {number} of the store {id}, and should be segment {segment} of {store}"
        )),
        Some((format, ..)) if format > FORMAT => Err(format!("its format is {format}")),
        Some(_) => Ok(Seed::new(store, segment)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_no_other_file_is_taken_for_a_segment() {
        for segment in [1, 77, u32::MAX] {
            assert_eq!(number(&name(segment)), Some(segment));
        }
        for other in [
            "1.segment",
            "0000000001.segment.new",
            "store",
            "-000000001.segment",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_of_another_segment_or_store_is_refused() {
        let store = Uuid::from_u128(7);
        let header = header(store, 3);
        assert!(check(&header, store, 3).is_ok());
        assert!(check(&header, store, 4).is_err());
        assert!(check(&header, Uuid::from_u128(8), 3).is_err());
        for at in 0..header.len() {
            let mut changed = header.clone();
            changed[at] ^= 1;
            assert!(check(&changed, store, 3).is_err(), "byte {at}");
        }
        assert!(check(&header[..20], store, 3).is_err());
    }
}
