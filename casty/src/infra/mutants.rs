//! Rules that can be broken on purpose, to see that tests of safety fail then.
//!
//! Without the feature `mutants` no rule can be broken, and the compiler removes the checks. With
//! it, the environment variable `CASTY_MUTANT` names the rule that is broken.

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
