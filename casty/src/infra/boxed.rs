//! Futures whose code is compiled with casty, and not again in each program.
//!
//! Rust compiles the body of an `async fn` where it is polled. A program that awaits the start of a
//! system would compile all that the system then does: gossip, the map's engine, the transport.
//! Behind a box that is made in casty there is a table of what to call, and the program calls
//! through that.

use std::pin::Pin;

/// What [`boxed`] makes.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Called from a function that is neither `async` nor generic, or else the box is made in the
/// program again.
pub(crate) fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(future)
}
