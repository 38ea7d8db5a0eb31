//! How a user's hooks are called: a panic, like an error, becomes text.

use std::{any::Any, panic::AssertUnwindSafe};

use futures_util::FutureExt;

use crate::{
    actor::cell::leased::{ActingLease, CutShort},
    event::Terminated,
    infra::panic::{self, panic_text},
};

/// Why an `#[init]`, or another hook, failed, as text: the error may travel to an asker on another
/// node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct HookError(pub String);

/// A hook that is called when an activation has a state.
pub(super) enum Hook {
    Restart,
    Stop,
    /// An actor that this one watches has ended.
    Terminated(Terminated),
}

impl Hook {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Restart => "on_restart",
            Self::Stop => "on_stop",
            Self::Terminated(_) => "on_terminated",
        }
    }
}

/// Awaits a hook, while the lease lasts; its failure as text.
pub(super) async fn guarded<T>(
    hook: &'static str,
    lease: ActingLease<'_>,
    future: impl Future<Output = Result<T, HookError>>,
) -> Result<T, String> {
    let call = lease.lets(AssertUnwindSafe(future).catch_unwind());
    match call.await {
        Err(panic) if panic.is::<CutShort>() => Err(format!(
            "`#[{hook}]` was given up: {}",
            lease.why_cut_short()
        )),
        done => outcome(hook, done),
    }
}

/// The same for a hook that is done once it returns.
pub(super) fn guarded_now<T>(
    hook: &'static str,
    call: impl FnOnce() -> Result<T, HookError>,
) -> Result<T, String> {
    outcome(hook, std::panic::catch_unwind(AssertUnwindSafe(call)))
}

fn outcome<T>(
    hook: &'static str,
    outcome: std::thread::Result<Result<T, HookError>>,
) -> Result<T, String> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(HookError(reason))) => Err(reason),
        Err(panic) => Err(panicked(hook, panic)),
    }
}

#[cold]
fn panicked(hook: &'static str, panic: Box<dyn Any + Send>) -> String {
    let text = format!("`#[{hook}]` panicked: {}", panic_text(&*panic));
    panic::forget(panic);
    text
}
