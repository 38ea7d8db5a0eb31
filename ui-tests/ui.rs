//! What the macros make of wrong code, as a user sees it; of right code: `tests/right`.
//!
//! One mistake a file, named by the mistake. After a change of an error: `TRYBUILD=overwrite cargo test -p
//! casty-ui-tests`, then read each `.stderr` as a newcomer would.

#[test]
fn ui() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("fail/*.rs");
}
