//! The environment that the models give to the code they check.

use std::sync::OnceLock;

use tokio::runtime::Handle;

/// A handle of a runtime that drives nothing: in a model, shuttle runs all tasks.
pub(super) fn handle() -> Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime without drivers needs nothing")
    });
    runtime.handle().clone()
}

/// Waits until a condition holds that other tasks bring about.
pub(super) fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        shuttle::thread::yield_now();
    }
}
