//! A system without a network, by a clock that only a test moves.

use tokio::runtime::{Builder, Runtime};

use crate::{ActorSystem, SystemBuilder, persistence::Memory};

/// A runtime on the thread of the test. Its clock is paused.
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing that could lack")
}

/// A system in the runtime that is entered here.
///
/// # Panics
/// If the configuration is refused.
pub(super) fn system(
    name: &str,
    configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
) -> ActorSystem {
    configure(ActorSystem::builder(name))
        .for_tests(Memory::new())
        .start_local()
        .unwrap_or_else(|error| panic!("{error}"))
}
