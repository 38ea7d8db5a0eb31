//! Waiting for conditions, with a limit that fails a test instead of hanging it.

use std::time::Duration;

/// The time after which [`soon`] and [`eventually`] give up: longer than a step of a test takes on
/// a busy machine.
pub const STEP_LIMIT: Duration = Duration::from_secs(40);

/// How often [`eventually`] asks.
const INTERVAL: Duration = Duration::from_millis(1);

/// Awaits a future that is expected to be done soon. `what` names it in the panic's message.
///
/// ```
/// use casty::{prelude::*, testkit};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = testkit::soon("the node starts", ActorSystem::builder("shop").start()).await?;
/// testkit::soon("it founds a cluster", node.wait_for(1)).await?;
/// node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// If the future is not done within [`STEP_LIMIT`].
pub async fn soon<T>(what: &str, wait: impl IntoFuture<Output = T>) -> T {
    let waiting = tokio::time::timeout(STEP_LIMIT, wait).await;
    waiting.unwrap_or_else(|_| panic!("{what}: not within {STEP_LIMIT:?}"))
}

/// Repeats `ask` until `look` accepts its answer, and returns that answer. `what` names the
/// condition in the panic's message.
///
/// For conditions that raise no event, such as another node's view of the members.
///
/// ```
/// use casty::{prelude::*, testkit};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nodes = testkit::cluster(2).await;
/// let members = || async { nodes[1].members() };
/// let seen = testkit::eventually("both are seen", members, |seen| seen.len() == 2).await;
/// assert_eq!(seen[0].id.node.as_str(), "node-0");
/// testkit::shutdown(nodes).await;
/// # }
/// ```
///
/// # Panics
/// If no answer was accepted within [`STEP_LIMIT`].
pub async fn eventually<T, F: IntoFuture<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    mut look: impl FnMut(&T) -> bool,
) -> T {
    let accepted = async {
        loop {
            let answer = ask().await;
            if look(&answer) {
                return answer;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    soon(what, accepted).await
}
