//! The text of a panic.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}

/// Calls a user's code. An error is the text of its panic.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let text = panic_text(&*payload);
        forget(payload);
        text
    })
}

/// Calls what drops a user's value, which may panic for that.
pub(crate) fn contained(what: &'static str, call: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
        log(what, payload);
    }
}

/// Compiled once: a log line is long, and there is a call for each type of actor.
#[cold]
fn log(what: &'static str, payload: Box<dyn Any + Send>) {
    tracing::error!(
        reason = panic_text(&*payload),
        "{what} panicked when it was dropped"
    );
    forget(payload);
}

/// Drops the value of a panic, which may panic in turn when it is dropped, and so may the value of
/// that panic: its memory is given up then.
pub(crate) fn forget(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
