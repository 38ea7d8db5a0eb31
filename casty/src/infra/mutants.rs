//! Rules that can be broken on purpose, to see that tests of safety fail then.
//!
//! Without the feature `mutants` no rule can be broken, and the compiler removes the checks. With
//! it, the environment variable `CASTY_MUTANT` names the rule that is broken. A unit test breaks a
//! rule for its own thread: see `breaking`.

/// Whether this rule is broken.
#[cfg(any(test, feature = "mutants"))]
pub(crate) fn on(name: &str) -> bool {
    #[cfg(test)]
    if in_thread::is_broken(name) {
        return true;
    }
    #[cfg(feature = "mutants")]
    {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("CASTY_MUTANT").ok());
        chosen.as_deref() == Some(name)
    }
    #[cfg(not(feature = "mutants"))]
    false
}

/// Whether this rule is broken.
#[cfg(not(any(test, feature = "mutants")))]
#[inline]
pub(crate) const fn on(_: &str) -> bool {
    false
}

#[cfg(test)]
pub(crate) use in_thread::breaking;

#[cfg(test)]
mod in_thread {
    use std::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    pub(super) fn is_broken(name: &str) -> bool {
        BROKEN.get() == Some(name)
    }

    /// Runs a test while a rule is broken in this thread.
    pub(crate) fn breaking<R>(name: &'static str, test: impl FnOnce() -> R) -> R {
        /// The rule holds again, also after a panic.
        struct Restore;

        impl Drop for Restore {
            fn drop(&mut self) {
                BROKEN.set(None);
            }
        }

        BROKEN.set(Some(name));
        let _restore = Restore;
        test()
    }
}
