//! What tests of actors need: stand-ins, dead letters, a clock that stands still.
//!
//! Behind the feature `testkit`; switch it on for tests:
//!
//! ```toml
//! [dev-dependencies]
//! casty = { version = "0.1", features = ["testkit"] }
//! ```
//!
//! With the feature `sim` there is `Sim` as well: whole clusters in one process, under one seed.
//!
//! Every deadline here is in tokio's time, so that in a [`paused`] system a test never waits in
//! earnest.
//!
//! ```
//! use casty::{prelude::*, testkit::{self, Probe}};
//!
//! #[derive(Default)]
//! struct Printer;
//!
//! #[actor]
//! impl Printer {
//!     #[message]
//!     fn print(&mut self, line: String) {
//!         println!("{line}");
//!     }
//! }
//!
//! /// Says good night in an hour.
//! struct Clerk {
//!     printer: PrinterRef,
//! }
//!
//! #[actor]
//! impl Clerk {
//!     #[on_start]
//!     fn started(&mut self, ctx: &mut Context<Self>) {
//!         ctx.schedule_once(Duration::from_secs(3600), ClerkMsg::Close {});
//!     }
//!
//!     #[message]
//!     async fn close(&mut self) {
//!         let _ = self.printer.print("good night".into()).tell().await;
//!     }
//! }
//!
//! testkit::paused(|system| async move {
//!     let mut printer = Probe::<Printer>::new(&system);
//!     system.spawn(Clerk { printer: printer.actor() });
//!     printer.expect_no(Duration::from_secs(3599)).await;
//!     let printed = printer.expect().await;
//!     assert!(matches!(printed.message, PrinterMsg::Print { line } if line == "good night"));
//! });
//! ```

mod arbiter;
mod dead_letters;
mod probe;
#[cfg(feature = "sim")]
mod sim;

use std::time::Duration;

#[cfg(feature = "sim")]
pub use self::sim::{Conditions, Sim, SimTask, true_time};
use crate::ActorSystem;
pub use crate::testkit::{
    arbiter::Arbiter,
    dead_letters::DeadLetters,
    probe::{Probe, Received},
};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use crate::{infra::observe::Sighting, system::View};

/// How long an expectation waits that names no deadline.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a test in a system without a network, on one thread, with tokio's clock paused: when
/// everybody waits for time to pass, it passes at once. The system is shut down at the end.
///
/// # Panics
/// If the test does, or if handlers are still at work when the shutdown's time is up.
pub fn paused<F: Future>(test: impl FnOnce(ActorSystem) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing that could lack");
    runtime.block_on(async {
        let system = ActorSystem::local("test");
        let output = test(system.clone()).await;
        system
            .shutdown()
            .await
            .expect("no handler is at work forever");
        output
    })
}
