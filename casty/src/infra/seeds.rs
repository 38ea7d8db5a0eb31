//! The seeds of tests that take random steps.

use std::ops::Range;

/// Those of the environment variable `CASTY_STORM_SEEDS`, a number or a range `0..100000`, if it is
/// set.
///
/// # Panics
/// If it is neither.
pub(crate) fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(wanted) = std::env::var("CASTY_STORM_SEEDS") else {
        return default;
    };
    let number = |text: &str| {
        text.parse()
            .expect("CASTY_STORM_SEEDS is a number, or FROM..TO")
    };
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&wanted)..number(&wanted) + 1,
    }
}
