//! Ending well: a signal cancels a token, every role drains, and nobody waits for ever. SIGHUP ends nothing: it asks for
//! a reload.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
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

/// Counts SIGHUPs, which then end nothing any more. The handler stands when this returns.
///
/// # Errors
/// If the system refuses a handler.
///
/// # Panics
/// Outside a tokio runtime.
pub fn hangups() -> io::Result<watch::Receiver<u64>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(0);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
