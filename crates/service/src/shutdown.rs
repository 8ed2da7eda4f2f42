//! Ending well: a signal cancels a token, every role drains, and nobody waits for ever.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long open requests may take after a signal; the process ends within 10 s.
pub const DRAIN: Duration = Duration::from_secs(8);

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once.
///
/// The handlers stand when this returns, so call it before anything is announced: a signal that comes any later drains.
///
/// # Errors
/// If the system refuses a handler.
///
/// # Panics
/// Outside a tokio runtime.
pub fn shutdown_on_signal() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        cancel.cancel();
        tracing::info!("shutting down");
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(130);
    });
    Ok(token)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
