//! Futures whose code is compiled once, with casty, and not again in each program.
//!
//! Rust compiles the body of an `async fn` where it is polled. A program that awaits the start of a
//! system would compile all that the system then does: gossip, the map's engine, the transport. A
//! box made in casty hides that code behind a table of functions, through which the program calls.

use std::pin::Pin;

/// The result of [`boxed`].
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Boxes a future. The caller must be neither `async` nor generic, or the box is made in the
/// program again.
pub(crate) fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(future)
}
