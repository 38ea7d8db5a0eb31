//! The beginning of a system's end, and the signals of the operating system that ask for it.

use std::io;

use tokio_util::sync::CancellationToken;

/// Resolves when the end has begun. It begins with a signal to the process, if with nothing else.
pub(super) async fn terminated(ending: CancellationToken) {
    if let Err(error) = asked_to_end(&ending).await {
        tracing::warn!(%error, "cannot hear the signals to end");
        ending.cancelled().await;
    }
}

/// As [`terminated`], but says so if the operating system does not deliver signals.
pub(super) async fn asked_to_end(ending: &CancellationToken) -> io::Result<()> {
    let signal = tokio::select! {
        biased;
        () = ending.cancelled() => return Ok(()),
        signal = signal_to_end() => signal?,
    };
    tracing::info!(signal, "asked to end");
    ending.cancel();
    Ok(())
}

#[cfg(unix)]
async fn signal_to_end() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

#[cfg(not(unix))]
async fn signal_to_end() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("Ctrl-C")
}

/// Calls `read_again` for each SIGHUP, by which operators say that files have been replaced. Never
/// resolves.
#[cfg(unix)]
pub(super) async fn hang_ups(read_again: impl Fn()) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hang_ups) => {
            while hang_ups.recv().await.is_some() {
                read_again();
            }
        }
        Err(error) => tracing::warn!(%error, "cannot hear SIGHUP"),
    }
    std::future::pending::<()>().await;
}

#[cfg(not(unix))]
pub(super) async fn hang_ups(_: impl Fn()) {
    std::future::pending::<()>().await;
}
