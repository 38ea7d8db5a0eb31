//! How deep a value may nest. One limit for writing and reading: what a sender can write, every
//! receiver can read, and neither overflows its stack.

use std::fmt;

/// How deep sequences, maps and structs may stand in each other, the message itself included.
/// Two kilobytes of nested arrays would otherwise overflow the stack of a receiver.
pub(crate) const DEPTH_MAX: u8 = 64;

/// How many `Some(..)` and enum variants with one value may stand around a value. They take little
/// room on the wire, or none, so only their number bounds the stack.
const WRAPPERS_MAX: u8 = 250;

/// How deep an encoder or a decoder may still go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    containers: u8,
    wrappers: u8,
}

impl Depth {
    pub(super) const fn full() -> Self {
        Self {
            containers: DEPTH_MAX,
            wrappers: WRAPPERS_MAX,
        }
    }

    /// What is left for the fields of a message: the map of fields is around them.
    pub(super) const fn in_message() -> Self {
        Self {
            containers: DEPTH_MAX - 1,
            wrappers: WRAPPERS_MAX,
        }
    }

    /// Enters a sequence, a map or a struct.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), TooDeep> {
        self.containers = self.containers.checked_sub(1).ok_or(TooDeep)?;
        Ok(())
    }

    #[inline]
    pub(super) fn leave(&mut self) {
        self.containers += 1;
    }

    /// Enters a `Some(..)`, or an enum variant with one value.
    #[inline]
    pub(super) fn wrap(&mut self) -> Result<(), TooDeep> {
        self.wrappers = self.wrappers.checked_sub(1).ok_or(TooDeep)?;
        Ok(())
    }

    /// Whether so many of them may stand here.
    #[inline]
    pub(super) fn fits(self, wrappers: u8) -> Result<(), TooDeep> {
        self.wrappers.checked_sub(wrappers).map(drop).ok_or(TooDeep)
    }

    #[inline]
    pub(super) fn unwrap(&mut self) {
        self.wrappers += 1;
    }
}

/// A value nests deeper than casty carries.
pub(super) struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the value nests too deep: at most {DEPTH_MAX} sequences, maps and structs, and at \
             most {WRAPPERS_MAX} `Some`s and enum variants, may stand in each other"
        )
    }
}
