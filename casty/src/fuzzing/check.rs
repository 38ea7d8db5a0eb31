//! What the targets have in common.

use std::{
    fmt::{Debug, Display},
    sync::OnceLock,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::message::codec;

/// The most characters of an error.
const ERROR_MAX: usize = 1024;

/// What may be allocated however short the bytes are.
const BYTES_FREE: u64 = 32 * 1024;

/// What may be allocated for each byte: a value that takes one byte may take some hundred once it
/// is read, and a `Vec` doubles as it grows.
const BYTES_EACH: u64 = 1024;

static ALLOCATED: OnceLock<fn() -> u64> = OnceLock::new();

/// From now on it is checked what reading allocates. `allocated`: how many bytes this thread has
/// allocated so far, whether they are freed by now or not.
pub fn count_allocations(allocated: fn() -> u64) {
    // The first one counts. All of a program count the same.
    let _ = ALLOCATED.set(allocated);
}

/// Reads `length` bytes, and checks what that allocates.
pub(super) fn sparing<R>(length: usize, read: impl FnOnce() -> R) -> R {
    let Some(allocated) = ALLOCATED.get() else {
        return read();
    };
    let before = allocated();
    let result = read();
    let taken = allocated() - before;
    let most = BYTES_FREE + BYTES_EACH * length as u64;
    assert!(
        taken <= most,
        "{length} bytes are read with {taken} bytes of memory"
    );
    result
}

/// Checks how long an error is when it is shown.
pub(super) fn is_short(error: &impl Display) {
    let length = error.to_string().chars().count();
    assert!(length < ERROR_MAX, "an error of {length} characters");
}

/// What the bytes say in MessagePack, if they do.
pub(super) fn decoded<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) -> Option<T> {
    match sparing(bytes.len(), || codec::decode::<T>(bytes)) {
        Ok(value) => {
            is_kept(&value);
            Some(value)
        }
        Err(error) => {
            is_short(&error);
            None
        }
    }
}

/// Checks that a value that was read is written, and read again as the same.
pub(super) fn is_kept<T: Serialize + DeserializeOwned + Debug>(value: &T) {
    let written = codec::to_vec(value).expect("what was read can be written");
    let again: T = codec::decode(&written).expect("what was written can be read");
    is_same(value, &again);
    let twice = codec::to_vec(&again).expect("what was read can be written");
    assert_eq!(written, twice, "written twice, it is the same");
}

/// Compares by what is shown: some types have no equality, and NaN is equal to nothing.
pub(super) fn is_same<T: Debug>(one: &T, other: &T) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
