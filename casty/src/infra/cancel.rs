//! Work that ends when a token is cancelled.

use tokio_util::sync::CancellationToken;

/// Runs `work`. `None` once `token` is cancelled.
///
/// The token is looked at first: work that could go on for ever without waiting still ends.
///
/// # Cancel safety
/// As safe as `work`.
pub(crate) async fn unless<T>(
    token: &CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = token.cancelled() => None,
        done = work => Some(done),
    }
}
