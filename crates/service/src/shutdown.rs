//! Ending well: a signal cancels a token, every role drains, and nobody waits for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long open requests may take after a signal; the process ends within 10 s.
pub const DRAIN: Duration = Duration::from_secs(8);

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once.
#[must_use]
pub fn shutdown_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("shutting down");
        cancel.cancel();
        signal().await;
        std::process::exit(130);
    });
    token
}

async fn signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "cannot listen for SIGTERM");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
