//! The small files of a store: its identity, and whether it was closed.

use uuid::Uuid;

use super::{
    segment::FORMAT,
    take::{Take, put_text},
};
use crate::disk::Place;

/// The file that says which store this is.
pub(crate) const STORE: &str = "store";
/// The file that is there if the store was closed, and nothing was written since.
pub(crate) const CLEAN: &str = "clean";

/// The file that says where the store is.
pub(crate) const HOME: &str = "home";

const STORE_MAGIC: [u8; 8] = *b"castylog";
const CLEAN_MAGIC: [u8; 8] = *b"castyend";
const HOME_MAGIC: [u8; 8] = *b"castydir";

/// What the file of a store says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Known(Uuid),
    Newer(u32),
    Damaged,
}

pub(crate) fn store_file(store: Uuid) -> Vec<u8> {
    let mut out = STORE_MAGIC.to_vec();
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(store.as_bytes());
    sealed(out)
}

pub(crate) fn read_store(bytes: &[u8]) -> Identity {
    let parts = (|| {
        let mut take = opened(bytes, STORE_MAGIC)?;
        Some((take.u32()?, Uuid::from_slice(take.bytes(16)?).ok()?))
    })();
    match parts {
        None => Identity::Damaged,
        Some((format, _)) if format > FORMAT => Identity::Newer(format),
        Some((_, store)) => Identity::Known(store),
    }
}

/// `commit`: the number of the last one.
pub(crate) fn clean_file(store: Uuid, commit: u64) -> Vec<u8> {
    let mut out = CLEAN_MAGIC.to_vec();
    out.extend_from_slice(store.as_bytes());
    out.extend_from_slice(&commit.to_le_bytes());
    sealed(out)
}

/// The number of the last commit. `None` if the file is damaged, or of another store.
pub(crate) fn read_clean(bytes: &[u8], store: Uuid) -> Option<u64> {
    let mut take = opened(bytes, CLEAN_MAGIC)?;
    let id = Uuid::from_slice(take.bytes(16)?).ok()?;
    (id == store).then(|| take.u64()).flatten()
}

pub(crate) fn home_file(store: Uuid, place: &Place) -> Vec<u8> {
    let mut out = HOME_MAGIC.to_vec();
    out.extend_from_slice(store.as_bytes());
    put_text(&mut out, &place.path);
    put_text(&mut out, &place.mark);
    sealed(out)
}

/// Where the store was. `None` if the file is damaged, or of another store.
pub(crate) fn read_home(bytes: &[u8], store: Uuid) -> Option<Place> {
    let mut take = opened(bytes, HOME_MAGIC)?;
    let id = Uuid::from_slice(take.bytes(16)?).ok()?;
    let (path, mark) = (take.text()?.to_owned(), take.text()?.to_owned());
    (id == store).then_some(Place { path, mark })
}

fn sealed(mut out: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn opened(bytes: &[u8], magic: [u8; 8]) -> Option<Take<'_>> {
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    let mut take = Take(content);
    let is_valid = u32::from_le_bytes(*sum) == crc32c::crc32c(content);
    (is_valid && take.bytes(magic.len())? == magic).then_some(take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let store = Uuid::from_u128(77);
        let file = store_file(store);
        assert_eq!(read_store(&file), Identity::Known(store));
        assert_eq!(read_store(&file[1..]), Identity::Damaged);
        assert_eq!(read_store(&[]), Identity::Damaged);
        let (path, mark) = ("/data".to_owned(), "12/34".to_owned());
        let place = Place { path, mark };
        let file = home_file(store, &place);
        assert_eq!(read_home(&file, store), Some(place));
        assert_eq!(read_home(&file, Uuid::from_u128(78)), None);
        assert_eq!(read_home(&file[..20], store), None);
        let file = clean_file(store, 9);
        assert_eq!(read_clean(&file, store), Some(9));
        assert_eq!(read_clean(&file, Uuid::from_u128(78)), None);
        let mut damaged = file.clone();
        damaged[26] ^= 4;
        assert_eq!(read_clean(&damaged, store), None);
    }

    #[test]
    fn a_later_format_is_told_by_its_number() {
        let mut file = STORE_MAGIC.to_vec();
        file.extend_from_slice(&99_u32.to_le_bytes());
        file.extend_from_slice(&[0; 40]);
        assert_eq!(read_store(&sealed(file)), Identity::Newer(99));
    }
}
