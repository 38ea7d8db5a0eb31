//! How numbers and texts of a journal are written in SQL.

use std::borrow::Cow;

use casty::{id::Epoch, persistence::Record};

/// The bit that makes the order of signed numbers that of unsigned ones.
const SIGN: u64 = 1 << 63;

/// SQL has no unsigned numbers of 64 bits, and epochs use all of them. With the upper bit inverted
/// their order stays the same.
pub(crate) fn epoch_to_sql(epoch: Epoch) -> i64 {
    (epoch.0 ^ SIGN).cast_signed()
}

pub(crate) fn epoch_from_sql(epoch: i64) -> Epoch {
    Epoch(epoch.cast_unsigned() ^ SIGN)
}

/// A position, a number of a record, or a time. None of them reaches the bound; a reader may ask
/// for what follows the greatest number.
pub(crate) fn number_to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn number_from_sql(number: i64) -> u64 {
    number.cast_unsigned()
}

pub(crate) fn limit_to_sql(limit: usize) -> i64 {
    i64::try_from(limit.max(1)).unwrap_or(i64::MAX)
}

/// The positions before and of the last of records that follow each other.
pub(crate) fn ends(records: &[Record]) -> Option<(u64, u64)> {
    let (first, last) = (records.first()?.position, records.last()?.position);
    let before = first.checked_sub(1)?;
    (last.checked_sub(before)? == records.len() as u64).then_some((before, last))
}

/// PostgreSQL stores no text with a zero byte, and an entity's id may contain one. 0 becomes 1 1,
/// and 1 becomes 1 2, so the order of the texts as bytes stays the same.
pub(crate) fn text_to_sql(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 2) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => escaped.push_str("\x01\x01"),
            '\x01' => escaped.push_str("\x01\x02"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

pub(crate) fn text_from_sql(text: &str) -> Cow<'_, str> {
    if !text.contains('\x01') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x01' if characters.next() == Some('\x02') => plain.push('\x01'),
            '\x01' => plain.push('\0'),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_keep_their_order() {
        let epochs = [0, 1, SIGN - 1, SIGN, SIGN + 1, u64::MAX].map(Epoch);
        let stored = epochs.map(epoch_to_sql);
        assert!(stored.is_sorted());
        assert_eq!(stored.map(epoch_from_sql), epochs);
    }

    #[test]
    fn texts_keep_their_order_and_have_no_zero_byte() {
        let mut texts = [
            "", "\0", "\0a", "\0\0", "\x01", "\x01a", "\x01\x02", "\x02", "a\0b", "ä",
        ];
        texts.sort_unstable();
        let stored = texts.map(text_to_sql);
        assert!(stored.is_sorted(), "{stored:?}");
        for (text, stored) in texts.iter().zip(&stored) {
            assert!(!stored.contains('\0'));
            assert_eq!(text_from_sql(stored), *text);
        }
    }
}
