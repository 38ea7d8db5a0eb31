//! Rules that can be broken on purpose, to see the tests of safety fail: nothing proves a test but
//! a fault that it finds.
//!
//! Without the feature `mutants` none can be, and the compiler leaves the questions out. With it,
//! the environment variable `CASTY_MUTANT` names the one that is.

/// Whether this rule is broken.
#[cfg(feature = "mutants")]
pub(crate) fn on(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("CASTY_MUTANT").ok());
    chosen.as_deref() == Some(name)
}

/// Whether this rule is broken.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn on(_: &str) -> bool {
    false
}
