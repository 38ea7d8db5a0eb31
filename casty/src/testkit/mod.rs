//! Tools for tests of actors: [probes](Probe) in place of actors and entities, expectations about
//! [dead letters](DeadLetters), a [paused clock](paused).
//!
//! Enable the feature `testkit` for your tests:
//!
//! ```toml
//! [dev-dependencies]
//! casty = { version = "0.1", features = ["testkit"] }
//! ```
//!
//! The systems of this module send every message and reply through the codec, also within a node:
//! what could not travel between two nodes fails on one, as
//! [`SystemBuilder::strict_wire`] says. Types that are stored are stored in memory, unless the
//! builder says where: the nodes of a [`cluster`] share one
//! [`Memory`](crate::persistence::Memory), as do those of a `Sim`.
//!
//! The feature `sim` adds `Sim`: a whole cluster in one process, simulated from one seed.
//!
//! All deadlines here use tokio's clock. In a [`paused`] system a test therefore never really
//! waits.
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
//!         ctx.schedule_once(Duration::from_secs(3600), ClerkMsg::Close {}).detach();
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

mod alone;
mod arbiter;
mod cluster;
mod dead_letters;
mod machine;
mod probe;
mod probe_target;
mod replay;
#[cfg(feature = "sim")]
mod sim;
mod wait;

use std::time::Duration;

#[cfg(feature = "sim")]
#[doc(hidden)]
pub use self::sim::Forgery;
#[cfg(feature = "sim")]
pub use self::sim::{Conditions, Sim, SimTask, true_time};
pub use crate::testkit::{
    arbiter::Arbiter,
    cluster::{cluster, cluster_of, shutdown},
    dead_letters::DeadLetters,
    machine::{Machine, MachineSend},
    probe::{Probe, Received},
    replay::{Difference, Replayed, replay, replay_with},
    wait::{STEP_LIMIT, eventually, soon},
};
use crate::{ActorSystem, SystemBuilder};
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use crate::{infra::observe::Sighting, system::View};

/// How long an expectation waits by default.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a test in a system without a network, on one thread, with tokio's clock paused: once all
/// tasks wait for time to pass, it passes at once. The system is shut down at the end.
///
/// # Panics
/// If the test panics, or if handlers still run when the shutdown times out.
pub fn paused<F: Future>(test: impl FnOnce(ActorSystem) -> F) -> F::Output {
    paused_with(|builder| builder, test)
}

/// Like [`paused`], in a system that `configure` has configured: with
/// [resources](SystemBuilder::resource), other [settings](SystemBuilder::settings), or certain
/// entities only.
///
/// # Panics
/// As [`paused`], and if the configuration is refused.
pub fn paused_with<F: Future>(
    configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
    test: impl FnOnce(ActorSystem) -> F,
) -> F::Output {
    alone::runtime().block_on(async {
        let system = alone::system("test", configure);
        let output = test(system.clone()).await;
        system
            .shutdown()
            .await
            .expect("no handler is at work forever");
        output
    })
}
